//! Why a rule does not match, field by field, in the words of the file.
//!
//! Looks at one rule and one connection. Never says which rule counts.

use std::fmt;

use crate::identity::SpiffeId;
use crate::policy::egress::{Call, EgressRule};
use crate::policy::eval::{Connection, Source};
use crate::policy::rule::{Destination, Peer, PortRange, Rule, contains, port_in};
use crate::policy::{Action, Protocol};

/// A field that keeps a rule from matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The field within the rule, such as `from[0].namespaces`.
    pub field: String,
    /// What it says, as it stands in the file.
    pub says: String,
    /// What there is instead.
    pub found: String,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} — {}", self.field, self.says, self.found)
    }
}

pub(super) fn miss(field: impl Into<String>, says: impl Into<String>, found: impl Into<String>) -> Miss {
    Miss { field: field.into(), says: says.into(), found: found.into() }
}

/// Writes values as a list of YAML.
fn list<T: fmt::Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    format!("[{}]", values.join(", "))
}

/// Returns every field of a rule that keeps it from matching; none: it matches.
pub(super) fn rule(rule: &Rule, action: Action, connection: &Connection<'_>) -> Vec<Miss> {
    let mut misses = Vec::new();
    match &rule.from {
        Some(peers) => {
            one_of(&mut misses, "from", peers, |path, entry| peer(path, entry, action, connection))
        }
        None if action == Action::Allow && connection.source.identity().is_none() => {
            let found = format!(
                "without `from` a rule admits callers with a verified identity, and {}",
                unnamed(&connection.source)
            );
            misses.push(miss("from", "absent", found));
        }
        None => {}
    }
    if let Some(destinations) = &rule.to {
        let (protocol, port) = (connection.protocol, connection.port);
        one_of(&mut misses, "to", destinations, |path, entry| destination(path, entry, protocol, port));
    }
    misses
}

/// Returns every field of an egress rule that keeps it from naming what is called.
pub(super) fn egress(rule: &EgressRule, call: &Call<'_>) -> Vec<Miss> {
    let address = call.address.to_canonical();
    let mut misses = Vec::new();
    if let Some(protocol) = rule.protocol.filter(|protocol| *protocol != call.protocol) {
        misses.push(miss("protocol", protocol.as_str(), format!("{} is called", call.protocol)));
    }
    if !port_in(&rule.ports, call.port) {
        misses.push(miss("ports", list(&rule.ports), format!("port {} is called", call.port)));
    }
    if !contains(&rule.cidrs, address) {
        misses.push(miss("cidrs", list(&rule.cidrs), format!("{address} is called")));
    }
    if contains(&rule.except_cidrs, address) {
        let found = format!("{address} is called, which is one of them");
        misses.push(miss("exceptCidrs", list(&rule.except_cidrs), found));
    }
    misses
}

/// Says that a rule speaks of no protocol where it must.
pub(super) fn unnamed_protocol() -> Miss {
    miss(
        "to",
        "absent",
        "a strict pod takes UDP without an identity only by a rule with `protocol: UDP` in its `to`",
    )
}

/// Adds the misses of all entries of a list, unless one of the entries has none.
fn one_of<T>(misses: &mut Vec<Miss>, field: &str, entries: &[T], of: impl Fn(&str, &T) -> Vec<Miss>) {
    if entries.is_empty() {
        misses.push(miss(field, "[]", "an empty list names nobody"));
    }
    let mut all = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let found = of(&format!("{field}[{index}]"), entry);
        if found.is_empty() {
            return;
        }
        all.extend(found);
    }
    misses.append(&mut all);
}

fn peer(path: &str, peer: &Peer, action: Action, connection: &Connection<'_>) -> Vec<Miss> {
    let source = &connection.source;
    let id = source.identity();
    let own = id.filter(|id| id.trust_domain() == connection.destination.identity.trust_domain());
    let mut misses = Vec::new();
    let mut add =
        |field: &str, says: String, found: String| misses.push(miss(format!("{path}.{field}"), says, found));
    let names_nobody = peer.service_accounts.is_empty()
        && peer.namespaces.is_empty()
        && peer.identities.is_empty()
        && peer.cidrs.is_empty()
        && !peer.host
        && !peer.anyone;
    if names_nobody && peer.except_cidrs.is_empty() {
        return vec![miss(path, "{}", "it names nobody")];
    }
    if names_nobody && action == Action::Allow && id.is_none() {
        let found =
            format!("an exception alone admits callers with a verified identity, and {}", unnamed(source));
        add("exceptCidrs", list(&peer.except_cidrs), found);
    }
    let is = |account: &crate::policy::ServiceAccount, id: &SpiffeId| {
        account.namespace == id.namespace() && account.name == id.service_account()
    };
    if !peer.service_accounts.is_empty()
        && !own.is_some_and(|id| peer.service_accounts.iter().any(|account| is(account, id)))
    {
        let found = of_own(connection, |id| {
            format!("the caller's service account is {}/{}", id.namespace(), id.service_account())
        });
        add("serviceAccounts", list(&peer.service_accounts), found);
    }
    if !peer.namespaces.is_empty()
        && !own.is_some_and(|id| peer.namespaces.iter().any(|namespace| namespace == id.namespace()))
    {
        let found = of_own(connection, |id| format!("the caller's namespace is {}", id.namespace()));
        add("namespaces", list(&peer.namespaces), found);
    }
    if !peer.identities.is_empty()
        && !id.is_some_and(|id| peer.identities.iter().any(|pattern| pattern.matches(id)))
    {
        let found = id.map_or_else(|| unnamed(source).to_owned(), |id| format!("the caller is {id}"));
        add("identities", list(&peer.identities), found);
    }
    let address = source.address().to_canonical();
    if !peer.cidrs.is_empty() && !contains(&peer.cidrs, address) {
        add("cidrs", list(&peer.cidrs), format!("the caller's address is {address}"));
    }
    if contains(&peer.except_cidrs, address) {
        let found = format!("the caller's address {address} is one of them");
        add("exceptCidrs", list(&peer.except_cidrs), found);
    }
    if peer.host && !matches!(source, Source::Host { .. }) {
        add("host", "true".to_owned(), "the caller is no process of the pod's own node".to_owned());
    }
    misses
}

/// Says something about an identity of the mesh's own trust domain, or that the caller has none.
fn of_own(connection: &Connection<'_>, say: impl Fn(&SpiffeId) -> String) -> String {
    let own = connection.destination.identity.trust_domain();
    match connection.source.identity() {
        Some(id) if id.trust_domain() == own => say(id),
        Some(id) => format!("the caller is of the trust domain {}, and the mesh is {own}", id.trust_domain()),
        None => unnamed(&connection.source).to_owned(),
    }
}

/// Says why a caller has no identity.
fn unnamed(source: &Source<'_>) -> &'static str {
    match source {
        Source::Host { .. } => "a process of the node has no identity",
        _ => "the caller has no verified identity",
    }
}

fn destination(path: &str, to: &Destination, protocol: Protocol, port: u16) -> Vec<Miss> {
    let mut misses = Vec::new();
    if to.protocol != protocol {
        misses.push(miss(format!("{path}.protocol"), to.protocol.as_str(), format!("{protocol} is called")));
    }
    if !port_in(&to.ports, port) {
        misses.push(miss(
            format!("{path}.ports"),
            list::<PortRange>(&to.ports),
            format!("port {port} is called"),
        ));
    }
    misses
}
