//! The matrix and the comparison are what `reach` says of every single pair.

mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ambit_core::{
    Protocol, Snapshot, Verdict,
    reach::{Attempt, Called, Caller, reach},
};
use proptest::prelude::*;

use super::*;
use crate::control::convert::convert;
use crate::control::finding::Findings;
use crate::control::objects::Objects;
use random::Random;

/// Ports that the random policies name, their neighbours, and one that none names.
const PORTS: [u16; 7] = [1, 79, 80, 81, 82, 443, 60000];

/// Pairs of pods by caller's owner, called owner and port, with what comes of them.
type Pairs = BTreeMap<(String, String, u16), BTreeMap<Vec<String>, u64>>;

/// Asks about each pair of pods in every state.
fn pair_by_pair(states: &[&Snapshot], protocol: Protocol) -> Pairs {
    let mut pairs = Pairs::new();
    let last = states.last().unwrap();
    for caller in last.workloads() {
        for called in last.workloads().filter(|called| called.key() != caller.key()) {
            for port in PORTS {
                let summary = |state: &&Snapshot| -> Option<String> {
                    let caller = state.workload_named(&caller.namespace, &caller.name)?;
                    let called = Called::pod(state.workload_named(&called.namespace, &called.name)?);
                    let caller = Caller::Pod(caller);
                    let attempt = Attempt { caller, called, port, protocol, by_service: false };
                    reach(state, &attempt).verdict().map(Verdict::summary)
                };
                let Some(said) = states.iter().map(summary).collect::<Option<Vec<String>>>() else {
                    continue;
                };
                let key = (groups::owner(caller), groups::owner(called), port);
                *pairs.entry(key).or_default().entry(said).or_default() += 1;
            }
        }
    }
    pairs
}

/// What the classes say of the same.
fn by_classes(states: &[&Snapshot], protocol: Protocol) -> Pairs {
    let mut reached = Reached::new(states.to_vec(), protocol);
    let owners: BTreeSet<String> =
        reached.callers().filter(|caller| caller.contains('/')).map(str::to_owned).collect();
    let mut pairs = Pairs::new();
    let columns: Vec<Column> = (0..reached.columns()).flat_map(|index| reached.column(index)).collect();
    for column in columns.iter().filter(|column| owners.contains(column.to.as_ref())) {
        for port in PORTS {
            if !column.ports.iter().any(|range| (range.first..=range.last).contains(&port)) {
                continue;
            }
            for (from, cell) in column.cells.iter().filter(|(from, _)| owners.contains(from.as_ref())) {
                for (ends, tally) in cell {
                    let said = ends[..states.len()]
                        .iter()
                        .map(|number| reached.verdicts.get(*number).unwrap().summary());
                    let key = (from.to_string(), column.to.to_string(), port);
                    *pairs.entry(key).or_default().entry(said.collect()).or_default() += tally.pairs;
                }
            }
        }
    }
    pairs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_matrix_is_what_each_pair_comes_to(seed in any::<u64>(), udp in any::<bool>()) {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let state = Random::new(seed).snapshot();
        prop_assert_eq!(by_classes(&[&state], protocol), pair_by_pair(&[&state], protocol));
    }

    #[test]
    fn a_comparison_is_what_each_pair_comes_to_before_and_after(seed in any::<u64>(), udp in any::<bool>()) {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let mut random = Random::new(seed);
        let before = random.snapshot();
        let after = random.changed(&before);
        let states = [&before, &after];
        prop_assert_eq!(by_classes(&states, protocol), pair_by_pair(&states, protocol));
        let allows = |said: &str| said.starts_with("allowed");
        let turned: BTreeSet<(String, String)> = pair_by_pair(&states, protocol)
            .into_iter()
            .filter(|(_, cell)| cell.keys().any(|said| allows(&said[0]) != allows(&said[1])))
            .map(|((from, to, _), _)| (from, to))
            .collect();
        let told: BTreeSet<(String, String)> = compare(&before, &after, &Protocol::ALL)
            .calls
            .into_iter()
            .filter(|calls| calls.protocol == protocol.as_str() && calls.from.contains('/'))
            .filter(|calls| !calls.to.starts_with("outside") && !calls.from.starts_with("outside"))
            .map(|calls| (calls.from, calls.to))
            .collect();
        prop_assert_eq!(told, turned);
    }

    #[test]
    fn nothing_changes_between_equal_states(seed in any::<u64>()) {
        let state = Random::new(seed).snapshot();
        let changes = compare(&state, &state, &Protocol::ALL);
        prop_assert!(changes.calls.is_empty() && changes.lines.is_empty() && changes.only_in_one.is_empty());
    }
}

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: n1, serviceAccountName: web, containers: []}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db}}
spec: {nodeName: n1, serviceAccountName: db, containers: []}
status: {podIP: 10.0.0.3}
---
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [5432]}]
";

fn objects(text: &str) -> Objects {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    objects.read_file(Path::new("in.yaml"), text.as_bytes(), &mut findings);
    assert_eq!(findings.errors, []);
    objects
}

fn snapshot(objects: &Objects) -> Snapshot {
    let mut findings = Findings::default();
    let snapshot = convert(objects, "cluster.local", 1, &mut findings);
    assert_eq!(findings.errors, []);
    snapshot.unwrap()
}

