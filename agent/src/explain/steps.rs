//! How an answer comes about, step by step, in words.
//!
//! Tells what `core` has traced and foreseen. Never decides anything.

use ambit_core::{
    Action, Mode, Policy, Protocol, Snapshot, Source, Workload,
    policy::{Call, Connection, EgressTrace, PolicyTrace, Trace, trace, trace_egress, unselected},
    reach::{Attempt, Called, Caller, Decider, Outcome},
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

use super::party::{From, Target};
use crate::control::convert::{EGRESS_LABEL, MODE_LABEL};

/// The most policies that are listed because they do not select the pod.
const LISTED: usize = 10;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is about: `caller`, `called`, `service`, `way`, `egress`, `policy`, `others` or `decision`.
    pub about: String,
    /// What it says.
    pub text: String,
    /// The policy that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<String>,
    /// Whether that policy matches.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub matches: Option<bool>,
    /// The first of its rules that matches, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<usize>,
    /// More of it, a line each.
    pub details: Vec<String>,
}

fn step(about: &str, text: impl Into<String>, details: Vec<String>) -> Step {
    Step { about: about.to_owned(), text: text.into(), policy: None, matches: None, rule: None, details }
}

/// Returns the node on which a decision is made.
pub(super) fn node(attempt: &Attempt<'_>, decider: Decider) -> Option<String> {
    let pod = match (decider, attempt.caller, attempt.called) {
        (Decider::CallersKernel, Caller::Pod(pod), _) => pod,
        (Decider::Kernel | Decider::Agent, _, Called::Pod { pod, .. }) => pod,
        _ => return None,
    };
    (!pod.node.is_empty()).then(|| pod.node.clone())
}

/// Returns all steps.
pub(super) fn steps(
    snapshot: &Snapshot,
    from: &From<'_>,
    target: &Target<'_>,
    (attempt, outcome): (&Attempt<'_>, &Outcome<'_>),
    (decider, lane): (Decider, bool),
) -> Vec<Step> {
    let mut steps = vec![caller(snapshot, from, attempt)];
    steps.extend(service(snapshot, target));
    steps.push(called(snapshot, attempt));
    steps.push(step("way", way(attempt, outcome, lane), Vec::new()));
    if let Caller::Pod(pod) = attempt.caller
        && pod.mode.is_enrolled()
    {
        steps.extend(egress(snapshot, pod, attempt, outcome));
    }
    if let (Called::Pod { pod, .. }, Some((source, _))) = (attempt.called, &outcome.inbound)
        && pod.mode.is_enrolled()
    {
        steps.extend(inbound(snapshot, pod, attempt, *source));
    }
    steps.push(decision(attempt, outcome, decider));
    steps
}

fn caller(snapshot: &Snapshot, from: &From<'_>, attempt: &Attempt<'_>) -> Step {
    match (from, attempt.caller) {
        (_, Caller::Pod(pod)) => step("caller", pod_text(pod), pod_details(snapshot, pod, true)),
        (From::Identity(id), _) => step("caller", format!("whoever proves to be {id}"), Vec::new()),
        (_, Caller::Host { address }) => {
            let at = if address.is_unspecified() { String::new() } else { format!(" ({address})") };
            let text = format!("a process of the called pod's own node{at}, outside of all pods");
            step(
                "caller",
                text,
                vec!["it has no identity; the kernel attests that it is the node's own".to_owned()],
            )
        }
        (_, caller) => {
            let address = caller.address(attempt.called.address());
            let text = format!("{address}, which is of no pod of the objects");
            step("caller", text, vec!["it has no verified identity".to_owned()])
        }
    }
}

fn service(snapshot: &Snapshot, target: &Target<'_>) -> Option<Step> {
    let (service, port) = target.service?;
    let details = port.endpoints.iter().map(|endpoint| {
        let pod = match snapshot.workload(endpoint.address) {
            Some(pod) => format!("pod {}", pod.key()),
            None => "outside the mesh".to_owned(),
        };
        let ready = if endpoint.ready { "" } else { ", not ready: no connection goes there" };
        format!("{}, {pod}{ready}", SocketAddr::new(endpoint.address, endpoint.port))
    });
    let text = format!(
        "{}/{}, port {}: a connection goes to one of {} ready endpoints of {}",
        service.namespace,
        service.name,
        port.port,
        target.endpoints.len(),
        port.endpoints.len()
    );
    Some(step("service", text, details.collect()))
}

fn called(snapshot: &Snapshot, attempt: &Attempt<'_>) -> Step {
    match attempt.called {
        Called::Pod { pod, .. } => {
            let text = format!("{}, {} port {}", pod_text(pod), attempt.protocol, attempt.port);
            step("called", text, pod_details(snapshot, pod, false))
        }
        Called::Address(address) => {
            let address = SocketAddr::new(address, attempt.port);
            let text = format!("{address} over {}, which is of no pod: outside the mesh", attempt.protocol);
            step("called", text, Vec::new())
        }
    }
}

