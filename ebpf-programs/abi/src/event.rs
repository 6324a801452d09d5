//! What the kernel reports of connections that the agent never sees.

use crate::FlowKey;

/// A record of the ring buffer EVENTS: an inbound connection that the kernel refused.
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
}

const _: () = assert!(size_of::<Event>() == 48);
