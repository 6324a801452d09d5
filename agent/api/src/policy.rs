//! The two kinds of policies. They differ in their scope, and in whom a cluster-wide one may speak of.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::schema::{AccessRule, Action, Condition, EgressRule, Selector};

/// Who may reach the pods of a namespace, and what they may call.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "ambit.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    shortname = "ap",
    category = "ambit",
    namespaced,
    status = "PolicyStatus",
    doc = "Who may reach the pods of a namespace, and what they may call outside the mesh.",
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Dry-run", type_ = "boolean", json_path = ".spec.dryRun"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.action != 'Deny' || (has(self.rules) && self.rules.size() > 0)").message("a Deny policy without rules refuses nobody"),
    validation = Rule::new("self.action != 'Deny' || !has(self.egress)").message("a Deny policy has no `egress`: its rules name what pods may call"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPolicySpec {
    /// Which pods of the namespace it speaks of. Absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// What it does with the calls that a rule matches. Any Deny match refuses; else, where an Allow policy selects the
    /// pod, a call needs an Allow match.
    #[serde(default)]
    pub action: Action,
    /// Whether it is evaluated, counted and logged, and never enforced.
    #[serde(default)]
    pub dry_run: bool,
    /// Which calls it matches, OR-ed. An Allow policy without rules admits nobody, unless it has `egress` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rules: Option<Vec<AccessRule>>,
    /// What the pods may call outside the mesh, OR-ed, where their egress is restricted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub egress: Option<Vec<EgressRule>>,
}

/// Who may reach the pods of the cluster, and what they may call.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "ambit.dev",
    version = "v1alpha1",
    kind = "ClusterAccessPolicy",
    plural = "clusteraccesspolicies",
    shortname = "cap",
    category = "ambit",
    status = "PolicyStatus",
    doc = "Who may reach the pods of the cluster, and what they may call outside the mesh.",
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Dry-run", type_ = "boolean", json_path = ".spec.dryRun"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.action != 'Deny' || (has(self.rules) && self.rules.size() > 0)").message("a Deny policy without rules refuses nobody"),
    validation = Rule::new("self.action != 'Deny' || !has(self.egress)").message("a Deny policy has no `egress`: its rules name what pods may call"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterAccessPolicySpec {
    /// Which namespaces it speaks of, by their labels. Absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// Which pods of those namespaces it speaks of. Absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// What it does with the calls that a rule matches. Any Deny match refuses; else, where an Allow policy selects the
    /// pod, a call needs an Allow match.
    #[serde(default)]
    pub action: Action,
    /// Whether it is evaluated, counted and logged, and never enforced.
    #[serde(default)]
    pub dry_run: bool,
    /// Which calls it matches, OR-ed. An Allow policy without rules admits nobody, unless it has `egress` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rules: Option<Vec<AccessRule>>,
    /// What the pods may call outside the mesh, OR-ed, where their egress is restricted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub egress: Option<Vec<EgressRule>>,
}

/// How a policy fares.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The generation that the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
