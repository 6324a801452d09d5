//! TCP segments other than SYNs of a pod whose egress is `mesh`: outside of what it may call they leave only as part of a
//! connection that its kernel holds, or as the kernel's answer to what came over the pod's link.
//!
//! The pod is not trusted: it sends from raw sockets, and feeds its own kernel packets of forged peers. So what carries
//! data must come from a TCP socket, whose peer was heard on the link; and what the kernel answers without a socket must
//! bear the numbers that follow from what was heard, so that nobody else has a say in it.

use crate::{
    guard,
    maps::{DESTINATIONS, ENDPOINTS, HEARD, socket_state},
    packet::{Packet, Segment, tcp_flag},
    verdicts,
};
use ambit_abi::{
    Address, Destination, FlowKey, Guard, Heard, HeardKey, TCP, heard_flag, pod_flag, socket_role, verdict,
};
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_TCP_CLOSE, BPF_TCP_LISTEN, BPF_TCP_NEW_SYN_RECV, BPF_TCP_TIME_WAIT, bpf_sock,
        bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated::{bpf_sk_fullsock, bpf_sk_release, bpf_skc_lookup_tcp},
};

const SOCK_STREAM: u32 = 1;
const SYN_ACK: u8 = tcp_flag::SYN | tcp_flag::ACK;
const RST_ACK: u8 = tcp_flag::RST | tcp_flag::ACK;

/// Which socket sent a segment.
enum Owner {
    /// A TCP socket, never null.
    Tcp(*mut bpf_sock),
    /// What the kernel keeps of a connection that is being opened.
    Request,
    /// One that is no connection: a raw one, or that with which the kernel answers on its own.
    Other,
    /// None that is known any more: it was forwarded within the pod, or copied by an XDP program on the device. Or it is the
    /// kernel's answer to a SYN in a flood.
    Nobody,
}

/// A socket that a tuple belongs to.
#[derive(Clone, Copy)]
struct Found {
    state: u32,
    is_whole: bool,
    is_unheard: bool,
}

/// Tells whether this is an enrolled pod of any node.
#[inline(always)]
pub fn is_meshed(ip: &Address) -> bool {
    if ENDPOINTS.get_ptr(ip).is_some() {
        return true;
    }
    let pod = Destination { ip: *ip, port: 0, _pad: 0 };
    DESTINATIONS.get_ptr(pod).is_some() && !guard::is_test(ip)
}

/// Tells whether a segment that does not ask for a connection may leave the pod.
#[inline(always)]
pub fn may_leave(skb: *mut __sk_buff, guard: &Guard, packet: &Packet, segment: &Segment) -> bool {
    if guard.pod.flags & pod_flag::EGRESS_MESH == 0 || is_meshed(&packet.destination) {
        return true;
    }
    let port = segment.ports.destination;
    if verdicts::egress(guard.pod.slot, &packet.destination, TCP, port) == verdict::PASS {
        return true;
    }
    // SAFETY: the context is valid for the whole run.
    let length = unsafe { (*skb).len };
    let is_empty = segment.header >= 20 && length == packet.transport + segment.header;
    let tuple = packet.key(segment.ports).reversed();
    let heard = heard(&tuple, guard.pod.slot);
    match owner(skb) {
        _ if segment.flags & SYN_ACK == SYN_ACK && (!is_empty || !opens(segment, heard)) => false,
        Owner::Request | Owner::Nobody if segment.flags & SYN_ACK == SYN_ACK => true,
        Owner::Tcp(socket) => {
            if heard.is_none() && is_unheard(socket) {
                return false;
            }
            // SAFETY: `owner` names no socket that is null.
            let closed = unsafe { (*socket).state } == BPF_TCP_CLOSE;
            // The last that a socket says is often on its way still when the socket can no longer be found.
            is_empty && segment.flags & tcp_flag::RST != 0
                || closed && heard.is_some()
                || find(skb, guard, &tuple).is_some()
        }
        Owner::Nobody => {
            answers(skb, guard, &tuple, segment, is_empty, heard)
                || find(skb, guard, &tuple)
                    .is_some_and(|found| found.is_whole && (heard.is_some() || !found.is_unheard))
        }
        Owner::Request | Owner::Other => answers(skb, guard, &tuple, segment, is_empty, heard),
    }
}

/// Remembers the numbers of a segment that comes to the pod from outside the mesh.
#[inline(always)]
pub fn hear(guard: &Guard, packet: &Packet, segment: &Segment) {
    if guard.pod.flags & pod_flag::EGRESS_MESH == 0 || is_meshed(&packet.source) {
        return;
    }
    let key = HeardKey { tuple: packet.key(segment.ports), slot: guard.pod.slot };
    let mut heard = HEARD.get_ptr(key).map_or_else(Heard::default, |known| {
        // SAFETY: an aligned value that lives as long as the map; numbers that are lost to a race are heard again.
        unsafe { *known }
    });
    let counts = |flag: u8| u32::from(segment.flags & flag != 0);
    let data = packet.end.wrapping_sub(packet.transport).wrapping_sub(segment.header);
    let opened = segment.sequence.wrapping_add(counts(tcp_flag::SYN));
    heard.next = opened.wrapping_add(data).wrapping_add(counts(tcp_flag::FIN));
    if segment.asks {
        heard.opened = opened;
        heard.flags |= heard_flag::SYN;
    }
    if segment.flags & tcp_flag::ACK != 0 {
        heard.acknowledged = segment.acknowledged;
        heard.flags |= heard_flag::ACK;
    }
    match HEARD.get_ptr_mut(key) {
        // SAFETY: as above.
        Some(known) => unsafe { *known = heard },
        None => {
            let _ = HEARD.insert(key, heard, 0);
        }
    }
}

