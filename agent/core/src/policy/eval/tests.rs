//! The rules of evaluation, one test each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::model::Egress;
use crate::policy::{
    Destination, IdentityPattern, Peer, PolicyId, PortRange, Rule, Selector, ServiceAccount,
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn pod(mode: Mode) -> Workload {
    Workload {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "1".into(),
        identity: SpiffeId::new("cluster.local", "shop", "web").unwrap(),
        addresses: vec![address("10.1.0.1")],
        node: "n1".into(),
        mode,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: BTreeMap::new(),
        host_network: false,
        netns: None,
        owner_kind: "pod".into(),
        owner_name: "web".into(),
    }
}

pub(super) fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Policy {
    Policy {
        id: PolicyId { namespace: Some("shop".into()), name: name.into() },
        action,
        dry_run: false,
        namespace_selector: None,
        selector: Selector::default(),
        rules,
        egress_only: false,
        egress: Vec::new(),
    }
}

fn from(peer: Peer) -> Rule {
    Rule { from: Some(vec![peer]), to: None }
}

pub(super) fn account(namespace: &str, name: &str) -> Peer {
    let account = ServiceAccount { namespace: namespace.into(), name: name.into() };
    Peer { service_accounts: vec![account], ..Peer::default() }
}

pub(super) fn anyone() -> Peer {
    Peer { anyone: true, ..Peer::default() }
}

fn host() -> Peer {
    Peer { host: true, ..Peer::default() }
}

/// A caller of the tables below.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// `spiffe://cluster.local/ns/shop/sa/api`.
    Api,
    /// `spiffe://cluster.local/ns/other/sa/api`.
    OtherNamespace,
    /// `spiffe://foreign.org/ns/shop/sa/api`.
    Foreign,
    Host,
    Plaintext,
}

fn decide(mode: Mode, policies: &[Policy], caller: Caller) -> Verdict {
    decide_port(mode, policies, caller, 80)
}

fn decide_port(mode: Mode, policies: &[Policy], caller: Caller, port: u16) -> Verdict {
    let policies: Vec<_> = policies.iter().cloned().map(Arc::new).collect();
    let id = |trust_domain, namespace| SpiffeId::new(trust_domain, namespace, "api").unwrap();
    let (api, other, foreign) =
        (id("cluster.local", "shop"), id("cluster.local", "other"), id("foreign.org", "shop"));
    let address = address("10.1.0.2");
    let source = match caller {
        Caller::Api => Source::Identity { id: &api, address },
        Caller::OtherNamespace => Source::Identity { id: &other, address },
        Caller::Foreign => Source::Identity { id: &foreign, address },
        Caller::Host => Source::Host { address },
        Caller::Plaintext => Source::Unverified { address },
    };
    evaluate(&policies, &Connection { source, destination: &pod(mode), protocol: Protocol::Tcp, port })
}

#[test]
fn a_pod_that_is_not_enrolled_is_open() {
    let deny = policy("deny", Action::Deny, vec![from(anyone())]);
    for caller in [Caller::Api, Caller::Host, Caller::Plaintext] {
        let verdict = decide(Mode::None, std::slice::from_ref(&deny), caller);
        assert_eq!((verdict.allowed, verdict.reason), (true, Reason::NotEnrolled));
    }
}

#[test]
fn without_policies_a_verified_caller_is_allowed() {
    let verdict = decide(Mode::Strict, &[], Caller::Api);
    assert_eq!((verdict.allowed, verdict.reason, verdict.policy), (true, Reason::NoPolicy, None));
}

#[test]
fn strict_refuses_plaintext_before_any_policy() {
    let allow = policy("allow", Action::Allow, vec![from(anyone())]);
    let deny = policy("deny", Action::Deny, vec![from(anyone())]);
    for policies in [vec![], vec![allow.clone()], vec![deny.clone()], vec![allow, deny]] {
        let verdict = decide(Mode::Strict, &policies, Caller::Plaintext);
        assert_eq!((verdict.allowed, verdict.reason), (false, Reason::PlaintextInStrict));
        assert_eq!(verdict.policy, None);
    }
}

