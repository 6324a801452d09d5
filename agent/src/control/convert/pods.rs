//! Pods become workloads.
//!
//! Says of each pod who it is, where it is and how far it is enrolled. A pod that runs no process yet, or any more, is left
//! out; one that runs and lacks something is an error.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_core::{Egress, Mode, SpiffeId, Workload};
use k8s_openapi::api::core::v1::Pod;

use super::{EGRESS_LABEL, MODE_LABEL, NETNS_ANNOTATION, labels_of};
use crate::control::finding::Findings;
use crate::control::node::Value;
use crate::control::objects::{Located, name_of, namespace_of};

type Labels = BTreeMap<String, String>;

/// Returns the workloads of all running pods.
pub(super) fn workloads(
    pods: &[Located<Pod>],
    namespaces: &BTreeMap<String, Labels>,
    trust_domain: &str,
    findings: &mut Findings,
) -> Vec<Workload> {
    pods.iter()
        .filter_map(|pod| {
            let namespace_labels = namespaces.get(namespace_of(&pod.value.metadata));
            workload(pod, namespace_labels, trust_domain, findings)
        })
        .collect()
}

fn workload(
    pod: &Located<Pod>,
    namespace_labels: Option<&Labels>,
    trust_domain: &str,
    findings: &mut Findings,
) -> Option<Workload> {
    let metadata = &pod.value.metadata;
    let spec = pod.value.spec.as_ref();
    let phase = pod.value.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let addresses = addresses(pod, findings)?;
    if addresses.is_empty() {
        if phase != Some("Pending") {
            let finding = pod.finding(&["status", "podIP"], "the pod has no address");
            findings.error(finding.with_hint("add `status: {podIP: ADDRESS}`"));
        }
        return None;
    }
    let (namespace, name) = (namespace_of(metadata), name_of(metadata));
    let account =
        spec.and_then(|spec| spec.service_account_name.as_deref().or(spec.service_account.as_deref()));
    let account = account.filter(|account| !account.is_empty()).unwrap_or("default");
    let identity = match SpiffeId::new(trust_domain, namespace, account) {
        Ok(identity) => identity,
        Err(error) => {
            let steps: &[&str] = match &error {
                ambit_core::SpiffeIdError::Empty { part: "namespace" }
                | ambit_core::SpiffeIdError::TooLong { part: "namespace", .. }
                | ambit_core::SpiffeIdError::Character { part: "namespace", .. } => {
                    &["metadata", "namespace"]
                }
                _ => &["spec", "serviceAccountName"],
            };
            findings.error(pod.finding(steps, format!("the pod can have no identity: {error}")));
            return None;
        }
    };
    let labels = labels_of(metadata);
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    let (mode, mode_problem) = mode(pod, &labels, namespace_labels, host_network, findings);
    let (egress, egress_problem) = egress(pod, &labels, namespace_labels, mode, findings);
    let annotations = metadata.annotations.as_ref();
    let (owner_kind, owner_name) = owner(&pod.value);
    Some(Workload {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid(pod, &addresses),
        identity,
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        addresses,
        mode,
        mode_problem,
        egress,
        egress_problem,
        labels,
        host_network,
        netns: annotations.and_then(|annotations| annotations.get(NETNS_ANNOTATION)).cloned(),
        owner_kind: owner_kind.to_owned(),
        owner_name,
    })
}

/// Returns what tells this pod from an earlier one of its name: its uid, or its addresses when it is written by hand.
fn uid(pod: &Located<Pod>, addresses: &[IpAddr]) -> String {
    let metadata = &pod.value.metadata;
    metadata.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or_else(|| {
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        format!("{}/{}@{}", namespace_of(metadata), name_of(metadata), addresses.join(","))
    })
}

