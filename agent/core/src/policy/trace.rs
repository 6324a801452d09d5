//! How a decision comes about: every policy that takes part, each of its rules, and which field keeps a rule from
//! matching.
//!
//! Beside `eval` and `egress`, for people who ask why. Never decides: a verdict comes from `evaluate` or
//! `evaluate_egress`; what a trace concludes is there to be compared with it.

mod fields;
mod selection;

use std::sync::Arc;

use super::egress::Call;
use super::eval::{Connection, Source};
use super::verdict::{DryRun, Reason, Verdict};
use super::{Action, Policy, PolicyId, Protocol};
use crate::model::{Egress, Mode};

pub use fields::Miss;
pub use selection::unselected;

/// What each policy that selects a pod says about a connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    mode: Mode,
    caller: Kind,
    protocol: Protocol,
    /// The policies that say something about callers, ordered by name.
    pub policies: Vec<PolicyTrace>,
}

/// What each policy that selects the calling pod says about a call to something outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressTrace {
    mode: Mode,
    egress: Egress,
    in_mesh: bool,
    /// The policies that have egress rules, ordered by name.
    pub policies: Vec<PolicyTrace>,
}

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTrace {
    /// The policy.
    pub id: PolicyId,
    /// What it does.
    pub action: Action,
    /// Whether it is only reported.
    pub dry_run: bool,
    /// Its rules, in their order.
    pub rules: Vec<RuleTrace>,
}

/// What one rule says: it matches unless something misses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTrace {
    /// Every field that keeps it from matching. Of a list of which one entry would do, those of all entries.
    pub misses: Vec<Miss>,
}

/// Who calls, as far as the order of decisions depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Identity,
    Host,
    Unverified,
}

impl RuleTrace {
    /// Tells whether the rule matches.
    pub fn matches(&self) -> bool {
        self.misses.is_empty()
    }
}

impl PolicyTrace {
    /// Returns the first rule that matches, counted from 0.
    pub fn matched(&self) -> Option<usize> {
        self.rules.iter().position(RuleTrace::matches)
    }
}

/// Traces a connection, given the policies that select its destination.
pub fn trace(policies: &[Arc<Policy>], connection: &Connection<'_>) -> Trace {
    let caller = match connection.source {
        Source::Identity { .. } => Kind::Identity,
        Source::Host { .. } => Kind::Host,
        Source::Unverified { .. } => Kind::Unverified,
    };
    let mut trace = Trace {
        mode: connection.destination.mode,
        caller,
        protocol: connection.protocol,
        policies: Vec::new(),
    };
    let named = trace.must_be_named();
    let of = |policy: &Arc<Policy>| {
        let allow = policy.action == Action::Allow;
        let rules = policy.rules.iter().map(|rule| {
            let mut misses = fields::rule(rule, policy.action, connection);
            if named && allow && rule.to.is_none() {
                misses.push(fields::unnamed_protocol());
            }
            RuleTrace { misses }
        });
        PolicyTrace {
            id: policy.id.clone(),
            action: policy.action,
            dry_run: policy.dry_run,
            rules: rules.collect(),
        }
    };
    trace.policies = policies.iter().filter(|policy| !policy.egress_only).map(of).collect();
    trace.policies.sort_by(|left, right| left.id.cmp(&right.id));
    trace
}

/// Traces a call, given the policies that select the pod that calls.
pub fn trace_egress(policies: &[Arc<Policy>], call: &Call<'_>) -> EgressTrace {
    let of = |policy: &Arc<Policy>| PolicyTrace {
        id: policy.id.clone(),
        action: policy.action,
        dry_run: policy.dry_run,
        rules: policy.egress.iter().map(|rule| RuleTrace { misses: fields::egress(rule, call) }).collect(),
    };
    let mut traced: Vec<PolicyTrace> =
        policies.iter().filter(|policy| !policy.egress.is_empty()).map(of).collect();
    traced.sort_by(|left, right| left.id.cmp(&right.id));
    EgressTrace {
        mode: call.source.mode,
        egress: call.source.egress,
        in_mesh: call.in_mesh,
        policies: traced,
    }
}

impl Trace {
    /// Tells whether an Allow rule must name the protocol, because the caller of a strict pod cannot prove who it is.
    fn must_be_named(&self) -> bool {
        let strict = matches!(self.mode, Mode::Strict | Mode::Audit);
        strict && self.caller == Kind::Unverified && self.protocol == Protocol::Udp
    }