#[test]
fn permissive_serves_plaintext_unless_a_policy_refuses_it() {
    let allow_api = policy("a", Action::Allow, vec![from(account("shop", "api"))]);
    let allow_anyone = policy("b", Action::Allow, vec![from(anyone())]);
    let deny = policy("c", Action::Deny, vec![from(anyone())]);
    for (policies, allowed, reason) in [
        (vec![], true, Reason::NoPolicy),
        (vec![allow_api.clone()], false, Reason::NoAllowMatch),
        (vec![allow_api.clone(), allow_anyone.clone()], true, Reason::AllowMatch),
        (vec![allow_api, allow_anyone, deny], false, Reason::DenyMatch),
    ] {
        let verdict = decide(Mode::Permissive, &policies, Caller::Plaintext);
        assert_eq!((verdict.allowed, verdict.reason), (allowed, reason), "{policies:?}");
    }
}

#[test]
fn deny_beats_allow() {
    let allow = policy("allow", Action::Allow, vec![from(account("shop", "api"))]);
    let deny =
        policy("deny", Action::Deny, vec![from(account("shop", "other")), from(account("shop", "api"))]);
    let verdict = decide(Mode::Strict, &[allow, deny.clone()], Caller::Api);
    assert_eq!((verdict.allowed, verdict.reason), (false, Reason::DenyMatch));
    assert_eq!((verdict.policy, verdict.rule), (Some(deny.id), Some(1)));
}

#[test]
fn once_an_allow_selects_the_pod_the_rest_is_refused() {
    let allow = policy("allow", Action::Allow, vec![from(account("shop", "api"))]);
    let policies = std::slice::from_ref(&allow);
    let verdict = decide(Mode::Strict, policies, Caller::Api);
    assert_eq!((verdict.allowed, verdict.reason, verdict.rule), (true, Reason::AllowMatch, Some(0)));
    let verdict = decide(Mode::Strict, policies, Caller::OtherNamespace);
    assert_eq!((verdict.allowed, verdict.reason, verdict.rule), (false, Reason::NoAllowMatch, None));
    assert_eq!(verdict.policy, Some(allow.id));
}

#[test]
fn an_allow_without_rules_refuses_everything_but_the_host() {
    let nobody = policy("nobody", Action::Allow, vec![]);
    for (caller, allowed) in [(Caller::Api, false), (Caller::Plaintext, false), (Caller::Host, true)] {
        assert_eq!(
            decide(Mode::Strict, std::slice::from_ref(&nobody), caller).allowed,
            allowed,
            "{caller:?}"
        );
    }
}

#[test]
fn a_deny_alone_leaves_the_rest_open() {
    let deny = policy("deny", Action::Deny, vec![from(account("shop", "api"))]);
    let policies = std::slice::from_ref(&deny);
    assert!(!decide(Mode::Strict, policies, Caller::Api).allowed);
    assert!(decide(Mode::Strict, policies, Caller::OtherNamespace).allowed);
}

#[test]
fn the_host_passes_unless_a_deny_matches_it() {
    let allow = policy("allow", Action::Allow, vec![from(account("shop", "api"))]);
    let deny = |peer| policy("deny", Action::Deny, vec![from(peer)]);
    let cidr = Peer { cidrs: vec!["10.1.0.0/24".parse().unwrap()], ..Peer::default() };
    for (policies, allowed, reason) in [
        (vec![], true, Reason::HostDefault),
        (vec![allow.clone()], true, Reason::HostDefault),
        (vec![policy("h", Action::Allow, vec![from(host())])], true, Reason::AllowMatch),
        (vec![allow.clone(), deny(host())], false, Reason::DenyMatch),
        (vec![allow.clone(), deny(anyone())], false, Reason::DenyMatch),
        (vec![allow.clone(), deny(cidr)], false, Reason::DenyMatch),
        (vec![allow, deny(account("shop", "api"))], true, Reason::HostDefault),
    ] {
        for mode in [Mode::Permissive, Mode::Strict] {
            let verdict = decide(mode, &policies, Caller::Host);
            assert_eq!((verdict.allowed, verdict.reason), (allowed, reason), "{mode} {policies:?}");
        }
    }
}

#[test]
fn host_true_matches_nobody_else() {
    let allow = policy("allow", Action::Allow, vec![from(host())]);
    for caller in [Caller::Api, Caller::Plaintext] {
        assert!(!decide(Mode::Permissive, std::slice::from_ref(&allow), caller).allowed, "{caller:?}");
    }
}

