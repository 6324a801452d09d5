//! UDP at the guard: who sent a datagram is whose link it came out of; replies pass, the rest is asked of the
//! policies.

use crate::{
    guard::Refusal,
    maps::{DATAGRAMS, DESTINATIONS, ENDPOINTS, HOST_SOCKETS, refused},
    packet::{self, Packet, Ports},
    verdicts,
};
use ambit_abi::{
    Address, DATAGRAM_LIFE_NS, DATAGRAM_REFRESH_NS, Datagram, Destination, Event, FlowKey, Guard, UDP,
    endpoint_flag, event_reason, pod_flag, verdict,
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns},
};

/// A datagram that the pod sends: its exchange is remembered, so that the reply finds back and a pod of this node knows
/// whose it is.
#[inline(always)]
pub fn leaves(skb: *mut __sk_buff, guard: &Guard, packet: &Packet) -> Result<(), Refusal> {
    let Some(ports) = packet::ports(skb, packet) else {
        return Err(Refusal::new(event_reason::PROTOCOL));
    };
    let key = packet.key(ports);
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    if !may_leave(guard, &packet.destination, u32::from(UDP), ports.destination)
        && fresh(&reverse(&key), guard.netns_cookie, now).is_none()
    {
        return Err(Refusal { ports, ..Refusal::new(event_reason::EGRESS) });
    }
    remember(key, guard, guard.pod.slot, now);
    // Behind a service's address the destination changes on the way; the source does not.
    remember(from_anywhere(&key), guard, guard.pod.slot, now);
    Ok(())
}

/// A datagram that is sent to the pod.
#[inline(always)]
pub fn arrives(skb: *mut __sk_buff, guard: &Guard, packet: &Packet) -> Result<(), Refusal> {
    let Some(ports) = packet::ports(skb, packet) else {
        return Err(Refusal::new(event_reason::PROTOCOL));
    };
    let key = packet.key(ports);
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    if fresh(&reverse(&key), guard.netns_cookie, now).is_some() {
        remember(reverse(&key), guard, guard.pod.slot, now);
        return Ok(());
    }
    let (answer, source_slot) = ask(skb, guard, &key, ports, now);
    if answer == verdict::PASS || answer == verdict::ASK {
        if answer == verdict::ASK {
            tell(guard, &key, source_slot);
        }
        // The answer to a stranger that was let in is no call of the pod's own.
        if guard.pod.flags & pod_flag::EGRESS_MESH != 0 && source_slot == 0 {
            remember(key, guard, 0, now);
        }
        return Ok(());
    }
    let reason = if source_slot == 0 { event_reason::DATAGRAM } else { event_reason::POLICY };
    Err(Refusal { reason, ports, source_slot })
}

/// Reports a datagram that passes, about which the agent has something to log.
#[inline(always)]
fn tell(guard: &Guard, key: &FlowKey, source_slot: u32) {
    let (slot, protocol) = (guard.pod.slot, u32::from(UDP));
    refused(slot, Event { key: *key, slot, reason: event_reason::DATAGRAM, source_slot, protocol });
}

/// Returns the verdict on a datagram that is no reply, and the slot of the pod that sent it, where that is known.
#[inline(always)]
fn ask(skb: *mut __sk_buff, guard: &Guard, key: &FlowKey, ports: Ports, now: u64) -> (u32, u32) {
    let sender = sender(key, now);
    if sender != 0 {
        return (verdicts::datagram(guard.pod.slot, sender, &key.source, ports.destination), sender);
    }
    // SAFETY: the helper takes the context, and answers 0 where the packet has no socket of this node.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    if cookie != 0 && HOST_SOCKETS.get_ptr(cookie).is_some() && host_passes(guard) {
        return (verdict::PASS, 0);
    }
    (verdicts::stranger(guard.pod.slot, &key.source, UDP, ports.destination), 0)
}

#[inline(always)]
fn host_passes(guard: &Guard) -> bool {
    [guard.pod.ipv4, guard.pod.ipv6].iter().any(|ip| {
        // SAFETY: the agent replaces values whole.
        unsafe { ENDPOINTS.get(ip) }.is_some_and(|endpoint| endpoint.flags & endpoint_flag::HOST_PASSES != 0)
    })
}

/// Returns the slot of the pod of this node that sent from this address and port just now; 0: none.
#[inline(always)]
fn sender(key: &FlowKey, now: u64) -> u32 {
    // SAFETY: the agent replaces values whole.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(key.source) }) else { return 0 };
    let (slot, netns_cookie) = (endpoint.slot, endpoint.netns_cookie);
    match fresh(&from_anywhere(key), netns_cookie, now) {
        Some(sender) if sender == slot => slot,
        _ => 0,
    }
}

/// Tells whether the pod may call this address.
#[inline(always)]
pub fn may_leave(guard: &Guard, destination: &Address, protocol: u32, port: u16) -> bool {
    if guard.pod.flags & pod_flag::EGRESS_MESH == 0 || ENDPOINTS.get_ptr(destination).is_some() {
        return true;
    }
    if protocol != u32::from(UDP) {
        // ICMP to a pod of another node helps to find out why it is not reached.
        let pod = Destination { ip: *destination, port: 0, _pad: 0 };
        return DESTINATIONS.get_ptr(pod).is_some();
    }
    verdicts::egress(guard.pod.slot, destination, UDP, port) == verdict::PASS
}

/// Tells whether what a pod sends answers a datagram that was let in.
#[inline(always)]
pub fn is_answer(key: &FlowKey, netns_cookie: u64) -> bool {
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    fresh(&reverse(key), netns_cookie, now).is_some()
}

#[inline(always)]
fn reverse(key: &FlowKey) -> FlowKey {
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
    }
}

#[inline(always)]
fn from_anywhere(key: &FlowKey) -> FlowKey {
    FlowKey { destination: Address::UNSPECIFIED, destination_port: 0, ..*key }
}

/// Returns the sender's slot of a remembered exchange that is not too old.
#[inline(always)]
fn fresh(key: &FlowKey, netns_cookie: u64, now: u64) -> Option<u32> {
    // SAFETY: entries are replaced whole; the time alone is written in place.
    let known = unsafe { DATAGRAMS.get(key) }?;
    let young = now.wrapping_sub(known.seen_ns) < DATAGRAM_LIFE_NS;
    (young && known.netns_cookie == netns_cookie).then_some(known.slot)
}

#[inline(always)]
fn remember(key: FlowKey, guard: &Guard, slot: u32, now: u64) {
    // SAFETY: as above.
    if let Some(known) = unsafe { DATAGRAMS.get(key) }
        && known.netns_cookie == guard.netns_cookie
        && known.slot == slot
        && now.wrapping_sub(known.seen_ns) < DATAGRAM_REFRESH_NS
    {
        return;
    }
    let entry = Datagram { netns_cookie: guard.netns_cookie, seen_ns: now, slot, _pad: 0 };
    let _ = DATAGRAMS.insert(key, entry, 0);
}
