//! The policies that select a pod, indexed by the callers that their rules name: a decision looks at those few that can
//! match its caller, however many select the pod.
//!
//! Finds candidates, and never decides by itself: what is found is weighed by `eval`, which would say the same of all.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;

use super::eval::{Connection, Relevant, Source, weigh};
use super::verdict::Verdict;
use super::{IdentityPattern, Peer, Policy, Rule};
use crate::identity::SpiffeId;

/// Policies in the order of their names, with an index by caller that is made when it is first asked: a node decides for
/// few of the pods that it knows.
#[derive(Debug, Default)]
pub struct PolicySet {
    policies: Vec<Arc<Policy>>,
    callers: OnceLock<Callers>,
    first_allow: Option<usize>,
    dry_run: bool,
}

impl PolicySet {
    /// Orders policies.
    pub fn new(mut policies: Vec<Arc<Policy>>) -> Self {
        policies.sort_by(|left, right| left.id.cmp(&right.id));
        let first_allow = policies.iter().position(|policy| policy.is_enforced_allow());
        let dry_run = policies.iter().any(|policy| policy.dry_run && !policy.egress_only);
        Self { policies, callers: OnceLock::new(), first_allow, dry_run }
    }

    /// Decides about a connection to a pod that these policies select.
    pub fn evaluate(&self, connection: &Connection<'_>) -> Verdict {
        weigh(&self.relevant(&connection.source), connection)
    }

    /// Returns what has to be weighed for every call of this source.
    pub(super) fn relevant(&self, source: &Source<'_>) -> Relevant<'_> {
        let callers = self.callers.get_or_init(|| Callers::of_rules(&self.policies));
        let candidates = callers.of(source).into_iter().map(|position| &*self.policies[position]);
        Relevant {
            candidates: candidates.collect(),
            first_allow: self.first_allow.map(|position| &*self.policies[position]),
            dry_run: self.dry_run,
            all: &self.policies,
        }
    }
}

impl Deref for PolicySet {
    type Target = [Arc<Policy>];

    fn deref(&self) -> &Self::Target {
        &self.policies
    }
}

impl<'a> IntoIterator for &'a PolicySet {
    type Item = &'a Arc<Policy>;
    type IntoIter = std::slice::Iter<'a, Arc<Policy>>;

    fn into_iter(self) -> Self::IntoIter {
        self.policies.iter()
    }
}

impl FromIterator<Arc<Policy>> for PolicySet {
    fn from_iter<T: IntoIterator<Item = Arc<Policy>>>(policies: T) -> Self {
        Self::new(policies.into_iter().collect())
    }
}

/// Positions of policies by what a caller must be for one of their rules to match; a policy stands wherever a rule needs it.
#[derive(Debug, Default)]
struct Callers {
    /// Whatever the caller is.
    any: Vec<usize>,
    /// Processes of the pod's own node.
    host: Vec<usize>,
    namespaces: HashMap<String, Named>,
    networks: HashMap<IpNet, Vec<usize>>,
    /// The lengths of `networks`, for IPv4 and for IPv6.
    lengths: [BTreeSet<u8>; 2],
}

/// Positions of policies that name a namespace, or service accounts of it.
#[derive(Debug, Default)]
struct Named {
    whole: Vec<usize>,
    accounts: HashMap<String, Vec<usize>>,
}

impl Callers {
    fn of_rules(policies: &[Arc<Policy>]) -> Self {
        let mut callers = Self::default();
        for (position, policy) in policies.iter().enumerate().filter(|(_, policy)| !policy.egress_only) {
            policy.rules.iter().for_each(|rule| callers.add(position, rule));
        }
        callers
    }

    fn add(&mut self, position: usize, rule: &Rule) {
        match &rule.from {
            None => self.any.push(position),
            Some(peers) => peers.iter().for_each(|peer| self.add_peer(position, peer)),
        }
    }