/// Returns the mode of a pod by its own label, or by its namespace's.
fn mode(
    pod: &Located<Pod>,
    labels: &Labels,
    namespace_labels: Option<&Labels>,
    host_network: bool,
    findings: &mut Findings,
) -> (Mode, Option<String>) {
    let steps = ["metadata", "labels", MODE_LABEL];
    let own = labels.get(MODE_LABEL);
    let inherited = namespace_labels.and_then(|labels| labels.get(MODE_LABEL));
    let (mode, problem) = Mode::parse(own.or(inherited).map(String::as_str));
    if host_network && mode.is_enrolled() {
        let problem =
            format!("mode {mode} does not act on the pod: it has its node's network (spec.hostNetwork)");
        if own.is_some() {
            findings.warn(pod.finding(&steps, &problem));
        }
        return (Mode::None, Some(problem));
    }
    if let (Some(problem), Some(_)) = (&problem, own) {
        findings.warn(pod.finding(&steps, problem));
    }
    (mode, problem)
}

/// Returns what a pod may call by its own label, or by its namespace's.
fn egress(
    pod: &Located<Pod>,
    labels: &Labels,
    namespace_labels: Option<&Labels>,
    mode: Mode,
    findings: &mut Findings,
) -> (Egress, Option<String>) {
    let own = labels.get(EGRESS_LABEL);
    let inherited = namespace_labels.and_then(|labels| labels.get(EGRESS_LABEL));
    let (egress, mut problem) = Egress::parse(own.or(inherited).map(String::as_str));
    if egress == Egress::Mesh && !mode.is_enrolled() {
        let inert = format!("egress {egress} does not act on the pod: it is not enrolled ({MODE_LABEL})");
        problem = Some(problem.map_or(inert.clone(), |problem| format!("{problem}; {inert}")));
    }
    if let (Some(problem), Some(_)) = (&problem, own) {
        findings.warn(pod.finding(&["metadata", "labels", EGRESS_LABEL], problem));
    }
    (egress, problem)
}

/// Returns the addresses of a pod, without repetition; `None` if one of them cannot be a pod's.
fn addresses(pod: &Located<Pod>, findings: &mut Findings) -> Option<Vec<IpAddr>> {
    let status = pod.cursor().field("status");
    let podip = status.as_ref().and_then(|status| status.field("podIP"));
    let podips = status.as_ref().and_then(|status| status.field("podIPs"));
    let listed = podips.iter().flat_map(|list| list.items()).filter_map(|item| item.field("ip"));
    let mut addresses = Vec::new();
    let errors_before = findings.errors.len();
    for field in podip.into_iter().chain(listed) {
        // `Cursor::read` has seen to it that this is a text or nothing.
        let Value::Text(written) = &field.node.value else { continue };
        match written.parse::<IpAddr>().map(|address| address.to_canonical()) {
            _ if written.is_empty() => {}
            Ok(address) if is_usable(address) => {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(address) => findings.error(field.finding(format!("{address} cannot be the address of a pod"))),
            Err(_) => findings.error(field.finding(format!("{written:?} is no address"))),
        }
    }
    (findings.errors.len() == errors_before).then_some(addresses)
}

/// Tells whether something can be reached at an address from outside.
pub(super) fn is_usable(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

/// Returns the kind and the name of what the pod belongs to, as baggage spells them.
fn owner(pod: &Pod) -> (&'static str, String) {
    let metadata = &pod.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
        return ("pod", name_of(metadata).to_owned());
    };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
            ("deployment", without_hash(&owner.name, hash).to_owned())
        }
        "Deployment" => ("deployment", owner.name.clone()),
        "Job" => match cron_job(&owner.name) {
            Some(name) => ("cronjob", name.to_owned()),
            None => ("job", owner.name.clone()),
        },
        "CronJob" => ("cronjob", owner.name.clone()),
        _ => ("pod", name_of(metadata).to_owned()),
    }
}

/// Strips the hash that a Deployment appends to the name of its ReplicaSet.
fn without_hash<'a>(replica_set: &'a str, hash: Option<&String>) -> &'a str {
    if let Some(hash) = hash {
        let stripped = replica_set.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-'));
        return stripped.unwrap_or(replica_set);
    }
    // Kubernetes writes hashes in letters that form no words, and in digits.
    let is_hash = |text: &str| {
        (5..=10).contains(&text.len()) && text.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c))
    };
    match replica_set.rsplit_once('-') {
        Some((name, suffix)) if is_hash(suffix) => name,
        _ => replica_set,
    }
}

/// Returns the CronJob that a Job of this name belongs to: it appends the scheduled time in minutes.
fn cron_job(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    let is_time = (8..=10).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
    is_time.then_some(name)
}
