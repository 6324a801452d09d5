//! Whether the node's own processes reach a pod without being asked about.

use std::sync::Arc;

use super::{Action, Policy};

/// Tells whether a policy of a pod can refuse the node's own processes; where none can, the kernel lets them pass.
///
/// May be `true` for policies that in the end refuse none of them, never `false` for one that does.
pub fn may_refuse_host(policies: &[Arc<Policy>]) -> bool {
    policies.iter().filter(|policy| policy.action == Action::Deny).any(|policy| {
        policy.rules.iter().any(|rule| {
            let Some(peers) = &rule.from else { return true };
            peers.iter().any(|peer| {
                peer.service_accounts.is_empty() && peer.namespaces.is_empty() && peer.identities.is_empty()
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Peer, PolicyId, Rule, Selector};

    fn may(action: Action, from: Option<Vec<Peer>>) -> bool {
        may_refuse_host(&[Arc::new(Policy {
            id: PolicyId { namespace: None, name: "any".to_owned() },
            action,
            dry_run: false,
            namespace_selector: None,
            selector: Selector::default(),
            rules: vec![Rule { from, to: None }],
            egress_only: false,
            egress: Vec::new(),
        })])
    }

    #[test]
    fn only_a_deny_that_names_no_identity_may_refuse_the_host() {
        let host = Peer { host: true, ..Peer::default() };
        let anyone = Peer { anyone: true, ..Peer::default() };
        let web = Peer { namespaces: vec!["web".to_owned()], ..Peer::default() };
        assert!(!may_refuse_host(&[]));
        assert!(!may(Action::Allow, Some(vec![host.clone()])));
        assert!(may(Action::Deny, Some(vec![web.clone(), host])));
        assert!(may(Action::Deny, Some(vec![anyone])));
        assert!(may(Action::Deny, None));
        assert!(!may(Action::Deny, Some(vec![web])));
    }
}
