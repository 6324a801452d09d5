//! The decision: may this caller open a connection to this pod?
//!
//! Deny before Allow, cluster-wide and namespaced policies alike. The order of the policies never matters, and the
//! destination's mode decides what becomes of a refusal.

use std::net::IpAddr;
use std::sync::Arc;

use super::verdict::{DryRun, Reason, Verdict};
use super::{Action, Policy, Protocol, Rule};
use crate::identity::SpiffeId;
use crate::model::{Mode, Workload};

/// Who opens the connection, by what is known for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A peer whose identity has been verified.
    Identity {
        /// The identity.
        id: &'a SpiffeId,
        /// The address that it calls from.
        address: IpAddr,
    },
    /// A process of the destination's own node, as the kernel attests.
    Host {
        /// The address that it calls from.
        address: IpAddr,
    },
    /// Anybody else.
    Unverified {
        /// The address that it seems to call from.
        address: IpAddr,
    },
}

impl<'a> Source<'a> {
    /// Returns the verified identity, if there is one.
    pub fn identity(&self) -> Option<&'a SpiffeId> {
        match self {
            Self::Identity { id, .. } => Some(id),
            Self::Host { .. } | Self::Unverified { .. } => None,
        }
    }

    /// Returns the address that the caller calls from.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Identity { address, .. } | Self::Host { address } | Self::Unverified { address } => {
                *address
            }
        }
    }
}

/// A connection to decide about.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Who opens it.
    pub source: Source<'a>,
    /// The pod that it goes to.
    pub destination: &'a Workload,
    /// The protocol; of UDP, each datagram that is no reply is decided upon like a connection.
    pub protocol: Protocol,
    /// The port of the pod.
    pub port: u16,
}

/// Decides about a connection, given the policies that select its destination; `PolicySet::evaluate` says the same, and
/// does not look at all of them.
pub fn evaluate(policies: &[Arc<Policy>], connection: &Connection<'_>) -> Verdict {
    weigh(&Relevant::all(policies), connection)
}

/// What has to be weighed for the calls of one source.
#[derive(Debug)]
pub(super) struct Relevant<'a> {
    /// The policies about callers of which a rule may match, ordered by name.
    pub(super) candidates: Vec<&'a Policy>,
    /// The first of all enforced Allow policies.
    pub(super) first_allow: Option<&'a Policy>,
    /// Whether any policy about callers is under `dryRun`.
    pub(super) dry_run: bool,
    /// All policies that select the pod.
    pub(super) all: &'a [Arc<Policy>],
}

impl<'a> Relevant<'a> {
    /// Leaves nothing out.
    fn all(all: &'a [Arc<Policy>]) -> Self {
        let mut candidates: Vec<&Policy> =
            all.iter().map(|policy| &**policy).filter(|policy| !policy.egress_only).collect();
        candidates.sort_by(|left, right| left.id.cmp(&right.id));
        let first_allow = candidates.iter().copied().find(|policy| policy.is_enforced_allow());
        let dry_run = candidates.iter().any(|policy| policy.dry_run);
        Self { candidates, first_allow, dry_run, all }
    }
}

/// Decides about a connection, given what is relevant for its source.
pub(super) fn weigh(policies: &Relevant<'_>, connection: &Connection<'_>) -> Verdict {
    match connection.destination.mode {
        Mode::None => verdict(true, Reason::NotEnrolled, None),
        Mode::Permissive => enforce(policies, connection),
        Mode::Strict => enforce_strict(policies, connection),
        Mode::Audit => {
            let strict = enforce_strict(policies, connection);
            if strict.allowed {
                return strict;
            }
            let dry_run = strict.dry_run.clone();
            let refusal = Verdict { dry_run: Vec::new(), ..strict };
            Verdict { would_refuse: Some(Box::new(refusal)), dry_run, ..verdict(true, Reason::Audit, None) }
        }
    }
}

/// Decides as the mode `strict` does.
fn enforce_strict(policies: &Relevant<'_>, connection: &Connection<'_>) -> Verdict {
    match (connection.source, connection.protocol) {
        (Source::Unverified { .. }, Protocol::Tcp) => verdict(false, Reason::PlaintextInStrict, None),
        // No datagram carries an identity from one node to another: who is to be served without one, is named.
        (Source::Unverified { .. }, Protocol::Udp) => enforce_with(policies, connection, Ask::Named),
        (Source::Identity { .. } | Source::Host { .. }, _) => enforce(policies, connection),
    }
}

/// Decides by the policies alone, and reports what those under `dryRun` would have changed.
fn enforce(policies: &Relevant<'_>, connection: &Connection<'_>) -> Verdict {
    enforce_with(policies, connection, Ask::Any)
}

