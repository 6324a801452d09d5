//! Policies as the kernel holds them for addresses that are of no pod of its node: classes of addresses about which the
//! policies say the same.
//!
//! The networks that the policies name cut all addresses into pieces: two addresses with the same longest network among
//! them lie in the same networks, so one of them is asked about, as `evaluate` or `evaluate_egress` would be, and speaks for all.
//! Never writes a map.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::compile::{KernelVerdict, by_port, inbound_starts, of, starts};
use super::egress::{Call, evaluate_egress};
use super::eval::{Connection, Source, weigh};
use super::{Policy, PolicySet, PortRange, Protocol};
use crate::model::Workload;

/// The verdicts of one class: for each protocol that was asked about, ranges that together are all ports.
pub type ClassVerdicts = Vec<(Protocol, PortRange, KernelVerdict)>;

/// All addresses of both families, by what the policies of a pod say about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Networks with the index of their class; an address belongs to the longest network that it lies in.
    pub networks: Vec<(IpNet, usize)>,
    /// The classes, each different from the others.
    pub verdicts: Vec<ClassVerdicts>,
}

/// Returns the classes of the senders without an identity whose datagrams reach `destination`. Of TCP the kernel knows
/// by the pod's mode alone whether a stranger is refused; the rest is for the agent.
pub fn stranger_classes(policies: &PolicySet, destination: &Workload) -> Classes {
    let peers = policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| rule.from.iter().flatten());
    let networks = peers.flat_map(|peer| peer.cidrs.iter().chain(&peer.except_cidrs));
    let protocol = Protocol::Udp;
    classes(networks, |address| {
        let source = Source::Unverified { address };
        let relevant = policies.relevant(&source);
        let verdict =
            |port| of(&weigh(&relevant, &Connection { source, destination, protocol, port }), protocol);
        let ranges = by_port(&inbound_starts([&relevant].into_iter()), verdict);
        ranges.into_iter().map(|(range, verdict)| (protocol, range, verdict)).collect()
    })
}

/// Returns the classes of what `source` calls outside the mesh.
pub fn egress_classes(policies: &[Arc<Policy>], source: &Workload) -> Classes {
    let rules = || policies.iter().flat_map(|policy| &policy.egress);
    let networks = rules().flat_map(|rule| rule.cidrs.iter().chain(&rule.except_cidrs));
    let starts = starts(rules().flat_map(|rule| &rule.ports));
    classes(networks, |address| {
        let verdict = |protocol, port| {
            of(
                &evaluate_egress(policies, &Call { source, address, port, protocol, in_mesh: false }),
                protocol,
            )
        };
        let of_protocol = |protocol| {
            let ranges = by_port(&starts, |port| verdict(protocol, port));
            ranges.into_iter().map(move |(range, verdict)| (protocol, range, verdict))
        };
        Protocol::ALL.into_iter().flat_map(of_protocol).collect()
    })
}

/// Cuts all addresses along networks: of each piece the network that it is the rest of, and one address in it.
pub fn pieces<'a>(networks: impl Iterator<Item = &'a IpNet>) -> Vec<(IpNet, IpAddr)> {
    let blocks = blocks(networks);
    let piece = |(position, block): (usize, &Block)| {
        Some((block.network(), block.outside_of(&blocks[position + 1..])?))
    };
    blocks.iter().enumerate().filter_map(piece).collect()
}

/// Returns networks as blocks in order, with those of all addresses.
fn blocks<'a>(networks: impl Iterator<Item = &'a IpNet>) -> Vec<Block> {
    let blocks: BTreeSet<Block> = networks.filter_map(Block::of).chain([Block::ALL, Block::ALL_V4]).collect();
    blocks.into_iter().collect()
}

/// Cuts all addresses along `networks` and asks about one of each piece.
fn classes<'a>(
    networks: impl Iterator<Item = &'a IpNet>,
    verdicts_on: impl Fn(IpAddr) -> ClassVerdicts,
) -> Classes {
    let mut classes = Classes::default();
    let mut known: HashMap<ClassVerdicts, usize> = HashMap::new();
    let blocks = blocks(networks);
    // The blocks around the one that is looked at, outermost first, each with its class.
    let mut around: Vec<(Block, usize)> = Vec::new();
    for (position, block) in blocks.iter().enumerate() {
        around.retain(|(outer, _)| outer.last() >= block.last());
        let Some(address) = block.outside_of(&blocks[position + 1..]) else { continue };
        let verdicts = verdicts_on(address);
        let class = *known.entry(verdicts).or_insert_with_key(|verdicts| {
            classes.verdicts.push(verdicts.clone());
            classes.verdicts.len() - 1
        });
        // Where it says what is said around it already, it adds nothing.
        if around.last().is_none_or(|(_, outer)| *outer != class) {
            classes.networks.push((block.network(), class));
        }
        around.push((*block, class));
    }
    classes
}

/// A network among all addresses, IPv4 mapped into IPv6. Ordered by first address, the larger of two before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u128,
    bits: u8,
}

impl Block {
    const ALL: Self = Self { first: 0, bits: 0 };
    const ALL_V4: Self = Self { first: 0xffff << 32, bits: 96 };

    /// Returns the block of a network; `None` for IPv4 written as IPv6, in which no address lies.
    fn of(network: &IpNet) -> Option<Self> {
        match network.trunc() {
            IpNet::V4(v4) => {
                let first = u128::from(u32::from(v4.addr())) | Self::ALL_V4.first;
                Some(Self { first, bits: 96 + v4.prefix_len() })
            }
            IpNet::V6(v6) => {
                let block = Self { first: u128::from(v6.addr()), bits: v6.prefix_len() };
                (!block.is_v4()).then_some(block)
            }
        }
    }

    fn is_v4(&self) -> bool {
        self.bits >= 96 && self.first >> 32 == 0xffff
    }

    fn last(&self) -> u128 {
        self.first | u128::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0)
    }

    fn network(&self) -> IpNet {
        if self.is_v4() {
            // The lower half-word of a mapped address is the IPv4 address.
            let address = Ipv4Addr::from(self.first as u32);
            return IpNet::V4(Ipv4Net::new_assert(address, self.bits - 96));
        }
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(self.first), self.bits))
    }

    /// Returns an address of the block that lies in none of `inner`, the blocks that come after it in order; `None`
    /// when they cover it.
    fn outside_of(&self, inner: &[Self]) -> Option<IpAddr> {
        let mut address = self.first;
        for block in inner {
            if block.first > address {
                break;
            }
            if block.last() >= address {
                address = block.last().checked_add(1)?;
            }
        }
        (address <= self.last()).then(|| Ipv6Addr::from(address).to_canonical())
    }
}

#[cfg(test)]
pub(super) mod tests;
