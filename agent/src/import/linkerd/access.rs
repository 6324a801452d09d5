//! What stands on a port without an authorization: Linkerd's default inbound policies.
//!
//! Also which of two is narrower. Never reads a Server.

use std::fmt;

use ambit_core::{Peer, Rule};
use ipnet::IpNet;

use crate::control::finding::{Findings, did_you_mean};
use crate::import::callers::{Pattern, any_of};
use crate::import::networks;
use crate::import::ports::PortSet;
use crate::import::source::Object;

/// The annotation of a pod or a namespace.
pub(super) const ANNOTATION: &str = "config.linkerd.io/default-inbound-policy";

/// The networks that Linkerd takes for the cluster's.
const CLUSTER: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];

const WORDS: [(&str, Access); 6] = [
    ("all-unauthenticated", Access::AllUnauthenticated),
    ("all-authenticated", Access::AllAuthenticated),
    ("cluster-unauthenticated", Access::ClusterUnauthenticated),
    ("cluster-authenticated", Access::ClusterAuthenticated),
    ("deny", Access::Deny),
    // It admits everyone, and logs whom it would not have.
    ("audit", Access::AllUnauthenticated),
];

/// Who is admitted without an authorization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    #[default]
    AllUnauthenticated,
    /// Whoever has an identity.
    AllAuthenticated,
    /// The cluster's networks.
    ClusterUnauthenticated,
    /// Whoever has an identity, in the cluster's networks.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
}

impl Access {
    /// Reads one of Linkerd's words.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = WORDS.iter().find(|(word, _)| *word == text).map(|(_, access)| *access);
        found.ok_or_else(|| {
            let words = WORDS.map(|(word, _)| word);
            did_you_mean(text, &words).unwrap_or_else(|| format!("use {}", words.join(", ")))
        })
    }

    /// Returns who is admitted by both.
    pub(super) fn meet(self, other: Self) -> Self {
        let identity = self.needs_identity() || other.needs_identity();
        let cluster = self.needs_cluster() || other.needs_cluster();
        match (identity, cluster) {
            _ if self == Self::Deny || other == Self::Deny => Self::Deny,
            (false, false) => Self::AllUnauthenticated,
            (true, false) => Self::AllAuthenticated,
            (false, true) => Self::ClusterUnauthenticated,
            (true, true) => Self::ClusterAuthenticated,
        }
    }

    /// Returns the rule that admits to these ports whom it admits, unless that is nobody.
    pub(super) fn rule(self, ports: &PortSet) -> Option<Rule> {
        if self == Self::Deny || ports.is_empty() {
            return None;
        }
        let mut peer = Peer::default();
        if self.needs_identity() {
            peer = any_of(&[Pattern::anybody()]).pop()?;
        }
        if self.needs_cluster() {
            peer.cidrs = cluster_networks();
        }
        peer.anyone = peer.is_empty();
        Some(Rule { from: Some(vec![peer]), to: ports.destinations() })
    }

    fn needs_identity(self) -> bool {
        matches!(self, Self::AllAuthenticated | Self::ClusterAuthenticated)
    }

    fn needs_cluster(self) -> bool {
        matches!(self, Self::ClusterUnauthenticated | Self::ClusterAuthenticated)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(_, access)| access == self).map_or("deny", |(word, _)| word);
        f.write_str(word)
    }
}

/// Returns the networks that Linkerd takes for the cluster's.
pub(super) fn cluster_networks() -> Vec<IpNet> {
    CLUSTER.iter().filter_map(|text| networks::parse(text).ok()).collect()
}

/// Reads the annotation of a pod or a namespace.
pub(super) fn annotated(object: &Object, findings: &mut Findings) -> Option<Access> {
    let text = object.annotations.get(ANNOTATION)?;
    match Access::parse(text) {
        Ok(access) => Some(access),
        Err(hint) => {
            let at = object.at(&["metadata", "annotations", ANNOTATION]);
            findings.error(at.finding(format!("unknown policy {text:?}")).with_hint(hint));
            None
        }
    }
}
