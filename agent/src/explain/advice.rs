//! What to change for the other answer.
//!
//! Tries each change on a copy of the objects, and proposes only what makes the answer another one. Never changes
//! anything.

use ambit_core::{
    Action, Egress, EgressRule, IdentityPattern, Mode, Model, Peer, Policy, PolicyId, PortRange, Protocol,
    Reason, Rule, Selector, ServiceAccount, Snapshot, Source, Verdict, Workload,
    reach::{Attempt, Called, Caller, reach},
};
use serde::{Deserialize, Serialize};

use super::yaml;
use crate::control::convert::{EGRESS_LABEL, MODE_LABEL};

/// The most changes that are proposed together.
const MOST: usize = 6;
/// Labels by which people select a workload, the first that a pod has is taken.
const SELECTING: [&str; 4] = ["app", "app.kubernetes.io/name", "k8s-app", "name"];

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What to do, as a sentence.
    pub what: String,
    /// The lines to write; empty where something is taken away.
    pub lines: String,
}

/// Returns changes that together turn the answer, or none if nothing here does.
pub(super) fn other_answer(snapshot: &Snapshot, attempt: &Attempt<'_>) -> Vec<Change> {
    let Some(allowed) = reach(snapshot, attempt).verdict().map(|verdict| verdict.allowed) else {
        return Vec::new();
    };
    let mut draft = Draft { model: snapshot.to_model(), changes: Vec::new() };
    for _ in 0..=MOST {
        let Ok(changed) = Snapshot::build(snapshot.version(), draft.model.clone()) else { break };
        let Some(again) = in_snapshot(&changed, attempt) else { break };
        let outcome = reach(&changed, &again);
        let Some(verdict) = outcome.verdict() else { break };
        if verdict.allowed != allowed {
            return draft.changes;
        }
        let source = outcome.inbound.as_ref().map(|(source, _)| *source);
        let proposed = match allowed {
            true => draft.refuse(&again, verdict, source),
            false => draft.admit(&again, verdict, source),
        };
        if proposed.is_none() {
            break;
        }
    }
    Vec::new()
}

/// Returns the same attempt with the pods of another snapshot.
fn in_snapshot<'a>(snapshot: &'a Snapshot, attempt: &Attempt<'a>) -> Option<Attempt<'a>> {
    let again = |pod: &Workload| snapshot.workload_named(&pod.namespace, &pod.name).map(AsRef::as_ref);
    let caller = match attempt.caller {
        Caller::Pod(pod) => Caller::Pod(again(pod)?),
        other => other,
    };
    let called = match attempt.called {
        Called::Pod { pod, address } => Called::Pod { pod: again(pod)?, address },
        other => other,
    };
    Some(Attempt { caller, called, ..*attempt })
}

/// Objects that are being changed.
struct Draft {
    model: Model,
    changes: Vec<Change>,
}

impl Draft {
    /// Takes away the next thing that refuses the call.
    fn admit(&mut self, attempt: &Attempt<'_>, verdict: &Verdict, source: Option<Source<'_>>) -> Option<()> {
        if verdict.reason == Reason::EgressOutsideMesh {
            let Caller::Pod(caller) = attempt.caller else { return None };
            return self.name_outside(caller, attempt);
        }
        let Called::Pod { pod, .. } = attempt.called else { return None };
        let source = source?;
        match (verdict.reason, attempt.caller) {
            (Reason::DenyMatch, _) => self.take_rule(verdict, "rules"),
            (Reason::NoAllowMatch, _) => {
                let named =
                    verdict.policy.clone().filter(|id| id.namespace.is_some() || pod.labels.is_empty());
                self.allow(pod, named, attempt, source)
            }
            (Reason::PlaintextInStrict, _) if attempt.protocol == Protocol::Udp => {
                let selecting = |policy: &&Policy| {
                    policy.id.namespace.as_deref() == Some(pod.namespace.as_str())
                        && policy.action == Action::Allow
                        && !policy.dry_run
                        && !policy.egress_only
                        && policy.selector.matches(&pod.labels)
                };
                let named = self.model.policies.iter().find(selecting).map(|policy| policy.id.clone());
                self.allow(pod, named, attempt, source)
            }
            // Whoever is enrolled proves who it is.
            (Reason::PlaintextInStrict, Caller::Pod(caller))
                if !caller.host_network && !caller.mode.is_enrolled() =>
            {
                self.label(caller, MODE_LABEL, "audit")
            }
            (Reason::PlaintextInStrict, _) => self.label(pod, MODE_LABEL, "permissive"),
            _ => None,
        }
    }

