//! What a pod may call: its egress, and the egress rules of the policies that select it.
//!
//! Decides for the calling pod alone; the pod that is called decides for itself, with `eval`. Never finds out what is in
//! the mesh: that is told.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::eval::{Found, verdict};
use super::rule::{contains, port_in};
use super::verdict::{DryRun, Reason, Verdict};
use super::{Policy, PortRange, Protocol};
use crate::model::{Egress, Mode, Workload};

/// What the pods of a policy may call outside the mesh: the fields are AND-ed, the values of a field OR-ed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRule {
    /// The addresses.
    pub cidrs: Vec<IpNet>,
    /// Addresses of those that are not meant.
    pub except_cidrs: Vec<IpNet>,
    /// The ports. Empty: every port.
    pub ports: Vec<PortRange>,
    /// The protocol; absent: every protocol.
    pub protocol: Option<Protocol>,
}

/// A call to decide about.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The pod that calls.
    pub source: &'a Workload,
    /// What it calls: an address behind a service, where one was chosen.
    pub address: IpAddr,
    /// The port that it calls.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Whether the address is the pod's own, or of a peer that it reaches within the mesh.
    pub in_mesh: bool,
}

impl EgressRule {
    /// Tells whether the rule names what is called.
    fn names(&self, call: &Call<'_>) -> bool {
        self.protocol.is_none_or(|protocol| protocol == call.protocol)
            && port_in(&self.ports, call.port)
            && contains(&self.cidrs, call.address)
            && !contains(&self.except_cidrs, call.address)
    }
}

/// Decides about a call, given the policies that select the pod that calls.
pub fn evaluate_egress(policies: &[Arc<Policy>], call: &Call<'_>) -> Verdict {
    match (call.source.mode, call.source.egress) {
        (Mode::None, _) => verdict(true, Reason::NotEnrolled, None),
        (_, Egress::Any) => verdict(true, Reason::EgressAny, None),
        (_, Egress::Mesh) if call.in_mesh => verdict(true, Reason::EgressInMesh, None),
        (Mode::Permissive | Mode::Strict, Egress::Mesh) => enforce(policies, call),
        (Mode::Audit, Egress::Mesh) => {
            let enforced = enforce(policies, call);
            if enforced.allowed {
                return enforced;
            }
            let dry_run = enforced.dry_run.clone();
            let refusal = Verdict { dry_run: Vec::new(), ..enforced };
            Verdict { would_refuse: Some(Box::new(refusal)), dry_run, ..verdict(true, Reason::Audit, None) }
        }
    }
}

/// Decides by the egress rules alone, and reports those under `dryRun` that would have admitted the call.
fn enforce(policies: &[Arc<Policy>], call: &Call<'_>) -> Verdict {
    let mut found: Vec<Found<'_>> = policies
        .iter()
        .filter_map(|policy| {
            let rule = policy.egress.iter().position(|rule| rule.names(call))?;
            Some((policy.as_ref(), Some(rule)))
        })
        .collect();
    found.sort_by(|(left, _), (right, _)| left.id.cmp(&right.id));
    if let Some(found) = found.iter().find(|(policy, _)| !policy.dry_run) {
        return verdict(true, Reason::EgressMatch, Some(found));
    }
    let reason = Reason::EgressMatch;
    let dry_run = found
        .iter()
        .map(|(policy, rule)| DryRun { allowed: true, reason, policy: policy.id.clone(), rule: *rule })
        .collect();
    Verdict { dry_run, ..verdict(false, Reason::EgressOutsideMesh, None) }
}

#[cfg(test)]
pub(super) mod tests;
