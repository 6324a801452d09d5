//! Who reaches what, in one state or in several at once: for each owner that is called, port by port, what comes of the
//! calls of everybody else.
//!
//! Asks `core::reach`, once for each pair of classes and range of ports. Never prints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::{
    Egress, Policy, PortRange, Protocol, Snapshot, Verdict, Workload,
    policy::{pieces, port_starts},
    reach::{Attempt, Called, Caller, reach, unspecified},
};
use ipnet::IpNet;

use super::groups::{Groups, Pods};

/// What stands for processes of the called pod's own node.
pub(super) const HOST: &str = "host";
/// What stands for everything that is of no pod.
pub(super) const OUTSIDE: &str = "outside";

/// The verdicts that have come up, each once.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    list: Vec<Verdict>,
    known: HashMap<Verdict, usize>,
}

/// A number for a verdict.
pub(super) type Number = usize;

/// Calls that come to the same: a verdict in each state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many pairs.
    pub(super) pairs: u64,
    /// One of the callers, as a name that `ambit explain` takes.
    pub(super) caller: String,
    /// What that one calls.
    pub(super) called: String,
}

/// What comes of the calls of one caller to one that is called: the verdicts of all states, with how many pairs.
pub(super) type Cell = BTreeMap<Vec<Number>, Tally>;

/// What comes of all calls to one that is called, on some ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// What is called.
    pub(super) to: String,
    /// The ports, in order.
    pub(super) ports: Vec<PortRange>,
    /// Who calls, with what comes of it.
    pub(super) cells: BTreeMap<String, Cell>,
}

/// Everybody in every state.
pub(super) struct Reached<'a> {
    states: Vec<&'a Snapshot>,
    groups: Groups,
    protocol: Protocol,
    /// The ports at which the egress rules of pods may begin to say something else.
    egress_starts: BTreeSet<u16>,
    /// The addresses of nodes, as pods with their network have them.
    nodes: HashMap<String, Vec<IpAddr>>,
    pub(super) verdicts: Verdicts,
}

impl Verdicts {
    fn number(&mut self, verdict: &Verdict) -> Number {
        if let Some(number) = self.known.get(verdict) {
            return *number;
        }
        self.list.push(verdict.clone());
        self.known.insert(verdict.clone(), self.list.len() - 1);
        self.list.len() - 1
    }

    /// Returns the verdict of a number.
    pub(super) fn get(&self, number: Number) -> Option<&Verdict> {
        self.list.get(number)
    }

    /// Tells whether a number is that of a verdict that allows.
    pub(super) fn allows(&self, number: Number) -> bool {
        self.get(number).is_some_and(|verdict| verdict.allowed)
    }
}

impl<'a> Reached<'a> {
    /// Prepares to tell who reaches what over `protocol` in `states`.
    pub(super) fn new(states: Vec<&'a Snapshot>, protocol: Protocol) -> Self {
        let groups = Groups::of(&states);
        let mut restricted: Vec<&Arc<Policy>> = Vec::new();
        let mut nodes: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for state in &states {
            for pod in state.workloads() {
                if pod.egress == Egress::Mesh {
                    restricted
                        .extend(state.policies_of(pod).iter().filter(|policy| !policy.egress.is_empty()));
                }
                if pod.host_network {
                    nodes.entry(pod.node.clone()).or_default().extend(&pod.addresses);
                }
            }
        }
        let egress_starts = port_starts(restricted.into_iter());
        Self { states, groups, protocol, egress_starts, nodes, verdicts: Verdicts::default() }
    }

    /// Returns how many owners there are; each is called once, and the outside after them.
    pub(super) fn columns(&self) -> usize {
        self.groups.groups.len() + 1
    }

    /// Returns the names of all callers but parts of the outside.
    pub(super) fn callers(&self) -> impl Iterator<Item = &str> {
        self.groups.groups.iter().map(|group| group.name.as_str()).chain([HOST, OUTSIDE])
    }

    /// Returns what comes of all calls to the owner at `index`; after the owners, to the outside, a column for each
    /// part of it.
    pub(super) fn column(&mut self, index: usize) -> Vec<Column> {
        match self.groups.groups.get(index).cloned() {
            Some(group) => {
                let starts = self.starts(&group.classes);
                let of_ports = by_port(&starts, |port| self.calls_to(&group.classes, port));
                of_ports
                    .into_iter()
                    .map(|(ports, cells)| Column { to: group.name.clone(), ports, cells })
                    .collect()
            }
            None => self.outside(),
        }
    }

