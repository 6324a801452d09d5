//! Who reaches what, in one state or in several at once: for each owner that is called, port by port, what comes of the
//! calls of everybody else.
//!
//! Asks `core::reach`, once for each pair of classes and range of ports. Never prints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::{
    Egress, Policy, PortRange, Protocol, Snapshot, Verdict, Workload,
    policy::{pieces, port_starts},
    reach::{Attempt, Called, Caller, reach, unspecified},
};
use ipnet::IpNet;

use super::Decision;
use super::groups::{Groups, Pods};

/// What stands for processes of the called pod's own node.
pub(super) const HOST: &str = "host";
/// What stands for everything that is of no pod.
pub(super) const OUTSIDE: &str = "outside";

/// The verdicts that have come up, each once.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    list: Vec<Verdict>,
    decisions: Vec<Arc<Decision>>,
    known: HashMap<Verdict, Number>,
}

/// A number for a verdict.
pub(super) type Number = usize;

/// The verdicts in the first and in the last state.
pub(super) type Ends = [Number; 2];

/// Calls that come to the same, and two sides that show it.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// How many pairs.
    pub(super) pairs: u64,
    /// One of the callers.
    pub(super) caller: Side,
    /// What that one calls.
    pub(super) called: Side,
}

/// One side of a call, printed as `ambit explain` takes it.
#[derive(Clone, Debug)]
pub(super) enum Side {
    Pod(Arc<Workload>),
    Host,
    Address(IpAddr),
}

/// What comes of the calls of one caller to one that is called, ordered by the verdicts.
pub(super) type Cell = Vec<(Ends, Tally)>;

/// Callers, with what comes of their calls.
pub(super) type Cells = Vec<(Arc<str>, Cell)>;

/// What comes of all calls to one that is called, on some ports.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// What is called.
    pub(super) to: Arc<str>,
    /// The ports, in order.
    pub(super) ports: Vec<PortRange>,
    /// Who calls, with what comes of it.
    pub(super) cells: Cells,
}

