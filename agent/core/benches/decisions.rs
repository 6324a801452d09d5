//! How long decisions take, and what they are made against: `cargo bench -p ambit-core`. It asserts nothing.
// divan::main writes a function that nobody documents.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ambit_core::policy::{PolicySet, compile};
use ambit_core::{
    Action, Connection, Destination, Egress, Mode, Model, Peer, Policy, PolicyId, PortRange, Protocol, Rule,
    Selector, ServiceAccount, Snapshot, Source, SpiffeId, Workload,
};
use divan::{Bencher, black_box};

/// Policies that select one pod.
const POLICIES: [usize; 4] = [1, 10, 1000, 10_000];
/// Pods of a mesh, a hundred a node.
const WORKLOADS: [usize; 3] = [1000, 10_000, 100_000];

fn main() {
    divan::main();
}

/// The caller that the last of the policies admits, which is the dearest to find.
#[divan::bench(args = POLICIES)]
fn evaluate_allowed(bencher: Bencher<'_, '_>, count: usize) {
    evaluated(bencher, count, count.saturating_sub(1), true);
}

/// A caller that no policy admits.
#[divan::bench(args = POLICIES)]
fn evaluate_refused(bencher: Bencher<'_, '_>, count: usize) {
    evaluated(bencher, count, count, false);
}

fn evaluated(bencher: Bencher<'_, '_>, count: usize, caller: usize, allowed: bool) {
    let policies = policies(count, false);
    let (caller, server) = (workload(caller), workload(usize::MAX));
    let source = Source::Identity { id: &caller.identity, address: caller.addresses[0] };
    let connection = Connection { source, destination: &server, protocol: Protocol::Tcp, port: 80 };
    assert_eq!(policies.evaluate(&connection).allowed, allowed);
    bencher.bench(|| black_box(&policies).evaluate(black_box(&connection)));
}

/// What the kernel is given for one pair of pods.
#[divan::bench(args = POLICIES)]
fn compile_without_ports(bencher: Bencher<'_, '_>, count: usize) {
    compiled(bencher, count, false);
}

/// As before, and every policy names a port of its own.
#[divan::bench(args = [1, 10, 100, 1000])]
fn compile_each_with_a_port(bencher: Bencher<'_, '_>, count: usize) {
    compiled(bencher, count, true);
}

fn compiled(bencher: Bencher<'_, '_>, count: usize, ports: bool) {
    let policies = policies(count, ports);
    let (caller, server) = (workload(count / 2), workload(usize::MAX));
    bencher.bench(|| compile(black_box(&policies), &caller, &server, Protocol::Tcp));
}

/// A snapshot of so many pods and a policy for every hundred of them.
#[divan::bench(args = WORKLOADS, sample_count = 10)]
fn build_snapshot(bencher: Bencher<'_, '_>, count: usize) {
    let model = Model {
        workloads: (0..count).map(workload).collect(),
        policies: policies(count / 100, false).iter().map(|policy| policy.as_ref().clone()).collect(),
        ..Model::default()
    };
    bencher.with_inputs(|| model.clone()).bench_values(|model| Snapshot::build(1, model));
}

/// Policies that each admit the pod of their number, on every port or on one of their own.
fn policies(count: usize, ports: bool) -> PolicySet {
    let policy = |number: usize| {
        let account = ServiceAccount { namespace: "shop".to_owned(), name: format!("app-{number}") };
        let port = u16::try_from(number % 60_000).unwrap_or_default() + 1;
        let range = PortRange { first: port, last: port };
        let to = ports.then(|| vec![Destination { protocol: Protocol::Tcp, ports: vec![range] }]);
        let peer = Peer { service_accounts: vec![account], ..Peer::default() };
        Arc::new(Policy {
            id: PolicyId { namespace: Some("shop".to_owned()), name: format!("policy-{number:06}") },
            action: Action::Allow,
            dry_run: false,
            namespace_selector: None,
            selector: Selector {
                match_labels: BTreeMap::from([("app".to_owned(), format!("app-{number}"))]),
                match_expressions: Vec::new(),
            },
            rules: vec![Rule { from: Some(vec![peer]), to }],
            egress_only: false,
            egress: Vec::new(),
        })
    };
    (0..count).map(policy).collect()
}

fn workload(number: usize) -> Workload {
    let app = format!("app-{number}");
    let last = u32::try_from(number % (1 << 24)).unwrap_or_default();
    Workload {
        namespace: "shop".to_owned(),
        name: app.clone(),
        uid: format!("uid-{number}"),
        identity: SpiffeId::new("cluster.local", "shop", &app).expect("the names are valid"),
        addresses: vec![IpAddr::V4(Ipv4Addr::from((10 << 24) | last))],
        node: format!("node-{}", number / 100),
        mode: Mode::Strict,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: BTreeMap::from([("app".to_owned(), app.clone()), ("tier".to_owned(), "backend".to_owned())]),
        host_network: false,
        netns: None,
        owner_kind: "deployment".to_owned(),
        owner_name: app,
    }
}