#[test]
fn audit_refuses_nothing_and_tells_what_strict_would_refuse() {
    let deny = policy("deny", Action::Deny, vec![from(account("shop", "api"))]);
    let policies = std::slice::from_ref(&deny);
    for (caller, refusal) in [
        (Caller::Api, Some(Reason::DenyMatch)),
        (Caller::Plaintext, Some(Reason::PlaintextInStrict)),
        (Caller::OtherNamespace, None),
        (Caller::Host, None),
    ] {
        let verdict = decide(Mode::Audit, policies, caller);
        assert!(verdict.allowed, "{caller:?}");
        assert_eq!(verdict.would_refuse.as_ref().map(|refusal| refusal.reason), refusal, "{caller:?}");
        assert_eq!(verdict.reason == Reason::Audit, refusal.is_some(), "{caller:?}");
    }
    let refusal = decide(Mode::Audit, policies, Caller::Api).would_refuse.unwrap();
    assert_eq!((refusal.allowed, refusal.policy, refusal.rule), (false, Some(deny.id), Some(0)));
}

#[test]
fn a_dry_run_policy_is_reported_and_never_enforced() {
    let dry = |action, peer| Policy { dry_run: true, ..policy("dry", action, vec![from(peer)]) };
    let allow_other = policy("allow", Action::Allow, vec![from(account("other", "api"))]);
    for (policies, allowed, reported) in [
        (vec![dry(Action::Deny, anyone())], true, Some((false, Reason::DenyMatch))),
        (vec![dry(Action::Deny, account("other", "api"))], true, None),
        (vec![dry(Action::Allow, account("other", "api"))], true, Some((false, Reason::NoAllowMatch))),
        (vec![dry(Action::Allow, account("shop", "api"))], true, None),
        (
            vec![allow_other.clone(), dry(Action::Allow, account("shop", "api"))],
            false,
            Some((true, Reason::AllowMatch)),
        ),
        (vec![allow_other, dry(Action::Deny, anyone())], false, None),
    ] {
        let verdict = decide(Mode::Strict, &policies, Caller::Api);
        assert_eq!(verdict.allowed, allowed, "{policies:?}");
        let found = verdict.dry_run.first().map(|other| (other.allowed, other.reason));
        assert_eq!(found, reported, "{policies:?}");
    }
}

#[test]
fn service_accounts_and_namespaces_are_of_the_meshs_own_trust_domain() {
    let by_namespace = Peer { namespaces: vec!["shop".into()], ..Peer::default() };
    for peer in [account("shop", "api"), by_namespace] {
        let allow = policy("allow", Action::Allow, vec![from(peer)]);
        let policies = std::slice::from_ref(&allow);
        assert!(decide(Mode::Strict, policies, Caller::Api).allowed);
        assert!(!decide(Mode::Strict, policies, Caller::Foreign).allowed);
    }
}

