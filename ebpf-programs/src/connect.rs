//! `connect()`: remembers where an application wants to go, and rewrites the destination when the agent takes it.

use crate::{
    egress,
    maps::{
        AGENT_SOCKETS, BACKENDS, DESTINATIONS, ENDPOINTS, HOST_CGROUPS, PODS, SERVICES, config, socket_state,
        socket_state_or_new,
    },
};
use ambit_abi::{
    Address, CONFIG_DIRECT_LANE, CONFIG_HOST_RESTRICTED, Destination, Pod, SocketAddress, SocketState,
    redirect_port, socket_role,
};
use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie,
    },
    programs::SockAddrContext,
};
use core::ptr::{read_volatile, write_volatile};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
/// How deep a cgroup may lie below the root and still be looked for in HOST_CGROUPS.
const CGROUP_DEPTH: i32 = 12;

const ALLOW: i32 = 1;
/// The application's `connect()` fails with EPERM.
const REFUSE: i32 = 0;

enum Decision {
    Untouched,
    Refuse,
    /// Rewrite to this address.
    Redirect(SocketAddress),
}

#[inline(always)]
pub fn connect4(context: &SockAddrContext) -> i32 {
    let address = context.sock_addr;
    match decide(address, destination4(address)) {
        Decision::Untouched => ALLOW,
        Decision::Refuse => REFUSE,
        Decision::Redirect(to) => {
            // SAFETY: both fields are writable for this attach type.
            unsafe {
                write_volatile(&raw mut (*address).user_ip4, to.ip.words_be[3]);
                write_volatile(&raw mut (*address).user_port, u32::from(to.port.to_be()));
            }
            ALLOW
        }
    }
}

#[inline(always)]
pub fn connect6(context: &SockAddrContext) -> i32 {
    let address = context.sock_addr;
    match decide(address, destination6(address)) {
        Decision::Untouched => ALLOW,
        Decision::Refuse => REFUSE,
        Decision::Redirect(to) => {
            // SAFETY: all the fields are writable for this attach type.
            unsafe {
                let ip = &raw mut (*address).user_ip6;
                write_volatile(&raw mut (*ip)[0], to.ip.words_be[0]);
                write_volatile(&raw mut (*ip)[1], to.ip.words_be[1]);
                write_volatile(&raw mut (*ip)[2], to.ip.words_be[2]);
                write_volatile(&raw mut (*ip)[3], to.ip.words_be[3]);
                write_volatile(&raw mut (*address).user_port, u32::from(to.port.to_be()));
            }
            ALLOW
        }
    }
}

/// Returns the address that an IPv4 socket is to be connected to, or to send to.
#[inline(always)]
pub fn destination4(address: *mut bpf_sock_addr) -> SocketAddress {
    // SAFETY: the context is valid for the whole run; the fields are plain integers.
    let (ip, port) = unsafe { (read_volatile(&raw const (*address).user_ip4), read_port(address)) };
    SocketAddress { ip: Address::from_v4_be(ip), port, _pad: 0 }
}

/// Returns the same of an IPv6 socket.
#[inline(always)]
pub fn destination6(address: *mut bpf_sock_addr) -> SocketAddress {
    // SAFETY: the context is valid for the whole run; the fields are plain integers.
    let (words_be, port) = unsafe {
        let ip = &raw const (*address).user_ip6;
        (
            [
                read_volatile(&raw const (*ip)[0]),
                read_volatile(&raw const (*ip)[1]),
                read_volatile(&raw const (*ip)[2]),
                read_volatile(&raw const (*ip)[3]),
            ],
            read_port(address),
        )
    };
    SocketAddress { ip: Address { words_be }, port, _pad: 0 }
}

/// Reads the destination port, which stands in network order in the lower half of a word.
#[inline(always)]
unsafe fn read_port(address: *mut bpf_sock_addr) -> u16 {
    u16::from_be(read_volatile(&raw const (*address).user_port) as u16)
}

