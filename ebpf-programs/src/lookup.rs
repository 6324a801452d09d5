//! What arrives at an enrolled pod: passed on, handed to the agent, or refused.

use crate::{
    maps::{ENDPOINTS, FLOWS, LISTENERS, report},
    verdicts,
};
use ambit_abi::{
    Address, Arrival, Event, FlowKey, Inbound, ListenerKey, TCP, decide, event_reason, flow_kind,
    listener_kind, verdict,
};
use aya_ebpf::{bindings::bpf_sk_lookup, programs::SkLookupContext};
use core::ptr::read_volatile;

const PASS: u32 = 1;
/// The client gets a RST.
const DROP: u32 = 0;

const AF_INET6: u32 = 10;
/// Index of the loopback device in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

#[inline(always)]
pub fn run(context: &SkLookupContext) -> u32 {
    let lookup = context.lookup;
    // SAFETY: the context is valid for the whole run.
    let (protocol, device) = unsafe { ((*lookup).protocol, (*lookup).ingress_ifindex) };
    // Only 127.0.0.1 and ::1 show the loopback device: what a pod sends to its own address shows eth0.
    if protocol != u32::from(TCP) || device == LOOPBACK_INDEX {
        return PASS;
    }
    let (key, family) = tuple(lookup);
    // SAFETY: the agent replaces values whole; an old one decides as it did a moment ago.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(key.destination) }) else {
        report(Event { key, slot: 0, reason: event_reason::UNKNOWN_ADDRESS, source_slot: 0, protocol });
        return DROP;
    };
    let mut arrival = Arrival {
        endpoint_flags: endpoint.flags,
        endpoint_netns_cookie: endpoint.netns_cookie,
        flow_kind: 0,
        flow_netns_cookie: 0,
        port: key.destination_port,
        verdict: verdict::NONE,
    };
    let mut source_slot = 0;
    // SAFETY: a flow that is replaced while it is read belongs to a tuple that no longer exists.
    if let Some(flow) = unsafe { FLOWS.get(key) } {
        arrival.flow_kind = flow.kind;
        arrival.flow_netns_cookie = flow.netns_cookie;
        if flow.kind == flow_kind::POD && flow.netns_cookie != endpoint.netns_cookie {
            source_slot = flow.slot;
            arrival.verdict = verdicts::between(endpoint.slot, flow.slot, TCP, key.destination_port);
        }
    }
    let kind = match decide(&arrival) {
        Inbound::Pass => return PASS,
        Inbound::RefuseUnverified => {
            report(Event {
                key,
                slot: endpoint.slot,
                reason: event_reason::UNVERIFIED_IN_STRICT,
                source_slot,
                protocol,
            });
            return DROP;
        }
        Inbound::RefuseByPolicy => {
            report(Event { key, slot: endpoint.slot, reason: event_reason::POLICY, source_slot, protocol });
            return DROP;
        }
        Inbound::Outbound => listener_kind::OUTBOUND,
        Inbound::Agent => listener_kind::INBOUND,
    };
    let listener = ListenerKey { slot: endpoint.slot, kind, family };
    if LISTENERS.redirect_sk_lookup(context, listener, 0).is_ok() {
        return PASS;
    }
    report(Event { key, slot: endpoint.slot, reason: event_reason::NO_LISTENER, source_slot, protocol });
    DROP
}

/// The tuple as the client's socket has it, and the address family.
#[inline(always)]
fn tuple(lookup: *mut bpf_sk_lookup) -> (FlowKey, u32) {
    // SAFETY: the context is valid for the whole run. All fields are read before any branch, because the verifier
    // refuses a context pointer that was moved on one of two paths.
    unsafe {
        let family = read_volatile(&raw const (*lookup).family);
        let local4 = read_volatile(&raw const (*lookup).local_ip4);
        let remote4 = read_volatile(&raw const (*lookup).remote_ip4);
        let local6 = [
            read_volatile(&raw const (*lookup).local_ip6[0]),
            read_volatile(&raw const (*lookup).local_ip6[1]),
            read_volatile(&raw const (*lookup).local_ip6[2]),
            read_volatile(&raw const (*lookup).local_ip6[3]),
        ];
        let remote6 = [
            read_volatile(&raw const (*lookup).remote_ip6[0]),
            read_volatile(&raw const (*lookup).remote_ip6[1]),
            read_volatile(&raw const (*lookup).remote_ip6[2]),
            read_volatile(&raw const (*lookup).remote_ip6[3]),
        ];
        let local_port = read_volatile(&raw const (*lookup).local_port) as u16;
        let remote_port = u16::from_be(read_volatile(&raw const (*lookup).remote_port));
        let (destination, source) = if family == AF_INET6 {
            (Address { words_be: local6 }, Address { words_be: remote6 })
        } else {
            (Address::from_v4_be(local4), Address::from_v4_be(remote4))
        };
        (FlowKey { source, destination, source_port: remote_port, destination_port: local_port }, family)
    }
}