    /// Adds a peer under one of the fields that it demands; the others are left to the evaluation.
    fn add_peer(&mut self, position: usize, peer: &Peer) {
        if !peer.service_accounts.is_empty() {
            for account in &peer.service_accounts {
                self.add_account(position, &account.namespace, &account.name);
            }
        } else if let Some(exact) = exact(&peer.identities) {
            for id in exact {
                self.add_account(position, id.namespace(), id.service_account());
            }
        } else if !peer.namespaces.is_empty() {
            for namespace in &peer.namespaces {
                self.namespaces.entry(namespace.clone()).or_default().whole.push(position);
            }
        } else if peer.host {
            self.host.push(position);
        } else if !peer.cidrs.is_empty() {
            for network in &peer.cidrs {
                let network = network.trunc();
                self.lengths[family(network.addr())].insert(network.prefix_len());
                self.networks.entry(network).or_default().push(position);
            }
        } else {
            self.any.push(position);
        }
    }

    fn add_account(&mut self, position: usize, namespace: &str, name: &str) {
        let named = self.namespaces.entry(namespace.to_owned()).or_default();
        named.accounts.entry(name.to_owned()).or_default().push(position);
    }

    /// Returns the positions of the policies that may match this source, in order.
    fn of(&self, source: &Source<'_>) -> Vec<usize> {
        let mut positions = self.any.clone();
        if let Source::Host { .. } = source {
            positions.extend(&self.host);
        }
        if let Some(id) = source.identity()
            && let Some(named) = self.namespaces.get(id.namespace())
        {
            positions.extend(&named.whole);
            positions.extend(named.accounts.get(id.service_account()).into_iter().flatten());
        }
        let address = source.address().to_canonical();
        for length in &self.lengths[family(address)] {
            let network = IpNet::new(address, *length).ok().map(|network| network.trunc());
            positions.extend(network.and_then(|network| self.networks.get(&network)).into_iter().flatten());
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

/// Returns the identities, when there are some and none is a pattern.
fn exact(patterns: &[IdentityPattern]) -> Option<Vec<&SpiffeId>> {
    let ids = patterns.iter().map(|pattern| match pattern {
        IdentityPattern::Exact(id) => Some(id),
        IdentityPattern::Wildcard { .. } => None,
    });
    ids.collect::<Option<Vec<_>>>().filter(|ids| !ids.is_empty())
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, PolicyId, Selector, ServiceAccount};

    fn policy(name: &str, peers: Vec<Peer>) -> Arc<Policy> {
        Arc::new(Policy {
            id: PolicyId { namespace: None, name: name.to_owned() },
            action: Action::Allow,
            dry_run: false,
            namespace_selector: None,
            selector: Selector::default(),
            rules: vec![Rule { from: Some(peers), to: None }],
            egress_only: false,
            egress: Vec::new(),
        })
    }

    #[test]
    fn only_policies_that_can_match_the_caller_are_looked_at() {
        let account = |namespace: &str, name: &str| {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            Peer { service_accounts: vec![ServiceAccount { namespace, name }], ..Peer::default() }
        };
        let exact = IdentityPattern::parse("spiffe://cluster.local/ns/shop/sa/web").unwrap();
        let pattern = IdentityPattern::parse("*/sa/web").unwrap();
        let network = |text: &str| Peer { cidrs: vec![text.parse().unwrap()], ..Peer::default() };
        let set: PolicySet = [
            policy("account", vec![account("shop", "web")]),
            policy("account-of-another", vec![account("shop", "db"), account("bank", "web")]),
            policy("exact", vec![Peer { identities: vec![exact], ..Peer::default() }]),
            policy("host", vec![Peer { host: true, ..Peer::default() }]),
            policy("namespace", vec![Peer { namespaces: vec!["shop".to_owned()], ..Peer::default() }]),
            policy("network", vec![network("10.1.0.0/16")]),
            policy("network-of-another", vec![network("10.2.0.0/16"), network("fd00::/8")]),
            policy("pattern", vec![Peer { identities: vec![pattern], ..Peer::default() }]),
        ]
        .into_iter()
        .collect();
        let id = SpiffeId::new("cluster.local", "shop", "web").unwrap();
        let address = "::ffff:10.1.2.3".parse().unwrap();
        let names = |source| {
            let candidates = set.relevant(&source).candidates;
            candidates.into_iter().map(|policy| policy.id.name.as_str()).collect::<Vec<_>>()
        };
        let web = names(Source::Identity { id: &id, address });
        assert_eq!(web, ["account", "exact", "namespace", "network", "pattern"]);
        assert_eq!(names(Source::Host { address }), ["host", "network", "pattern"]);
        assert_eq!(names(Source::Unverified { address }), ["network", "pattern"]);
    }
}
