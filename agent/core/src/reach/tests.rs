//! Whom a called pod sees, and who decides.

use std::collections::BTreeMap;

use super::*;
use crate::model::Model;
use crate::policy::{Action, Peer, Policy, PolicyId, Reason, Rule, Selector, ServiceAccount};

fn pod(name: &str, node: &str, last: u8, mode: Mode) -> Workload {
    Workload {
        namespace: "shop".into(),
        name: name.into(),
        uid: name.into(),
        identity: SpiffeId::new("cluster.local", "shop", name).unwrap(),
        addresses: vec![IpAddr::from([10, 0, 0, last])],
        node: node.into(),
        mode,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: BTreeMap::new(),
        host_network: false,
        netns: None,
        owner_kind: "pod".into(),
        owner_name: name.into(),
    }
}

/// `db` on n1 takes `web` alone; `near` is beside it, `far` elsewhere, `plain` not enrolled, `agent` of n1's network.
fn snapshot(mode: Mode) -> Snapshot {
    let only_web = Policy {
        id: PolicyId { namespace: Some("shop".into()), name: "db".into() },
        action: Action::Allow,
        dry_run: false,
        namespace_selector: None,
        selector: Selector::default(),
        rules: vec![Rule {
            from: Some(vec![Peer {
                service_accounts: vec![ServiceAccount { namespace: "shop".into(), name: "web".into() }],
                ..Peer::default()
            }]),
            to: None,
        }],
        egress_only: false,
        egress: Vec::new(),
    };
    let workloads = vec![
        pod("db", "n1", 1, mode),
        pod("web", "n1", 2, mode),
        pod("far", "n2", 3, mode),
        pod("plain", "n1", 4, Mode::None),
        Workload { egress: Egress::Mesh, ..pod("kept", "n1", 5, mode) },
        Workload { host_network: true, ..pod("agent", "n1", 6, Mode::None) },
    ];
    Snapshot::build(1, Model { workloads, policies: vec![only_web], ..Model::default() }).unwrap()
}

/// What comes of a call, and who decides about it.
fn foreseen(
    snapshot: &Snapshot,
    from: &str,
    to: &str,
    protocol: Protocol,
    lane: bool,
) -> (bool, Reason, Decider) {
    let named = |name: &str| snapshot.workload_named("shop", name);
    let outside = IpAddr::from([192, 0, 2, 1]);
    let caller = match named(from) {
        Some(pod) => Caller::Pod(pod),
        None if from == "host" => Caller::Host { address: outside },
        None => Caller::Outside { address: outside },
    };
    let called = named(to).map_or(Called::Address(outside), |pod| Called::pod(pod));
    let attempt = Attempt { caller, called, port: 80, protocol, by_service: false };
    let outcome = reach(snapshot, &attempt);
    let verdict = outcome.verdict().unwrap();
    (verdict.allowed, verdict.reason, decider(snapshot, &attempt, &outcome, lane))
}

#[test]
fn who_is_seen_and_who_decides_follows_from_the_way() {
    use Decider::{Agent, CallersKernel, Kernel, Nobody};
    use Protocol::{Tcp, Udp};
    let strict = snapshot(Mode::Strict);
    for (from, to, protocol, lane, expected) in [
        ("web", "db", Tcp, true, (true, Reason::AllowMatch, Kernel)),
        ("web", "db", Tcp, false, (true, Reason::AllowMatch, Agent)),
        ("far", "db", Tcp, true, (false, Reason::NoAllowMatch, Agent)),
        ("web", "db", Udp, true, (true, Reason::AllowMatch, Kernel)),
        ("far", "db", Udp, true, (false, Reason::PlaintextInStrict, Kernel)),
        ("plain", "db", Tcp, true, (false, Reason::PlaintextInStrict, Kernel)),
        ("agent", "db", Tcp, true, (true, Reason::HostDefault, Kernel)),
        ("agent", "far", Tcp, true, (false, Reason::PlaintextInStrict, Kernel)),
        ("host", "db", Tcp, true, (true, Reason::HostDefault, Kernel)),
        ("nobody", "db", Tcp, true, (false, Reason::PlaintextInStrict, Kernel)),
        ("web", "plain", Tcp, true, (true, Reason::NotEnrolled, Nobody)),
        ("plain", "nowhere", Tcp, true, (true, Reason::NotEnrolled, Nobody)),
        ("db", "db", Tcp, true, (true, Reason::EgressAny, Nobody)),
        ("kept", "plain", Tcp, true, (false, Reason::EgressOutsideMesh, CallersKernel)),
        ("kept", "nowhere", Udp, true, (false, Reason::EgressOutsideMesh, CallersKernel)),
        ("kept", "kept", Tcp, true, (true, Reason::EgressInMesh, CallersKernel)),
    ] {
        assert_eq!(foreseen(&strict, from, to, protocol, lane), expected, "{from} {to} {protocol} {lane}");
    }
    let permissive = snapshot(Mode::Permissive);
    let plain = foreseen(&permissive, "plain", "db", Tcp, true);
    assert_eq!(plain, (false, Reason::NoAllowMatch, Agent));
    // What audit lets through is for the agent to report.
    let audit = foreseen(&snapshot(Mode::Audit), "kept", "db", Tcp, true);
    assert_eq!(audit, (true, Reason::Audit, Agent));
}

#[test]
fn a_process_of_a_node_that_dials_a_service_is_nobody() {
    let snapshot = snapshot(Mode::Strict);
    let db = snapshot.workload_named("shop", "db").unwrap();
    let agent = snapshot.workload_named("shop", "agent").unwrap();
    let web = snapshot.workload_named("shop", "web").unwrap();
    let host = Caller::Host { address: [10, 0, 0, 6].into() };
    for (caller, by_service, reason) in [
        (host, false, Reason::HostDefault),
        (host, true, Reason::PlaintextInStrict),
        (Caller::Pod(agent), true, Reason::PlaintextInStrict),
        (Caller::Pod(web), true, Reason::AllowMatch),
    ] {
        let attempt =
            Attempt { caller, called: Called::pod(db), port: 80, protocol: Protocol::Tcp, by_service };
        assert_eq!(reach(&snapshot, &attempt).verdict().unwrap().reason, reason, "{caller:?}");
    }
}

#[test]
fn an_address_of_the_family_that_is_called_is_the_callers() {
    let v6: IpAddr = "fd00::2".parse().unwrap();
    let both = Workload { addresses: vec![[10, 0, 0, 1].into(), v6], ..pod("both", "n1", 1, Mode::Strict) };
    assert_eq!(Caller::Pod(&both).address("fd00::9".parse().unwrap()), v6);
    assert_eq!(Caller::Pod(&both).address([10, 0, 0, 9].into()), IpAddr::from([10, 0, 0, 1]));
    let none = Workload { addresses: Vec::new(), ..both };
    assert_eq!(Caller::Pod(&none).address(v6), IpAddr::from(Ipv6Addr::UNSPECIFIED));
}
