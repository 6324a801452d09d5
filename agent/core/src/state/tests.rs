//! Tests of `state`.

use std::time::{Duration, Instant};

use super::*;
use crate::identity::SpiffeId;
use crate::model::{Egress, Endpoint};
use crate::policy::{Reason, Requirement, Source};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn pod(namespace: &str, name: &str, address_text: &str) -> Workload {
    Workload {
        namespace: namespace.into(),
        name: name.into(),
        uid: "1".into(),
        identity: SpiffeId::new("cluster.local", namespace, "default").unwrap(),
        addresses: vec![address(address_text)],
        node: "n1".into(),
        mode: Mode::Strict,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: labels(&[("app", name)]),
        host_network: false,
        netns: None,
        owner_kind: "pod".into(),
        owner_name: name.into(),
    }
}

fn service(name: &str, vip: &str, endpoints: &[&str]) -> Service {
    let endpoints = endpoints.iter().map(|text| Endpoint { address: address(text), port: 8080, ready: true });
    let ports = vec![ServicePort { name: None, port: 80, endpoints: endpoints.collect() }];
    Service { namespace: "shop".into(), name: name.into(), vips: vec![address(vip)], ports }
}

fn policy(namespace: Option<&str>, name: &str) -> Policy {
    Policy {
        id: PolicyId { namespace: namespace.map(str::to_owned), name: name.into() },
        action: Action::Allow,
        dry_run: false,
        namespace_selector: None,
        selector: Selector::default(),
        rules: Vec::new(),
        egress_only: false,
        egress: Vec::new(),
    }
}

fn names(policies: &[Arc<Policy>]) -> Vec<&str> {
    policies.iter().map(|policy| policy.id.name.as_str()).collect()
}

#[test]
fn two_pods_with_one_address_are_refused_and_named() {
    let model = Model {
        workloads: vec![pod("shop", "a", "10.0.0.1"), pod("shop", "b", "::ffff:10.0.0.1")],
        ..Model::default()
    };
    let errors = Snapshot::build(1, model).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "pods shop/a and shop/b have the same address 10.0.0.1");
}

#[test]
fn host_network_pods_share_an_address_and_are_not_found_by_it() {
    let host = |name| Workload { host_network: true, mode: Mode::None, ..pod("shop", name, "192.168.0.1") };
    let model = Model { workloads: vec![host("a"), host("b")], ..Model::default() };
    let snapshot = Snapshot::build(1, model).unwrap();
    assert!(snapshot.workload(address("192.168.0.1")).is_none());
    assert!(snapshot.workload_named("shop", "b").is_some());
}

#[test]
fn every_contradiction_is_reported() {
    let model = Model {
        workloads: vec![pod("shop", "a", "10.0.0.1"), pod("shop", "a", "10.0.0.2")],
        services: vec![
            service("x", "10.96.0.1", &[]),
            service("y", "10.96.0.1", &[]),
            service("z", "10.0.0.1", &[]),
            service("z", "10.96.0.3", &[]),
        ],
        policies: vec![policy(Some("shop"), "p"), policy(Some("shop"), "p")],
        ..Model::default()
    };
    let errors: Vec<String> =
        Snapshot::build(1, model).unwrap_err().iter().map(ModelError::to_string).collect();
    assert_eq!(
        errors,
        [
            "service shop/y has the address 10.96.0.1, which is that of service shop/x",
            "service shop/z has the address 10.0.0.1, which is that of pod shop/a",
            "service shop/z is defined twice",
            "AccessPolicy shop/p is defined twice",
            "pod shop/a is defined twice",
        ]
    );
}