/// The lines of a comparison: called, ports, callers, reasons before and after.
fn told(with: &str, without: &[&str]) -> Vec<[String; 5]> {
    let before = objects(SHOP);
    let mut after = before.clone();
    for named in without {
        take(&mut after, named).unwrap();
    }
    put(&mut after, objects(with));
    let changes = compare(&snapshot(&before), &snapshot(&after), &Protocol::ALL);
    let line = |line: &Line| {
        let ports = format!("{} {}", line.protocols, line.ports);
        let texts = [&line.to, &ports, &line.from, line.now.reason, line.then.as_ref().unwrap().reason];
        texts.map(|text| text.to_string())
    };
    changes.lines.iter().map(line).collect()
}

const STRICT: &str =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {ambit.dev/mode: strict}}\n";

#[test]
fn a_label_says_who_would_be_refused_where_and_why() {
    let lines = told(STRICT, &[]);
    let row = |texts: [&str; 5]| texts.map(str::to_owned);
    assert_eq!(
        lines,
        [
            row(["shop/db", "TCP 5432", "outside", "not-enrolled", "plaintext-in-strict"]),
            row(["shop/db", "TCP all but 5432", "shop/web", "not-enrolled", "no-allow-match"]),
            row(["shop/db", "TCP all but 5432", "outside", "not-enrolled", "plaintext-in-strict"]),
            row(["shop/web", "TCP, UDP all", "outside", "not-enrolled", "plaintext-in-strict"]),
            row(["shop/db", "UDP all", "shop/web", "not-enrolled", "no-allow-match"]),
            row(["shop/db", "UDP all", "outside", "not-enrolled", "plaintext-in-strict"]),
        ]
    );
}

#[test]
fn objects_are_replaced_added_and_taken_away() {
    let pod_label =
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: db, labels: {app: other}}\n";
    // Nothing is enrolled, so that only the label of a pod and the policy make no difference.
    assert_eq!(told(pod_label, &["AccessPolicy/shop/db"]), Vec::<[String; 5]>::new());
    let before = objects(&format!("{STRICT}---{}", SHOP.trim_start().split_once("---").unwrap().1));
    for (with, without, expected) in [
        (pod_label, None, "no-policy"),
        ("", Some("AccessPolicy/shop/db"), "no-policy"),
        ("", Some("accesspolicy/shop/db"), "no-policy"),
        ("", Some("Namespace/shop"), "not-enrolled"),
    ] {
        let mut after = before.clone();
        if let Some(named) = without {
            take(&mut after, named).unwrap();
        }
        if !with.is_empty() {
            put(&mut after, objects(with));
        }
        let changes = compare(&snapshot(&before), &snapshot(&after), &Protocol::ALL);
        let widened = changes.calls.iter().find(|calls| calls.from == "shop/web" && calls.to == "shop/db");
        assert_eq!(widened.unwrap().then.as_ref().unwrap().reason, expected, "{with} {without:?}");
        assert_eq!((changes.pairs(Direction::Widened) > 0, changes.pairs(Direction::Narrowed)), (true, 0));
    }
}

#[test]
fn pods_that_come_or_go_are_named_and_not_compared() {
    let (before, mut after) = (objects(SHOP), objects(SHOP));
    take(&mut after, "Pod/shop/web").unwrap();
    let new =
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: new}\nstatus: {podIP: 10.0.0.9}\n";
    put(&mut after, objects(new));
    let changes = compare(&snapshot(&before), &snapshot(&after), &Protocol::ALL);
    assert_eq!(changes.only_in_one, ["shop/new", "shop/web"]);
}

#[test]
fn what_cannot_be_taken_away_says_what_there_is() {
    let mut there = objects(SHOP);
    for (named, expected) in [
        ("AccessPolicy/shop/dbb", "there is no AccessPolicy of that name; did you mean `shop/db`?"),
        ("AccesPolicy/shop/db", "did you mean `AccessPolicy`?"),
        ("AccessPolicy/db", "write KIND/NAMESPACE/NAME"),
        ("ClusterAccessPolicy/a/b", "write KIND/NAMESPACE/NAME"),
        ("ClusterAccessPolicy/wide", "there is no ClusterAccessPolicy of that name"),
        ("Pod/shop/", "there is no Pod of that name"),
        ("db", "write KIND/NAMESPACE/NAME"),
    ] {
        let error = take(&mut there, named).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--without {named}: ")) && error.contains(expected), "{error}");
    }
}

#[test]
fn egress_shows_as_calls_to_the_outside() {
    let mesh = "apiVersion: v1\nkind: Namespace\n\
                metadata: {name: shop, labels: {ambit.dev/mode: permissive, ambit.dev/egress: mesh}}\n---\n\
                apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: shop, name: out}\n\
                spec: {egress: [{cidrs: [192.0.2.0/24], ports: [443]}]}\n";
    let lines: Vec<[String; 5]> = told(mesh, &["AccessPolicy/shop/db"])
        .into_iter()
        .filter(|line| line[0].starts_with("outside"))
        .collect();
    let row = |to: &str, ports: &str| {
        [to, ports, "shop/*", "not-enrolled", "egress-outside-mesh"].map(str::to_owned)
    };
    assert_eq!(
        lines,
        [
            row("outside", "TCP, UDP all"),
            row("outside 192.0.2.0/24", "TCP all but 443"),
            row("outside 192.0.2.0/24", "UDP all"),
        ]
    );
}
