//! The compiled policies: what the agent's `evaluate` and `evaluate_egress` say of pods of this node and of addresses
//! outside. Decides nothing, and never passes what has no entry.

use crate::maps::{CLASSES, VERDICTS};
use ambit_abi::{
    Address, CLASS_BIT, CLASS_BITS, ClassKey, UDP, VERDICT_BITS, VerdictKey, direction, verdict,
};
use aya_ebpf::btf_maps::lpm_trie::Key;

/// Returns the verdict on the connection of the pod `source` to the pod `destination`.
#[inline(always)]
pub fn between(destination: u32, source: u32, protocol: u16, port: u16) -> u32 {
    let pair = VerdictKey::new(destination, source, protocol, port);
    VERDICTS.get(&Key::new(VERDICT_BITS, pair)).copied().unwrap_or(verdict::NONE)
}

/// Returns the verdict on a datagram of the pod `source`, sent from `address`, to the pod `destination`: `PASS`, `ASK`,
/// `REFUSE` or `NONE`.
#[inline(always)]
pub fn datagram(destination: u32, source: u32, address: &Address, port: u16) -> u32 {
    match (between(destination, source, UDP, port), address.is_v4()) {
        (verdict::PASS_V4, true) | (verdict::PASS_V6, false) => verdict::PASS,
        (verdict::PASS_V4, false) | (verdict::PASS_V6, true) => verdict::REFUSE,
        (other, _) => other,
    }
}

/// Returns the verdict on what `address`, of no pod that is known, sends to the pod `destination`. For TCP that is
/// `NONE`: the agent decides.
#[inline(always)]
pub fn stranger(destination: u32, address: &Address, protocol: u16, port: u16) -> u32 {
    match class(destination, direction::STRANGER, address) {
        Some(class) => between(destination, class | CLASS_BIT, protocol, port),
        None => verdict::NONE,
    }
}

/// Returns the verdict on what the pod `source`, whose egress is restricted, sends to `address` outside the mesh.
#[inline(always)]
pub fn egress(source: u32, address: &Address, protocol: u16, port: u16) -> u32 {
    match class(source, direction::EGRESS, address) {
        Some(class) => between(class | CLASS_BIT, source, protocol, port),
        None => verdict::NONE,
    }
}

#[inline(always)]
fn class(slot: u32, direction: u32, address: &Address) -> Option<u32> {
    CLASSES.get(&Key::new(CLASS_BITS, ClassKey::new(slot, direction, *address))).copied()
}
