//! The life of a TCP connection: its flow is announced before the first packet leaves and forgotten when it ends.

use crate::{
    maps::{AGENT_SOCKETS, ENDPOINTS, FLOWS, PODS, SYNS, config, socket_state, socket_state_or_new},
    segments,
};
use ambit_abi::{
    Address, CONFIG_DIRECT_LANE, Flow, FlowKey, SocketAddress, SocketState, flow_kind, pod_flag, socket_role,
};
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, BPF_TCP_SYN_SENT, bpf_sock, bpf_sock_ops,
    },
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockOpsContext,
};
use core::ptr::read_volatile;

const AF_INET6: u32 = 10;

#[inline(always)]
pub fn run(context: &SockOpsContext) {
    match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => announce(context),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accept(context),
        BPF_SOCK_OPS_STATE_CB => forget(context),
        _ => {}
    }
}

/// Both ends of a connection: local, then remote.
#[inline(always)]
fn ends(ops: *mut bpf_sock_ops) -> (SocketAddress, SocketAddress) {
    // SAFETY: the context is valid for the whole run. All fields are read before any branch, because the verifier
    // refuses a context pointer that was moved on one of two paths.
    unsafe {
        let family = read_volatile(&raw const (*ops).family);
        let local4 = read_volatile(&raw const (*ops).local_ip4);
        let remote4 = read_volatile(&raw const (*ops).remote_ip4);
        let local6 = [
            read_volatile(&raw const (*ops).local_ip6[0]),
            read_volatile(&raw const (*ops).local_ip6[1]),
            read_volatile(&raw const (*ops).local_ip6[2]),
            read_volatile(&raw const (*ops).local_ip6[3]),
        ];
        let remote6 = [
            read_volatile(&raw const (*ops).remote_ip6[0]),
            read_volatile(&raw const (*ops).remote_ip6[1]),
            read_volatile(&raw const (*ops).remote_ip6[2]),
            read_volatile(&raw const (*ops).remote_ip6[3]),
        ];
        let local_port = read_volatile(&raw const (*ops).local_port) as u16;
        // The remote port stands in network order in the upper half of the word.
        let remote_port = u32::from_be(read_volatile(&raw const (*ops).remote_port)) as u16;
        let (local, remote) = if family == AF_INET6 {
            (Address { words_be: local6 }, Address { words_be: remote6 })
        } else {
            (Address::from_v4_be(local4), Address::from_v4_be(remote4))
        };
        (
            SocketAddress { ip: local, port: local_port, _pad: 0 },
            SocketAddress { ip: remote, port: remote_port, _pad: 0 },
        )
    }
}

#[inline(always)]
fn key(source: &SocketAddress, destination: &SocketAddress) -> FlowKey {
    FlowKey {
        source: source.ip,
        destination: destination.ip,
        source_port: source.port,
        destination_port: destination.port,
    }
}

#[inline(always)]
fn socket(ops: *mut bpf_sock_ops) -> *mut bpf_sock {
    // SAFETY: the context is valid for the whole run.
    unsafe { (*ops).__bindgen_anon_2.sk }
}

/// Runs before the SYN leaves.
#[inline(always)]
fn announce(context: &SockOpsContext) {
    let ops = context.ops;
    let (local, remote) = ends(ops);
    // SAFETY: the context is valid for the whole run.
    let (netns_cookie, cookie) =
        unsafe { (bpf_get_netns_cookie(ops.cast()), bpf_get_socket_cookie(ops.cast())) };
    let mut flow = Flow { netns_cookie, ..Flow::default() };
    // SAFETY: an entry is written before its socket connects, and read only here.
    if let Some(agent) = unsafe { AGENT_SOCKETS.get(cookie) } {
        flow.kind = flow_kind::AGENT;
        flow.peer = agent.client;
        let _ = AGENT_SOCKETS.remove(cookie);
    } else {
        let state = socket_state(socket(ops)).map_or_else(SocketState::default, |state| *state);
        // SAFETY: PODS is never written by a program; a value that the agent replaces is read whole or not at all.
        match unsafe { PODS.get(netns_cookie) } {
            // Only an address that is the pod's own is attested: whoever may add addresses may not speak for others.
            Some(pod) if local.ip.same(&pod.ipv4) || local.ip.same(&pod.ipv6) => {
                flow.slot = pod.slot;
                flow.kind = flow_kind::POD;
                if state.role == socket_role::REDIRECTED {
                    flow.kind = flow_kind::REDIRECTED;
                    flow.peer = state.target;
                    flow.dialled = state.peer;
                } else if !remote.ip.same(&pod.ipv4) && !remote.ip.same(&pod.ipv6) && !goes_direct(&remote) {
                    // Nobody asks who that is; the guard asks whether a socket of the pod sent it.
                    let _ = SYNS.insert(key(&local, &remote), netns_cookie, 0);
                    follow(context);
                    return;
                }
            }
            None if state.role == socket_role::HOST => flow.kind = flow_kind::HOST,
            _ => return,
        }
    }
    let _ = FLOWS.insert(key(&local, &remote), flow, 0);
    follow(context);
}

