//! Reads an `AccessPolicy` or a `ClusterAccessPolicy`, and refuses what cannot be meant.
//!
//! Gathers every error of a policy, not only the first. Never drops a part that it does not understand: such a policy
//! is not returned at all.

mod egress;
mod rules;
pub(crate) mod selector;
pub(super) mod stand_in;

use ambit_core::{Action, Policy, PolicyId};

use super::fields::{Fields, boolean, name, text};
use super::finding::Findings;
use super::node::{Cursor, Value};

const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "selfLink",
];
const SPEC: [&str; 5] = ["selector", "action", "dryRun", "rules", "egress"];
const CLUSTER_SPEC: [&str; 6] = ["namespaceSelector", "selector", "action", "dryRun", "rules", "egress"];

/// Reads a policy; whatever is wrong with it goes into `findings`, and then there is none.
pub(super) fn read(object: &Cursor<'_>, cluster_wide: bool, findings: &mut Findings) -> Option<Policy> {
    let errors_before = findings.errors.len();
    let top = Fields::of(object, &TOP_LEVEL, findings)?;
    let id = read_id(&top, cluster_wide, findings);
    let policy = match top.get("spec") {
        Some(spec) => read_spec(&spec, id?, findings),
        None => {
            findings.error(
                object
                    .follow(&["spec"])
                    .finding("the policy has no spec")
                    .with_hint("write `spec: {rules: []}` for an Allow policy that admits nobody"),
            );
            None
        }
    };
    policy.filter(|_| findings.errors.len() == errors_before)
}

fn read_id(top: &Fields<'_>, cluster_wide: bool, findings: &mut Findings) -> Option<PolicyId> {
    let Some(metadata) = top.get("metadata") else {
        findings.error(top.cursor.follow(&["metadata"]).finding("the policy has no metadata"));
        return None;
    };
    let metadata = Fields::of(&metadata, &METADATA, findings)?;
    let own_name = match metadata.get("name") {
        Some(found) => name(&found, findings)?,
        None => {
            findings.error(metadata.cursor.follow(&["name"]).finding("the policy has no metadata.name"));
            return None;
        }
    };
    let namespace = metadata.get("namespace");
    if cluster_wide {
        if let Some(namespace) = namespace {
            findings.error(
                namespace
                    .finding("a ClusterAccessPolicy has no namespace")
                    .with_hint("use an AccessPolicy, or select namespaces by spec.namespaceSelector"),
            );
            return None;
        }
        return Some(PolicyId { namespace: None, name: own_name });
    }
    let namespace = match namespace {
        Some(found) => name(&found, findings)?,
        None => "default".to_owned(),
    };
    Some(PolicyId { namespace: Some(namespace), name: own_name })
}

fn read_spec(spec: &Cursor<'_>, id: PolicyId, findings: &mut Findings) -> Option<Policy> {
    let known: &[&str] = if id.namespace.is_none() { &CLUSTER_SPEC } else { &SPEC };
    let fields = Fields::of(spec, known, findings)?;
    let action = fields.get("action").map(|field| read_action(&field, findings));
    let dry_run = fields.get("dryRun").map(|field| boolean(&field, findings));
    let namespace_selector = fields.get("namespaceSelector").map(|field| selector::read(&field, findings));
    let selector = fields.get("selector").map(|field| selector::read(&field, findings));
    let rules_field = fields.get("rules").filter(|field| field.node.value != Value::Null);
    let rules = match &rules_field {
        Some(field) => rules::read(field, id.namespace.as_deref(), findings),
        None => Some(Vec::new()),
    };
    let egress_field = fields.get("egress");
    let egress = egress_field.as_ref().map(|field| egress::read(field, findings));
    let action = action.unwrap_or(Some(Action::Allow))?;
    let rules = rules?;
    if let (Action::Deny, Some(field)) = (action, &egress_field) {
        findings.error(
            field
                .finding("a Deny policy has no `egress`: its rules name what pods may call")
                .with_hint("write a policy of its own for it, and label pods `ambit.dev/egress: mesh`"),
        );
        return None;
    }
    if action == Action::Deny && rules.is_empty() {
        let place = rules_field.as_ref().unwrap_or(spec);
        findings.error(
            place
                .finding("a Deny policy without rules refuses nobody")
                .with_hint("write `rules: [{from: [{anyone: true}]}]` to refuse everyone"),
        );
        return None;
    }
    Some(Policy {
        id,
        action,
        dry_run: dry_run.unwrap_or(Some(false))?,
        namespace_selector: match namespace_selector {
            Some(selector) => Some(selector?),
            None => None,
        },
        selector: selector.unwrap_or(Some(ambit_core::Selector::default()))?,
        rules,
        // `rules` without a value is written, and admits nobody.
        egress_only: egress_field.is_some() && fields.get("rules").is_none(),
        egress: match egress {
            Some(egress) => egress?,
            None => Vec::new(),
        },
    })
}

fn read_action(field: &Cursor<'_>, findings: &mut Findings) -> Option<Action> {
    match text(field, findings)? {
        "Allow" => Some(Action::Allow),
        "Deny" => Some(Action::Deny),
        other => {
            let finding = field.finding(format!("unknown action {other:?}"));
            findings.error(finding.with_hint("use Allow or Deny"));
            None
        }
    }
}

#[cfg(test)]
mod agreement;