    /// Takes away the next thing that lets the call pass.
    fn refuse(&mut self, attempt: &Attempt<'_>, verdict: &Verdict, source: Option<Source<'_>>) -> Option<()> {
        let (side, inbound) = match (attempt.called, source, attempt.caller) {
            (Called::Pod { pod, .. }, Some(_), _) => (pod, true),
            (_, _, Caller::Pod(pod)) => (pod, false),
            _ => return None,
        };
        match verdict.reason {
            Reason::NotEnrolled | Reason::Audit if side.host_network => None,
            Reason::NotEnrolled | Reason::Audit => self.label(side, MODE_LABEL, "strict"),
            _ if inbound => self.deny(side, attempt, source?),
            Reason::EgressAny => self.label(side, EGRESS_LABEL, "mesh"),
            Reason::EgressMatch => self.take_rule(verdict, "egress"),
            _ => None,
        }
    }

    /// Puts a label where the pod has it from, or would have it from.
    fn label(&mut self, pod: &Workload, label: &str, value: &str) -> Option<()> {
        let own = pod.labels.contains_key(label);
        let object = if own {
            format!("pod {} of {}", pod.name, pod.namespace)
        } else {
            format!("namespace {}", pod.namespace)
        };
        let target = if own {
            format!("pod -n {} {}", pod.namespace, pod.name)
        } else {
            format!("namespace {}", pod.namespace)
        };
        for other in &mut self.model.workloads {
            let meant = other.namespace == pod.namespace && (!own || other.name == pod.name);
            if !meant || (!own && other.labels.contains_key(label)) {
                continue;
            }
            if label == EGRESS_LABEL {
                other.egress = Egress::parse(Some(value)).0;
            } else if !other.host_network {
                other.mode = Mode::parse(Some(value)).0;
            }
            if own {
                other.labels.insert(label.to_owned(), value.to_owned());
            }
        }
        if !own {
            let labels = self.model.namespaces.entry(pod.namespace.clone()).or_default();
            labels.insert(label.to_owned(), value.to_owned());
        }
        self.changes.push(Change {
            what: format!("label the {object} (kubectl label {target} {label}={value} --overwrite)"),
            lines: format!("metadata: {{labels: {{{label}: {value}}}}}\n"),
        });
        Some(())
    }

    /// Takes the rule that decided out of its policy, or the policy if it has no other.
    fn take_rule(&mut self, verdict: &Verdict, list: &str) -> Option<()> {
        let (id, rule) = (verdict.policy.as_ref()?, verdict.rule?);
        let position = self.model.policies.iter().position(|policy| policy.id == *id)?;
        let policy = self.model.policies.get_mut(position)?;
        let last = if list == "egress" { policy.egress.len() == 1 } else { policy.rules.len() == 1 };
        let rest_stays = list == "egress" && !policy.egress_only;
        let what = if last && !rest_stays {
            self.model.policies.remove(position);
            format!("remove {id}, or narrow its only rule, {list}[{rule}], so that it does not name this")
        } else {
            if list == "egress" {
                policy.egress.remove(rule);
            } else {
                policy.rules.remove(rule);
            }
            format!("remove {list}[{rule}] from {id}, or narrow it so that it does not name this")
        };
        self.changes.push(Change { what, lines: String::new() });
        Some(())
    }

    /// Adds a rule that admits the caller, to a policy or as a policy of its own.
    fn allow(
        &mut self,
        pod: &Workload,
        named: Option<PolicyId>,
        attempt: &Attempt<'_>,
        source: Source<'_>,
    ) -> Option<()> {
        let rule = rule(pod, attempt, source)?;
        let Some(id) = named else {
            let new = self.new_policy(pod, ("allow", Action::Allow), attempt);
            return self.add(Policy { rules: vec![rule], ..new }, pod, true);
        };
        let selected = self.selected(&id);
        let policy = self.model.policies.iter_mut().find(|policy| policy.id == id)?;
        let lines = yaml::rule(&rule, id.namespace.as_deref());
        let (what, lines) = match policy.rules.is_empty() {
            true => (format!("give {id} rules, in the place of none"), format!("rules:\n{lines}")),
            false => (format!("add to {id}, under spec.rules"), lines),
        };
        policy.rules.push(rule);
        self.changes.push(Change { what: format!("{what}{}", for_all(selected)), lines });
        Some(())
    }

    /// Adds a policy that refuses the caller.
    fn deny(&mut self, pod: &Workload, attempt: &Attempt<'_>, source: Source<'_>) -> Option<()> {
        let new = self.new_policy(pod, ("deny", Action::Deny), attempt);
        self.add(Policy { rules: vec![rule(pod, attempt, source)?], ..new }, pod, false)
    }

