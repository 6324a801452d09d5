//! What a pod calls whose egress is restricted: it is told at once that it may not, at `connect()`, and for UDP at
//! `sendmsg()` too. What is sent past these hooks, the guard stops.

use crate::{
    connect, datagram,
    maps::{ENDPOINTS, HOST_SOCKETS, PODS, refused, report},
    verdicts,
};
use ambit_abi::{Address, Event, FlowKey, Pod, SocketAddress, TCP, UDP, event_reason, pod_flag, verdict};
use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};

const ALLOW: i32 = 1;
/// The application's `sendmsg()` fails with EPERM.
const REFUSE: i32 = 0;

#[inline(always)]
pub fn sendmsg4(context: &SockAddrContext) -> i32 {
    let destination = connect::destination4(context.sock_addr);
    if sends(context.sock_addr, &destination) { ALLOW } else { REFUSE }
}

#[inline(always)]
pub fn sendmsg6(context: &SockAddrContext) -> i32 {
    let destination = connect::destination6(context.sock_addr);
    if sends(context.sock_addr, &destination) { ALLOW } else { REFUSE }
}

/// Tells whether the pod may connect to `target`, which is outside the mesh, having dialled `dialled`; in audit mode it
/// may, and that is reported.
#[inline(always)]
pub fn connects(pod: &Pod, dialled: &SocketAddress, target: &SocketAddress) -> bool {
    if pod.flags & pod_flag::EGRESS_MESH == 0 || is_nowhere(&target.ip) {
        return true;
    }
    if verdicts::egress(pod.slot, &target.ip, TCP, target.port) == verdict::PASS {
        return true;
    }
    let enforced = pod.flags & pod_flag::ENFORCED != 0;
    let reason = if enforced { event_reason::EGRESS } else { event_reason::EGRESS_AUDIT };
    report(event(pod, dialled, TCP, reason));
    !enforced
}

/// Tells whether the socket of the context may send datagrams to `destination`. In audit mode the guard reports what it
/// sends.
#[inline(always)]
pub fn sends(address: *mut bpf_sock_addr, destination: &SocketAddress) -> bool {
    const RESTRICTED: u32 = pod_flag::EGRESS_MESH | pod_flag::ENFORCED;
    // SAFETY: the context is valid for the whole run.
    let (protocol, socket, netns) = unsafe {
        ((*address).protocol, (*address).__bindgen_anon_1.sk, bpf_get_netns_cookie(address.cast()))
    };
    if protocol != u32::from(UDP) {
        return true;
    }
    // SAFETY: PODS is never written by a program; a value that the agent replaces is read whole or not at all.
    let Some(pod) = (unsafe { PODS.get(netns) }) else {
        mark_host(address, netns, destination);
        return true;
    };
    if pod.flags & RESTRICTED != RESTRICTED || is_within_reach(pod, &destination.ip) {
        return true;
    }
    if verdicts::egress(pod.slot, &destination.ip, UDP, destination.port) == verdict::PASS {
        return true;
    }
    // SAFETY: the verifier knows the socket of the context, which is never null here.
    let port = unsafe { (*socket).src_port } as u16;
    if datagram::is_answer(&sent(pod, port, destination), pod.slot) {
        return true;
    }
    refused(pod.slot, event(pod, destination, UDP, event_reason::EGRESS));
    false
}

/// Marks a UDP socket of the node's own processes that sends to an enrolled pod of this node: its datagrams carry no
/// flow, but the socket is still known when they reach the pod's link.
#[inline(always)]
fn mark_host(address: *mut bpf_sock_addr, netns: u64, destination: &SocketAddress) {
    if connect::is_host(netns, destination) {
        // SAFETY: the context is valid for the whole run.
        let cookie = unsafe { bpf_get_socket_cookie(address.cast()) };
        let _ = HOST_SOCKETS.insert(cookie, 1, 0);
    }
}

/// Tells whether datagrams for this address stay on the node: the pod's own, or of a pod that the kernel asks about.
#[inline(always)]
fn is_within_reach(pod: &Pod, ip: &Address) -> bool {
    ip.is_loopback()
        || is_nowhere(ip)
        || ip.same(&pod.ipv4)
        || ip.same(&pod.ipv6)
        || ENDPOINTS.get_ptr(ip).is_some()
}

/// Tells whether this is `0.0.0.0` or `::`, for which Linux takes loopback.
#[inline(always)]
fn is_nowhere(ip: &Address) -> bool {
    ip.is_unspecified() || ip.is_v4() && ip.words_be[3] == 0
}

#[inline(always)]
fn sent(pod: &Pod, source_port: u16, destination: &SocketAddress) -> FlowKey {
    FlowKey {
        source: if destination.ip.is_v4() { pod.ipv4 } else { pod.ipv6 },
        destination: destination.ip,
        source_port,
        destination_port: destination.port,
    }
}

#[inline(always)]
fn event(pod: &Pod, destination: &SocketAddress, protocol: u16, reason: u32) -> Event {
    let key = sent(pod, 0, destination);
    Event { key, slot: 0, reason, source_slot: pod.slot, protocol: u32::from(protocol) }
}