/// Returns what was heard of the one outside on the link of the pod with this slot; `tuple` as the one outside has it.
#[inline(always)]
pub fn heard(tuple: &FlowKey, slot: u32) -> Option<Heard> {
    // SAFETY: numbers that are torn by a race are those of no segment, and refuse.
    unsafe { HEARD.get(HeardKey { tuple: *tuple, slot }) }.copied()
}

/// Tells whether a SYN|ACK acknowledges the SYN that was heard, or that with its data.
#[inline(always)]
fn opens(segment: &Segment, heard: Option<Heard>) -> bool {
    heard.is_some_and(|heard| {
        heard.flags & heard_flag::SYN != 0
            && (segment.acknowledged == heard.opened || segment.acknowledged == heard.next)
    })
}

/// Tells whether this is what the kernel answers without a socket: a RST where there is no connection, or an ACK where one
/// has ended a moment ago.
#[inline(always)]
fn answers(
    skb: *mut __sk_buff,
    guard: &Guard,
    tuple: &FlowKey,
    segment: &Segment,
    is_empty: bool,
    heard: Option<Heard>,
) -> bool {
    let Some(heard) = heard else { return false };
    if !is_empty {
        return false;
    }
    let follows = heard.flags & heard_flag::ACK != 0 && segment.sequence == heard.acknowledged;
    match segment.flags {
        tcp_flag::RST => segment.is_bare && segment.acknowledged == 0 && follows,
        RST_ACK => {
            let opened = heard.flags & heard_flag::SYN != 0 && segment.acknowledged == heard.opened;
            segment.is_bare && segment.sequence == 0 && (opened || segment.acknowledged == heard.next)
        }
        tcp_flag::ACK => {
            follows && find(skb, guard, tuple).is_some_and(|found| found.state == BPF_TCP_TIME_WAIT)
        }
        _ => false,
    }
}

/// Returns which socket sent the packet. It stays known on the way out of the pod, until somebody's IP stack takes it in.
#[inline(always)]
fn owner(skb: *mut __sk_buff) -> Owner {
    // SAFETY: the context is valid for the whole run.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return Owner::Nobody;
    }
    // SAFETY: not null; every kind of socket has a state. The helper takes any socket.
    let (state, whole) = unsafe { ((*socket).state, bpf_sk_fullsock(socket)) };
    if whole.is_null() {
        return if state == BPF_TCP_NEW_SYN_RECV { Owner::Request } else { Owner::Other };
    }
    // SAFETY: the helper has said that it is a whole socket.
    let (kind, protocol) = unsafe { ((*whole).type_, (*whole).protocol) };
    if kind == SOCK_STREAM && protocol == u32::from(TCP) { Owner::Tcp(whole) } else { Owner::Other }
}

/// Tells whether the socket stands for a connection that was forged when it was accepted.
#[inline(always)]
fn is_unheard(socket: *mut bpf_sock) -> bool {
    socket_state(socket).is_some_and(|state| state.role == socket_role::UNHEARD)
}

/// Returns the pod's socket for what arrives with this tuple, if it is more than a listener.
#[inline(always)]
fn find(skb: *mut __sk_buff, guard: &Guard, tuple: &FlowKey) -> Option<Found> {
    let (sport, dport) = (tuple.source_port.to_be(), tuple.destination_port.to_be());
    let (mut looked_for, length) = if tuple.source.is_v4() {
        let (saddr, daddr) = (tuple.source.words_be[3], tuple.destination.words_be[3]);
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr, daddr, sport, dport };
        (bpf_sock_tuple__bindgen_ty_1 { ipv4 }, size_of_val(&ipv4))
    } else {
        let (saddr, daddr) = (tuple.source.words_be, tuple.destination.words_be);
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr, daddr, sport, dport };
        (bpf_sock_tuple__bindgen_ty_1 { ipv6 }, size_of_val(&ipv6))
    };
    let looked_for = (&raw mut looked_for).cast::<bpf_sock_tuple>();
    // SAFETY: the helper reads as many bytes of the tuple as it is told; what it returns is released below.
    let socket =
        unsafe { bpf_skc_lookup_tcp(skb.cast(), looked_for, length as u32, guard.netns_id.into(), 0) };
    if socket.is_null() {
        return None;
    }
    // SAFETY: not null; every kind of socket has a state. The helper takes any socket.
    let (state, whole) = unsafe { ((*socket).state, bpf_sk_fullsock(socket)) };
    let found =
        Found { state, is_whole: !whole.is_null(), is_unheard: !whole.is_null() && is_unheard(whole) };
    // SAFETY: it came from the lookup above, and is not used after this.
    unsafe { bpf_sk_release(socket.cast()) };
    (state != BPF_TCP_LISTEN).then_some(found)
}
