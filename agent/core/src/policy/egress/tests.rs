//! The rules of egress, one test each.

use std::collections::BTreeMap;

use super::*;
use crate::identity::SpiffeId;
use crate::policy::{Action, PolicyId, Selector};

pub(in crate::policy) fn pod(mode: Mode, egress: Egress) -> Workload {
    Workload {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "1".into(),
        identity: SpiffeId::new("cluster.local", "shop", "web").unwrap(),
        addresses: vec!["10.1.0.1".parse().unwrap()],
        node: "n1".into(),
        mode,
        mode_problem: None,
        egress,
        egress_problem: None,
        labels: BTreeMap::new(),
        host_network: false,
        netns: None,
        owner_kind: "pod".into(),
        owner_name: "web".into(),
    }
}

pub(in crate::policy) fn policy(name: &str, egress: Vec<EgressRule>) -> Policy {
    Policy {
        id: PolicyId { namespace: Some("shop".into()), name: name.into() },
        action: Action::Allow,
        dry_run: false,
        namespace_selector: None,
        selector: Selector::default(),
        rules: Vec::new(),
        egress_only: true,
        egress,
    }
}

fn rule(cidr: &str) -> EgressRule {
    EgressRule { cidrs: vec![cidr.parse().unwrap()], ..EgressRule::default() }
}

fn decide(source: &Workload, policies: &[Policy], to: (&str, u16, Protocol), in_mesh: bool) -> Verdict {
    let policies: Vec<_> = policies.iter().cloned().map(Arc::new).collect();
    let (address, port, protocol) = (to.0.parse().unwrap(), to.1, to.2);
    evaluate_egress(&policies, &Call { source, address, port, protocol, in_mesh })
}

const DATABASE: (&str, u16, Protocol) = ("192.0.2.7", 5432, Protocol::Tcp);

#[test]
fn the_mode_and_the_label_decide_before_any_rule() {
    for (mode, egress, in_mesh, allowed, reason) in [
        (Mode::None, Egress::Mesh, false, true, Reason::NotEnrolled),
        (Mode::Strict, Egress::Any, false, true, Reason::EgressAny),
        (Mode::Audit, Egress::Any, false, true, Reason::EgressAny),
        (Mode::Strict, Egress::Mesh, true, true, Reason::EgressInMesh),
        (Mode::Strict, Egress::Mesh, false, false, Reason::EgressOutsideMesh),
        (Mode::Permissive, Egress::Mesh, false, false, Reason::EgressOutsideMesh),
        (Mode::Audit, Egress::Mesh, false, true, Reason::Audit),
    ] {
        let verdict = decide(&pod(mode, egress), &[], DATABASE, in_mesh);
        assert_eq!((verdict.allowed, verdict.reason), (allowed, reason), "{mode} {egress} {in_mesh}");
        assert_eq!(verdict.would_refuse.is_some(), reason == Reason::Audit);
    }
}

#[test]
fn a_rule_admits_what_all_its_fields_name() {
    let database = EgressRule {
        except_cidrs: vec!["192.0.2.8/32".parse().unwrap()],
        ports: vec![PortRange::single(5432), PortRange { first: 8000, last: 8080 }],
        protocol: Some(Protocol::Tcp),
        ..rule("192.0.2.0/24")
    };
    let policies = [policy("db", vec![rule("198.51.100.0/24"), database])];
    for (address, port, protocol, rule) in [
        ("192.0.2.7", 5432, Protocol::Tcp, Some(1)),
        ("::ffff:192.0.2.7", 5432, Protocol::Tcp, Some(1)),
        ("192.0.2.7", 8080, Protocol::Tcp, Some(1)),
        ("192.0.2.7", 8081, Protocol::Tcp, None),
        ("192.0.2.7", 5432, Protocol::Udp, None),
        ("192.0.2.8", 5432, Protocol::Tcp, None),
        ("192.0.3.7", 5432, Protocol::Tcp, None),
        ("2001:db8::7", 5432, Protocol::Tcp, None),
        ("198.51.100.1", 1, Protocol::Tcp, Some(0)),
        ("198.51.100.1", 1, Protocol::Udp, Some(0)),
    ] {
        let source = pod(Mode::Strict, Egress::Mesh);
        let verdict = decide(&source, &policies, (address, port, protocol), false);
        assert_eq!((verdict.allowed, verdict.rule), (rule.is_some(), rule), "{address} {port} {protocol}");
    }
}

#[test]
fn the_summary_names_policy_and_egress_rule() {
    let source = pod(Mode::Strict, Egress::Mesh);
    let allowed = decide(&source, &[policy("db", vec![rule("192.0.2.0/24")])], DATABASE, false);
    assert!(allowed.summary().ends_with("(AccessPolicy shop/db, egress[0])"), "{}", allowed.summary());
    let refused = decide(&source, &[], DATABASE, false);
    assert_eq!(refused.summary(), format!("refused: {}", Reason::EgressOutsideMesh));
}

#[test]
fn a_rule_under_dry_run_admits_nothing_and_is_named() {
    let planned = Policy { dry_run: true, ..policy("planned", vec![rule("192.0.2.0/24")]) };
    let source = pod(Mode::Strict, Egress::Mesh);
    let verdict = decide(&source, std::slice::from_ref(&planned), DATABASE, false);
    assert!(!verdict.allowed);
    assert!(verdict.summary().contains("without dryRun, allow"), "{}", verdict.summary());
    let enforced = policy("now", vec![rule("192.0.2.0/24")]);
    for policies in [[planned.clone(), enforced.clone()], [enforced, planned]] {
        let verdict = decide(&source, &policies, DATABASE, false);
        assert_eq!((verdict.allowed, verdict.dry_run), (true, Vec::new()));
        assert_eq!(verdict.policy.unwrap().name, "now");
    }
}
