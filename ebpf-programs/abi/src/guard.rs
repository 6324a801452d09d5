//! The guard of a pod: what is known of the device on the node's side, and of the packets that pass it.

use crate::{Address, FlowKey, Pod};

/// Value of GUARDS, whose key is the index of the device on the node's side of a pod's link.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guard {
    /// Cookie of the pod's network namespace.
    pub netns_cookie: u64,
    /// The pod.
    pub pod: Pod,
    /// Bytes of a packet that stand before its IP header: 14 on Ethernet, 0 on a device without link addresses.
    pub link_header: u32,
    /// The number under which the node's network namespace knows the pod's (`man 8 ip-netns`, nsid).
    pub netns_id: u32,
}

/// Key of DATAGRAMS: a UDP exchange of a pod.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DatagramKey {
    /// The tuple as its first packet has it.
    pub first: FlowKey,
    /// Slot of the pod on whose link it was seen.
    pub slot: u32,
}

/// Value of DATAGRAMS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Datagram {
    /// When it was last seen, in nanoseconds of the kernel's monotonic clock.
    pub seen_ns: u64,
    /// One of `datagram_side`.
    pub side: u32,
    /// Always zero.
    pub _pad: u32,
}

/// Who began a UDP exchange.
pub mod datagram_side {
    /// The pod: whatever comes back is the answer.
    pub const CALL: u32 = 1;
    /// Somebody else, whom the policies let in: whatever the pod sends back is the answer, and no call of its own.
    pub const SERVED: u32 = 2;
}

/// For how long after its last packet a UDP exchange admits replies, in nanoseconds.
pub const DATAGRAM_LIFE_NS: u64 = 180_000_000_000;
/// How often the time of an exchange is written anew, in nanoseconds.
pub const DATAGRAM_REFRESH_NS: u64 = 1_000_000_000;

/// Key of HEARD: a TCP connection that somebody outside the mesh holds, or wants, with a pod whose egress is `mesh`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HeardKey {
    /// The tuple as the one outside has it.
    pub tuple: FlowKey,
    /// Slot of the pod on whose link it was seen.
    pub slot: u32,
}

/// Value of HEARD: the numbers of the latest segments that came over the pod's link, from which those of an answer follow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// What acknowledges the latest SYN alone.
    pub opened: u32,
    /// What acknowledges the latest segment with all its data.
    pub next: u32,
    /// What the latest segment with an ACK acknowledged.
    pub acknowledged: u32,
    /// `heard_flag` bits.
    pub flags: u32,
}

/// Bits of `Heard::flags`: which of the numbers are there.
pub mod heard_flag {
    /// `opened`: a SYN was heard.
    pub const SYN: u32 = 1;
    /// `acknowledged`: a segment with an ACK was heard.
    pub const ACK: u32 = 2;
}

/// Key of FRAGMENTS: a packet whose first fragment was let through.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification of the packet.
    pub identification: u32,
    /// Index of the device.
    pub device: u32,
    /// IP protocol.
    pub protocol: u32,
}

/// For how long after the first fragment the others pass, in nanoseconds: as long as Linux waits for them.
pub const FRAGMENT_LIFE_NS: u64 = 30_000_000_000;

/// Key of REFUSED: counts of what the guard refused.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RefusedKey {
    /// Slot of the pod.
    pub slot: u32,
    /// One of `event_reason`.
    pub reason: u32,
}

/// Value of REFUSED.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refused {
    /// Packets.
    pub packets: u64,
    /// Start of the second in which reports are counted, in nanoseconds of the kernel's monotonic clock.
    pub second_ns: u64,
    /// Reports in that second.
    pub reports: u64,
}

/// How many packets of one pod and one reason are reported in a second; all are counted.
pub const REPORTS_PER_SECOND: u64 = 20;

/// An address that is nobody's (RFC 5737), with which the agent tests that a pod is captured: a connection to it reaches
/// the agent, and a packet to or from it is counted by the guard and dropped.
pub const CANARY_V4: Address = Address::from_v4_be(u32::from_be_bytes([192, 0, 2, 15]).to_be());
/// The same for IPv6 (RFC 3849).
pub const CANARY_V6: Address =
    Address::from_octets([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15]);

const _: () =
    assert!(size_of::<Guard>() == 56 && size_of::<Datagram>() == 16 && size_of::<DatagramKey>() == 40);
const _: () = assert!(size_of::<HeardKey>() == 40 && size_of::<Heard>() == 16);
const _: () = assert!(size_of::<FragmentKey>() == 44 && size_of::<Refused>() == 24);
