//! Policies as the kernel holds them: for two pods of one node, a verdict for every port.
//!
//! Asks `evaluate` and nothing else, so that the kernel cannot decide otherwise than the agent. Never writes a map.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::eval::{Connection, Source, evaluate};
use super::{Policy, PortRange};
use crate::model::Workload;

/// What the kernel does with a connection between two pods of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelVerdict {
    /// It lets it pass.
    Pass,
    /// It refuses it, and reports it.
    Refuse,
    /// It hands it to the agent: there is something to log, or the answer depends on more than the port.
    Ask,
}

/// Returns the verdicts on connections from `source` to `destination`, whose policies are `policies`: ranges of ports
/// that together are 0 to 65535, in order, neighbours with different verdicts.
pub fn compile(
    policies: &[Arc<Policy>],
    source: &Workload,
    destination: &Workload,
) -> Vec<(PortRange, KernelVerdict)> {
    let mut starts = BTreeSet::from([0]);
    for policy in policies {
        for range in policy.rules.iter().flat_map(|rule| rule.to.iter().flatten()).flat_map(|to| &to.ports) {
            starts.insert(range.first);
            starts.extend(range.last.checked_add(1));
        }
    }
    let mut verdicts: Vec<(PortRange, KernelVerdict)> = Vec::new();
    let mut ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    for first in &starts {
        let last = ends.next().unwrap_or(u16::MAX);
        let verdict = verdict_on(policies, source, destination, *first);
        match verdicts.last_mut() {
            Some((range, before)) if *before == verdict => range.last = last,
            _ => verdicts.push((PortRange { first: *first, last }, verdict)),
        }
    }
    verdicts
}

fn verdict_on(
    policies: &[Arc<Policy>],
    source: &Workload,
    destination: &Workload,
    port: u16,
) -> KernelVerdict {
    let mut verdicts = source.addresses.iter().map(|address| {
        let source = Source::Identity { id: &source.identity, address: *address };
        let verdict = evaluate(policies, &Connection { source, destination, port });
        if verdict.would_refuse.is_some() || !verdict.dry_run.is_empty() {
            KernelVerdict::Ask
        } else if verdict.allowed {
            KernelVerdict::Pass
        } else {
            KernelVerdict::Refuse
        }
    });
    let first = verdicts.next().unwrap_or(KernelVerdict::Ask);
    if verdicts.all(|other| other == first) { first } else { KernelVerdict::Ask }
}

/// A block of ports as a longest-prefix match knows it: the first port, and how many leading bits all of them share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPrefix {
    /// The first port of the block.
    pub first: u16,
    /// How many leading bits are common, 0 to 16.
    pub bits: u8,
}

/// Splits a range into the fewest blocks.
pub fn port_prefixes(range: PortRange) -> Vec<PortPrefix> {
    let mut prefixes = Vec::new();
    let (mut first, last) = (u32::from(range.first), u32::from(range.last));
    while first <= last {
        let aligned = if first == 0 { 16 } else { first.trailing_zeros().min(16) };
        let fitting = (last - first + 1).ilog2();
        let size = aligned.min(fitting);
        // Both are at most 16 and 65535, so that they fit.
        prefixes.push(PortPrefix { first: first as u16, bits: (16 - size) as u8 });
        first += 1 << size;
    }
    prefixes
}

#[cfg(test)]
mod tests;