/// Which rules of Allow policies count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// All.
    Any,
    /// Those that name the protocol, and nothing is allowed without one.
    Named,
}

fn enforce_with(policies: &Relevant<'_>, connection: &Connection<'_>, ask: Ask) -> Verdict {
    let candidates = || policies.candidates.iter().copied();
    let enforced = Matches::collect(candidates().filter(|policy| !policy.dry_run), connection, ask);
    let mut decision = enforced.decide(&connection.source, ask, policies.first_allow);
    if policies.dry_run {
        let all = Matches::collect(candidates(), connection, ask);
        let first_allow = policies.first_allow.or_else(|| dry_run_allows(policies.all).next());
        let other = all.decide(&connection.source, ask, first_allow);
        if other.allowed != decision.allowed {
            decision.dry_run = all.dry_run_deciders(other.reason, policies.all);
        }
    }
    decision
}

/// Returns the Allow policies about callers that are under `dryRun`.
fn dry_run_allows(policies: &[Arc<Policy>]) -> impl Iterator<Item = &Policy> {
    let is_allow = |policy: &&Policy| policy.action == Action::Allow && policy.dry_run && !policy.egress_only;
    policies.iter().map(|policy| &**policy).filter(is_allow)
}

/// A policy and the first of its rules that matches.
pub(super) type Found<'a> = (&'a Policy, Option<usize>);

/// The policies that match a connection; each list is ordered by the policies' names.
struct Matches<'a> {
    deny: Vec<Found<'a>>,
    allow: Vec<Found<'a>>,
}

impl<'a> Matches<'a> {
    fn collect(policies: impl Iterator<Item = &'a Policy>, connection: &Connection<'_>, ask: Ask) -> Self {
        let mut matches = Self { deny: Vec::new(), allow: Vec::new() };
        for policy in policies {
            let counts = |rule: &Rule| ask == Ask::Any || policy.action == Action::Deny || rule.to.is_some();
            let rule =
                policy.rules.iter().position(|rule| counts(rule) && rule.matches(policy.action, connection));
            match policy.action {
                _ if rule.is_none() => {}
                Action::Deny => matches.deny.push((policy, rule)),
                Action::Allow => matches.allow.push((policy, rule)),
            }
        }
        matches
    }

    /// Decides: Deny, then Allow, then the node's own processes, then refusal where an Allow policy stands.
    fn decide(&self, source: &Source<'_>, ask: Ask, first_allow: Option<&Policy>) -> Verdict {
        if let Some(found) = self.deny.first() {
            return verdict(false, Reason::DenyMatch, Some(found));
        }
        if let Some(found) = self.allow.first() {
            return verdict(true, Reason::AllowMatch, Some(found));
        }
        if ask == Ask::Named {
            return verdict(false, Reason::PlaintextInStrict, None);
        }
        if let Source::Host { .. } = source {
            return verdict(true, Reason::HostDefault, None);
        }
        match first_allow {
            Some(policy) => verdict(false, Reason::NoAllowMatch, Some(&(policy, None))),
            None => verdict(true, Reason::NoPolicy, None),
        }
    }

    /// Returns the policies under `dryRun` that bring about a decision with this reason; `all` select the pod.
    fn dry_run_deciders(&self, reason: Reason, all: &[Arc<Policy>]) -> Vec<DryRun> {
        let decider =
            |allowed, (policy, rule): Found<'_>| DryRun { allowed, reason, policy: policy.id.clone(), rule };
        let under_dry_run = |(policy, _): &&Found<'_>| policy.dry_run;
        match reason {
            Reason::DenyMatch => {
                self.deny.iter().filter(under_dry_run).map(|found| decider(false, *found)).collect()
            }
            Reason::NoAllowMatch => {
                let mut deciders: Vec<DryRun> =
                    dry_run_allows(all).map(|policy| decider(false, (policy, None))).collect();
                deciders.sort_by(|left, right| left.policy.cmp(&right.policy));
                deciders
            }
            _ => self.allow.iter().filter(under_dry_run).map(|found| decider(true, *found)).collect(),
        }
    }
}

/// Builds a verdict without remarks.
pub(super) fn verdict(allowed: bool, reason: Reason, found: Option<&Found<'_>>) -> Verdict {
    Verdict {
        allowed,
        reason,
        policy: found.map(|(policy, _)| policy.id.clone()),
        rule: found.and_then(|(_, rule)| *rule),
        would_refuse: None,
        dry_run: Vec::new(),
    }
}

#[cfg(test)]
mod datagrams;
#[cfg(test)]
pub(super) mod properties;
#[cfg(test)]
mod tests;
