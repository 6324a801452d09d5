//! Pods that are known to be coming: what they send before they are enrolled is held back, so that TCP tries again.

use crate::{
    maps::{AWAITED, config},
    packet::load,
};
use ambit_abi::{Address, CONFIG_AWAITING, TCP, pod_flag};
use aya_ebpf::programs::SkBuffContext;

const PASS: i32 = 1;
const DROP: i32 = 0;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Runs for what any socket sends; the packet begins with its IP header.
#[inline(always)]
pub fn run(context: &SkBuffContext) -> i32 {
    if config().flags & CONFIG_AWAITING == 0 {
        return PASS;
    }
    let skb = context.skb.skb;
    // The socket's family says nothing of the packet; its protocol does.
    // SAFETY: the context is valid for the whole run.
    let protocol = unsafe { (*skb).protocol } as u16;
    let (source, next, transport) = match protocol.swap_bytes() {
        ETH_P_IP => {
            let Some(header): Option<[u8; 20]> = load(skb, 0) else { return PASS };
            let word = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]);
            (Address::from_v4_be(word), header[9], u32::from(header[0] & 15) * 4)
        }
        ETH_P_IPV6 => {
            let Some(header): Option<[u32; 6]> = load(skb, 0) else { return PASS };
            let words_be = [header[2], header[3], header[4], header[5]];
            (Address { words_be }, header[1].to_ne_bytes()[2], 40)
        }
        _ => return PASS,
    };
    // SAFETY: one word, replaced whole.
    let Some(flags) = (unsafe { AWAITED.get(source) }) else { return PASS };
    // A pod that may reach the mesh alone sends nothing before it is known to be held to that.
    if flags & pod_flag::EGRESS_MESH != 0 {
        return DROP;
    }
    if u16::from(next) != TCP {
        return PASS;
    }
    match load::<[u8; 1]>(skb, transport + 13) {
        Some([flags]) if flags & (SYN | ACK) != SYN => PASS,
        _ => DROP,
    }
}
