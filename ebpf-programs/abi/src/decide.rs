//! The verdict on a connection that arrives at an enrolled pod: one function, compiled into the kernel side and
//! into the agent.

use crate::{TUNNEL_PORT, endpoint_flag, flow_kind, verdict};

/// What `decide` needs to know of a connection that arrives at an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// `Endpoint::flags` of the destination.
    pub endpoint_flags: u32,
    /// Cookie of the destination's network namespace.
    pub endpoint_netns_cookie: u64,
    /// `Flow::kind` of the announced flow; 0 when none was announced.
    pub flow_kind: u32,
    /// `Flow::netns_cookie` of the announced flow.
    pub flow_netns_cookie: u64,
    /// Destination port in host byte order.
    pub port: u16,
    /// For a flow of another pod of this node: its compiled verdict, one of `verdict`.
    pub verdict: u32,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// Straight to the application.
    Pass,
    /// To the agent's outbound listener in this pod.
    Outbound,
    /// To the agent's inbound listener in this pod.
    Agent,
    /// Refused: no verified identity, and the pod's mode is strict.
    RefuseUnverified,
    /// Refused: a policy refuses the pod that connects.
    RefuseByPolicy,
}

/// Decides on a connection that arrives at an enrolled pod. Whatever is not understood goes to the agent, which
/// knows the policies.
#[inline(always)]
pub const fn decide(arrival: &Arrival) -> Inbound {
    let own = arrival.flow_netns_cookie == arrival.endpoint_netns_cookie;
    if own && arrival.flow_kind == flow_kind::REDIRECTED {
        return Inbound::Outbound;
    }
    if own && arrival.flow_kind == flow_kind::POD {
        return Inbound::Pass;
    }
    if arrival.port == TUNNEL_PORT {
        return Inbound::Agent;
    }
    if own && arrival.flow_kind == flow_kind::AGENT {
        return Inbound::Pass;
    }
    if arrival.flow_kind == flow_kind::HOST {
        if arrival.endpoint_flags & endpoint_flag::HOST_PASSES != 0 {
            return Inbound::Pass;
        }
        return Inbound::Agent;
    }
    // Another pod of this node, whose identity the kernel attests.
    if arrival.flow_kind == flow_kind::POD {
        return match arrival.verdict {
            verdict::PASS => Inbound::Pass,
            verdict::REFUSE => Inbound::RefuseByPolicy,
            _ => Inbound::Agent,
        };
    }
    if arrival.endpoint_flags & endpoint_flag::REFUSE_UNVERIFIED != 0 {
        return Inbound::RefuseUnverified;
    }
    Inbound::Agent
}

#[cfg(test)]
mod tests;
