//! What the kernel reports of connections that the agent never sees.

use crate::FlowKey;

/// A record of the ring buffer EVENTS: a connection or a packet that the kernel refused.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// The connection.
    pub key: FlowKey,
    /// Slot of the pod it was for; 0 when the address is no pod's.
    pub slot: u32,
    /// One of `event_reason`.
    pub reason: u32,
    /// Slot of the pod that connects, where the kernel knows it; else 0.
    pub source_slot: u32,
    /// IP protocol: 6 for TCP.
    pub protocol: u32,
}

/// Why the kernel refused.
pub mod event_reason {
    /// Mode strict, and the peer has no verified identity.
    pub const UNVERIFIED_IN_STRICT: u32 = 1;
    /// The agent's listener is gone: the agent does not run.
    pub const NO_LISTENER: u32 = 2;
    /// A policy refuses the connection of a pod of this node.
    pub const POLICY: u32 = 4;
    /// The pod has no such address, as far as the agent was told.
    pub const UNKNOWN_ADDRESS: u32 = 3;
    /// A pod called something outside the mesh that its egress rules do not name. `slot` is 0, `source_slot` the pod.
    pub const EGRESS: u32 = 5;
    /// The same in audit mode: it was let through.
    pub const EGRESS_AUDIT: u32 = 6;
    /// A pod sent a packet from an address that is not its own.
    pub const SPOOFED: u32 = 7;
    /// A pod sent a TCP SYN that none of its sockets announced.
    pub const UNANNOUNCED: u32 = 8;
    /// A packet of a protocol that is not enforced, such as SCTP or a tunnel's.
    pub const PROTOCOL: u32 = 9;
    /// A UDP datagram for a pod, from a sender without a verified identity.
    pub const DATAGRAM: u32 = 10;
    /// A fragment whose beginning was refused or not seen.
    pub const FRAGMENT: u32 = 11;
    /// No refusal: the guard was tested. Counted, never reported.
    pub const TESTED: u32 = 12;
}

const _: () = assert!(size_of::<Event>() == 52);