#[inline(always)]
fn decide(address: *mut bpf_sock_addr, destination: SocketAddress) -> Decision {
    // SAFETY: the context is valid for the whole run.
    let (kind, socket, netns) =
        unsafe { ((*address).type_, (*address).__bindgen_anon_1.sk, bpf_get_netns_cookie(address.cast())) };
    if kind == SOCK_DGRAM {
        return if egress::sends(address, &destination) { Decision::Untouched } else { Decision::Refuse };
    }
    if kind != SOCK_STREAM {
        return Decision::Untouched;
    }
    forget(socket);
    // SAFETY: PODS is never written by a program; a value that the agent replaces is read whole or not at all.
    let Some(pod) = (unsafe { PODS.get(netns) }) else {
        mark_host(socket, netns, &destination);
        return Decision::Untouched;
    };
    // SAFETY: the context is valid for the whole run.
    let cookie = unsafe { bpf_get_socket_cookie(address.cast()) };
    if AGENT_SOCKETS.get_ptr(cookie).is_some() || destination.ip.is_loopback() {
        return Decision::Untouched;
    }
    if own(pod, &destination) {
        return Decision::Untouched;
    }
    let direct_lane = config().flags & CONFIG_DIRECT_LANE != 0;
    let target = endpoint_behind(&destination);
    let chosen = target.port != destination.port || !target.ip.same(&destination.ip);
    // What the kernel itself can decide upon at the other end goes straight there: a pod of this node, or the pod
    // itself. So does an endpoint outside the mesh.
    if !own(pod, &target) {
        let peer = ENDPOINTS.get_ptr(target.ip).is_some();
        if !(peer && direct_lane) {
            if through_agent(&target) {
                return redirect(socket, pod, destination, target);
            }
            if !peer && !egress::connects(pod, &destination, &target) {
                return Decision::Refuse;
            }
        }
    }
    if !chosen {
        return Decision::Untouched;
    }
    let Some(state) = socket_state_or_new(socket) else { return Decision::Refuse };
    *state = SocketState { peer: destination, target, role: socket_role::SERVICE };
    Decision::Redirect(target)
}

#[inline(always)]
fn own(pod: &Pod, address: &SocketAddress) -> bool {
    address.ip.same(&pod.ipv4) || address.ip.same(&pod.ipv6)
}

/// Returns an endpoint of the service at `destination`; `destination` itself where there is no such service, or none
/// of its endpoints is ready, which is for the agent to say.
#[inline(always)]
fn endpoint_behind(destination: &SocketAddress) -> SocketAddress {
    let key = Destination { ip: destination.ip, port: destination.port, _pad: 0 };
    // SAFETY: the agent replaces values whole; an old one names endpoints that were ready a moment ago.
    let Some(service) = (unsafe { SERVICES.get(key) }) else { return *destination };
    if service.count == 0 {
        return *destination;
    }
    // SAFETY: the helper takes no argument.
    let random = unsafe { bpf_get_prandom_u32() };
    let index = service.first.wrapping_add(random % service.count);
    // SAFETY: as above.
    unsafe { BACKENDS.get(index) }.map_or(*destination, |backend| backend.address)
}

#[inline(always)]
fn through_agent(destination: &SocketAddress) -> bool {
    let mut key = Destination { ip: destination.ip, port: 0, _pad: 0 };
    if DESTINATIONS.get_ptr(key).is_some() {
        return true;
    }
    key.port = destination.port;
    DESTINATIONS.get_ptr(key).is_some()
}

#[inline(always)]
fn redirect(socket: *mut bpf_sock, pod: &Pod, destination: SocketAddress, target: SocketAddress) -> Decision {
    let own = if destination.ip.is_v4() { pod.ipv4 } else { pod.ipv6 };
    // A pod without an address of this family has no way that the agent could take: never let it out unseen.
    if own.is_unspecified() {
        return Decision::Refuse;
    }
    let Some(state) = socket_state_or_new(socket) else { return Decision::Refuse };
    *state = SocketState { peer: destination, target, role: socket_role::REDIRECTED };
    Decision::Redirect(SocketAddress { ip: own, port: redirect_port(&target), _pad: 0 })
}

/// A socket may be connected again after a failure, to somewhere else: what was remembered no longer holds.
#[inline(always)]
fn forget(socket: *mut bpf_sock) {
    if let Some(state) = socket_state(socket) {
        *state = SocketState::default();
    }
}

/// Marks a socket of the node's own processes that goes to an enrolled pod of this node.
#[inline(always)]
fn mark_host(socket: *mut bpf_sock, netns: u64, destination: &SocketAddress) {
    if is_host(netns, destination)
        && let Some(state) = socket_state_or_new(socket)
    {
        *state = SocketState { role: socket_role::HOST, ..SocketState::default() };
    }
}

/// Tells whether this is a process of the node's own that calls an enrolled pod of this node.
#[inline(always)]
pub fn is_host(netns: u64, destination: &SocketAddress) -> bool {
    if ENDPOINTS.get_ptr(destination.ip).is_none() {
        return false;
    }
    let config = config();
    config.node_netns_cookie == netns && (config.flags & CONFIG_HOST_RESTRICTED == 0 || in_host_cgroup())
}

#[inline(always)]
fn in_host_cgroup() -> bool {
    for level in 0..CGROUP_DEPTH {
        // SAFETY: the helper takes any level and answers 0 where there is none.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if HOST_CGROUPS.get_ptr(id).is_some() {
            return true;
        }
    }
    false
}
