//! What a policy consists of.
//!
//! The messages of the rules are those of the agent's own reader, so that a person learns the same from both.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Cidr, Identity, Label, Name, Ports, ServiceAccount};

/// What a policy does with the calls that it matches.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Admits them; what no Allow policy of the pod matches is refused.
    #[default]
    Allow,
    /// Refuses them, whatever any Allow policy says.
    Deny,
}

/// A transport.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A selector by labels; `{}` selects everything.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Selector {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub match_labels: BTreeMap<String, Label>,
    /// Requirements, AND-ed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<Requirement>,
}

/// A requirement on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.operator in ['Exists', 'DoesNotExist'] || (has(self.values) && self.values.size() > 0)").message("In and NotIn need `values`"),
    validation = Rule::new("self.operator in ['In', 'NotIn'] || !has(self.values) || self.values.size() == 0").message("Exists and DoesNotExist take no values"),
)]
pub struct Requirement {
    /// The label.
    #[schemars(length(max = 317))]
    pub key: String,
    /// What must hold of it.
    pub operator: Operator,
    /// The values that it speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub values: Vec<Label>,
}

/// What must hold of a label.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is absent.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

/// A rule matches when a caller of `from` and a port of `to` match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.from) || has(self.to)").message("the rule has neither `from` nor `to`"))]
pub struct AccessRule {
    /// The callers, OR-ed. Absent: under Allow every caller with an identity, under Deny everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub from: Option<Vec<Peer>>,
    /// The ports, OR-ed. Absent: every port of every protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub to: Option<Vec<Destination>>,
}

/// A kind of caller: its fields are AND-ed, the values of a field OR-ed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.serviceAccounts) || has(self.namespaces) || has(self.identities) || has(self.cidrs) || has(self.exceptCidrs) || has(self.host) || has(self.anyone)").message("the caller has no field"),
    validation = Rule::new("!has(self.host) || !(has(self.serviceAccounts) || has(self.namespaces) || has(self.identities))").message("matches nobody: the node's own processes have no identity"),
    validation = Rule::new("!has(self.anyone) || !(has(self.serviceAccounts) || has(self.namespaces) || has(self.identities) || has(self.host))").message("`anyone` adds nothing to the other fields"),
)]
pub struct Peer {
    /// Service accounts, as NAME or NAMESPACE/NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub service_accounts: Option<Vec<ServiceAccount>>,
    /// Namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespaces: Option<Vec<Name>>,
    /// SPIFFE identities, each with at most one `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub identities: Option<Vec<Identity>>,
    /// Networks that the caller's address lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub cidrs: Option<Vec<Cidr>>,
    /// Networks that it does not lie in. Admits nobody without an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub except_cidrs: Option<Vec<Cidr>>,
    /// The processes of the pod's own node, as the kernel attests them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("`false` says nothing here"))]
    pub host: Option<bool>,
    /// Everyone, plaintext included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("`false` says nothing here"))]
    pub anyone: Option<bool>,
}

/// Ports of one protocol.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.ports) || has(self.protocol)").message("the destination has neither `ports` nor `protocol`"))]
pub struct Destination {
    /// The protocol. Absent: TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The ports, OR-ed. Absent: every port of the protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub ports: Option<Vec<Ports>>,
}

/// What pods may call outside the mesh: the fields are AND-ed, the values of a field OR-ed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRule {
    /// The networks that are called.
    #[schemars(length(min = 1, max = 1024))]
    pub cidrs: Vec<Cidr>,
    /// Networks of those that are not meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub except_cidrs: Option<Vec<Cidr>>,
    /// The ports, OR-ed. Absent: every port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub ports: Option<Vec<Ports>>,
    /// The protocol. Absent: TCP where there are ports, else TCP and UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// Something that is known of an object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(length(min = 1, max = 7))]
    pub status: String,
    /// Why, in one word.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: Option<String>,
}
