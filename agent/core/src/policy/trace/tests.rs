//! A trace concludes what the decision is, and says of each field why it does not match.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::identity::SpiffeId;
use crate::model::Workload;
use crate::policy::classes::tests::{any_address, egress_policies};
use crate::policy::egress::evaluate_egress;
use crate::policy::egress::tests::{pod, policy};
use crate::policy::eval::evaluate;
use crate::policy::eval::properties::{caller, mode, policies};
use crate::policy::{
    Destination, EgressRule, IdentityPattern, Peer, PortRange, Requirement, Rule, Selector, ServiceAccount,
};

proptest! {
    #[test]
    fn a_trace_concludes_what_evaluate_decides(
        policies in policies(),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        let destination = pod(mode, Egress::Any);
        let (source, protocol) = (caller.source(), caller.protocol);
        let connection = Connection { source, destination: &destination, protocol, port };
        prop_assert_eq!(trace(&policies, &connection).conclusion(), evaluate(&policies, &connection));
    }

    #[test]
    fn a_trace_concludes_what_evaluate_egress_decides(
        policies in egress_policies(),
        (mode, meshed, in_mesh) in (mode(), any::<bool>(), prop::bool::weighted(0.2)),
        (address, port, udp) in (any_address(), any::<u16>(), any::<bool>()),
    ) {
        let source = pod(mode, if meshed { Egress::Mesh } else { Egress::Any });
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let call = Call { source: &source, address, port, protocol, in_mesh };
        prop_assert_eq!(trace_egress(&policies, &call).conclusion(), evaluate_egress(&policies, &call));
    }
}

fn destination() -> Workload {
    pod(Mode::Permissive, Egress::Any)
}

fn misses(peer: Peer, action: Action, source: Source<'_>) -> Vec<String> {
    let destination = destination();
    let connection = Connection { source, destination: &destination, protocol: Protocol::Tcp, port: 80 };
    let rule = Rule { from: Some(vec![peer]), to: None };
    let misses = fields::rule(&rule, action, &connection);
    assert_eq!(misses.is_empty(), rule.matches(action, &connection));
    misses.iter().map(ToString::to_string).collect()
}

#[test]
fn each_field_says_what_it_wants_and_what_there_is() {
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let id = SpiffeId::new("cluster.local", "b", "web").unwrap();
    let foreign = SpiffeId::new("other.org", "b", "web").unwrap();
    let web = Source::Identity { id: &id, address };
    let account = |name: &str| ServiceAccount { namespace: "a".to_owned(), name: name.to_owned() };
    let accounts = || Peer { service_accounts: vec![account("x"), account("y")], ..Peer::default() };
    let namespaces = || Peer { namespaces: vec!["a".to_owned()], ..Peer::default() };
    let network = || vec!["192.0.2.0/24".parse().unwrap()];
    let around = || vec!["10.0.0.0/8".parse().unwrap()];
    let exact = IdentityPattern::parse("*/sa/api").unwrap();
    for (peer, source, expected) in [
        (accounts(), web, "from[0].serviceAccounts: [a/x, a/y] — the caller's service account is b/web"),
        (namespaces(), web, "from[0].namespaces: [a] — the caller's namespace is b"),
        (
            namespaces(),
            Source::Identity { id: &foreign, address },
            "from[0].namespaces: [a] — the caller is of the trust domain other.org, and the mesh is cluster.local",
        ),
        (
            namespaces(),
            Source::Unverified { address },
            "from[0].namespaces: [a] — the caller has no verified identity",
        ),
        (
            namespaces(),
            Source::Host { address },
            "from[0].namespaces: [a] — a process of the node has no identity",
        ),
        (
            Peer { identities: vec![exact], ..Peer::default() },
            web,
            "from[0].identities: [*/sa/api] — the caller is spiffe://cluster.local/ns/b/sa/web",
        ),
        (
            Peer { cidrs: network(), ..Peer::default() },
            web,
            "from[0].cidrs: [192.0.2.0/24] — the caller's address is 10.0.0.1",
        ),
        (
            Peer { except_cidrs: around(), anyone: true, ..Peer::default() },
            web,
            "from[0].exceptCidrs: [10.0.0.0/8] — the caller's address 10.0.0.1 is one of them",
        ),
        (
            Peer { except_cidrs: network(), ..Peer::default() },
            Source::Unverified { address },
            "from[0].exceptCidrs: [192.0.2.0/24] — an exception alone admits callers with a verified identity, \
             and the caller has no verified identity",
        ),
        (
            Peer { host: true, ..Peer::default() },
            web,
            "from[0].host: true — the caller is no process of the pod's own node",
        ),
        (Peer::default(), web, "from[0]: {} — it names nobody"),
    ] {
        assert_eq!(misses(peer, Action::Allow, source), [expected]);
    }
}

