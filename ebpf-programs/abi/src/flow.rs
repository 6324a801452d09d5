//! A flow: what the kernel attests of a connection before its first packet leaves.

use crate::{Address, SocketAddress};

/// Key of FLOWS: the tuple as the client's socket has it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address, after any rewriting.
    pub destination: Address,
    /// Source port in host byte order.
    pub source_port: u16,
    /// Destination port in host byte order, after any rewriting.
    pub destination_port: u16,
}

impl FlowKey {
    /// Returns the tuple of what comes back.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// Value of FLOWS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flow {
    /// Cookie of the network namespace that the client's socket lives in.
    pub netns_cookie: u64,
    /// Slot of the pod that connects (`flow_kind::POD`, `REDIRECTED`); 0 for the others.
    pub slot: u32,
    /// One of `flow_kind`.
    pub kind: u32,
    /// REDIRECTED: the destination, a pod where the kernel chose one behind a service. AGENT: the real client, if
    /// known. Else zero.
    pub peer: SocketAddress,
    /// REDIRECTED: the address that the application dialled. Else zero.
    pub dialled: SocketAddress,
    /// POD: the sequence number of the SYN, as it left the pod's link; only that SYN is this flow's.
    pub sequence: u32,
    /// POD: 1 once the SYN was seen on the pod's link; 0 before, and for pods without a guard.
    pub asked: u32,
}

/// Who opened a flow.
pub mod flow_kind {
    /// A process in an enrolled pod, connecting directly.
    pub const POD: u32 = 1;
    /// A process in an enrolled pod, whose connection was rewritten to reach the agent.
    pub const REDIRECTED: u32 = 2;
    /// The agent itself.
    pub const AGENT: u32 = 3;
    /// A process of the node, outside every pod.
    pub const HOST: u32 = 4;
}

const _: () = assert!(size_of::<FlowKey>() == 36 && size_of::<Flow>() == 64);
