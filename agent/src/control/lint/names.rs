//! Finds names that stand for nothing: namespaces that are not there, and labels of ambit's that nobody reads.

use std::collections::BTreeSet;

use ambit_core::Policy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::control::convert::{EGRESS_LABEL, MODE_LABEL};
use crate::control::finding::{Findings, MAX_FINDINGS_PER_FILE, did_you_mean};
use crate::control::objects::{Located, Objects, name_of, namespace_of};

/// What stands before every label of ambit's.
const PREFIX: &str = "ambit.dev/";

/// Warns about namespaces that neither an object nor a pod has.
pub(super) fn warn_about_namespaces(objects: &Objects, findings: &mut Findings) {
    let of_pods = objects.pods.iter().map(|pod| namespace_of(&pod.value.metadata));
    let written = objects.namespaces.iter().map(|namespace| name_of(&namespace.value.metadata));
    let known: BTreeSet<&str> = of_pods.chain(written).collect();
    for policy in &objects.policies {
        warn_about_namespaces_of(policy, &known, findings);
    }
}

fn warn_about_namespaces_of(policy: &Located<Policy>, known: &BTreeSet<&str>, findings: &mut Findings) {
    let before = findings.warnings.len();
    for (rule_index, rule) in policy.value.rules.iter().enumerate() {
        for (peer_index, peer) in rule.from.iter().flatten().enumerate() {
            for (index, namespace) in peer.namespaces.iter().enumerate() {
                if findings.warnings.len() - before > MAX_FINDINGS_PER_FILE {
                    return;
                }
                if known.contains(namespace.as_str()) {
                    continue;
                }
                let (rule, peer, place) =
                    (format!("[{rule_index}]"), format!("[{peer_index}]"), format!("[{index}]"));
                let steps = ["spec", "rules", &rule, "from", &peer, "namespaces", &place];
                let finding = policy.finding(&steps, format!("there is no namespace {namespace}"));
                let candidates: Vec<&str> = known.iter().copied().collect();
                findings.warn(match did_you_mean(namespace, &candidates) {
                    Some(guess) => finding.with_hint(guess),
                    None => finding,
                });
            }
        }
    }
}

/// Warns about labels that look like ambit's and are not.
pub(super) fn warn_about_labels(objects: &Objects, findings: &mut Findings) {
    objects.namespaces.iter().for_each(|object| labels_of(object, &object.value.metadata, findings));
    objects.pods.iter().for_each(|object| labels_of(object, &object.value.metadata, findings));
}

fn labels_of<T>(object: &Located<T>, metadata: &ObjectMeta, findings: &mut Findings) {
    let ours = [MODE_LABEL, EGRESS_LABEL];
    let keys = metadata.labels.iter().flat_map(|labels| labels.keys());
    for key in keys.filter(|key| key.starts_with(PREFIX) && !ours.contains(&key.as_str())) {
        let finding = object.finding(&["metadata", "labels", key], "ambit has no such label");
        let known = || format!("its labels are {}", ours.join(" and "));
        findings.warn(finding.with_hint(did_you_mean(key, &ours).unwrap_or_else(known)));
    }
}
