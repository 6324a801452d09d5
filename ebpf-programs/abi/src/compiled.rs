//! Compiled policies: for two pods of this node, or a pod and a class of addresses outside, a verdict for every protocol
//! and block of ports.

use crate::Address;

/// The data of a key of VERDICTS, a longest-prefix match. All bytes are in network order, so that the bits of the
/// port come last.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct VerdictKey {
    /// Slot of the pod that is called, or the class of the address that a pod calls (with `CLASS_BIT` set).
    pub destination_be: [u8; 4],
    /// Slot of the pod that calls, or the class of the peer's address (with `CLASS_BIT` set).
    pub source_be: [u8; 4],
    /// IP protocol: 6 for TCP, 17 for UDP.
    pub protocol_be: [u8; 2],
    /// First port of the block.
    pub port_be: [u8; 2],
}

/// Bits of a key that stand before the port.
pub const VERDICT_PEERS_BITS: u32 = 80;
/// Bits of a key that names one port.
pub const VERDICT_BITS: u32 = 96;

impl VerdictKey {
    /// Returns the key of the block that begins with `port`.
    #[inline(always)]
    pub const fn new(destination: u32, source: u32, protocol: u16, port: u16) -> Self {
        Self {
            destination_be: destination.to_be_bytes(),
            source_be: source.to_be_bytes(),
            protocol_be: protocol.to_be_bytes(),
            port_be: port.to_be_bytes(),
        }
    }
}

/// Values of VERDICTS.
pub mod verdict {
    /// No verdict: the agent decides.
    pub const NONE: u32 = 0;
    /// Straight to the application.
    pub const PASS: u32 = 1;
    /// Refused, and reported.
    pub const REFUSE: u32 = 2;
    /// The agent decides about a connection. A datagram passes, and is reported.
    pub const ASK: u32 = 3;
    /// A datagram passes over IPv4, and is refused over IPv6.
    pub const PASS_V4: u32 = 4;
    /// A datagram passes over IPv6, and is refused over IPv4.
    pub const PASS_V6: u32 = 5;
}

/// Set in a peer of a `VerdictKey` that is no slot but a class of addresses; a slot never has it.
pub const CLASS_BIT: u32 = 1 << 31;

/// The data of a key of CLASSES, a longest-prefix match: which class an address belongs to, as the policies of one pod
/// see it. The value is the class's number, without `CLASS_BIT`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ClassKey {
    /// Slot of the pod.
    pub slot_be: [u8; 4],
    /// One of `direction`.
    pub direction_be: [u8; 4],
    /// The address, or the first one of the network.
    pub address: Address,
}

/// Bits of a key of CLASSES that stand before the address.
pub const CLASS_POD_BITS: u32 = 64;
/// Bits of a key of CLASSES that names one address.
pub const CLASS_BITS: u32 = 192;

impl ClassKey {
    /// Returns the key of the network that begins with `address`.
    #[inline(always)]
    pub const fn new(slot: u32, direction: u32, address: Address) -> Self {
        Self { slot_be: slot.to_be_bytes(), direction_be: direction.to_be_bytes(), address }
    }
}

/// On which side of an exchange the address of a class stands.
pub mod direction {
    /// It sends to the pod: its class is the source in VERDICTS.
    pub const STRANGER: u32 = 1;
    /// The pod calls it: its class is the destination in VERDICTS.
    pub const EGRESS: u32 = 2;
}

const _: () = assert!(size_of::<ClassKey>() == 24);

const _: () = assert!(size_of::<VerdictKey>() == 12);
