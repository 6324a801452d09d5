//! The compiled policies: what the agent's `evaluate` says of pods of this node and of addresses outside.

use crate::maps::VERDICTS;
use ambit_abi::{Address, VERDICT_BITS, VerdictKey, verdict};
use aya_ebpf::btf_maps::lpm_trie::Key;

/// Returns the verdict on what the pod `source` sends to the pod `destination`.
#[inline(always)]
pub fn between(destination: u32, source: u32, protocol: u16, port: u16) -> u32 {
    let pair = VerdictKey::new(destination, source, protocol, port);
    VERDICTS.get(&Key::new(VERDICT_BITS, pair)).copied().unwrap_or(verdict::NONE)
}

pub fn stranger(_: u32, _: &Address, _: u16, _: u16) -> u32 {
    verdict::NONE
}
pub fn egress(_: u32, _: &Address, _: u16, _: u16) -> u32 {
    verdict::NONE
}