fn pod_text(pod: &Workload) -> String {
    let address = pod.addresses.first().map(|address| format!(", {address}")).unwrap_or_default();
    let node = if pod.node.is_empty() { String::new() } else { format!(" on node {}", pod.node) };
    format!("pod {}{node}{address}", pod.key())
}

fn pod_details(snapshot: &Snapshot, pod: &Workload, calls: bool) -> Vec<String> {
    let mut details = vec![format!("identity {}", pod.identity)];
    let mode = (MODE_LABEL, "mode", pod.mode.as_str(), &pod.mode_problem);
    details.push(label_text(snapshot, pod, mode));
    if calls && pod.mode.is_enrolled() {
        let egress = (EGRESS_LABEL, "egress", pod.egress.as_str(), &pod.egress_problem);
        details.push(label_text(snapshot, pod, egress));
    }
    details
}

/// Says what a label makes of a pod, and on which object it stands.
fn label_text(
    snapshot: &Snapshot,
    pod: &Workload,
    (label, word, value, problem): (&str, &str, &str, &Option<String>),
) -> String {
    let inherited = snapshot.namespace_labels(&pod.namespace).and_then(|labels| labels.get(label));
    let namespace = &pod.namespace;
    let origin = match (pod.labels.get(label), inherited) {
        (Some(own), Some(other)) if own != other => {
            format!("by the pod's label {label}: {own}, before that of the namespace {namespace}: {other}")
        }
        (Some(own), _) => format!("by the pod's label {label}: {own}"),
        (None, Some(other)) => format!("by the label {label}: {other} of the namespace {namespace}"),
        (None, None) => format!("neither the pod nor the namespace {namespace} has the label {label}"),
    };
    let problem = problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
    format!("{word} {value}: {origin}{problem}")
}

/// Says how the call travels, and whom the called pod sees.
fn way(attempt: &Attempt<'_>, outcome: &Outcome<'_>, lane: bool) -> String {
    let Called::Pod { pod: called, .. } = attempt.called else {
        return "out of the mesh, in plaintext".to_owned();
    };
    let Some((source, _)) = &outcome.inbound else {
        return "the pod calls itself: it leaves the pod nowhere, and no policy about callers is asked"
            .to_owned();
    };
    if !called.mode.is_enrolled() {
        return "in plaintext: the called pod is not enrolled, and ambit does not touch what arrives there"
            .to_owned();
    }
    match (source, attempt.caller, attempt.protocol) {
        (Source::Host { .. }, _, _) => {
            "within the node, in plaintext; the kernel attests that the caller is the node itself".to_owned()
        }
        (Source::Identity { .. }, Caller::Pod(calling), protocol) if calling.node == called.node => {
            if lane || protocol == Protocol::Udp {
                "within one node: the kernel knows which pod calls; in plaintext that never leaves the node"
                    .to_owned()
            } else {
                "within one node, and yet through the tunnel (--same-node encrypt): mutual TLS proves the caller's identity"
                    .to_owned()
            }
        }
        (Source::Identity { .. }, _, _) => {
            "from node to node through the tunnel: mutual TLS proves the caller's identity".to_owned()
        }
        (Source::Unverified { .. }, caller, _) if attempt.by_service && is_node(caller) => {
            "through the service's address, which is rewritten after the kernel has seen the socket: nothing attests \
             that the caller is the node itself"
                .to_owned()
        }
        (Source::Unverified { .. }, Caller::Pod(calling), _) if calling.mode.is_enrolled() => {
            "from node to node as it is: no tunnel carries UDP, so that it has no verified identity there"
                .to_owned()
        }
        (Source::Unverified { .. }, Caller::Identity { .. }, _) => {
            "as it is: no tunnel carries UDP, so that it has no verified identity".to_owned()
        }
        (Source::Unverified { .. }, _, _) => {
            "in plaintext, without a verified identity: the caller is not enrolled".to_owned()
        }
    }
}

/// Tells whether the caller is a process in a node's network.
fn is_node(caller: Caller<'_>) -> bool {
    matches!(caller, Caller::Host { .. }) || matches!(caller, Caller::Pod(pod) if pod.host_network)
}

/// Says what the caller's own side has to say.
fn egress(snapshot: &Snapshot, pod: &Workload, attempt: &Attempt<'_>, outcome: &Outcome<'_>) -> Vec<Step> {
    let Some(verdict) = &outcome.egress else { return Vec::new() };
    let call = Call {
        source: pod,
        address: attempt.called.address(),
        port: attempt.port,
        protocol: attempt.protocol,
        in_mesh: verdict.reason == ambit_core::Reason::EgressInMesh,
    };
    let traced: EgressTrace = trace_egress(snapshot.policies_of(pod), &call);
    let mut steps = vec![step("egress", verdict.summary(), Vec::new())];
    if traced.asks_policies() {
        if traced.policies.is_empty() {
            let text = format!("no policy that selects {} has `egress` rules", pod.key());
            steps.push(step("egress", text, Vec::new()));
        }
        steps.extend(traced.policies.iter().map(|policy| policy_step("egress", policy)));
    }
    steps
}

