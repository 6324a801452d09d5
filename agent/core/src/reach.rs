//! What comes of a call: whom the called pod sees, what the caller's egress and the called pod's policies say, and who
//! decides.
//!
//! Foresees what the hooks and the agents do, from a snapshot alone; verdicts come from `evaluate` and
//! `evaluate_egress`. Never carries anything out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::identity::SpiffeId;
use crate::model::{Egress, Mode, Workload};
use crate::policy::{Connection, KernelVerdict, Protocol, Source, Verdict, compile, may_refuse_host};
use crate::state::Snapshot;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A pod.
    Pod(&'a Workload),
    /// Whoever has a certificate with this identity.
    Identity {
        /// The identity.
        id: &'a SpiffeId,
        /// The address that it calls from.
        address: IpAddr,
    },
    /// A process of the called pod's own node.
    Host {
        /// The node's address.
        address: IpAddr,
    },
    /// Something outside the mesh.
    Outside {
        /// The address that it calls from.
        address: IpAddr,
    },
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called<'a> {
    /// A pod, at one of its addresses.
    Pod {
        /// The pod.
        pod: &'a Workload,
        /// The address.
        address: IpAddr,
    },
    /// An address that is of no pod.
    Address(IpAddr),
}

/// A call to foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Who calls.
    pub caller: Caller<'a>,
    /// What is called.
    pub called: Called<'a>,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Whether it dials a service. What a process of a node dials is rewritten after the kernel has seen its socket, so
    /// that the called pod's kernel does not know the connection.
    pub by_service: bool,
}

/// What both sides say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The calling pod's side; `None` where the caller is no pod.
    pub egress: Option<Verdict>,
    /// The called pod's side, with whom it sees; `None` where no pod is called, or the pod calls itself.
    pub inbound: Option<(Source<'a>, Verdict)>,
}

/// Who decides about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// Nobody: ambit does not touch it.
    Nobody,
    /// The kernel of the calling pod's node, before anything leaves.
    CallersKernel,
    /// The kernel of the called pod's node.
    Kernel,
    /// The agent of the called pod's node.
    Agent,
}

impl Caller<'_> {
    /// Returns the address from which the caller reaches `towards`: of the same family if it has one.
    pub fn address(&self, towards: IpAddr) -> IpAddr {
        match self {
            Self::Pod(pod) => {
                let same = pod.addresses.iter().find(|address| address.is_ipv4() == towards.is_ipv4());
                same.or(pod.addresses.first()).copied().unwrap_or_else(|| unspecified(towards))
            }
            Self::Identity { address, .. } | Self::Host { address } | Self::Outside { address } => *address,
        }
    }
}

impl<'a> Called<'a> {
    /// Returns the pod at the first of its addresses, the one that others are told.
    pub fn pod(pod: &'a Workload) -> Self {
        let address = pod.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self::Pod { pod, address }
    }

    /// Returns the address that is called.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Pod { address, .. } | Self::Address(address) => *address,
        }
    }
}

impl Outcome<'_> {
    /// Returns the verdict that the caller meets; `None` where neither side is a pod.
    pub fn verdict(&self) -> Option<&Verdict> {
        let inbound = self.inbound.as_ref().map(|(_, verdict)| verdict);
        match &self.egress {
            Some(egress) if !egress.allowed => Some(egress),
            egress => inbound.or(egress.as_ref()),
        }
    }
}

/// Returns the address of a family that stands for one that is not known.
pub fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Foresees what comes of a call.
pub fn reach<'a>(snapshot: &Snapshot, attempt: &Attempt<'a>) -> Outcome<'a> {
    let Attempt { caller, called, port, protocol, .. } = *attempt;
    let egress = match caller {
        Caller::Pod(pod) => {
            Some(snapshot.evaluate_egress(pod, SocketAddr::new(called.address(), port), protocol))
        }
        _ => None,
    };
    let inbound = match called {
        Called::Pod { pod, address } if !is_itself(caller, pod) => {
            let source = seen(attempt, pod, address);
            let connection = Connection { source, destination: pod, protocol, port };
            Some((source, snapshot.evaluate(&connection)))
        }
        _ => None,
    };
    Outcome { egress, inbound }
}

/// Tells whether a pod calls itself, which no policy is asked about.
fn is_itself(caller: Caller<'_>, called: &Workload) -> bool {
    matches!(caller, Caller::Pod(pod) if pod.namespace == called.namespace && pod.name == called.name)
}

/// Returns whom the called pod sees, by what its node knows for certain.
fn seen<'a>(attempt: &Attempt<'a>, called: &Workload, towards: IpAddr) -> Source<'a> {
    let (caller, protocol) = (attempt.caller, attempt.protocol);
    let address = caller.address(towards);
    match caller {
        Caller::Pod(pod) if pod.host_network => {
            if pod.node == called.node && !attempt.by_service {
                Source::Host { address }
            } else {
                Source::Unverified { address }
            }
        }
        // No tunnel carries a datagram: only within a node is its sender known.
        Caller::Pod(pod)
            if pod.mode.is_enrolled() && (protocol == Protocol::Tcp || pod.node == called.node) =>
        {
            Source::Identity { id: &pod.identity, address }
        }
        Caller::Identity { id, .. } if protocol == Protocol::Tcp => Source::Identity { id, address },
        Caller::Host { .. } if !attempt.by_service => Source::Host { address },
        _ => Source::Unverified { address },
    }
}

/// Tells who decides; `direct_lane` is whether pods of one node reach each other without the agent.
pub fn decider(
    snapshot: &Snapshot,
    attempt: &Attempt<'_>,
    outcome: &Outcome<'_>,
    direct_lane: bool,
) -> Decider {
    if outcome.egress.as_ref().is_some_and(|verdict| !verdict.allowed) {
        return Decider::CallersKernel;
    }
    let restricted =
        matches!(attempt.caller, Caller::Pod(pod) if pod.mode.is_enrolled() && pod.egress == Egress::Mesh);
    let (pod, source) = match (attempt.called, &outcome.inbound) {
        (Called::Pod { pod, .. }, Some((source, _))) if pod.mode.is_enrolled() => (pod, source),
        _ if restricted => return Decider::CallersKernel,
        _ => return Decider::Nobody,
    };
    let policies = snapshot.policies_of(pod);
    match (source, attempt.protocol) {
        // No agent takes a datagram.
        (_, Protocol::Udp) => Decider::Kernel,
        (Source::Host { .. }, _) if may_refuse_host(policies) => Decider::Agent,
        (Source::Host { .. }, _) => Decider::Kernel,
        (Source::Unverified { .. }, _) if pod.mode == Mode::Strict => Decider::Kernel,
        (Source::Unverified { .. }, _) => Decider::Agent,
        (Source::Identity { .. }, protocol) => match attempt.caller {
            Caller::Pod(calling) if direct_lane && calling.node == pod.node => {
                let verdicts = compile(policies, calling, pod, protocol);
                let of_port = verdicts
                    .into_iter()
                    .find(|(range, _)| (range.first..=range.last).contains(&attempt.port));
                match of_port {
                    Some((_, KernelVerdict::Ask)) => Decider::Agent,
                    _ => Decider::Kernel,
                }
            }
            _ => Decider::Agent,
        },
    }
}

#[cfg(test)]
mod tests;