/// Asks to be told of every change of the connection's state.
#[inline(always)]
fn follow(context: &SockOpsContext) {
    let _ = context.set_cb_flags((context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

/// Tells whether a connection to another pod may be one of the direct lane. Where the lane is off none is attested: what
/// slips through in plaintext, as while a pod is being enrolled, is a stranger's.
#[inline(always)]
fn goes_direct(remote: &SocketAddress) -> bool {
    config().flags & CONFIG_DIRECT_LANE != 0 && ENDPOINTS.get_ptr(remote.ip).is_some()
}

/// Runs when a connection stands on the accepting side: an application that was dialled by the agent is shown the
/// real client; and what a pod has forged is marked, for the guard.
#[inline(always)]
fn accept(context: &SockOpsContext) {
    let ops = context.ops;
    let (local, remote) = ends(ops);
    let tuple = key(&remote, &local);
    // SAFETY: a flow that is replaced while it is read belongs to a tuple that no longer exists.
    let flow = unsafe { FLOWS.get(tuple) };
    let state = match flow {
        Some(flow) if flow.kind == flow_kind::AGENT && !flow.peer.ip.is_unspecified() => {
            SocketState { peer: flow.peer, role: socket_role::ACCEPTED, ..SocketState::default() }
        }
        // An announced flow has a client on this node.
        None if is_forged(context, &local, &remote) => {
            SocketState { role: socket_role::UNHEARD, ..SocketState::default() }
        }
        _ => return,
    };
    if let Some(known) = socket_state_or_new(socket(ops)) {
        *known = state;
    }
}

/// Tells whether a pod whose egress is `mesh` has accepted somebody from outside of whom nothing came over its link. A raw
/// socket in the pod can say to its own kernel whatever a peer could, and so open a way out that no `connect()` asked for.
#[inline(always)]
fn is_forged(context: &SockOpsContext, local: &SocketAddress, remote: &SocketAddress) -> bool {
    // SAFETY: the context is valid for the whole run.
    let netns_cookie = unsafe { bpf_get_netns_cookie(context.ops.cast()) };
    // SAFETY: PODS is never written by a program; a value that the agent replaces is read whole or not at all.
    let Some(pod) = (unsafe { PODS.get(netns_cookie) }) else { return false };
    pod.flags & pod_flag::EGRESS_MESH != 0
        && !remote.ip.is_loopback()
        && !remote.ip.same(&local.ip)
        && !segments::is_meshed(&remote.ip)
        && segments::heard(&key(remote, local), pod.slot).is_none()
}

/// Runs on each change of state of an announced connection.
#[inline(always)]
fn forget(context: &SockOpsContext) {
    let connecting = context.arg(0) == BPF_TCP_SYN_SENT;
    let closed = context.arg(1) == BPF_TCP_CLOSE;
    if !connecting && !closed {
        return;
    }
    let (local, remote) = ends(context.ops);
    let key = key(&local, &remote);
    if connecting {
        // It stands or has failed: no further SYN is to be expected.
        let _ = SYNS.remove(key);
    }
    if !closed {
        return;
    }
    // SAFETY: a flow that is replaced while it is read belongs to a tuple that no longer exists.
    let Some(flow) = (unsafe { FLOWS.get(key) }) else { return };
    // A redirected client may close before the agent has accepted: then the agent still needs the destination, and
    // forgets it itself.
    if connecting || flow.kind != flow_kind::REDIRECTED {
        let _ = FLOWS.remove(key);
    }
}
