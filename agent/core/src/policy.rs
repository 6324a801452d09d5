//! Access policies: what they say, whom they select and what they decide.
//!
//! Holds policies that are already valid; reading them from YAML and refusing bad ones is the work of `control`.
//! Never opens, closes or logs anything: a decision is a returned `Verdict`.

mod classes;
mod compile;
mod egress;
mod eval;
mod host;
mod rule;
mod selector;
mod set;
mod trace;
mod verdict;

use std::fmt;

use serde::{Serialize, Serializer};

pub use classes::{ClassVerdicts, Classes, egress_classes, pieces, stranger_classes};
pub use compile::{KernelVerdict, PortPrefix, compile, port_prefixes, port_starts};
pub use egress::{Call, EgressRule, evaluate_egress};
pub use eval::{Connection, Source, evaluate};
pub use host::may_refuse_host;
pub use rule::{Destination, IdentityPattern, Peer, PortRange, Rule, ServiceAccount};
pub use selector::{Requirement, Selector};
pub use set::PolicySet;
pub use trace::{EgressTrace, Miss, PolicyTrace, RuleTrace, Trace, trace, trace_egress, unselected};
pub use verdict::{DryRun, Reason, Verdict};

/// The name of a policy: `ClusterAccessPolicy`s have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    /// The namespace of an `AccessPolicy`.
    pub namespace: Option<String>,
    /// The policy's name.
    pub name: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "AccessPolicy {namespace}/{}", self.name),
            None => write!(f, "ClusterAccessPolicy {}", self.name),
        }
    }
}

impl Serialize for PolicyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A transport that policies speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Returns the protocol as policies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a policy does with the connections that it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// Admits them, and refuses whatever no Allow policy of the pod matches.
    #[default]
    Allow,
    /// Refuses them, whatever any Allow policy says.
    Deny,
}

/// An `AccessPolicy` or a `ClusterAccessPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The policy's name.
    pub id: PolicyId,
    /// What it does.
    pub action: Action,
    /// Whether it is only evaluated and reported.
    pub dry_run: bool,
    /// Which namespaces a cluster-wide policy covers, by their labels; absent: all.
    pub namespace_selector: Option<Selector>,
    /// Which pods it selects; an empty selector selects all.
    pub selector: Selector,
    /// The rules, OR-ed. Empty: an Allow policy admits nobody, unless `egress_only`.
    pub rules: Vec<Rule>,
    /// Whether it says nothing about who reaches the pods: it has egress rules, and `rules` is not written.
    pub egress_only: bool,
    /// What the pods may call outside the mesh, OR-ed; only where their egress is restricted.
    pub egress: Vec<EgressRule>,
}

impl Policy {
    /// Tells whether pods that the policy selects admit only whom an Allow policy names.
    fn is_enforced_allow(&self) -> bool {
        self.action == Action::Allow && !self.dry_run && !self.egress_only
    }
}
