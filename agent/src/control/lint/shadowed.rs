//! Finds Allow policies that change nothing, because another one admits to the same pods whomever they admit.
//!
//! Allow policies add up: whoever writes a narrow one beside a wide one has restricted nobody. Compares what is written, and
//! is silent where it cannot tell.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::{Action, Destination, Peer, Policy, PolicyId, PortRange, Protocol, Rule, Snapshot};
use ipnet::IpNet;

use crate::control::finding::Findings;
use crate::control::objects::{Located, Objects};

/// The most policies of one pod that are compared with each other.
const MAX_OF_A_POD: usize = 64;
/// The most pairs of rules of two policies that are compared; policies of more rules no person compares either.
const MAX_PAIRS: usize = 10_000;

/// Warns about Allow policies that change nothing.
pub(super) fn warn(objects: &Objects, snapshot: &Snapshot, findings: &mut Findings) {
    let beside = beside(snapshot);
    let written: BTreeMap<&PolicyId, &Located<Policy>> =
        objects.policies.iter().map(|policy| (&policy.value.id, policy)).collect();
    for (id, others) in &beside {
        let Some(policy) = written.get(*id).filter(|policy| !policy.value.rules.is_empty()) else { continue };
        let wider = others.iter().filter_map(|other| written.get(*other)).find(|other| {
            let (narrow, wide) = (&policy.value, &other.value);
            // Of two that say the same, one changes something.
            admits_all_of(wide, narrow) && (!admits_all_of(narrow, wide) || wide.id < narrow.id)
        });
        if let Some(other) = wider {
            let other = &other.value.id;
            let message =
                format!("the rules change nothing: {other} admits to the same pods whomever they admit");
            let finding = policy.finding(&["spec", "rules"], message);
            findings.warn(
                finding.with_hint(format!("Allow policies add up: to restrict callers, narrow {other}")),
            );
        }
    }
}

/// Returns, for each enforced Allow policy that selects pods, the others that select all of them.
fn beside(snapshot: &Snapshot) -> BTreeMap<&PolicyId, BTreeSet<&PolicyId>> {
    let mut selections: BTreeSet<Vec<&PolicyId>> = BTreeSet::new();
    for workload in snapshot.workloads() {
        let enforced = snapshot
            .policies_of(workload)
            .iter()
            .filter(|policy| policy.action == Action::Allow && !policy.dry_run && !policy.egress_only);
        selections.insert(enforced.map(|policy| &policy.id).collect());
    }
    let mut beside: BTreeMap<&PolicyId, BTreeSet<&PolicyId>> = BTreeMap::new();
    for selection in &selections {
        for id in selection {
            let others = || selection.iter().filter(|other| *other != id).copied();
            let few = selection.len() <= MAX_OF_A_POD;
            beside
                .entry(*id)
                .and_modify(|known| known.retain(|other| few && selection.contains(other)))
                .or_insert_with(|| if few { others().collect() } else { BTreeSet::new() });
        }
    }
    beside
}

/// Tells whether one policy surely admits whomever another one admits.
fn admits_all_of(wide: &Policy, narrow: &Policy) -> bool {
    wide.rules.len().saturating_mul(narrow.rules.len()) <= MAX_PAIRS
        && narrow.rules.iter().all(|narrow| wide.rules.iter().any(|wide| covers(wide, narrow)))
}

fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let callers = match (&wide.from, &narrow.from) {
        (None, None) => true,
        // Without `from` every caller with an identity is admitted, and nobody else.
        (None, Some(peers)) => peers.iter().all(has_identity),
        (Some(peers), None) => peers.iter().any(|peer| covers_peer(peer, &identified())),
        (Some(wide), Some(narrow)) => {
            narrow.iter().all(|narrow| wide.iter().any(|wide| covers_peer(wide, narrow)))
        }
    };
    let ports = match (&wide.to, &narrow.to) {
        (None, None) => true,
        // A rule that names UDP serves even those of whom a strict pod knows nothing; one without `to` does not.
        (None, Some(to)) => to.iter().all(|to| to.protocol == Protocol::Tcp),
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => {
            narrow.iter().all(|narrow| wide.iter().any(|wide| covers_ports(wide, narrow)))
        }
    };
    callers && ports
}

/// Returns a peer that says as much as an absent `from`: that there is an identity.
fn identified() -> Peer {
    Peer { namespaces: vec![String::new()], ..Peer::default() }
}

fn has_identity(peer: &Peer) -> bool {
    !peer.service_accounts.is_empty() || !peer.namespaces.is_empty() || !peer.identities.is_empty()
}

fn covers_peer(wide: &Peer, narrow: &Peer) -> bool {
    let names_somebody = has_identity(wide) || !wide.cidrs.is_empty() || wide.host || wide.anyone;
    // By what it excepts alone, a peer admits nobody without an identity.
    (names_somebody || has_identity(narrow))
        && subset(&wide.service_accounts, &narrow.service_accounts)
        && (subset(&wide.namespaces, &narrow.namespaces)
            || (!narrow.service_accounts.is_empty()
                && narrow
                    .service_accounts
                    .iter()
                    .all(|account| wide.namespaces.contains(&account.namespace))))
        && subset(&wide.identities, &narrow.identities)
        && (wide.cidrs.is_empty() || !narrow.cidrs.is_empty() && within(&narrow.cidrs, &wide.cidrs))
        && within(&wide.except_cidrs, &narrow.except_cidrs)
        && (!wide.host || narrow.host)
}

/// Tells whether a field of one peer admits whatever the same field of another does: an empty one says nothing.
fn subset<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|value| wide.contains(value))
}

/// Tells whether each network lies in one of the others.
fn within(networks: &[IpNet], others: &[IpNet]) -> bool {
    networks.iter().all(|network| others.iter().any(|other| other.contains(network)))
}

fn covers_ports(wide: &Destination, narrow: &Destination) -> bool {
    let holds = |wide: &PortRange, narrow: &PortRange| wide.first <= narrow.first && narrow.last <= wide.last;
    wide.protocol == narrow.protocol
        && (wide.ports.is_empty()
            || !narrow.ports.is_empty()
                && narrow.ports.iter().all(|narrow| wide.ports.iter().any(|wide| holds(wide, narrow))))
}
