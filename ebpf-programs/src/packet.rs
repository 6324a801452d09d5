//! Reads the headers of a packet: addresses, protocol, fragment, and where the transport header stands.
//!
//! Decides nothing. Whatever it cannot read to the end is malformed, and for the guard to refuse.

use ambit_abi::{Address, FlowKey};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use core::mem::MaybeUninit;

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const ETH_P_ARP: u32 = 0x0806;

/// IP protocol numbers.
pub const ICMP: u32 = 1;
pub const IGMP: u32 = 2;
pub const ICMPV6: u32 = 58;
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION_OPTIONS: u32 = 60;

/// How many extension headers are read.
const MAX_EXTENSIONS: u32 = 6;

/// What a frame carries.
pub enum Frame {
    Arp,
    Ip(Packet),
    /// IP that is cut short or has headers that nobody needs, or a frame that is tagged for a VLAN.
    Malformed,
    /// Neither IP nor ARP.
    Other,
}

/// The part of an IP packet that a frame carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// The first fragment.
    First,
    /// Another fragment, without a transport header.
    Later,
}

/// An IP packet.
#[derive(Clone, Copy)]
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    pub protocol: u32,
    /// Offset of the transport header, or of the data of a later fragment.
    pub transport: u32,
    /// Where the packet ends, as its IP header says; frames may be padded.
    pub end: u32,
    /// How many routers may still pass it on, and one.
    pub hops: u8,
    pub part: Part,
    pub identification: u32,
    pub is_v4: bool,
}

/// The first bytes of a TCP or UDP header.
#[derive(Clone, Copy)]
pub struct Ports {
    pub source: u16,
    pub destination: u16,
}

impl Packet {
    /// Returns the tuple of this packet.
    #[inline(always)]
    pub fn key(&self, ports: Ports) -> FlowKey {
        FlowKey {
            source: self.source,
            destination: self.destination,
            source_port: ports.source,
            destination_port: ports.destination,
        }
    }
}

/// Copies `T` from `offset`; `None` where the packet is shorter.
#[inline(always)]
pub fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let length = size_of::<T>() as u32;
    // SAFETY: the helper writes exactly `length` bytes to `value`, or zeroes it and fails.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), length) };
    // SAFETY: written by the helper; T is an array of integers, for which every bit pattern is valid.
    (result == 0).then(|| unsafe { value.assume_init() })
}

/// Reads the headers of the frame, whose IP header stands at `network`.
#[inline(always)]
pub fn read(skb: *mut __sk_buff, network: u32) -> Frame {
    // SAFETY: the context is valid for the whole run.
    let (protocol, tagged) = unsafe { ((*skb).protocol, (*skb).vlan_present) };
    if tagged != 0 {
        return Frame::Malformed;
    }
    let packet = match u32::from((protocol as u16).swap_bytes()) {
        ETH_P_IP => read_v4(skb, network),
        ETH_P_IPV6 => read_v6(skb, network),
        ETH_P_ARP => return Frame::Arp,
        _ => return Frame::Other,
    };
    packet.map_or(Frame::Malformed, Frame::Ip)
}

#[inline(always)]
fn read_v4(skb: *mut __sk_buff, network: u32) -> Option<Packet> {
    let header: [u8; 20] = load(skb, network)?;
    // Options are for routers that nobody should be able to steer.
    if header[0] != 0x45 && header[9] != IGMP as u8 {
        return None;
    }
    let length = u32::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let (more, offset) = (fragment & 0x2000 != 0, fragment & 0x1fff);
    let part = match (offset, more) {
        (0, false) => Part::Whole,
        (0, true) => Part::First,
        _ => Part::Later,
    };
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Packet {
        source: Address::from_v4_be(word(12)),
        destination: Address::from_v4_be(word(16)),
        protocol: u32::from(header[9]),
        transport: network + length,
        end: network + u32::from(u16::from_be_bytes([header[2], header[3]])),
        hops: header[8],
        part,
        identification: u32::from(u16::from_be_bytes([header[4], header[5]])),
        is_v4: true,
    })
}

#[inline(always)]
fn read_v6(skb: *mut __sk_buff, network: u32) -> Option<Packet> {
    let header: [u32; 10] = load(skb, network)?;
    let first = header[0].to_ne_bytes()[0];
    if first >> 4 != 6 {
        return None;
    }
    let [length_high, length_low, next, hops] = header[1].to_ne_bytes();
    let mut packet = Packet {
        source: Address { words_be: [header[2], header[3], header[4], header[5]] },
        destination: Address { words_be: [header[6], header[7], header[8], header[9]] },
        protocol: u32::from(next),
        transport: network + 40,
        end: network + 40 + u32::from(u16::from_be_bytes([length_high, length_low])),
        hops,
        part: Part::Whole,
        identification: 0,
        is_v4: false,
    };
    // Mapped IPv4 addresses stand for IPv4 in every map, and never on a wire.
    if packet.source.is_v4() || packet.destination.is_v4() {
        return None;
    }
    for _ in 0..MAX_EXTENSIONS {
        match packet.protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let [next, length]: [u8; 2] = load(skb, packet.transport)?;
                packet.protocol = u32::from(next);
                packet.transport += (u32::from(length) + 1) * 8;
            }
            FRAGMENT => {
                // A fragment of a fragment is nobody's.
                if packet.part != Part::Whole {
                    return None;
                }
                let extension: [u8; 8] = load(skb, packet.transport)?;
                let offset = u16::from_be_bytes([extension[2], extension[3]]);
                let [_, _, _, _, a, b, c, d] = extension;
                packet.identification = u32::from_be_bytes([a, b, c, d]);
                packet.protocol = u32::from(extension[0]);
                packet.transport += 8;
                packet.part = match (offset >> 3, offset & 1) {
                    (0, 0) => Part::Whole,
                    (0, _) => Part::First,
                    _ => Part::Later,
                };
                if packet.part == Part::Later {
                    return Some(packet);
                }
            }
            ROUTING => return None,
            _ => return Some(packet),
        }
    }
    None
}

/// Returns the ports of a TCP or UDP packet.
#[inline(always)]
pub fn ports(skb: *mut __sk_buff, packet: &Packet) -> Option<Ports> {
    let [a, b, c, d]: [u8; 4] = load(skb, packet.transport)?;
    Some(Ports { source: u16::from_be_bytes([a, b]), destination: u16::from_be_bytes([c, d]) })
}

/// The header of a TCP packet.
#[derive(Clone, Copy)]
pub struct Segment {
    pub ports: Ports,
    pub sequence: u32,
    pub acknowledged: u32,
    /// The eight flags of the byte after the header's length.
    pub flags: u8,
    /// Length of the header with its options, as it says.
    pub header: u32,
    /// Whether window and urgent pointer are zero, and no option follows.
    pub is_bare: bool,
    /// Whether it asks for a connection: SYN without ACK.
    pub asks: bool,
}

/// Flags of a segment.
pub mod tcp_flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// Returns the header of a TCP packet; one that is not there whole is none.
#[inline(always)]
pub fn segment(skb: *mut __sk_buff, packet: &Packet) -> Option<Segment> {
    const ASKS: u8 = tcp_flag::SYN | tcp_flag::ACK;
    let header: [u8; 20] = load(skb, packet.transport)?;
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Segment {
        ports: Ports { source: half(0), destination: half(2) },
        sequence: word(4),
        acknowledged: word(8),
        flags: header[13],
        header: u32::from(header[12] >> 4) * 4,
        is_bare: header[12] == 0x50 && half(14) == 0 && half(18) == 0,
        asks: header[13] & ASKS == tcp_flag::SYN,
    })
}