    /// Returns the first ports of ranges in which nothing about calls to these classes changes.
    fn starts(&self, classes: &[usize]) -> BTreeSet<u16> {
        let pods = classes.iter().filter_map(|class| self.groups.some_pod(*class));
        let mut starts = BTreeSet::from([0]);
        for pods in pods {
            for (state, pod) in self.states.iter().zip(pods) {
                starts.extend(port_starts(state.policies_of(pod).iter()));
                if !pod.mode.is_enrolled() || self.protocol == Protocol::Udp {
                    starts.extend(&self.egress_starts);
                }
            }
        }
        starts
    }

    /// Returns what comes of all calls to these classes on a port.
    fn calls_to(&mut self, called: &[usize], port: u16) -> BTreeMap<String, Cell> {
        let protocol = self.protocol;
        let mut cells: BTreeMap<String, Cell> = BTreeMap::new();
        for called in called {
            for group in &self.groups.groups {
                let mut cell = cells.remove(&group.name).unwrap_or_default();
                for calling in &group.classes {
                    let by_node = self.protocol == Protocol::Udp
                        || self
                            .groups
                            .some_pod(*calling)
                            .is_some_and(|pods| pods.iter().any(|pod| pod.host_network));
                    for pair in self.groups.pairs(*calling, *called, by_node) {
                        let attempts = pair.caller.iter().zip(pair.called).map(|(caller, called)| {
                            attempt(Caller::Pod(caller), Called::pod(called), (port, protocol))
                        });
                        let numbers = numbers(&self.states, attempts, &mut self.verdicts);
                        add(&mut cell, numbers, pair.weight, || (name(pair.caller), name(pair.called)));
                    }
                }
                if !cell.is_empty() {
                    cells.insert(group.name.clone(), cell);
                }
            }
            self.strangers(*called, port, &mut cells);
        }
        cells
    }

    /// Adds what comes of calls of nodes, and of what is outside.
    fn strangers(&mut self, called: usize, port: u16, cells: &mut BTreeMap<String, Cell>) {
        let protocol = self.protocol;
        let Some(class) = self.groups.classes.get(called) else { return };
        for pods in class.by_node.values() {
            let Some(first) = pods.first() else { continue };
            let attempts = first.iter().map(|pod| {
                let called = Called::pod(pod);
                let towards = called.address();
                let own = self.nodes.get(&pod.node).into_iter().flatten();
                let address = own.into_iter().find(|own| own.is_ipv4() == towards.is_ipv4()).copied();
                let address = address.unwrap_or_else(|| unspecified(towards));
                attempt(Caller::Host { address }, called, (port, protocol))
            });
            let numbers = numbers(&self.states, attempts, &mut self.verdicts);
            let cell = cells.entry(HOST.to_owned()).or_default();
            add(cell, numbers, pods.len() as u64, || (HOST.to_owned(), name(first)));
        }
        let Some(pods) = self.groups.some_pod(called).cloned() else { return };
        let policies = self.states.iter().zip(&pods).flat_map(|(state, pod)| state.policies_of(pod));
        let peers = policies.flat_map(|policy| &policy.rules).flat_map(|rule| rule.from.iter().flatten());
        for (network, address) in pieces(peers.flat_map(|peer| peer.cidrs.iter().chain(&peer.except_cidrs))) {
            let attempts = pods
                .iter()
                .map(|pod| attempt(Caller::Outside { address }, Called::pod(pod), (port, protocol)));
            let numbers = numbers(&self.states, attempts, &mut self.verdicts);
            let cell = cells.entry(outside_name(&network)).or_default();
            add(cell, numbers, class.size, || (address.to_string(), name(&pods)));
        }
    }

