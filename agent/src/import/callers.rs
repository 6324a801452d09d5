//! Sets of identities, and the callers of a rule that are exactly them.
//!
//! What one entry of `from` cannot say is an error, never something close to it.

use ambit_core::{IdentityPattern, Peer, ServiceAccount, SpiffeId};

/// Some identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A service account of ambit's own trust domain.
    Account(ServiceAccount),
    /// Every identity of a namespace, in ambit's own trust domain.
    Namespace(String),
    /// The identities of a pattern, of whatever trust domain.
    Identity(IdentityPattern),
}

/// That two lists must hold at once, which one entry of `from` cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inexpressible;

impl Pattern {
    /// Everybody who has an identity.
    pub(crate) fn anybody() -> Self {
        Self::Identity(IdentityPattern::Wildcard { prefix: "spiffe://".to_owned(), suffix: String::new() })
    }

    fn is_anybody(&self) -> bool {
        *self == Self::anybody()
    }

    /// Tells whether a service account of ambit's own trust domain is meant.
    fn matches(&self, account: &ServiceAccount, trust_domain: &str) -> bool {
        match self {
            Self::Account(meant) => meant == account,
            Self::Namespace(namespace) => *namespace == account.namespace,
            Self::Identity(pattern) => {
                let id = SpiffeId::new(trust_domain, &account.namespace, &account.name);
                id.is_ok_and(|id| pattern.matches(&id))
            }
        }
    }

    /// Returns the same identities as a pattern.
    pub(crate) fn identity(&self, trust_domain: &str) -> Option<IdentityPattern> {
        match self {
            Self::Account(account) => {
                let id = SpiffeId::new(trust_domain, &account.namespace, &account.name).ok()?;
                Some(IdentityPattern::Exact(id))
            }
            Self::Namespace(namespace) => Some(IdentityPattern::Wildcard {
                prefix: format!("spiffe://{trust_domain}/ns/{namespace}/"),
                suffix: String::new(),
            }),
            Self::Identity(pattern) => Some(pattern.clone()),
        }
    }
}

/// Returns the entries of `from` that together are these identities.
pub(crate) fn any_of(patterns: &[Pattern]) -> Vec<Peer> {
    if patterns.iter().any(Pattern::is_anybody) {
        let Pattern::Identity(anybody) = Pattern::anybody() else { return Vec::new() };
        return vec![Peer { identities: vec![anybody], ..Peer::default() }];
    }
    let (mut accounts, mut namespaces, mut identities) = (Peer::default(), Peer::default(), Peer::default());
    for pattern in patterns {
        match pattern {
            Pattern::Account(account) => push(&mut accounts.service_accounts, account),
            Pattern::Namespace(namespace) => push(&mut namespaces.namespaces, namespace),
            Pattern::Identity(pattern) => push(&mut identities.identities, pattern),
        }
    }
    [accounts, namespaces, identities].into_iter().filter(|peer| !peer.is_empty()).collect()
}

/// Returns one entry of `from` with the identities that are in each of the lists; `None` when nobody is.
///
/// # Errors
/// When one entry cannot say it.
pub(crate) fn all_of(lists: &[Vec<Pattern>], trust_domain: &str) -> Result<Option<Peer>, Inexpressible> {
    // Whoever is on a list has an identity.
    let mut lists: Vec<&Vec<Pattern>> =
        lists.iter().filter(|list| !list.iter().any(Pattern::is_anybody) || lists.len() == 1).collect();
    if lists.is_empty() {
        return Ok(any_of(&[Pattern::anybody()]).pop());
    }
    if let Some(at) = lists.iter().position(|list| accounts(list).is_some()) {
        let mut accounts = accounts(lists.remove(at)).ok_or(Inexpressible)?;
        accounts.retain(|account| {
            lists.iter().all(|list| list.iter().any(|pattern| pattern.matches(account, trust_domain)))
        });
        return Ok((!accounts.is_empty()).then(|| Peer { service_accounts: accounts, ..Peer::default() }));
    }
    let mut peer = Peer::default();
    for list in lists {
        match namespaces(list) {
            Some(named) if peer.namespaces.is_empty() => peer.namespaces = named,
            Some(named) => {
                peer.namespaces.retain(|namespace| named.contains(namespace));
                if peer.namespaces.is_empty() {
                    return Ok(None);
                }
            }
            None if peer.identities.is_empty() => {
                let identities = list.iter().map(|pattern| pattern.identity(trust_domain));
                peer.identities = identities.collect::<Option<_>>().ok_or(Inexpressible)?;
            }
            None => return Err(Inexpressible),
        }
    }
    Ok(Some(peer))
}

fn accounts(list: &[Pattern]) -> Option<Vec<ServiceAccount>> {
    let mut accounts = Vec::new();
    for pattern in list {
        let Pattern::Account(account) = pattern else { return None };
        push(&mut accounts, account);
    }
    Some(accounts)
}

fn namespaces(list: &[Pattern]) -> Option<Vec<String>> {
    let mut namespaces = Vec::new();
    for pattern in list {
        let Pattern::Namespace(namespace) = pattern else { return None };
        push(&mut namespaces, namespace);
    }
    Some(namespaces)
}

fn push<T: Clone + PartialEq>(list: &mut Vec<T>, value: &T) {
    if !list.contains(value) {
        list.push(value.clone());
    }
}

#[cfg(test)]
mod tests;
