//! What is remembered per socket.

use crate::SocketAddress;

/// Value of AGENT_SOCKETS, whose key is a socket cookie: a socket that the agent is about to connect. It is not
/// intercepted. The entry is consumed by the connection's first packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentSocket {
    /// The real client, which the application is to see as its peer; unspecified when there is none.
    pub client: SocketAddress,
    /// Always zero.
    pub _pad: u32,
}

/// Value of the socket storage SOCKETS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketState {
    /// The peer that the application is to see (`socket_role::REDIRECTED`, `SERVICE`, `ACCEPTED`).
    pub peer: SocketAddress,
    /// REDIRECTED: where the agent is to carry it.
    pub target: SocketAddress,
    /// One of `socket_role`.
    pub role: u32,
}

/// Roles of a socket.
pub mod socket_role {
    /// Connected by a process in a pod, rewritten to reach the agent.
    pub const REDIRECTED: u32 = 1;
    /// Accepted by an application from the agent.
    pub const ACCEPTED: u32 = 2;
    /// Connected by a process of the node.
    pub const HOST: u32 = 3;
    /// Connected by a process in a pod to a service, rewritten to an endpoint that it reaches directly.
    pub const SERVICE: u32 = 4;
    /// Accepted in a pod whose egress is `mesh`, from a peer outside of which nothing came over the pod's link: the pod
    /// forged it, and nothing of it leaves.
    pub const UNHEARD: u32 = 5;
}

const _: () = assert!(size_of::<AgentSocket>() == 24 && size_of::<SocketState>() == 44);
