//! ICMP and IGMP at the guard: they steer neighbours and routers, and carry data as well as anything.

use crate::{
    datagram,
    guard::Refusal,
    packet::{self, ICMP, Packet},
};
use ambit_abi::{Address, Guard, event_reason, pod_flag};
use aya_ebpf::bindings::__sk_buff;

const REDIRECT: u8 = 5;
const LISTENER_QUERY: u8 = 130;
const LISTENER_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT6: u8 = 137;
const LISTENER_REPORT: u8 = 143;

/// Length of a neighbour solicitation or advertisement with its one option: what IPv6 needs of its neighbours is no
/// longer.
const NEIGHBOURLY: u32 = 32;

/// A pod speaks of its own addresses only, and is no router. One whose egress is `mesh` speaks to the mesh and to its
/// neighbours alone: it answers no echo of anybody else's, and reports no error to them.
#[inline(always)]
pub fn leaves(skb: *mut __sk_buff, guard: &Guard, packet: &Packet) -> Result<(), Refusal> {
    let refused = |reason| Err(Refusal::new(reason));
    let Some([kind]): Option<[u8; 1]> = packet::load(skb, packet.transport) else {
        return refused(event_reason::PROTOCOL);
    };
    match (packet.is_v4, kind) {
        (true, REDIRECT) | (false, ROUTER_ADVERTISEMENT | REDIRECT6) => {
            return refused(event_reason::SPOOFED);
        }
        (false, NEIGHBOUR_ADVERTISEMENT) => {
            let Some(target) = target(skb, packet) else { return refused(event_reason::PROTOCOL) };
            if !target.is_link_local() && !target.same(&guard.pod.ipv6) {
                return refused(event_reason::SPOOFED);
            }
        }
        _ => {}
    }
    let may_leave = datagram::may_leave(guard, &packet.destination, packet.protocol, 0)
        || packet.protocol != ICMP && is_neighbourly(skb, packet, kind);
    if may_leave { Ok(()) } else { refused(event_reason::EGRESS) }
}

/// Tells whether this is what IPv6 needs to find neighbours and the senders of multicast, and nothing more.
#[inline(always)]
fn is_neighbourly(skb: *mut __sk_buff, packet: &Packet, kind: u8) -> bool {
    let to = &packet.destination;
    let on_link = is_multicast6(to) || to.is_link_local();
    // SAFETY: the context is valid for the whole run.
    let is_short = unsafe { (*skb).len } <= packet.transport + NEIGHBOURLY;
    match kind {
        // No router passes these on.
        LISTENER_QUERY..=LISTENER_DONE => packet.hops == 1 && on_link && is_short,
        LISTENER_REPORT => packet.hops == 1 && on_link,
        ROUTER_SOLICITATION => on_link && is_short,
        NEIGHBOUR_ADVERTISEMENT => is_short,
        // A neighbour that is known is asked for its own address.
        NEIGHBOUR_SOLICITATION => {
            is_short && (on_link || target(skb, packet).is_some_and(|target| target.same(to)))
        }
        _ => false,
    }
}

/// Returns the address that a neighbour solicitation or advertisement is about.
#[inline(always)]
fn target(skb: *mut __sk_buff, packet: &Packet) -> Option<Address> {
    packet::load(skb, packet.transport + 8).map(|words_be| Address { words_be })
}

/// Tells whether the pod may send this IGMP packet: one whose egress is `mesh` tells its own link what groups it is in.
#[inline(always)]
pub fn igmp_leaves(guard: &Guard, packet: &Packet) -> bool {
    let multicast = packet.is_v4 && u32::from_be(packet.destination.words_be[3]) >> 28 == 0xe;
    guard.pod.flags & pod_flag::EGRESS_MESH == 0 || multicast && packet.hops == 1
}

#[inline(always)]
const fn is_multicast6(ip: &Address) -> bool {
    u32::from_be(ip.words_be[0]) >> 24 == 0xff
}
