//! Pods of which policies say the same, and the owners under whose names people know them.
//!
//! Pods of one class differ in their names and nodes alone, as far as any decision goes: one of each stands for all.
//! Never decides anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ambit_core::{Egress, Mode, PolicyId, Snapshot, SpiffeId, Workload, WorkloadKey};
use ipnet::IpNet;

/// A pod in each of the states that are looked at.
pub(super) type Pods = Vec<Arc<Workload>>;

/// Pods that no decision tells apart.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Its pods by their node in each of the states.
    pub(super) by_node: BTreeMap<Vec<String>, Vec<Pods>>,
    /// How many they are.
    pub(super) size: u64,
}

/// What belongs to one owner.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The owner, as people know it.
    pub(super) name: Arc<str>,
    /// The classes, as indices.
    pub(super) classes: Vec<usize>,
}

/// All pods that are in every state.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    pub(super) classes: Vec<Class>,
    /// Ordered by name.
    pub(super) groups: Vec<Group>,
}

/// A pair of pods, one in each state, that stands for as many as `weight`.
pub(super) struct Pair<'a> {
    pub(super) caller: &'a Pods,
    pub(super) called: &'a Pods,
    pub(super) weight: u64,
}

/// What decisions may depend on, in one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    identity: SpiffeId,
    mode: Mode,
    egress: Egress,
    host_network: bool,
    policies: Vec<PolicyId>,
    /// Of each address, in order: its family, and which of the networks that policies name hold it.
    addresses: Vec<(bool, Vec<usize>)>,
}

impl Groups {
    /// Classifies the pods that all `states` have.
    pub(super) fn of(states: &[&Snapshot]) -> Self {
        let networks: Vec<Vec<IpNet>> = states.iter().map(|state| networks(state)).collect();
        let mut classes: Vec<Class> = Vec::new();
        let mut known: HashMap<(String, Vec<Seen>), usize> = HashMap::new();
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let Some(last) = states.last() else { return Self::default() };
        for pod in last.workloads() {
            let of_state = |state: &&Snapshot| state.workload_named(&pod.namespace, &pod.name).cloned();
            let Some(pods) = states.iter().map(of_state).collect::<Option<Pods>>() else { continue };
            let seen = states.iter().zip(&networks).zip(&pods).map(|((state, networks), pod)| Seen {
                identity: pod.identity.clone(),
                mode: pod.mode,
                egress: pod.egress,
                host_network: pod.host_network,
                policies: state.policies_of(pod).iter().map(|policy| policy.id.clone()).collect(),
                addresses: pod
                    .addresses
                    .iter()
                    .map(|address| {
                        let holding =
                            networks.iter().enumerate().filter(|(_, network)| network.contains(address));
                        (address.is_ipv4(), holding.map(|(index, _)| index).collect())
                    })
                    .collect(),
            });
            let owner = owner(pod);
            let class = *known.entry((owner.clone(), seen.collect())).or_insert_with(|| {
                groups.entry(owner).or_default().push(classes.len());
                classes.push(Class { by_node: BTreeMap::new(), size: 0 });
                classes.len() - 1
            });
            if let Some(class) = classes.get_mut(class) {
                class.size += 1;
                let nodes = pods.iter().map(|pod| pod.node.clone()).collect();
                class.by_node.entry(nodes).or_default().push(pods);
            }
        }
        let groups = groups.into_iter().map(|(name, classes)| Group { name: name.into(), classes }).collect();
        Self { classes, groups }
    }

    /// Returns a pod of a class.
    pub(super) fn some_pod(&self, class: usize) -> Option<&Pods> {
        self.classes.get(class)?.by_node.values().next()?.first()
    }

    /// Returns pairs of different pods, one of `calling` and one of `called`, that stand for all of them: if `by_node`, one
    /// for each way in which two pods may be on one node or not, in each of the states.
    pub(super) fn pairs(&self, calling: usize, called: usize, by_node: bool) -> Vec<Pair<'_>> {
        let (Some(callers), Some(others)) = (self.classes.get(calling), self.classes.get(called)) else {
            return Vec::new();
        };
        let all = callers.size * others.size - if calling == called { callers.size } else { 0 };
        let mut found: BTreeMap<Vec<bool>, Pair<'_>> = BTreeMap::new();
        for (from_nodes, from) in &callers.by_node {
            for (to_nodes, to) in &others.by_node {
                let Some((one, other)) = two(from, to) else { continue };
                if !by_node {
                    return vec![Pair { caller: one, called: other, weight: all }];
                }
                let within = from_nodes.iter().zip(to_nodes).map(|(from, to)| from == to).collect();
                let own = if calling == called && from_nodes == to_nodes { from.len() } else { 0 };
                let weight = (from.len() * to.len() - own) as u64;
                found.entry(within).or_insert(Pair { caller: one, called: other, weight: 0 }).weight +=
                    weight;
            }
        }
        found.into_values().collect()
    }
}

/// Returns two different pods, one of each list.
fn two<'a>(from: &'a [Pods], to: &'a [Pods]) -> Option<(&'a Pods, &'a Pods)> {
    let name = |pods: &'a Pods| pods.first().map(|pod| (&pod.namespace, &pod.name));
    let caller = from.first()?;
    match to.iter().find(|called| name(called) != name(caller)) {
        Some(called) => Some((caller, called)),
        // All that is called is the first caller itself.
        None => Some((from.get(1)?, to.first()?)),
    }
}

/// Returns every network that a policy names.
fn networks(state: &Snapshot) -> Vec<IpNet> {
    let mut networks: Vec<IpNet> = Vec::new();
    for policy in state.policies() {
        for peer in policy.rules.iter().flat_map(|rule| rule.from.iter().flatten()) {
            networks.extend(peer.cidrs.iter().chain(&peer.except_cidrs));
        }
        for rule in &policy.egress {
            networks.extend(rule.cidrs.iter().chain(&rule.except_cidrs));
        }
    }
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Names what a pod belongs to: its service account, or its owner where the account is the one that everybody has.
pub(super) fn owner(pod: &Workload) -> String {
    let account = pod.identity.service_account();
    if account == "default" {
        format!("{}/{} ({})", pod.namespace, pod.owner_name, pod.owner_kind)
    } else {
        format!("{}/{account}", pod.namespace)
    }
}

/// Returns the names of pods that are not in both states.
pub(super) fn only_in_one(before: &Snapshot, after: &Snapshot) -> Vec<WorkloadKey> {
    let missing = |from: &Snapshot, other: &Snapshot| -> Vec<WorkloadKey> {
        let gone = |pod: &&Arc<Workload>| other.workload_named(&pod.namespace, &pod.name).is_none();
        from.workloads().filter(gone).map(|pod| pod.key()).collect()
    };
    let mut keys = missing(before, after);
    keys.extend(missing(after, before));
    keys.sort();
    keys
}