/// Says what the called pod's policies have to say.
fn inbound(snapshot: &Snapshot, pod: &Workload, attempt: &Attempt<'_>, source: Source<'_>) -> Vec<Step> {
    let connection = Connection { source, destination: pod, protocol: attempt.protocol, port: attempt.port };
    let selecting = snapshot.policies_of(pod);
    let traced: Trace = trace(selecting, &connection);
    let mut steps = Vec::new();
    if !traced.asks_policies() {
        let text = "policies are not asked: a strict pod takes TCP only from callers that prove who they are";
        steps.push(step("policy", text, Vec::new()));
    } else {
        if traced.policies.is_empty() {
            steps.push(step("policy", format!("no policy about callers selects {}", pod.key()), Vec::new()));
        }
        steps.extend(traced.policies.iter().map(|policy| policy_step("rules", policy)));
    }
    steps.extend(others(snapshot, pod, selecting));
    steps
}

fn policy_step(list: &str, policy: &PolicyTrace) -> Step {
    let matched = policy.matched();
    let action = match (policy.action, list) {
        (_, "egress") => "egress",
        (Action::Allow, _) => "Allow",
        (Action::Deny, _) => "Deny",
    };
    let dry_run = if policy.dry_run { ", dryRun: reported, never enforced" } else { "" };
    let found = match matched {
        Some(rule) => format!("{list}[{rule}] matches"),
        None if policy.rules.is_empty() => "does not match: it has no rules, and admits nobody".to_owned(),
        None => "does not match".to_owned(),
    };
    let before = policy.rules.iter().enumerate().take(matched.unwrap_or(policy.rules.len()));
    let details = before
        .flat_map(|(rule, traced)| traced.misses.iter().map(move |miss| format!("{list}[{rule}].{miss}")))
        .collect();
    Step {
        about: if list == "egress" { "egress".to_owned() } else { "policy".to_owned() },
        text: format!("{} ({action}{dry_run}): {found}", policy.id),
        policy: Some(policy.id.to_string()),
        matches: Some(matched.is_some()),
        rule: matched,
        details,
    }
}

/// Names the policies that might be thought to speak of the pod, and why they do not.
fn others(snapshot: &Snapshot, pod: &Workload, selecting: &[Arc<Policy>]) -> Option<Step> {
    let labels = snapshot.namespace_labels(&pod.namespace);
    let near = |policy: &&Arc<Policy>| {
        let namespace = policy.id.namespace.as_deref();
        namespace.is_none_or(|namespace| namespace == pod.namespace)
            && !selecting.iter().any(|other| other.id == policy.id)
    };
    let others: Vec<&Arc<Policy>> = snapshot.policies().iter().filter(near).collect();
    let about_egress = selecting.iter().filter(|policy| policy.egress_only);
    let mut details: Vec<String> = about_egress
        .map(|policy| format!("{} has `egress` and no `rules`: it says nothing about callers", policy.id))
        .collect();
    for policy in others.iter().take(LISTED) {
        let why: Vec<String> = unselected(policy, pod, labels).iter().map(ToString::to_string).collect();
        details.push(format!("{}: {}", policy.id, why.join("; ")));
    }
    if others.len() > LISTED {
        details.push(format!("and {} more", others.len() - LISTED));
    }
    let text = format!("do not speak of calls to {}:", pod.key());
    (!details.is_empty()).then(|| step("others", text, details))
}

fn decision(attempt: &Attempt<'_>, outcome: &Outcome<'_>, decider: Decider) -> Step {
    let on = node(attempt, decider).map(|node| format!(" of node {node}")).unwrap_or_default();
    let who = match decider {
        Decider::Nobody => "nobody decides: ambit does not touch it".to_owned(),
        Decider::CallersKernel => format!("the kernel{on} decides, when the caller connects or sends"),
        Decider::Kernel => format!("the kernel{on} decides, without the agent"),
        Decider::Agent => format!("the agent{on} decides, before the application hears of it"),
    };
    let mut details: Vec<String> = outcome.verdict().map(ambit_core::Verdict::summary).into_iter().collect();
    let audited = |pod: &Workload| pod.mode == Mode::Audit;
    let caller_audited = matches!(attempt.caller, Caller::Pod(pod) if audited(pod));
    // The caller's own side may have a remark of its own.
    if let (true, Some(egress), Some(_)) = (caller_audited, &outcome.egress, &outcome.inbound)
        && egress.would_refuse.is_some()
    {
        details.push(egress.summary());
    }
    step("decision", who, details)
}
