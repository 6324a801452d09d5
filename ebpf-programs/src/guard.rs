//! The guard on the node's side of a pod's link: what leaves the pod is what its sockets announced, from its own
//! addresses; what reaches it is of a protocol that is enforced.
//!
//! Passes on to whatever other programs stand on the device; never lets them be skipped.

use crate::{
    datagram, icmp,
    maps::{FLOWS, FRAGMENTS, GUARDS, SYNS, refused, tested},
    packet::{self, Frame, ICMP, ICMPV6, IGMP, Packet, Part, Segment},
    segments,
};
use ambit_abi::{
    Address, CANARY_V4, CANARY_V6, Event, FRAGMENT_LIFE_NS, FlowKey, FragmentKey, Guard, TCP, UDP,
    event_reason, flow_kind, pod_flag,
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_ktime_get_ns, programs::TcContext};

/// The next program on the device decides.
const NEXT: i32 = -1;
const DROP: i32 = 2;

const PROTOCOL_TCP: u32 = TCP as u32;
const PROTOCOL_UDP: u32 = UDP as u32;

/// Why a packet does not pass: one of `event_reason`, with the ports as far as they are known.
pub struct Refusal {
    pub reason: u32,
    pub ports: packet::Ports,
    pub source_slot: u32,
}

impl Refusal {
    #[inline(always)]
    pub fn new(reason: u32) -> Self {
        Self { reason, ports: packet::Ports { source: 0, destination: 0 }, source_slot: 0 }
    }
}

/// Runs for what the pod sends.
#[inline(always)]
pub fn from_pod(context: &TcContext) -> i32 {
    let skb = context.skb.skb;
    let Some(guard) = guard(skb) else { return DROP };
    let packet = match packet::read(skb, guard.link_header) {
        Frame::Arp if speaks_for_itself(skb, &guard) => return NEXT,
        Frame::Arp => return act(&guard, true, None, &Refusal::new(event_reason::SPOOFED)),
        Frame::Other | Frame::Malformed => {
            return act(&guard, true, None, &Refusal::new(event_reason::PROTOCOL));
        }
        Frame::Ip(packet) => packet,
    };
    match leaves(skb, &guard, &packet) {
        Ok(()) => NEXT,
        Err(refusal) => act(&guard, true, Some(&packet), &refusal),
    }
}

/// Runs for what is sent to the pod.
#[inline(always)]
pub fn to_pod(context: &TcContext) -> i32 {
    let skb = context.skb.skb;
    let Some(guard) = guard(skb) else { return DROP };
    let packet = match packet::read(skb, guard.link_header) {
        Frame::Arp => return NEXT,
        // What bridges tell each other is nothing to a pod, and nothing to report.
        Frame::Other => return if guard.pod.flags & pod_flag::ENFORCED == 0 { NEXT } else { DROP },
        Frame::Malformed => return act(&guard, false, None, &Refusal::new(event_reason::PROTOCOL)),
        Frame::Ip(packet) => packet,
    };
    if is_test(&packet.source) {
        tested(guard.pod.slot);
        return DROP;
    }
    match arrives(skb, &guard, &packet) {
        Ok(()) => NEXT,
        Err(refusal) => act(&guard, false, Some(&packet), &refusal),
    }
}

/// Tells whether the far address is the one with which the agent tests the guard.
#[inline(always)]
pub fn is_test(far: &Address) -> bool {
    far.same(&CANARY_V4) || far.same(&CANARY_V6)
}

#[inline(always)]
fn guard(skb: *mut __sk_buff) -> Option<Guard> {
    // SAFETY: the context is valid for the whole run.
    let device = unsafe { (*skb).ifindex };
    // SAFETY: the agent replaces values whole; an old one decides as it did a moment ago.
    unsafe { GUARDS.get(device) }.copied()
}

/// Counts and reports a refusal; in audit mode that is all.
#[inline(always)]
fn act(guard: &Guard, leaving: bool, packet: Option<&Packet>, refusal: &Refusal) -> i32 {
    // A refusal with which the agent tests the guard is no attack.
    if leaving && packet.is_some_and(|packet| is_test(&packet.destination)) {
        tested(guard.pod.slot);
        return DROP;
    }
    let (slot, source_slot) =
        if leaving { (0, guard.pod.slot) } else { (guard.pod.slot, refusal.source_slot) };
    let mut event = Event { slot, source_slot, reason: refusal.reason, ..Event::default() };
    if let Some(packet) = packet {
        event.key = packet.key(refusal.ports);
        event.protocol = packet.protocol;
    } else if leaving {
        event.key.source = guard.pod.ipv4;
    } else {
        event.key.destination = guard.pod.ipv4;
    }
    refused(guard.pod.slot, event);
    if guard.pod.flags & pod_flag::ENFORCED == 0 { NEXT } else { DROP }
}

/// Tells whether an ARP packet names an address of the pod, or none yet, as its sender's.
#[inline(always)]
fn speaks_for_itself(skb: *mut __sk_buff, guard: &Guard) -> bool {
    let Some(sender): Option<[u8; 4]> = packet::load(skb, guard.link_header + 14) else { return false };
    let sender = u32::from_ne_bytes(sender);
    sender == 0 || Address::from_v4_be(sender).same(&guard.pod.ipv4)
}