#[test]
fn identities_are_matched_whole_or_by_one_wildcard() {
    for (pattern, api, foreign) in [
        ("spiffe://cluster.local/ns/shop/sa/api", true, false),
        ("spiffe://cluster.local/*", true, false),
        ("spiffe://cluster.local/ns/*/sa/api", true, false),
        ("*/ns/shop/sa/api", true, true),
        ("*", true, true),
        ("spiffe://cluster.local/ns/shop/sa/ap", false, false),
        ("spiffe://cluster.local/ns/shop/sa/*i/api", false, false),
        ("spiffe://foreign.org/*", false, true),
    ] {
        let identities =
            vec![IdentityPattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))];
        let allow = policy("allow", Action::Allow, vec![from(Peer { identities, ..Peer::default() })]);
        let policies = std::slice::from_ref(&allow);
        assert_eq!(decide(Mode::Strict, policies, Caller::Api).allowed, api, "{pattern}");
        assert_eq!(decide(Mode::Strict, policies, Caller::Foreign).allowed, foreign, "{pattern}");
        assert!(!decide(Mode::Permissive, policies, Caller::Plaintext).allowed, "{pattern}");
    }
    for pattern in ["", "api", "cluster.local/ns/shop/sa/api", "spiffe://*/ns/*", "cluster.local/*"] {
        assert!(IdentityPattern::parse(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_wildcard_does_not_match_overlapping_ends() {
    let pattern = IdentityPattern::parse("spiffe://cluster.local/ns/shop/sa/api*api").unwrap();
    assert!(!pattern.matches(&SpiffeId::new("cluster.local", "shop", "api").unwrap()));
    assert!(pattern.matches(&SpiffeId::new("cluster.local", "shop", "api-api").unwrap()));
}

#[test]
fn cidrs_match_the_callers_address_and_exceptions_narrow_them() {
    let net = |text: &str| text.parse().unwrap();
    for (cidrs, except, expected) in [
        (vec![net("10.1.0.0/24")], vec![], true),
        (vec![net("10.2.0.0/24")], vec![], false),
        (vec![net("10.2.0.0/24"), net("10.1.0.2/32")], vec![], true),
        (vec![net("10.0.0.0/8")], vec![net("10.1.0.0/24")], false),
        (vec![net("10.0.0.0/8")], vec![net("10.2.0.0/24")], true),
        (vec![net("::/0")], vec![], false),
    ] {
        let peer = Peer { cidrs, except_cidrs: except, ..Peer::default() };
        let allow = policy("allow", Action::Allow, vec![from(peer.clone())]);
        for caller in [Caller::Api, Caller::Plaintext] {
            let verdict = decide(Mode::Permissive, std::slice::from_ref(&allow), caller);
            assert_eq!(verdict.allowed, expected, "{caller:?} {peer:?}");
        }
    }
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let peer = Peer { cidrs: vec!["10.0.0.0/8".parse().unwrap()], ..Peer::default() };
    let deny = [Arc::new(policy("deny", Action::Deny, vec![from(peer)]))];
    let source = Source::Unverified { address: address("::ffff:10.1.2.3") };
    let destination = pod(Mode::Permissive);
    assert!(
        !evaluate(
            &deny,
            &Connection { source, destination: &destination, protocol: Protocol::Tcp, port: 80 }
        )
        .allowed
    );
}

#[test]
fn a_negative_match_never_admits_a_caller_without_an_identity() {
    let peer = Peer { except_cidrs: vec!["192.168.0.0/16".parse().unwrap()], ..Peer::default() };
    let allow = policy("allow", Action::Allow, vec![from(peer.clone())]);
    assert!(decide(Mode::Permissive, std::slice::from_ref(&allow), Caller::Api).allowed);
    assert!(!decide(Mode::Permissive, std::slice::from_ref(&allow), Caller::Plaintext).allowed);
    let deny = policy("deny", Action::Deny, vec![from(peer)]);
    assert!(!decide(Mode::Permissive, std::slice::from_ref(&deny), Caller::Plaintext).allowed);
}

#[test]
fn fields_of_a_caller_are_and_ed() {
    let peer = Peer { cidrs: vec!["10.9.0.0/16".parse().unwrap()], ..account("shop", "api") };
    let allow = policy("allow", Action::Allow, vec![from(peer)]);
    assert!(!decide(Mode::Strict, std::slice::from_ref(&allow), Caller::Api).allowed);
}

#[test]
fn a_rule_without_callers_admits_only_verified_ones_and_denies_everyone() {
    let ports = vec![PortRange::single(80), PortRange { first: 8000, last: 8080 }];
    let rule = Rule { from: None, to: Some(vec![Destination { protocol: Protocol::Tcp, ports }]) };
    let allow = policy("allow", Action::Allow, vec![rule.clone()]);
    let deny = policy("deny", Action::Deny, vec![rule]);
    for (port, named) in [(80, true), (79, false), (7999, false), (8000, true), (8080, true), (8081, false)] {
        let allowed = |policy: &Policy, caller| {
            decide_port(Mode::Permissive, std::slice::from_ref(policy), caller, port).allowed
        };
        assert_eq!(allowed(&allow, Caller::Api), named, "{port}");
        assert!(!allowed(&allow, Caller::Plaintext), "{port}");
        for caller in [Caller::Api, Caller::Plaintext, Caller::Host] {
            assert_eq!(allowed(&deny, caller), !named, "{port} {caller:?}");
        }
    }
}

#[test]
fn a_peer_that_says_nothing_matches_nobody() {
    for action in [Action::Allow, Action::Deny] {
        let empty = policy("empty", action, vec![from(Peer::default())]);
        let verdict = decide(Mode::Permissive, std::slice::from_ref(&empty), Caller::Api);
        assert_eq!(verdict.allowed, action == Action::Deny);
    }
}
