//! ambit's own kinds as Kubernetes stores them: `AccessPolicy` and `ClusterAccessPolicy`, with the schema and the rules by
//! which the API server refuses what cannot be meant.
//!
//! Types and definitions only. Never decides who may call whom, and never reads a file: the agent reads policies by its own
//! stricter reader, and a test there holds the two against each other.
#![forbid(unsafe_code)]

mod definition;
#[allow(unreachable_pub, reason = "the derive of kube repeats the types inside of functions")]
mod policy;
#[allow(unreachable_pub, reason = "as in `policy`")]
mod schema;
mod value;

pub use definition::{Definition, definitions};
pub use policy::{
    AccessPolicy, AccessPolicySpec, ClusterAccessPolicy, ClusterAccessPolicySpec, PolicyStatus,
};
pub use schema::{
    AccessRule, Action, Condition, Destination, EgressRule, Operator, Peer, Protocol, Requirement, Selector,
};
pub use value::{Cidr, Identity, Label, Name, Ports, ServiceAccount};
