//! The rules of a policy: callers and ports, and when they match.
//!
//! Matches one rule against one connection. Never weighs policies against each other: that is `eval`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::eval::{Connection, Source};
use super::{Action, Protocol};
use crate::identity::{SpiffeId, SpiffeIdError};

/// One rule: it matches when a caller of `from` and a port of `to` match. It has at least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The callers, OR-ed. Absent: under Allow every caller with an identity, under Deny everyone.
    pub from: Option<Vec<Peer>>,
    /// The destinations, OR-ed. Absent: every port of every protocol.
    pub to: Option<Vec<Destination>>,
}

/// A kind of caller: its fields are AND-ed, the values of a field OR-ed; an empty field says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Service accounts of the mesh's own trust domain.
    pub service_accounts: Vec<ServiceAccount>,
    /// Namespaces of the mesh's own trust domain.
    pub namespaces: Vec<String>,
    /// Identities, of any trust domain that the mesh trusts.
    pub identities: Vec<IdentityPattern>,
    /// Source addresses.
    pub cidrs: Vec<IpNet>,
    /// Source addresses that do not match.
    pub except_cidrs: Vec<IpNet>,
    /// Only processes of the pod's own node, as the kernel attests them.
    pub host: bool,
    /// Everyone, with or without an identity.
    pub anyone: bool,
}

/// A service account, its namespace spelled out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A SPIFFE identity, or a text with one `*` that stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPattern {
    /// Exactly this identity.
    Exact(SpiffeId),
    /// Every identity that begins and ends with these texts.
    Wildcard {
        /// What stands before the `*`.
        prefix: String,
        /// What stands after the `*`.
        suffix: String,
    },
}

/// Why a text is not an identity pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityPatternError {
    /// It has no `*` and is no identity.
    #[error("not an identity: {0}")]
    Identity(#[from] SpiffeIdError),
    /// It has more than one `*`.
    #[error("more than one `*`")]
    ManyWildcards,
    /// It can match no identity.
    #[error("matches no identity: it must begin with `spiffe://` or `*`")]
    Scheme,
}

/// A set of ports of one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports, OR-ed. Empty: every port of the protocol.
    pub ports: Vec<PortRange>,
}

/// The ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl Rule {
    /// Tells whether the rule, in a policy with this action, matches the connection.
    pub(crate) fn matches(&self, action: Action, connection: &Connection<'_>) -> bool {
        let caller = match &self.from {
            Some(peers) => peers.iter().any(|peer| peer.matches(action, connection)),
            // Plaintext is admitted only by a rule that says so.
            None => action == Action::Deny || connection.source.identity().is_some(),
        };
        caller
            && self.to.as_ref().is_none_or(|destinations| {
                destinations
                    .iter()
                    .any(|destination| destination.contains(connection.protocol, connection.port))
            })
    }
}

impl Peer {
    /// Tells whether nothing is said about the caller.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells whether the peer, in a policy with this action, matches the connection's source.
    fn matches(&self, action: Action, connection: &Connection<'_>) -> bool {
        let own_trust_domain = connection.destination.identity.trust_domain();
        let source = &connection.source;
        let id = source.identity();
        let own = id.filter(|id| id.trust_domain() == own_trust_domain);
        let any_of = |list_is_empty: bool, found: bool| list_is_empty || found;
        self.may_match(action, source)
            && any_of(
                self.service_accounts.is_empty(),
                own.is_some_and(|id| self.service_accounts.iter().any(|account| account.is(id))),
            )
            && any_of(
                self.namespaces.is_empty(),
                own.is_some_and(|id| self.namespaces.iter().any(|namespace| namespace == id.namespace())),
            )
            && any_of(
                self.identities.is_empty(),
                id.is_some_and(|id| self.identities.iter().any(|pattern| pattern.matches(id))),
            )
            && any_of(self.cidrs.is_empty(), contains(&self.cidrs, source.address()))
            && !contains(&self.except_cidrs, source.address())
            && (!self.host || matches!(source, Source::Host { .. }))
    }

    /// Refuses to let a peer match that says nothing, or that admits somebody without an identity by what it leaves out.
    fn may_match(&self, action: Action, source: &Source<'_>) -> bool {
        let names_callers = !self.service_accounts.is_empty()
            || !self.namespaces.is_empty()
            || !self.identities.is_empty()
            || !self.cidrs.is_empty()
            || self.host
            || self.anyone;
        match action {
            _ if names_callers => true,
            Action::Allow => !self.except_cidrs.is_empty() && source.identity().is_some(),
            Action::Deny => !self.except_cidrs.is_empty(),
        }
    }
}

impl ServiceAccount {
    /// Tells whether the identity is this service account, trust domains aside.
    fn is(&self, id: &SpiffeId) -> bool {
        self.namespace == id.namespace() && self.name == id.service_account()
    }
}

impl IdentityPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When the text is neither a full identity nor one with a single `*`, or can match no identity.
    pub fn parse(text: &str) -> Result<Self, IdentityPatternError> {
        const SCHEME: &str = "spiffe://";
        let Some((prefix, suffix)) = text.split_once('*') else {
            return Ok(Self::Exact(SpiffeId::parse(text)?));
        };
        if suffix.contains('*') {
            return Err(IdentityPatternError::ManyWildcards);
        }
        if !prefix.is_empty() && !prefix.starts_with(SCHEME) {
            return Err(IdentityPatternError::Scheme);
        }
        Ok(Self::Wildcard { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
    }

    /// Tells whether the identity is of this pattern.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(exact) => exact == id,
            Self::Wildcard { prefix, suffix } => {
                let uri = id.to_string();
                uri.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.ends_with(suffix.as_str()))
            }
        }
    }
}

impl Destination {
    /// Tells whether the port is one of the destination's.
    fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && port_in(&self.ports, port)
    }
}

impl PortRange {
    /// Returns the range of one port.
    pub fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => write!(f, "{id}"),
            Self::Wildcard { prefix, suffix } => write!(f, "{prefix}*{suffix}"),
        }
    }
}

/// Tells whether a port lies in one of the ranges; no range stands for every port.
pub(super) fn port_in(ranges: &[PortRange], port: u16) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| (range.first..=range.last).contains(&port))
}

/// Tells whether an address lies in one of the networks, an IPv4 address mapped into IPv6 counting as IPv4.
pub(super) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