#[test]
fn policies_select_by_namespace_and_labels() {
    let selecting = |mut policy: Policy, pairs: &[(&str, &str)]| {
        policy.selector.match_labels = labels(pairs);
        policy
    };
    let in_tier = Policy {
        namespace_selector: Some(Selector {
            match_labels: labels(&[("tier", "front")]),
            ..Selector::default()
        }),
        ..policy(None, "c-tier")
    };
    let not_web = Policy {
        selector: Selector {
            match_expressions: vec![Requirement::NotIn { key: "app".into(), values: vec!["web".into()] }],
            ..Selector::default()
        },
        ..policy(None, "c-not-web")
    };
    let model = Model {
        workloads: vec![
            pod("shop", "web", "10.0.0.1"),
            pod("shop", "db", "10.0.0.2"),
            pod("bank", "web", "10.0.0.3"),
        ],
        policies: vec![
            policy(Some("shop"), "all"),
            selecting(policy(Some("shop"), "web"), &[("app", "web")]),
            selecting(policy(Some("shop"), "both"), &[("app", "web"), ("x", "y")]),
            policy(None, "c-all"),
            in_tier,
            not_web,
        ],
        namespaces: [("shop".to_owned(), labels(&[("tier", "front")]))].into(),
        ..Model::default()
    };
    let snapshot = Snapshot::build(1, model).unwrap();
    let of = |namespace, name| names(snapshot.policies_of(snapshot.workload_named(namespace, name).unwrap()));
    assert_eq!(of("shop", "web"), ["c-all", "c-tier", "all", "web"]);
    assert_eq!(of("shop", "db"), ["c-all", "c-not-web", "c-tier", "all"]);
    assert_eq!(of("bank", "web"), ["c-all"]);
}

#[test]
fn a_pod_that_the_snapshot_does_not_know_is_closed() {
    let stranger = pod("shop", "stranger", "10.0.0.9");
    let caller = SpiffeId::new("cluster.local", "shop", "default").unwrap();
    let source = Source::Identity { id: &caller, address: address("10.0.0.1") };
    let verdict = Snapshot::empty().evaluate(&Connection {
        source,
        destination: &stranger,
        protocol: Protocol::Tcp,
        port: 80,
    });
    assert_eq!((verdict.allowed, verdict.reason), (false, Reason::NoAllowMatch));
}

#[test]
fn the_kernel_is_told_enrolled_pods_and_services_with_enrolled_endpoints() {
    let model = Model {
        workloads: vec![
            pod("shop", "a", "10.0.0.1"),
            Workload { mode: Mode::None, ..pod("shop", "b", "10.0.0.2") },
            Workload { mode: Mode::Audit, ..pod("shop", "c", "fd00::3") },
        ],
        services: vec![
            service("mixed", "10.96.0.1", &["10.0.0.2", "10.0.0.1"]),
            service("outside", "10.96.0.2", &["10.0.0.2", "192.0.2.1"]),
            service("six", "fd00:96::1", &["fd00::3"]),
        ],
        ..Model::default()
    };
    let snapshot = Snapshot::build(1, model).unwrap();
    let expected = [("10.0.0.1", 0), ("10.96.0.1", 80), ("fd00::3", 0), ("fd00:96::1", 80)];
    assert_eq!(snapshot.redirect_destinations(), expected.map(|(text, port)| (address(text), port)));
}

#[test]
fn building_does_not_try_every_policy_on_every_pod() {
    let mut model = Model::default();
    for index in 0..10_000 {
        let namespace = format!("ns{}", index % 2_000);
        let mut named = policy(Some(&namespace), &format!("p{index}"));
        named.selector.match_labels = labels(&[("app", &format!("pod{index}"))]);
        model.policies.push(named);
        let text = format!("10.{}.{}.{}", index / 65_536, index / 256 % 256, index % 256);
        model.workloads.push(pod(&namespace, &format!("pod{index}"), &text));
        let mut cluster_wide = policy(None, &format!("c{index}"));
        cluster_wide.selector.match_labels = labels(&[("app", &format!("pod{index}"))]);
        model.policies.push(cluster_wide);
    }
    let started = Instant::now();
    let snapshot = Snapshot::build(1, model).unwrap();
    // Twenty thousand policies times ten thousand pods would take minutes.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let selected = snapshot.policies_of(snapshot.workload_named("ns7", "pod4007").unwrap());
    assert_eq!(names(selected), ["c4007", "p4007"]);
}
