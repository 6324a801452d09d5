//! The verdicts between the pods of this node, as the kernel is to hold them: a pure function.

use ambit_abi::verdict;
use ambit_bpf::VerdictBlock;
use ambit_core::{
    model::WorkloadKey,
    policy::{KernelVerdict, compile, port_prefixes},
    state::Snapshot,
};
use std::collections::BTreeMap;

/// Returns the verdicts on connections between `pods`, the enrolled pods of this node with their slots.
pub(super) fn verdicts(snapshot: &Snapshot, pods: &[(u32, WorkloadKey)]) -> BTreeMap<VerdictBlock, u32> {
    let known: Vec<_> = pods
        .iter()
        .filter_map(|(slot, key)| Some((*slot, snapshot.workload_named(&key.namespace, &key.name)?)))
        .collect();
    let mut blocks = BTreeMap::new();
    for (destination, called) in &known {
        let policies = snapshot.policies_of(called);
        for (source, calling) in known.iter().filter(|(source, _)| source != destination) {
            for (range, verdict) in compile(policies, calling, called) {
                let value = match verdict {
                    KernelVerdict::Pass => verdict::PASS,
                    KernelVerdict::Refuse => verdict::REFUSE,
                    KernelVerdict::Ask => verdict::ASK,
                };
                for prefix in port_prefixes(range) {
                    let block = VerdictBlock {
                        destination: *destination,
                        source: *source,
                        protocol: ambit_abi::TCP,
                        port: prefix.first,
                        bits: prefix.bits,
                    };
                    blocks.insert(block, value);
                }
            }
        }
    }
    blocks
}
