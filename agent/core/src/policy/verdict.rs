//! What a decision says: verdict, reason, and the policy and rule that decided.
//!
//! The words here are the words of the log, the metrics and the command line. Never decides anything itself.

use std::fmt;

use serde::{Serialize, Serializer};

use super::PolicyId;

/// Why a connection is allowed or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The destination is not enrolled.
    NotEnrolled,
    /// No enforced policy speaks about the connection.
    NoPolicy,
    /// An Allow policy matches.
    AllowMatch,
    /// The caller is a process of the pod's own node, and no policy refuses it.
    HostDefault,
    /// The destination is in audit mode, and `strict` would have refused.
    Audit,
    /// A Deny policy matches.
    DenyMatch,
    /// Allow policies select the pod, and none matches.
    NoAllowMatch,
    /// The destination is strict, and the caller has no verified identity.
    PlaintextInStrict,
    /// The calling pod's egress is not restricted.
    EgressAny,
    /// The calling pod's egress is `mesh`, and it calls a peer in the mesh, or itself.
    EgressInMesh,
    /// The calling pod's egress is `mesh`, and an egress rule names what it calls.
    EgressMatch,
    /// The calling pod's egress is `mesh`, and what it calls is outside and named by no egress rule.
    EgressOutsideMesh,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::NotEnrolled,
        Self::NoPolicy,
        Self::AllowMatch,
        Self::HostDefault,
        Self::Audit,
        Self::DenyMatch,
        Self::NoAllowMatch,
        Self::PlaintextInStrict,
        Self::EgressAny,
        Self::EgressInMesh,
        Self::EgressMatch,
        Self::EgressOutsideMesh,
    ];

    /// Returns the stable code of the reason, for logs, metrics and JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotEnrolled => "not-enrolled",
            Self::NoPolicy => "no-policy",
            Self::AllowMatch => "allow-match",
            Self::HostDefault => "host-default",
            Self::Audit => "audit",
            Self::DenyMatch => "deny-match",
            Self::NoAllowMatch => "no-allow-match",
            Self::PlaintextInStrict => "plaintext-in-strict",
            Self::EgressAny => "egress-any",
            Self::EgressInMesh => "egress-in-mesh",
            Self::EgressMatch => "egress-match",
            Self::EgressOutsideMesh => "egress-outside-mesh",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEnrolled => "the pod is not enrolled",
            Self::NoPolicy => {
                "no enforced Allow policy selects the pod and no Deny policy matches the caller"
            }
            Self::AllowMatch => "an Allow policy matches the caller",
            Self::HostDefault => "processes of the pod's own node pass unless a Deny policy names them",
            Self::Audit => "the pod is in audit mode, where nothing is refused",
            Self::DenyMatch => "a Deny policy matches the caller",
            Self::NoAllowMatch => "no Allow policy that selects the pod matches the caller",
            Self::PlaintextInStrict => "the pod is strict and the caller has no verified identity",
            Self::EgressAny => "the calling pod may call anything: its egress is `any`",
            Self::EgressInMesh => "the calling pod's egress is `mesh`, and what it calls is in the mesh",
            Self::EgressMatch => "an egress rule of the calling pod names what it calls",
            Self::EgressOutsideMesh => {
                "the calling pod's egress is `mesh`, and no egress rule names what it calls outside"
            }
        })
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// The decision about a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Verdict {
    /// Whether the connection may be.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// The policy that decided; for `NoAllowMatch` the first Allow policy that selects the pod.
    pub policy: Option<PolicyId>,
    /// The rule of that policy, counted from 0, as in `spec.rules[0]`; in `spec.egress` for `EgressMatch`.
    pub rule: Option<usize>,
    /// In audit mode: the refusal that `strict` would have given.
    pub would_refuse: Option<Box<Verdict>>,
    /// What would have come out otherwise if the policies under `dryRun` were enforced.
    pub dry_run: Vec<DryRun>,
}

/// A policy under `dryRun` that would have turned the decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DryRun {
    /// Whether the connection would have been allowed.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// The policy.
    pub policy: PolicyId,
    /// The rule of that policy, counted from 0.
    pub rule: Option<usize>,
}

impl Verdict {
    /// Returns the decision as one line for a person, naming the policy and the rule.
    pub fn summary(&self) -> String {
        let word = if self.allowed { "allowed" } else { "refused" };
        let mut line = format!("{word}: {}", self.reason);
        push_decider(&mut line, self.reason, self.policy.as_ref(), self.rule);
        if let Some(refusal) = &self.would_refuse {
            line.push_str(&format!("; strict would refuse it: {}", refusal.reason));
            push_decider(&mut line, refusal.reason, refusal.policy.as_ref(), refusal.rule);
        }
        for other in &self.dry_run {
            let word = if other.allowed { "allow" } else { "refuse" };
            line.push_str(&format!("; without dryRun, {word}: {}", other.reason));
            push_decider(&mut line, other.reason, Some(&other.policy), other.rule);
        }
        line
    }
}

/// Appends the policy and the rule that decided, as they stand in the file.
fn push_decider(line: &mut String, reason: Reason, policy: Option<&PolicyId>, rule: Option<usize>) {
    let list = if reason == Reason::EgressMatch { "egress" } else { "rules" };
    match (policy, rule) {
        (Some(policy), Some(rule)) => line.push_str(&format!(" ({policy}, {list}[{rule}])")),
        (Some(policy), None) => line.push_str(&format!(" ({policy})")),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_and_a_sentence_of_its_own() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        let mut sentences: Vec<_> = Reason::ALL.iter().map(Reason::to_string).collect();
        codes.sort_unstable();
        codes.dedup();
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!((codes.len(), sentences.len()), (Reason::ALL.len(), Reason::ALL.len()));
        assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }

    #[test]
    fn a_summary_names_policy_and_rule() {
        let policy = PolicyId { namespace: Some("shop".to_owned()), name: "deny-all".to_owned() };
        let refusal = Verdict {
            allowed: false,
            reason: Reason::DenyMatch,
            policy: Some(policy),
            rule: Some(2),
            would_refuse: None,
            dry_run: Vec::new(),
        };
        assert_eq!(
            refusal.summary(),
            "refused: a Deny policy matches the caller (AccessPolicy shop/deny-all, rules[2])"
        );
        let audit = Verdict {
            allowed: true,
            reason: Reason::Audit,
            policy: None,
            rule: None,
            would_refuse: Some(Box::new(refusal)),
            dry_run: Vec::new(),
        };
        assert_eq!(
            audit.summary(),
            "allowed: the pod is in audit mode, where nothing is refused; strict would refuse it: \
             a Deny policy matches the caller (AccessPolicy shop/deny-all, rules[2])"
        );
    }
}