    /// Returns what comes of calls to the outside.
    fn outside(&mut self) -> Vec<Column> {
        let starts = self.egress_starts.clone();
        // What comes of calls to some ports.
        type Row = (Vec<PortRange>, BTreeMap<String, Cell>);
        let mut by_part: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        let of_ports = by_port(&starts, |port| self.calls_out(port));
        // Each part of the outside has ports of its own.
        let parts: BTreeSet<String> = of_ports.iter().flat_map(|(_, parts)| parts.keys().cloned()).collect();
        for part in parts {
            let mut merged: Vec<Row> = Vec::new();
            for (ports, cells) in &of_ports {
                let Some(cells) = cells.get(&part) else { continue };
                match merged.iter_mut().find(|(_, other)| other == cells) {
                    Some((known, _)) => known.extend(ports),
                    None => merged.push((ports.clone(), cells.clone())),
                }
            }
            by_part.insert(part, merged);
        }
        let columns = by_part.into_iter().flat_map(|(to, rows)| {
            rows.into_iter().map(move |(mut ports, cells)| {
                ports.sort_unstable();
                Column { to: to.clone(), ports, cells }
            })
        });
        columns.collect()
    }

    /// Returns what comes of all calls to each part of the outside on a port.
    fn calls_out(&mut self, port: u16) -> BTreeMap<String, BTreeMap<String, Cell>> {
        let protocol = self.protocol;
        let mut parts: BTreeMap<String, BTreeMap<String, Cell>> = BTreeMap::new();
        for group in &self.groups.groups {
            for class in &group.classes {
                let Some(pods) = self.groups.some_pod(*class) else { continue };
                let rules =
                    self.states.iter().zip(pods).filter(|(_, pod)| pod.egress == Egress::Mesh).flat_map(
                        |(state, pod)| state.policies_of(pod).iter().flat_map(|policy| &policy.egress),
                    );
                let networks: Vec<IpNet> =
                    rules.flat_map(|rule| rule.cidrs.iter().chain(&rule.except_cidrs)).copied().collect();
                let size = self.groups.classes.get(*class).map_or(0, |class| class.size);
                for (network, address) in pieces(networks.iter()) {
                    let attempts = pods
                        .iter()
                        .map(|pod| attempt(Caller::Pod(pod), Called::Address(address), (port, protocol)));
                    let numbers = numbers(&self.states, attempts, &mut self.verdicts);
                    let cells = parts.entry(outside_name(&network)).or_default();
                    let cell = cells.entry(group.name.clone()).or_default();
                    add(cell, numbers, size, || (name(pods), address.to_string()));
                }
            }
        }
        parts
    }
}

fn attempt<'a>(caller: Caller<'a>, called: Called<'a>, (port, protocol): (u16, Protocol)) -> Attempt<'a> {
    Attempt { caller, called, port, protocol, by_service: false }
}

/// Asks what comes of an attempt in each state.
fn numbers<'b>(
    states: &[&Snapshot],
    attempts: impl Iterator<Item = Attempt<'b>>,
    verdicts: &mut Verdicts,
) -> Vec<Number> {
    let numbers = states
        .iter()
        .zip(attempts)
        .filter_map(|(state, attempt)| Some(verdicts.number(reach(state, &attempt).verdict()?)));
    numbers.collect()
}

fn add(cell: &mut Cell, numbers: Vec<Number>, pairs: u64, example: impl FnOnce() -> (String, String)) {
    let tally = cell.entry(numbers).or_insert_with(|| {
        let (caller, called) = example();
        Tally { pairs: 0, caller, called }
    });
    tally.pairs += pairs;
}

fn name(pods: &Pods) -> String {
    pods.first().map(|pod: &Arc<Workload>| pod.key().to_string()).unwrap_or_default()
}

/// Names a part of the outside: what no longer network holds is the outside itself.
fn outside_name(network: &IpNet) -> String {
    if network.prefix_len() == 0 { OUTSIDE.to_owned() } else { format!("{OUTSIDE} {network}") }
}

/// Asks about one port after each of `starts`, and returns together the ranges about which the same is said.
fn by_port<T: PartialEq>(starts: &BTreeSet<u16>, mut ask: impl FnMut(u16) -> T) -> Vec<(Vec<PortRange>, T)> {
    let mut said: Vec<(Vec<PortRange>, T)> = Vec::new();
    let mut ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    for first in starts {
        let last = ends.next().unwrap_or(u16::MAX);
        let found = ask(*first);
        match said.iter_mut().find(|(_, other)| *other == found) {
            Some((ranges, _)) => match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(*first) => range.last = last,
                _ => ranges.push(PortRange { first: *first, last }),
            },
            None => said.push((vec![PortRange { first: *first, last }], found)),
        }
    }
    // What is said of few ports is what somebody wrote a rule for.
    said.sort_by_key(|(ranges, _)| {
        ranges.iter().map(|range| u32::from(range.last - range.first) + 1).sum::<u32>()
    });
    said
}
