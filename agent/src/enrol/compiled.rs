//! The policies of the pods of this node, as the kernel is to hold them: a pure function.

use ambit_abi::{CLASS_BIT, TCP, UDP, direction, verdict};
use ambit_bpf::{ClassBlock, Compiled, VerdictBlock};
use ambit_core::{
    model::{Egress, Workload, WorkloadKey},
    policy::{
        ClassVerdicts, Classes, KernelVerdict, PortRange, Protocol, compile, egress_classes, port_prefixes,
        stranger_classes,
    },
    state::Snapshot,
};
use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Returns what the kernel is to know about `pods`, the enrolled pods of this node with their slots. It decides about
/// TCP between them only where it attests their connections (`direct_lane`).
pub(super) fn compiled(snapshot: &Snapshot, pods: &[(u32, WorkloadKey)], direct_lane: bool) -> Compiled {
    let known: Vec<(u32, &Arc<Workload>)> = pods
        .iter()
        .filter_map(|(slot, key)| Some((*slot, snapshot.workload_named(&key.namespace, &key.name)?)))
        .collect();
    let protocols = Protocol::ALL.into_iter().filter(|protocol| direct_lane || *protocol == Protocol::Udp);
    let mut wanted = Compiled::default();
    for (destination, called) in &known {
        let policies = snapshot.policies_of(called);
        for (source, calling) in known.iter().filter(|(source, _)| source != destination) {
            for protocol in protocols.clone() {
                for (range, verdict) in compile(policies, calling, called, protocol) {
                    add(&mut wanted, (*destination, *source), (protocol, range, verdict));
                }
            }
        }
        add_classes(&mut wanted, *destination, direction::STRANGER, &stranger_classes(policies, called));
        if called.egress == Egress::Mesh {
            add_classes(&mut wanted, *destination, direction::EGRESS, &egress_classes(policies, called));
        }
    }
    wanted
}

fn add_classes(wanted: &mut Compiled, slot: u32, side: u32, classes: &Classes) {
    let numbers = numbers(&classes.verdicts);
    for (number, verdicts) in numbers.iter().zip(&classes.verdicts) {
        let class = number | CLASS_BIT;
        let peers = if side == direction::EGRESS { (class, slot) } else { (slot, class) };
        for verdict in verdicts {
            add(wanted, peers, *verdict);
        }
    }
    for (network, class) in &classes.networks {
        let (network, bits) = (network.network(), network.prefix_len());
        wanted.classes.insert(ClassBlock { slot, direction: side, network, bits }, numbers[*class]);
    }
}

fn add(
    wanted: &mut Compiled,
    (destination, source): (u32, u32),
    (protocol, range, verdict): (Protocol, PortRange, KernelVerdict),
) {
    let protocol = match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let value = match verdict {
        KernelVerdict::Pass => verdict::PASS,
        KernelVerdict::Refuse => verdict::REFUSE,
        KernelVerdict::Ask => verdict::ASK,
        KernelVerdict::PassV4 => verdict::PASS_V4,
        KernelVerdict::PassV6 => verdict::PASS_V6,
    };
    for prefix in port_prefixes(range) {
        let (port, bits) = (prefix.first, prefix.bits);
        wanted.verdicts.insert(VerdictBlock { destination, source, protocol, port, bits }, value);
    }
}

/// Numbers the classes of a pod by what they say, so that a number never changes its meaning while an address still
/// belongs to it, whatever else is added or removed.
fn numbers(classes: &[ClassVerdicts]) -> Vec<u32> {
    let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
    // In an order of their own, so that a number that two of them hash to goes to the same one each time.
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|left, right| classes[*left].cmp(&classes[*right]));
    for class in order {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        classes[class].hash(&mut hasher);
        let mut number = (hasher.finish() >> 32) as u32 & !CLASS_BIT;
        while taken.contains_key(&number) {
            number = number.wrapping_add(1) & !CLASS_BIT;
        }
        taken.insert(number, class);
    }
    let mut numbers = vec![0; classes.len()];
    for (number, class) in taken {
        numbers[class] = number;
    }
    numbers
}

/// FNV-1a: the same in every agent, unlike the standard library's hashers, which promise nothing about that.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(first: u16, verdict: KernelVerdict) -> ClassVerdicts {
        vec![(Protocol::Udp, PortRange { first, last: u16::MAX }, verdict)]
    }

    #[test]
    fn a_class_keeps_its_number_when_others_come_and_go() {
        let (a, b, c) = (
            class(0, KernelVerdict::Pass),
            class(0, KernelVerdict::Refuse),
            class(53, KernelVerdict::Refuse),
        );
        let all = numbers(&[a.clone(), b.clone(), c.clone()]);
        assert_eq!(numbers(&[c, a.clone()]), [all[2], all[0]]);
        assert_eq!(numbers(&[b, a]), [all[1], all[0]]);
        assert!(all.iter().all(|number| number & CLASS_BIT == 0));
    }
}