    /// Tells whether the policies are asked at all.
    pub fn asks_policies(&self) -> bool {
        let strict = matches!(self.mode, Mode::Strict | Mode::Audit);
        let unproved = self.caller == Kind::Unverified && self.protocol == Protocol::Tcp;
        self.mode != Mode::None && !(strict && unproved)
    }

    /// Returns the decision that follows from what is traced.
    pub fn conclusion(&self) -> Verdict {
        if self.mode == Mode::None {
            return plain(true, Reason::NotEnrolled, None);
        }
        let enforced =
            if self.asks_policies() { self.weigh() } else { plain(false, Reason::PlaintextInStrict, None) };
        if self.mode == Mode::Audit { audited(enforced) } else { enforced }
    }

    /// Weighs the policies, with a remark on those under `dryRun`.
    fn weigh(&self) -> Verdict {
        let mut verdict = self.decide(false);
        let all = self.decide(true);
        if all.allowed != verdict.allowed {
            let brings_it_about = |policy: &&PolicyTrace| {
                let matched = policy.matched().is_some();
                let by_reason = match all.reason {
                    Reason::DenyMatch => policy.action == Action::Deny && matched,
                    Reason::NoAllowMatch => policy.action == Action::Allow && !matched,
                    _ => policy.action == Action::Allow && matched,
                };
                policy.dry_run && by_reason
            };
            verdict.dry_run = self
                .policies
                .iter()
                .filter(brings_it_about)
                .map(|policy| DryRun {
                    allowed: all.allowed,
                    reason: all.reason,
                    policy: policy.id.clone(),
                    rule: policy.matched(),
                })
                .collect();
        }
        verdict
    }

    fn decide(&self, with_dry_run: bool) -> Verdict {
        let first = |action: Action, matched: bool| {
            self.policies.iter().find(|policy| {
                policy.action == action
                    && policy.matched().is_some() == matched
                    && (with_dry_run || !policy.dry_run)
            })
        };
        if let Some(policy) = first(Action::Deny, true) {
            return plain(false, Reason::DenyMatch, Some(policy));
        }
        if let Some(policy) = first(Action::Allow, true) {
            return plain(true, Reason::AllowMatch, Some(policy));
        }
        if self.must_be_named() {
            return plain(false, Reason::PlaintextInStrict, None);
        }
        if self.caller == Kind::Host {
            return plain(true, Reason::HostDefault, None);
        }
        match first(Action::Allow, false) {
            Some(policy) => plain(false, Reason::NoAllowMatch, Some(policy)),
            None => plain(true, Reason::NoPolicy, None),
        }
    }
}

impl EgressTrace {
    /// Tells whether the egress rules are asked at all.
    pub fn asks_policies(&self) -> bool {
        self.mode != Mode::None && self.egress == Egress::Mesh && !self.in_mesh
    }

    /// Returns the decision that follows from what is traced.
    pub fn conclusion(&self) -> Verdict {
        if self.mode == Mode::None {
            return plain(true, Reason::NotEnrolled, None);
        }
        if self.egress == Egress::Any {
            return plain(true, Reason::EgressAny, None);
        }
        if self.in_mesh {
            return plain(true, Reason::EgressInMesh, None);
        }
        let naming = || self.policies.iter().filter(|policy| policy.matched().is_some());
        if let Some(policy) = naming().find(|policy| !policy.dry_run) {
            return plain(true, Reason::EgressMatch, Some(policy));
        }
        let mut refused = plain(false, Reason::EgressOutsideMesh, None);
        refused.dry_run = naming()
            .map(|policy| DryRun {
                allowed: true,
                reason: Reason::EgressMatch,
                policy: policy.id.clone(),
                rule: policy.matched(),
            })
            .collect();
        if self.mode == Mode::Audit { audited(refused) } else { refused }
    }
}

fn plain(allowed: bool, reason: Reason, policy: Option<&PolicyTrace>) -> Verdict {
    Verdict {
        allowed,
        reason,
        policy: policy.map(|policy| policy.id.clone()),
        rule: policy.and_then(PolicyTrace::matched),
        would_refuse: None,
        dry_run: Vec::new(),
    }
}

/// Turns a refusal into what audit mode makes of it.
fn audited(mut enforced: Verdict) -> Verdict {
    if enforced.allowed {
        return enforced;
    }
    let dry_run = std::mem::take(&mut enforced.dry_run);
    Verdict { would_refuse: Some(Box::new(enforced)), dry_run, ..plain(true, Reason::Audit, None) }
}

#[cfg(test)]
mod tests;
