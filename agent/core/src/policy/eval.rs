//! The decision: may this caller open a connection to this pod?
//!
//! Deny before Allow, cluster-wide and namespaced policies alike. The order of the policies never matters, and the
//! destination's mode decides what becomes of a refusal.

use std::net::IpAddr;
use std::sync::Arc;

use super::verdict::{DryRun, Reason, Verdict};
use super::{Action, Policy};
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
    /// The port of the pod.
    pub port: u16,
}

/// Decides about a connection, given the policies that select its destination.
pub fn evaluate(policies: &[Arc<Policy>], connection: &Connection<'_>) -> Verdict {
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
fn enforce_strict(policies: &[Arc<Policy>], connection: &Connection<'_>) -> Verdict {
    match connection.source {
        Source::Unverified { .. } => verdict(false, Reason::PlaintextInStrict, None),
        Source::Identity { .. } | Source::Host { .. } => enforce(policies, connection),
    }
}

/// Decides by the policies alone, and reports what those under `dryRun` would have changed.
fn enforce(policies: &[Arc<Policy>], connection: &Connection<'_>) -> Verdict {
    let enforced = Matches::collect(policies.iter().filter(|policy| !policy.dry_run), connection);
    let mut decision = enforced.decide(&connection.source);
    if policies.iter().any(|policy| policy.dry_run) {
        let all = Matches::collect(policies.iter(), connection);
        let other = all.decide(&connection.source);
        if other.allowed != decision.allowed {
            decision.dry_run = all.dry_run_deciders(other.reason);
        }
    }
    decision
}

/// A policy and the first of its rules that matches.
type Found<'a> = (&'a Policy, Option<usize>);

/// What a set of policies has to say about a connection; each list is ordered by the policies' names.
struct Matches<'a> {
    deny: Vec<Found<'a>>,
    allow: Vec<Found<'a>>,
    allow_without_match: Vec<Found<'a>>,
}

impl<'a> Matches<'a> {
    fn collect(policies: impl Iterator<Item = &'a Arc<Policy>>, connection: &Connection<'_>) -> Self {
        let mut matches = Self { deny: Vec::new(), allow: Vec::new(), allow_without_match: Vec::new() };
        for policy in policies {
            let rule = policy.rules.iter().position(|rule| rule.matches(policy.action, connection));
            match (policy.action, rule) {
                (Action::Deny, Some(_)) => matches.deny.push((policy, rule)),
                (Action::Deny, None) => {}
                (Action::Allow, Some(_)) => matches.allow.push((policy, rule)),
                (Action::Allow, None) => matches.allow_without_match.push((policy, None)),
            }
        }
        for list in [&mut matches.deny, &mut matches.allow, &mut matches.allow_without_match] {
            list.sort_by(|(left, _), (right, _)| left.id.cmp(&right.id));
        }
        matches
    }

    /// Decides: Deny, then a pod without Allow policies, then Allow, then the node's own processes, then refusal.
    fn decide(&self, source: &Source<'_>) -> Verdict {
        if let Some(found) = self.deny.first() {
            return verdict(false, Reason::DenyMatch, Some(found));
        }
        if let Some(found) = self.allow.first() {
            return verdict(true, Reason::AllowMatch, Some(found));
        }
        if let Source::Host { .. } = source {
            return verdict(true, Reason::HostDefault, None);
        }
        match self.allow_without_match.first() {
            Some(found) => verdict(false, Reason::NoAllowMatch, Some(found)),
            None => verdict(true, Reason::NoPolicy, None),
        }
    }

    /// Returns the policies under `dryRun` that bring about a decision with this reason.
    fn dry_run_deciders(&self, reason: Reason) -> Vec<DryRun> {
        let (list, allowed) = match reason {
            Reason::DenyMatch => (&self.deny, false),
            Reason::NoAllowMatch => (&self.allow_without_match, false),
            _ => (&self.allow, true),
        };
        list.iter()
            .filter(|(policy, _)| policy.dry_run)
            .map(|(policy, rule)| DryRun { allowed, reason, policy: policy.id.clone(), rule: *rule })
            .collect()
    }
}

/// Builds a verdict without remarks.
fn verdict(allowed: bool, reason: Reason, found: Option<&Found<'_>>) -> Verdict {
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
mod properties;
#[cfg(test)]
mod tests;