#[inline(always)]
fn leaves(skb: *mut __sk_buff, guard: &Guard, packet: &Packet) -> Result<(), Refusal> {
    if !is_own(guard, packet) {
        return Err(Refusal::new(event_reason::SPOOFED));
    }
    if packet.part == Part::Later {
        return later(skb, packet);
    }
    match packet.protocol {
        PROTOCOL_TCP => {
            let Some(segment) = packet::segment(skb, packet) else {
                return Err(Refusal::new(event_reason::PROTOCOL));
            };
            let refused = |reason| Err(Refusal { ports: segment.ports, ..Refusal::new(reason) });
            if segment.asks {
                if !announced(&packet.key(segment.ports), &segment, guard.netns_cookie) {
                    return refused(event_reason::UNANNOUNCED);
                }
            } else if !segments::may_leave(skb, guard, packet, &segment) {
                return refused(event_reason::EGRESS);
            }
        }
        PROTOCOL_UDP => datagram::leaves(skb, guard, packet)?,
        ICMP | ICMPV6 => icmp::leaves(skb, guard, packet)?,
        IGMP if !icmp::igmp_leaves(guard, packet) => return Err(Refusal::new(event_reason::EGRESS)),
        IGMP => {}
        _ => return Err(Refusal::new(event_reason::PROTOCOL)),
    }
    first(skb, packet);
    Ok(())
}

#[inline(always)]
fn arrives(skb: *mut __sk_buff, guard: &Guard, packet: &Packet) -> Result<(), Refusal> {
    if packet.part == Part::Later {
        return later(skb, packet);
    }
    match packet.protocol {
        // What may connect is for the socket lookup to say; but it cannot see whose SYN this is.
        PROTOCOL_TCP => {
            let Some(segment) = packet::segment(skb, packet) else {
                return Err(Refusal::new(event_reason::PROTOCOL));
            };
            if segment.asks && is_forged(&packet.key(segment.ports), &segment, guard.netns_cookie) {
                return Err(Refusal { ports: segment.ports, ..Refusal::new(event_reason::SPOOFED) });
            }
            segments::hear(guard, packet, &segment);
        }
        ICMP | ICMPV6 | IGMP => {}
        PROTOCOL_UDP => datagram::arrives(skb, guard, packet)?,
        _ => return Err(Refusal::new(event_reason::PROTOCOL)),
    }
    first(skb, packet);
    Ok(())
}

/// Tells whether the pod may send from this address: its own, or one of those that only its link knows.
#[inline(always)]
fn is_own(guard: &Guard, packet: &Packet) -> bool {
    if packet.is_v4 {
        return packet.source.same(&guard.pod.ipv4);
    }
    packet.source.same(&guard.pod.ipv6)
        || packet.protocol == ICMPV6 && (packet.source.is_link_local() || packet.source.is_unspecified())
}

/// Tells whether a socket of the pod announced this SYN, and remembers it in its flow.
#[inline(always)]
fn announced(key: &FlowKey, segment: &Segment, netns_cookie: u64) -> bool {
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: an aligned value that lives as long as the map; a flow that is replaced meanwhile belongs to a tuple
        // that no longer exists.
        let flow = unsafe { &mut *flow };
        if flow.netns_cookie == netns_cookie {
            flow.sequence = segment.sequence;
            flow.asked = 1;
            return true;
        }
    }
    // SAFETY: one word, replaced whole.
    unsafe { SYNS.get(key) }.is_some_and(|cookie| *cookie == netns_cookie)
}

/// Tells whether this SYN bears the tuple of a pod of this node and is not the one that left its link: a neighbour
/// without a guard may send from any address, and a flow lives as long as its socket, also when its server is gone.
#[inline(always)]
fn is_forged(key: &FlowKey, segment: &Segment, netns_cookie: u64) -> bool {
    // SAFETY: as above: a flow that is replaced while it is read belongs to a tuple that no longer exists.
    let Some(flow) = (unsafe { FLOWS.get(key) }) else { return false };
    flow.kind == flow_kind::POD
        && flow.netns_cookie != netns_cookie
        && flow.asked != 0
        && flow.sequence != segment.sequence
}

#[inline(always)]
fn fragment(skb: *mut __sk_buff, packet: &Packet) -> FragmentKey {
    // SAFETY: the context is valid for the whole run.
    let device = unsafe { (*skb).ifindex };
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        identification: packet.identification,
        device,
        protocol: packet.protocol,
    }
}

/// Remembers that the first fragment of a packet was let through.
#[inline(always)]
fn first(skb: *mut __sk_buff, packet: &Packet) {
    if packet.part == Part::First {
        // SAFETY: the helper takes no argument.
        let now = unsafe { bpf_ktime_get_ns() };
        let _ = FRAGMENTS.insert(fragment(skb, packet), now, 0);
    }
}

/// Lets a later fragment follow the first one of its packet.
#[inline(always)]
fn later(skb: *mut __sk_buff, packet: &Packet) -> Result<(), Refusal> {
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: one word, replaced whole.
    match unsafe { FRAGMENTS.get(fragment(skb, packet)) } {
        Some(seen) if now.wrapping_sub(*seen) < FRAGMENT_LIFE_NS => Ok(()),
        _ => Err(Refusal::new(event_reason::FRAGMENT)),
    }
}