#[test]
fn fields_that_miss_are_all_told_and_one_entry_that_matches_is_enough() {
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let destination = destination();
    let source = Source::Unverified { address };
    let connection = Connection { source, destination: &destination, protocol: Protocol::Tcp, port: 80 };
    let to = |protocol, port| Destination { protocol, ports: vec![PortRange::single(port)] };
    let both = Rule { from: None, to: Some(vec![to(Protocol::Udp, 80), to(Protocol::Tcp, 443)]) };
    let said: Vec<_> = fields::rule(&both, Action::Allow, &connection).iter().map(Miss::to_string).collect();
    assert_eq!(
        said,
        [
            "from: absent — without `from` a rule admits callers with a verified identity, and the caller has no verified identity",
            "to[0].protocol: UDP — TCP is called",
            "to[1].ports: [443] — port 80 is called",
        ]
    );
    let one = Rule { from: None, to: Some(vec![to(Protocol::Udp, 80), to(Protocol::Tcp, 80)]) };
    assert_eq!(fields::rule(&one, Action::Deny, &connection), []);
}

#[test]
fn an_egress_rule_says_what_is_called_instead() {
    let source = pod(Mode::Strict, Egress::Mesh);
    let address = "192.0.2.7".parse().unwrap();
    let call = Call { source: &source, address, port: 443, protocol: Protocol::Tcp, in_mesh: false };
    let rule = EgressRule {
        cidrs: vec!["198.51.100.0/24".parse().unwrap()],
        except_cidrs: vec!["192.0.2.0/24".parse().unwrap()],
        ports: vec![PortRange { first: 8000, last: 8080 }],
        protocol: Some(Protocol::Udp),
    };
    let said: Vec<_> = fields::egress(&rule, &call).iter().map(Miss::to_string).collect();
    assert_eq!(
        said,
        [
            "protocol: UDP — TCP is called",
            "ports: [8000-8080] — port 443 is called",
            "cidrs: [198.51.100.0/24] — 192.0.2.7 is called",
            "exceptCidrs: [192.0.2.0/24] — 192.0.2.7 is called, which is one of them",
        ]
    );
}

#[test]
fn a_policy_that_does_not_select_a_pod_says_by_which_label() {
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let db = Workload { labels: labels(&[("app", "db")]), ..pod(Mode::Strict, Egress::Any) };
    let selector = Selector {
        match_labels: labels(&[("app", "web")]),
        match_expressions: vec![
            Requirement::In { key: "tier".into(), values: vec!["a".into(), "b".into()] },
            Requirement::NotIn { key: "app".into(), values: vec!["db".into()] },
            Requirement::DoesNotExist { key: "app".into() },
            Requirement::Exists { key: "app".into() },
        ],
    };
    let namespace_selector = Selector { match_labels: labels(&[("team", "x")]), ..Selector::default() };
    let id = PolicyId { namespace: None, name: "wide".into() };
    let wide =
        Policy { id, namespace_selector: Some(namespace_selector), selector, ..policy("", Vec::new()) };
    let said =
        |labels| -> Vec<String> { unselected(&wide, &db, labels).iter().map(ToString::to_string).collect() };
    let expected = [
        "namespaceSelector.matchLabels: {team: x} — the namespace shop has no label team",
        "selector.matchLabels: {app: web} — the pod has app: db",
        "selector.matchExpressions: tier In [a, b] — the pod has no label tier",
        "selector.matchExpressions: app NotIn [db] — the pod has app: db",
        "selector.matchExpressions: app DoesNotExist — the pod has app: db",
    ];
    assert_eq!(said(None), expected);
    assert_eq!(said(Some(&labels(&[("team", "x")]))), expected[1..]);
    assert_eq!(unselected(&policy("all", Vec::new()), &db, None), []);
}
