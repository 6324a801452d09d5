//! Pods, the endpoints they are reached at, and what connections are handed to the agent for.

use crate::Address;

/// Value of PODS, whose key is the cookie of the pod's network namespace: an enrolled pod of this node, as a source.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pod {
    /// The pod's IPv4 address, mapped; unspecified when it has none.
    pub ipv4: Address,
    /// The pod's IPv6 address; unspecified when it has none.
    pub ipv6: Address,
    /// Number of this pod's instance on this node; never 0, never used twice while a map may remember it.
    pub slot: u32,
    /// `pod_flag` bits.
    pub flags: u32,
}

/// Bits of `Pod::flags`.
pub mod pod_flag {
    /// Policies are enforced (permissive, strict); without it nothing is refused, and what would be is reported.
    pub const ENFORCED: u32 = 1;
    /// The pod reaches peers in the mesh and what its egress rules name, and nothing else (`ambit.dev/egress: mesh`).
    pub const EGRESS_MESH: u32 = 2;
}

/// Value of ENDPOINTS, whose key is an `Address`: an enrolled pod of this node, as a destination.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// Cookie of the pod's network namespace.
    pub netns_cookie: u64,
    /// Slot of the pod.
    pub slot: u32,
    /// `endpoint_flag` bits.
    pub flags: u32,
}

/// Bits of `Endpoint::flags`.
pub mod endpoint_flag {
    /// A connection without a verified identity is refused at once (mode strict).
    pub const REFUSE_UNVERIFIED: u32 = 1;
    /// No policy refuses the node's own processes: they pass without the agent.
    pub const HOST_PASSES: u32 = 2;
}

/// Key of DESTINATIONS: what an enrolled pod reaches through the agent. Port 0 stands for every port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Destination {
    /// Address of an enrolled pod, or of a service.
    pub ip: Address,
    /// Port in host byte order; 0: every port.
    pub port: u16,
    /// Always zero.
    pub _pad: u16,
}

/// Key of LISTENERS, the sockets of the agent inside the pods.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ListenerKey {
    /// Slot of the pod.
    pub slot: u32,
    /// One of `listener_kind`.
    pub kind: u32,
    /// Address family of the connection: 2 (AF_INET) or 10 (AF_INET6).
    pub family: u32,
}

/// What a listener of the agent is for.
pub mod listener_kind {
    /// Takes what the pod's processes connect to.
    pub const OUTBOUND: u32 = 1;
    /// Takes what arrives for the pod: tunnels on port 15008, plaintext on any other.
    pub const INBOUND: u32 = 2;
}

const _: () = assert!(size_of::<Pod>() == 40 && size_of::<Endpoint>() == 16);
const _: () = assert!(size_of::<Destination>() == 20 && size_of::<ListenerKey>() == 12);
