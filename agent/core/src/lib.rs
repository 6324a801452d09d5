//! The pure logic of ambit: who is who, what the mesh looks like, who may talk to whom and by which way.
//!
//! Values in, values out. This crate never reads a file, a clock or a socket, never spawns a task and knows no
//! Kubernetes type; what it decides, other crates carry out.
#![forbid(unsafe_code)]

pub mod identity;
pub mod model;
pub mod policy;
pub mod renew;
pub mod state;

pub mod reach;
pub mod route;

pub use identity::{SpiffeId, SpiffeIdError};
pub use model::{Egress, Endpoint, Mode, Model, Service, ServicePort, Workload, WorkloadKey};
pub use policy::{
    Action, Call, Connection, Destination, EgressRule, IdentityPattern, Peer, Policy, PolicyId, PortRange,
    Protocol, Reason, Requirement, Rule, Selector, ServiceAccount, Source, Verdict, evaluate,
    evaluate_egress,
};
pub use route::{Route, RouteRefusal, route};
pub use state::{ModelError, Snapshot};
