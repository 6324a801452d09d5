//! Compiled policies: for two pods of this node, a verdict for every protocol and block of ports.

/// The data of a key of VERDICTS, a longest-prefix match. All bytes are in network order, so that the bits of the
/// port come last.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct VerdictKey {
    /// Slot of the pod that is called.
    pub destination_be: [u8; 4],
    /// Slot of the pod that calls, or the class of the peer's address (with `CLASS` set).
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
    /// The agent decides.
    pub const ASK: u32 = 3;
}

const _: () = assert!(size_of::<VerdictKey>() == 12);
