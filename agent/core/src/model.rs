//! The mesh as ambit sees it: workloads, services and policies, whatever source they came from.
//!
//! Plain data without invariants across objects; `state::Snapshot` checks those and indexes it. Never changed in place.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::identity::SpiffeId;
use crate::policy::Policy;

/// How far a workload is enrolled; the label `ambit.dev/mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Not touched: no hook acts on the pod.
    #[default]
    None,
    /// Authenticated, nothing refused, and whatever `Strict` would refuse is reported.
    Audit,
    /// Policies are enforced, and a peer without an identity is served unless a policy refuses it.
    Permissive,
    /// Policies are enforced, and a peer without an identity is refused.
    Strict,
}

impl Mode {
    /// Reads the label's value; `None` is a missing label.
    ///
    /// An unknown value is `Strict`, with a text that says so: what cannot be understood fails closed.
    pub fn parse(value: Option<&str>) -> (Self, Option<String>) {
        match value {
            None | Some("none") => (Self::None, None),
            Some("audit") => (Self::Audit, None),
            Some("permissive") => (Self::Permissive, None),
            Some("strict") => (Self::Strict, None),
            Some(unknown) => {
                let problem = format!(
                    "unknown mode {unknown:?}, enforced as strict; use none, audit, permissive or strict"
                );
                (Self::Strict, Some(problem))
            }
        }
    }

    /// Returns the label's value for this mode.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Audit => "audit",
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        }
    }

    /// Tells whether ambit acts on the pod at all.
    pub fn is_enrolled(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a workload may call; the label `ambit.dev/egress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Egress {
    /// Anything.
    #[default]
    Any,
    /// Peers in the mesh, and what its egress rules name.
    Mesh,
}

impl Egress {
    /// Reads the label's value; `None` is a missing label.
    ///
    /// An unknown value is `Mesh`, with a text that says so: what cannot be understood fails closed.
    pub fn parse(value: Option<&str>) -> (Self, Option<String>) {
        match value {
            None | Some("any") => (Self::Any, None),
            Some("mesh") => (Self::Mesh, None),
            Some(unknown) => {
                let problem = format!("unknown egress {unknown:?}, enforced as mesh; use any or mesh");
                (Self::Mesh, Some(problem))
            }
        }
    }

    /// Returns the label's value for this egress.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Mesh => "mesh",
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Egress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The name of a workload: unique in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for WorkloadKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's instance: differs between two pods that bore the same name one after the other.
    pub uid: String,
    /// Who the pod is.
    pub identity: SpiffeId,
    /// The pod's addresses, of either family; the node's own for a host-network pod.
    pub addresses: Vec<IpAddr>,
    /// The node that the pod runs on.
    pub node: String,
    /// How far the pod is enrolled.
    pub mode: Mode,
    /// Why the mode is not what its label says.
    pub mode_problem: Option<String>,
    /// What the pod may call.
    pub egress: Egress,
    /// Why the egress is not what its label says.
    pub egress_problem: Option<String>,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the pod shares its node's network namespace.
    pub host_network: bool,
    /// The path of the pod's network namespace, where the source of objects knows it.
    pub netns: Option<String>,
    /// The kind of the pod's owner: `deployment`, `pod`, `job` or `cronjob`, as baggage spells it.
    pub owner_kind: String,
    /// The name of the pod's owner.
    pub owner_name: String,
}

impl Workload {
    /// Returns the workload's name.
    pub fn key(&self) -> WorkloadKey {
        WorkloadKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// A service with virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The virtual addresses; empty for a headless service.
    pub vips: Vec<IpAddr>,
    /// The TCP ports.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// Returns the DNS name of the service in a cluster, such as `web.shop.svc.cluster.local`.
    pub fn hostname(&self, cluster_domain: &str) -> String {
        format!("{}.{}.svc.{cluster_domain}", self.name, self.namespace)
    }
}

/// A port of a service and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// The port's name; a service with several ports names each.
    pub name: Option<String>,
    /// The port that clients dial.
    pub port: u16,
    /// Where its connections go.
    pub endpoints: Vec<Endpoint>,
}

/// One address that serves a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The address, usually a pod's.
    pub address: IpAddr,
    /// The port that the application listens on.
    pub port: u16,
    /// Whether new connections may go there.
    pub ready: bool,
}

/// Everything a source of objects knows, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The pods.
    pub workloads: Vec<Workload>,
    /// The services.
    pub services: Vec<Service>,
    /// The policies.
    pub policies: Vec<Policy>,
    /// The labels of each namespace; a namespace that is absent has none.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_mode_is_strict_and_says_so() {
        for (value, mode, understood) in [
            (None, Mode::None, true),
            (Some("none"), Mode::None, true),
            (Some("audit"), Mode::Audit, true),
            (Some("permissive"), Mode::Permissive, true),
            (Some("strict"), Mode::Strict, true),
            (Some("Strict"), Mode::Strict, false),
            (Some("off"), Mode::Strict, false),
            (Some(""), Mode::Strict, false),
        ] {
            let (parsed, problem) = Mode::parse(value);
            assert_eq!((parsed, problem.is_none()), (mode, understood), "{value:?}");
        }
    }

    #[test]
    fn an_unknown_egress_is_mesh_and_says_so() {
        for (value, egress, understood) in [
            (None, Egress::Any, true),
            (Some("any"), Egress::Any, true),
            (Some("mesh"), Egress::Mesh, true),
            (Some("Any"), Egress::Mesh, false),
            (Some(""), Egress::Mesh, false),
        ] {
            let (parsed, problem) = Egress::parse(value);
            assert_eq!((parsed, problem.is_none()), (egress, understood), "{value:?}");
        }
    }

    #[test]
    fn only_mode_none_is_not_enrolled() {
        assert!(!Mode::None.is_enrolled());
        assert!([Mode::Audit, Mode::Permissive, Mode::Strict].into_iter().all(Mode::is_enrolled));
    }
}
