//! Warns about policies that are valid and yet probably not meant so.
//!
//! Never changes anything, and never warns about objects that the input does not contain at all: a single policy file is not
//! told that it selects no pod.

mod names;
mod ports;
mod shadowed;

use std::collections::HashSet;

use ambit_core::{Action, Egress, Policy, Rule, Snapshot};

use super::finding::{Findings, MAX_FINDINGS_PER_FILE};
use super::objects::{Located, Objects};

/// Adds a warning for each suspicious policy.
pub(super) fn lint(objects: &Objects, snapshot: &Snapshot, findings: &mut Findings) {
    let selecting: HashSet<_> = snapshot
        .workloads()
        .flat_map(|workload| snapshot.policies_of(workload))
        .map(|policy| &policy.id)
        .collect();
    let restricted: HashSet<_> = snapshot
        .workloads()
        .filter(|workload| workload.mode.is_enrolled() && workload.egress == Egress::Mesh)
        .flat_map(|workload| snapshot.policies_of(workload))
        .map(|policy| &policy.id)
        .collect();
    let accounts: HashSet<(&str, &str)> = snapshot
        .workloads()
        .map(|workload| (workload.identity.namespace(), workload.identity.service_account()))
        .collect();
    for policy in &objects.policies {
        if !objects.pods.is_empty() {
            if !selecting.contains(&policy.value.id) {
                findings.warn(policy.finding(&["spec", "selector"], "the policy selects no pod"));
            }
            if !policy.value.egress.is_empty()
                && selecting.contains(&policy.value.id)
                && !restricted.contains(&policy.value.id)
            {
                let message =
                    "the rules have no effect: no pod that the policy selects is enrolled with egress mesh";
                let finding = policy.finding(&["spec", "egress"], message);
                findings
                    .warn(finding.with_hint("label the pods or their namespace `ambit.dev/egress: mesh`"));
            }
            warn_about_accounts(policy, &accounts, findings);
        }
        warn_about_split_rules(policy, findings);
    }
    names::warn_about_labels(objects, findings);
    if !objects.pods.is_empty() {
        names::warn_about_namespaces(objects, findings);
        shadowed::warn(objects, snapshot, findings);
        ports::warn(objects, snapshot, findings);
    }
}

/// Warns about service accounts that no pod uses.
fn warn_about_accounts(policy: &Located<Policy>, accounts: &HashSet<(&str, &str)>, findings: &mut Findings) {
    let before = findings.warnings.len();
    for (rule_index, rule) in policy.value.rules.iter().enumerate() {
        for (peer_index, peer) in rule.from.iter().flatten().enumerate() {
            for (index, account) in peer.service_accounts.iter().enumerate() {
                if findings.warnings.len() - before > MAX_FINDINGS_PER_FILE {
                    return;
                }
                if accounts.contains(&(account.namespace.as_str(), account.name.as_str())) {
                    continue;
                }
                let (rule, peer) = (format!("[{rule_index}]"), format!("[{peer_index}]"));
                let index = format!("[{index}]");
                let steps = ["spec", "rules", &rule, "from", &peer, "serviceAccounts", &index];
                let message =
                    format!("no pod uses the service account {}/{}", account.namespace, account.name);
                findings.warn(policy.finding(&steps, message));
            }
        }
    }
}

/// Warns about `- from` followed by `- to`, which are two rules and OR-ed.
fn warn_about_split_rules(policy: &Located<Policy>, findings: &mut Findings) {
    let only_from = |rule: &Rule| rule.from.is_some() && rule.to.is_none();
    let only_to = |rule: &Rule| rule.from.is_none() && rule.to.is_some();
    if policy.value.action != Action::Allow {
        return;
    }
    for (index, pair) in policy.value.rules.windows(2).enumerate() {
        if only_from(&pair[0]) && only_to(&pair[1]) {
            let message = "this is a rule of its own: it admits every caller with an identity to these ports, and the \
                           callers of the rule before it to every port";
            let position = format!("[{}]", index + 1);
            let finding = policy.finding(&["spec", "rules", &position], message);
            findings.warn(finding.with_hint("to restrict the rule before it, write `to` without the `-`"));
        }
    }
}

#[cfg(test)]
mod tests;