impl PartialEq for Tally {
    /// The same is said where as many pairs come to it, whoever shows it.
    fn eq(&self, other: &Self) -> bool {
        self.pairs == other.pairs
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "{}/{}", pod.namespace, pod.name),
            Self::Host => f.write_str(HOST),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
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
        self.decisions.push(Arc::new(Decision::of(verdict)));
        self.known.insert(verdict.clone(), self.list.len() - 1);
        self.list.len() - 1
    }

    /// Returns the verdict of a number.
    pub(super) fn get(&self, number: Number) -> Option<&Verdict> {
        self.list.get(number)
    }

    /// Returns the same for people and programs.
    pub(super) fn decision(&self, number: Number) -> Option<&Arc<Decision>> {
        self.decisions.get(number)
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
        self.groups.groups.iter().map(|group| group.name.as_ref()).chain([HOST, OUTSIDE])
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
                    .map(|(ports, cells)| Column { to: Arc::clone(&group.name), ports, cells })
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
    fn calls_to(&mut self, called: &[usize], port: u16) -> Cells {
        let at = (port, self.protocol);
        let mut cells = Cells::with_capacity(self.groups.groups.len() + 2);
        for group in &self.groups.groups {
            let mut cell = Cell::new();
            for (calling, called) in
                group.classes.iter().flat_map(|calling| called.iter().map(move |called| (*calling, *called)))
            {
                let on_host = |pods: &Pods| pods.iter().any(|pod| pod.host_network);
                let by_node =
                    self.protocol == Protocol::Udp || self.groups.some_pod(calling).is_some_and(on_host);
                for pair in self.groups.pairs(calling, called, by_node) {
                    let attempts = pair.caller.iter().zip(pair.called);
                    let attempts = attempts
                        .map(|(caller, called)| attempt(Caller::Pod(caller), Called::pod(called), at));
                    let ends = ends(&self.states, attempts, &mut self.verdicts);
                    add(&mut cell, ends, pair.weight, || (side(pair.caller), side(pair.called)));
                }
            }
            if !cell.is_empty() {
                cells.push((Arc::clone(&group.name), cell));
            }
        }
        let mut strangers = BTreeMap::new();
        for called in called {
            self.strangers(*called, at, &mut strangers);
        }
        cells.extend(strangers);
        cells
    }

    /// Adds what comes of calls of nodes, and of what is outside.
    fn strangers(&mut self, called: usize, at: (u16, Protocol), cells: &mut BTreeMap<Arc<str>, Cell>) {
        let Some(class) = self.groups.classes.get(called) else { return };
        for pods in class.by_node.values() {
            let Some(first) = pods.first() else { continue };
            let attempts = first.iter().map(|pod| {
                let called = Called::pod(pod);
                let towards = called.address();
                let own = self.nodes.get(&pod.node).into_iter().flatten();
                let address = own.into_iter().find(|own| own.is_ipv4() == towards.is_ipv4()).copied();
                let address = address.unwrap_or_else(|| unspecified(towards));
                attempt(Caller::Host { address }, called, at)
            });
            let ends = ends(&self.states, attempts, &mut self.verdicts);
            let cell = cells.entry(HOST.into()).or_default();
            add(cell, ends, pods.len() as u64, || (Some(Side::Host), side(first)));
        }
        let Some(pods) = self.groups.some_pod(called) else { return };
        let policies = self.states.iter().zip(pods).flat_map(|(state, pod)| state.policies_of(pod));
        let peers = policies.flat_map(|policy| &policy.rules).flat_map(|rule| rule.from.iter().flatten());
        for (network, address) in pieces(peers.flat_map(|peer| peer.cidrs.iter().chain(&peer.except_cidrs))) {
            // Whoever has no address of a family is not called from it.
            let called = pods.iter().map_while(|pod| {
                let own = pod.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4())?;
                Some(Called::Pod { pod, address: *own })
            });
            let attempts = called.map(|called| attempt(Caller::Outside { address }, called, at));
            let ends = ends(&self.states, attempts, &mut self.verdicts);
            if ends.is_none() {
                continue;
            }
            let cell = cells.entry(outside_name(&network)).or_default();
            add(cell, ends, class.size, || (Some(Side::Address(address)), side(pods)));
        }
    }

    /// Returns what comes of calls to the outside: each part of it has ports of its own.
    fn outside(&mut self) -> Vec<Column> {
        let starts = self.egress_starts.clone();
        let of_ports = by_port(&starts, |port| self.calls_out(port));
        let parts: BTreeSet<Arc<str>> =
            of_ports.iter().flat_map(|(_, parts)| parts.keys().cloned()).collect();
        let mut columns: Vec<Column> = Vec::new();
        for part in parts {
            let first = columns.len();
            for (ports, cells) in &of_ports {
                let Some(cells) = cells.get(&part) else { continue };
                match columns[first..].iter_mut().find(|column| column.cells == *cells) {
                    Some(column) => column.ports.extend(ports),
                    None => columns.push(Column {
                        to: Arc::clone(&part),
                        ports: ports.clone(),
                        cells: cells.clone(),
                    }),
                }
            }
        }
        columns.iter_mut().for_each(|column| column.ports.sort_unstable());
        columns
    }

    /// Returns what comes of all calls to each part of the outside on a port.
    fn calls_out(&mut self, port: u16) -> BTreeMap<Arc<str>, Cells> {
        let at = (port, self.protocol);
        let mut parts: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Cell>> = BTreeMap::new();
        for group in &self.groups.groups {
            for class in &group.classes {
                let Some(pods) = self.groups.some_pod(*class) else { continue };
                let restricted = self.states.iter().zip(pods).filter(|(_, pod)| pod.egress == Egress::Mesh);
                let policies = restricted.flat_map(|(state, pod)| state.policies_of(pod));
                let rules = policies.flat_map(|policy| &policy.egress);
                let networks = rules.flat_map(|rule| rule.cidrs.iter().chain(&rule.except_cidrs));
                let size = self.groups.classes.get(*class).map_or(0, |class| class.size);
                for (network, address) in pieces(networks) {
                    let reaches = |pod: &Arc<Workload>| {
                        pod.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4())
                    };
                    if !pods.iter().all(reaches) {
                        continue;
                    }
                    let attempts =
                        pods.iter().map(|pod| attempt(Caller::Pod(pod), Called::Address(address), at));
                    let ends = ends(&self.states, attempts, &mut self.verdicts);
                    let cells = parts.entry(outside_name(&network)).or_default();
                    let cell = cells.entry(Arc::clone(&group.name)).or_default();
                    add(cell, ends, size, || (side(pods), Some(Side::Address(address))));
                }
            }
        }
        parts.into_iter().map(|(part, cells)| (part, cells.into_iter().collect())).collect()
    }
}

fn attempt<'a>(caller: Caller<'a>, called: Called<'a>, (port, protocol): (u16, Protocol)) -> Attempt<'a> {
    Attempt { caller, called, port, protocol, by_service: false }
}

/// Asks what comes of an attempt in each state; `None` where there is none in one of them, or no side is a pod.
fn ends<'b>(
    states: &[&Snapshot],
    mut attempts: impl Iterator<Item = Attempt<'b>>,
    verdicts: &mut Verdicts,
) -> Option<Ends> {
    let mut ends: Option<Ends> = None;
    for state in states {
        let number = verdicts.number(reach(state, &attempts.next()?).verdict()?);
        ends = Some([ends.map_or(number, |[first, _]| first), number]);
    }
    ends
}

fn add(
    cell: &mut Cell,
    ends: Option<Ends>,
    pairs: u64,
    example: impl FnOnce() -> (Option<Side>, Option<Side>),
) {
    let Some(ends) = ends else { return };
    match cell.binary_search_by_key(&ends, |(known, _)| *known) {
        Ok(known) => cell[known].1.pairs += pairs,
        Err(place) => {
            if let (Some(caller), Some(called)) = example() {
                cell.insert(place, (ends, Tally { pairs, caller, called }));
            }
        }
    }
}

fn side(pods: &Pods) -> Option<Side> {
    pods.first().cloned().map(Side::Pod)
}

/// Names a part of the outside: what no longer network holds is the outside itself.
fn outside_name(network: &IpNet) -> Arc<str> {
    if network.prefix_len() == 0 { OUTSIDE.into() } else { format!("{OUTSIDE} {network}").into() }
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
