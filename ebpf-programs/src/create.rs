//! `socket()`: an enrolled pod gets no socket of a protocol that no other hook sees.

use crate::maps::{PODS, refused};
use ambit_abi::{Event, event_reason, pod_flag};
use aya_ebpf::{helpers::generated::bpf_get_netns_cookie, programs::SockContext};

const ALLOW: i32 = 1;
/// The application's `socket()` fails with EPERM.
const REFUSE: i32 = 0;

const SOCK_RAW: u32 = 3;
const DCCP: u32 = 33;
const SCTP: u32 = 132;
const UDP_LITE: u32 = 136;

#[inline(always)]
pub fn run(context: &SockContext) -> i32 {
    let socket = context.sock;
    // SAFETY: the context is valid for the whole run.
    let (kind, protocol) = unsafe { ((*socket).type_, (*socket).protocol) };
    // What a raw socket sends is for the guard.
    if kind == SOCK_RAW || !matches!(protocol, DCCP | SCTP | UDP_LITE) {
        return ALLOW;
    }
    // SAFETY: the context is valid for the whole run.
    let netns = unsafe { bpf_get_netns_cookie(socket.cast()) };
    // SAFETY: PODS is never written by a program; a value that the agent replaces is read whole or not at all.
    let Some(pod) = (unsafe { PODS.get(netns) }) else { return ALLOW };
    let mut event =
        Event { source_slot: pod.slot, reason: event_reason::PROTOCOL, protocol, ..Event::default() };
    event.key.source = pod.ipv4;
    refused(pod.slot, event);
    if pod.flags & pod_flag::ENFORCED == 0 { ALLOW } else { REFUSE }
}
