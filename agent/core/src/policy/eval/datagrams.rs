//! The rules of evaluation for UDP, one test each.

use std::sync::Arc;

use super::tests::{account, anyone, pod, policy};
use super::*;
use crate::policy::{Destination, Peer, PortRange, Rule};

fn rule(from: Peer, to: Option<(Protocol, Vec<PortRange>)>) -> Rule {
    let to = to.map(|(protocol, ports)| vec![Destination { protocol, ports }]);
    Rule { from: Some(vec![from]), to }
}

fn udp(from: Peer) -> Rule {
    rule(from, Some((Protocol::Udp, Vec::new())))
}

fn decide(mode: Mode, policies: &[Policy], source: Source<'_>, protocol: Protocol, port: u16) -> Verdict {
    let policies: Vec<_> = policies.iter().cloned().map(Arc::new).collect();
    evaluate(&policies, &Connection { source, destination: &pod(mode), protocol, port })
}

fn stranger() -> Source<'static> {
    Source::Unverified { address: "192.0.2.7".parse().unwrap() }
}

#[test]
fn a_stranger_reaches_a_strict_pod_only_by_a_rule_that_names_udp() {
    let net = Peer { cidrs: vec!["192.0.2.0/24".parse().unwrap()], ..Peer::default() };
    let other = Peer { cidrs: vec!["198.51.100.0/24".parse().unwrap()], ..Peer::default() };
    let one_port = rule(anyone(), Some((Protocol::Udp, vec![PortRange::single(53)])));
    for (rules, allowed) in [
        (vec![udp(anyone())], true),
        (vec![one_port.clone()], true),
        (vec![udp(net)], true),
        (vec![udp(other)], false),
        (vec![rule(anyone(), None)], false),
        (vec![rule(anyone(), None), one_port], true),
        (vec![rule(anyone(), Some((Protocol::Tcp, Vec::new())))], false),
        (vec![udp(account("shop", "api"))], false),
        (vec![], false),
    ] {
        let policies = [policy("allow", Action::Allow, rules.clone())];
        let verdict = decide(Mode::Strict, &policies, stranger(), Protocol::Udp, 53);
        let reason = if allowed { Reason::AllowMatch } else { Reason::PlaintextInStrict };
        assert_eq!((verdict.allowed, verdict.reason), (allowed, reason), "{rules:?}");
        let tcp = decide(Mode::Strict, &policies, stranger(), Protocol::Tcp, 53);
        assert_eq!(tcp.reason, Reason::PlaintextInStrict, "{rules:?}");
    }
    assert!(!decide(Mode::Strict, &[], stranger(), Protocol::Udp, 53).allowed);
}

#[test]
fn the_verdict_names_the_rule_that_names_udp() {
    let allow = policy("allow", Action::Allow, vec![rule(anyone(), None), udp(anyone())]);
    let verdict = decide(Mode::Strict, &[allow], stranger(), Protocol::Udp, 53);
    assert_eq!(verdict.rule, Some(1));
}

#[test]
fn deny_beats_a_rule_that_names_udp() {
    let allow = policy("allow", Action::Allow, vec![udp(anyone())]);
    let deny = policy("deny", Action::Deny, vec![rule(anyone(), None)]);
    let verdict = decide(Mode::Strict, &[allow, deny], stranger(), Protocol::Udp, 53);
    assert_eq!((verdict.allowed, verdict.reason), (false, Reason::DenyMatch));
}

#[test]
fn a_rule_speaks_of_its_protocol_only() {
    let id = SpiffeId::new("cluster.local", "shop", "api").unwrap();
    let api = Source::Identity { id: &id, address: "10.1.0.2".parse().unwrap() };
    let ports = |protocol| Some((protocol, vec![PortRange::single(53)]));
    let api_account = || account("shop", "api");
    for (to, tcp, udp) in [
        (ports(Protocol::Tcp), true, false),
        (ports(Protocol::Udp), false, true),
        (Some((Protocol::Udp, Vec::new())), false, true),
        (None, true, true),
    ] {
        let allow = [policy("allow", Action::Allow, vec![rule(api_account(), to.clone())])];
        let deny = [policy("deny", Action::Deny, vec![rule(api_account(), to)])];
        for (protocol, named) in [(Protocol::Tcp, tcp), (Protocol::Udp, udp)] {
            assert_eq!(decide(Mode::Strict, &allow, api, protocol, 53).allowed, named, "{protocol}");
            assert_eq!(decide(Mode::Strict, &deny, api, protocol, 53).allowed, !named, "{protocol}");
        }
    }
}

#[test]
fn a_rule_under_dry_run_admits_no_datagram_and_is_named() {
    let allow = Policy { dry_run: true, ..policy("allow", Action::Allow, vec![udp(anyone())]) };
    let verdict = decide(Mode::Strict, &[allow], stranger(), Protocol::Udp, 53);
    assert_eq!((verdict.allowed, verdict.reason), (false, Reason::PlaintextInStrict));
    assert_eq!(verdict.dry_run.len(), 1);
    assert!(verdict.dry_run[0].allowed);
}