    /// Adds an egress rule, to a policy that has some or as a policy of its own.
    fn name_outside(&mut self, caller: &Workload, attempt: &Attempt<'_>) -> Option<()> {
        let rule = EgressRule {
            cidrs: vec![attempt.called.address().to_canonical().into()],
            except_cidrs: Vec::new(),
            ports: vec![PortRange::single(attempt.port)],
            protocol: (attempt.protocol == Protocol::Udp).then_some(Protocol::Udp),
        };
        let fits = |policy: &&Policy| {
            policy.id.namespace.as_deref() == Some(caller.namespace.as_str())
                && !policy.egress.is_empty()
                && !policy.dry_run
                && policy.selector.matches(&caller.labels)
        };
        let Some(id) = self.model.policies.iter().find(fits).map(|policy| policy.id.clone()) else {
            let new = self.new_policy(caller, ("egress-of", Action::Allow), attempt);
            return self.add(Policy { egress: vec![rule], egress_only: true, ..new }, caller, false);
        };
        let selected = self.selected(&id);
        let policy = self.model.policies.iter_mut().find(|policy| policy.id == id)?;
        policy.egress.push(rule.clone());
        self.changes.push(Change {
            what: format!("add to {id}, under spec.egress{}", for_all(selected)),
            lines: yaml::egress(&rule),
        });
        Some(())
    }

    fn add(&mut self, policy: Policy, pod: &Workload, restricts: bool) -> Option<()> {
        let every = if policy.selector.match_labels.is_empty() {
            format!(
                "; it speaks of every pod of {}, for {} has no label to select it by",
                pod.namespace,
                pod.key()
            )
        } else {
            String::new()
        };
        let restricts = if restricts {
            "; from then on its pods are reached by what Allow policies name alone"
        } else {
            ""
        };
        self.changes.push(Change {
            what: format!("add this policy{restricts}{every}"),
            lines: yaml::policy(&policy),
        });
        self.model.policies.push(policy);
        Some(())
    }

    /// Returns a policy without rules that selects a pod, under a name that no other has.
    fn new_policy(&self, pod: &Workload, (verb, action): (&str, Action), attempt: &Attempt<'_>) -> Policy {
        let label = SELECTING.iter().find_map(|key| pod.labels.get_key_value(*key));
        let label = label.or_else(|| {
            pod.labels.iter().find(|(key, _)| !key.contains("hash") && !key.contains("ambit.dev"))
        });
        let caller = match attempt.caller {
            Caller::Pod(caller) if verb != "egress-of" => {
                format!("{}-to-", caller.identity.service_account())
            }
            Caller::Identity { id, .. } => format!("{}-to-", id.service_account()),
            Caller::Host { .. } => "host-to-".to_owned(),
            _ => String::new(),
        };
        let stem = format!("{verb}-{caller}{}", pod.identity.service_account());
        let taken = |name: &String| {
            self.model.policies.iter().any(|policy| {
                policy.id.name == *name && policy.id.namespace.as_deref() == Some(pod.namespace.as_str())
            })
        };
        let numbered = (2..).map(|number: u32| format!("{stem}-{number}"));
        let name =
            std::iter::once(stem.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or_default();
        Policy {
            id: PolicyId { namespace: Some(pod.namespace.clone()), name },
            action,
            dry_run: false,
            namespace_selector: None,
            selector: Selector {
                match_labels: label.map(|(key, value)| (key.clone(), value.clone())).into_iter().collect(),
                match_expressions: Vec::new(),
            },
            rules: Vec::new(),
            egress_only: false,
            egress: Vec::new(),
        }
    }

    /// Counts the pods of its namespace that a policy selects.
    fn selected(&self, id: &PolicyId) -> usize {
        let Some(policy) = self.model.policies.iter().find(|policy| policy.id == *id) else { return 0 };
        let here =
            |pod: &&Workload| id.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace);
        self.model.workloads.iter().filter(here).filter(|pod| policy.selector.matches(&pod.labels)).count()
    }
}

/// Returns a rule that names this caller, port and protocol and nothing else; `None` for a caller of whom nothing is known.
fn rule(pod: &Workload, attempt: &Attempt<'_>, source: Source<'_>) -> Option<Rule> {
    let peer = match source {
        Source::Identity { id, .. } if id.trust_domain() == pod.identity.trust_domain() => Peer {
            service_accounts: vec![ServiceAccount {
                namespace: id.namespace().to_owned(),
                name: id.service_account().to_owned(),
            }],
            ..Peer::default()
        },
        Source::Identity { id, .. } => {
            Peer { identities: vec![IdentityPattern::Exact(id.clone())], ..Peer::default() }
        }
        Source::Host { .. } => Peer { host: true, ..Peer::default() },
        Source::Unverified { address } if address.is_unspecified() => return None,
        Source::Unverified { address } => {
            Peer { cidrs: vec![address.to_canonical().into()], ..Peer::default() }
        }
    };
    let to =
        ambit_core::Destination { protocol: attempt.protocol, ports: vec![PortRange::single(attempt.port)] };
    Some(Rule { from: Some(vec![peer]), to: Some(vec![to]) })
}

fn for_all(selected: usize) -> String {
    if selected > 1 {
        format!(" (it selects {selected} pods, and the rule holds for all of them)")
    } else {
        String::new()
    }
}
