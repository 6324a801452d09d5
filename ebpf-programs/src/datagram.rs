//! UDP at the guard: who sent a datagram is whose link it came out of; replies pass, the rest is asked of the
//! policies.

use crate::{
    guard::Refusal,
    maps::{DATAGRAMS, ENDPOINTS, GUARDS, HOST_SOCKETS, refused},
    packet::{self, Packet, Ports},
    segments, verdicts,
};
use ambit_abi::{
    Address, DATAGRAM_LIFE_NS, DATAGRAM_REFRESH_NS, Datagram, DatagramKey, Event, FlowKey, Guard, UDP,
    datagram_side, endpoint_flag, event_reason, pod_flag, verdict,
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
    // The answer to one that was let in is no call of the pod's own: nobody may take it for one and call back.
    if refreshed(&key.reversed(), guard.pod.slot, datagram_side::SERVED, now) {
        return Ok(());
    }
    if !may_leave(guard, &packet.destination, u32::from(UDP), ports.destination) {
        return Err(Refusal { ports, ..Refusal::new(event_reason::EGRESS) });
    }
    remember(&key, guard.pod.slot, datagram_side::CALL, now);
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
    if refreshed(&key.reversed(), guard.pod.slot, datagram_side::CALL, now) {
        return Ok(());
    }
    let (answer, source_slot) = ask(skb, guard, &key, ports);
    if answer == verdict::PASS || answer == verdict::ASK {
        if answer == verdict::ASK {
            tell(guard, &key, source_slot);
        }
        remember(&key, guard.pod.slot, datagram_side::SERVED, now);
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
fn ask(skb: *mut __sk_buff, guard: &Guard, key: &FlowKey, ports: Ports) -> (u32, u32) {
    let sender = sender(skb, key);
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

/// Returns the slot of the pod of this node out of whose link the datagram came; 0: none. The address alone proves
/// nothing: neighbours without a guard, and tunnels that end on the node, may bear any.
#[inline(always)]
fn sender(skb: *mut __sk_buff, key: &FlowKey) -> u32 {
    // SAFETY: the context is valid for the whole run.
    let device = unsafe { (*skb).ingress_ifindex };
    // SAFETY: the agent replaces values whole; an old one decides as it did a moment ago.
    let Some(from) = (unsafe { GUARDS.get(device) }) else { return 0 };
    if key.source.same(&from.pod.ipv4) || key.source.same(&from.pod.ipv6) { from.pod.slot } else { 0 }
}

/// Tells whether the pod may call this address.
#[inline(always)]
pub fn may_leave(guard: &Guard, destination: &Address, protocol: u32, port: u16) -> bool {
    if guard.pod.flags & pod_flag::EGRESS_MESH == 0 || ENDPOINTS.get_ptr(destination).is_some() {
        return true;
    }
    if protocol != u32::from(UDP) {
        // ICMP to a pod of another node helps to find out why it is not reached.
        return segments::is_meshed(destination);
    }
    verdicts::egress(guard.pod.slot, destination, UDP, port) == verdict::PASS
}

/// Tells whether what the pod with this slot sends answers a datagram that was let in.
#[inline(always)]
pub fn is_answer(key: &FlowKey, slot: u32) -> bool {
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    refreshed(&key.reversed(), slot, datagram_side::SERVED, now)
}

/// Tells whether the pod with this slot has such an exchange, not too old, and keeps it from growing old.
#[inline(always)]
fn refreshed(first: &FlowKey, slot: u32, side: u32, now: u64) -> bool {
    let Some(known) = DATAGRAMS.get_ptr_mut(DatagramKey { first: *first, slot }) else { return false };
    // SAFETY: an aligned value that lives as long as the map; a time that is lost to a race is harmless.
    let known = unsafe { &mut *known };
    let age = now.wrapping_sub(known.seen_ns);
    if known.side != side || age >= DATAGRAM_LIFE_NS {
        return false;
    }
    if age >= DATAGRAM_REFRESH_NS {
        known.seen_ns = now;
    }
    true
}

#[inline(always)]
fn remember(first: &FlowKey, slot: u32, side: u32, now: u64) {
    if !refreshed(first, slot, side, now) {
        let entry = Datagram { seen_ns: now, side, _pad: 0 };
        let _ = DATAGRAMS.insert(DatagramKey { first: *first, slot }, entry, 0);
    }
}
