//! Policies as the kernel holds them: for two pods of one node, a verdict for every port.
//!
//! Asks the evaluation and nothing else, so that the kernel cannot decide otherwise than the agent. Never writes a map.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::eval::{Connection, Relevant, Source, weigh};
use super::verdict::Verdict;
use super::{Policy, PolicySet, PortRange, Protocol};
use crate::model::Workload;

/// What the kernel does with a connection between two pods of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelVerdict {
    /// It lets it pass.
    Pass,
    /// It refuses it, and reports it.
    Refuse,
    /// It hands a connection to the agent: there is something to log, or the answer depends on more than the port. No
    /// agent takes a datagram: that passes, and is reported.
    Ask,
    /// It lets a datagram pass over IPv4 and refuses it over IPv6: the pod that sends it has addresses of both, and the
    /// policies tell them apart.
    PassV4,
    /// The other way around.
    PassV6,
}

/// Returns the verdicts on what `source` sends by `protocol` to `destination`, whose policies are `policies`: ranges of ports
/// that together are 0 to 65535, in order, neighbours with different verdicts.
pub fn compile(
    policies: &PolicySet,
    source: &Workload,
    destination: &Workload,
    protocol: Protocol,
) -> Vec<(PortRange, KernelVerdict)> {
    // Pods of this node have one address of each family at most that counts.
    let of_family = |v4: bool| {
        let address = *source.addresses.iter().find(|address| address.to_canonical().is_ipv4() == v4)?;
        let source = Source::Identity { id: &source.identity, address };
        Some((source, policies.relevant(&source)))
    };
    let families = [of_family(true), of_family(false)];
    let starts = inbound_starts(families.iter().flatten().map(|(_, relevant)| relevant));
    by_port(&starts, |port| {
        let [v4, v6] = families.each_ref().map(|family| {
            let (source, relevant) = family.as_ref()?;
            let connection = Connection { source: *source, destination, protocol, port };
            Some(of(&weigh(relevant, &connection), protocol))
        });
        both(v4, v6, protocol)
    })
}

/// Returns the ports at which the rules about callers may begin to say something else, 0 among them.
pub(super) fn inbound_starts<'a>(relevant: impl Iterator<Item = &'a Relevant<'a>>) -> BTreeSet<u16> {
    let rules = relevant.flat_map(|relevant| &relevant.candidates).flat_map(|policy| &policy.rules);
    starts(rules.flat_map(|rule| rule.to.iter().flatten()).flat_map(|to| &to.ports))
}

/// Returns the ports at which policies may begin to say something else, about callers or about what is called.
pub fn port_starts<'a>(policies: impl Iterator<Item = &'a Arc<Policy>> + Clone) -> BTreeSet<u16> {
    let to = policies.clone().flat_map(|policy| &policy.rules).flat_map(|rule| rule.to.iter().flatten());
    let called = policies.flat_map(|policy| &policy.egress);
    starts(to.flat_map(|to| &to.ports).chain(called.flat_map(|rule| &rule.ports)))
}

/// Returns the first port of each range, and the one after its last; 0 in any case.
pub(super) fn starts<'a>(ranges: impl Iterator<Item = &'a PortRange>) -> BTreeSet<u16> {
    let mut starts = BTreeSet::from([0]);
    for range in ranges {
        starts.insert(range.first);
        starts.extend(range.last.checked_add(1));
    }
    starts
}

/// Returns the verdicts of all ports, asking for one port after each of `starts`: ranges in order, neighbours with
/// different verdicts.
pub(super) fn by_port(
    starts: &BTreeSet<u16>,
    verdict_on: impl Fn(u16) -> KernelVerdict,
) -> Vec<(PortRange, KernelVerdict)> {
    let mut verdicts: Vec<(PortRange, KernelVerdict)> = Vec::new();
    let mut ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    for first in starts {
        let last = ends.next().unwrap_or(u16::MAX);
        let verdict = verdict_on(*first);
        match verdicts.last_mut() {
            Some((range, before)) if *before == verdict => range.last = last,
            _ => verdicts.push((PortRange { first: *first, last }, verdict)),
        }
    }
    verdicts
}

/// Joins what is said of the two families.
fn both(v4: Option<KernelVerdict>, v6: Option<KernelVerdict>, protocol: Protocol) -> KernelVerdict {
    match (v4, v6) {
        (None, None) => KernelVerdict::Refuse,
        (Some(only), None) | (None, Some(only)) => only,
        (Some(v4), Some(v6)) if v4 == v6 => v4,
        (Some(_), Some(_)) if protocol == Protocol::Tcp => KernelVerdict::Ask,
        (Some(_), Some(KernelVerdict::Refuse)) => KernelVerdict::PassV4,
        (Some(KernelVerdict::Refuse), Some(_)) => KernelVerdict::PassV6,
        (Some(_), Some(_)) => KernelVerdict::Ask,
    }
}

/// Returns what the kernel does by a verdict.
pub(super) fn of(verdict: &Verdict, protocol: Protocol) -> KernelVerdict {
    let remarks = verdict.would_refuse.is_some() || !verdict.dry_run.is_empty();
    match (verdict.allowed, remarks) {
        (true, false) => KernelVerdict::Pass,
        (false, true) if protocol == Protocol::Tcp => KernelVerdict::Ask,
        (false, _) => KernelVerdict::Refuse,
        (true, true) => KernelVerdict::Ask,
    }
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
