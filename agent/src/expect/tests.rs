//! What holds and what does not, and what cannot be asked.

use std::path::Path;

use super::*;
use crate::control::convert::convert;
use crate::control::objects::Objects;

/// `mul` takes `fan`; `add` is beside it, `far` is of another namespace; `plain` is not enrolled; two pods serve `mixed`,
/// and one of them takes nobody.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: calc, labels: {ambit.dev/mode: permissive}}
---
apiVersion: v1
kind: Namespace
metadata: {name: far, labels: {ambit.dev/mode: strict}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: calc, name: mul-1, labels: {app: mul}}, spec: {nodeName: a, serviceAccountName: mul, containers: []}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: calc, name: mul-2, labels: {app: mul}}, spec: {nodeName: b, serviceAccountName: mul, containers: []}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: calc, name: fan, labels: {app: fan}}, spec: {nodeName: b, serviceAccountName: fan, containers: []}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: calc, name: add, labels: {app: add, odd: "yes"}}, spec: {nodeName: a, serviceAccountName: add, containers: []}, status: {podIP: 10.0.0.4}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: far, name: away, labels: {app: away}}, spec: {nodeName: b, serviceAccountName: away, containers: []}, status: {podIP: 10.0.1.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: plain, name: pod}, spec: {nodeName: b, containers: []}, status: {podIP: 10.0.2.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: plain, name: proxy}, spec: {nodeName: a, hostNetwork: true, containers: []}, status: {podIP: 10.9.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: calc, name: mul}, spec: {clusterIP: 10.96.0.1, selector: {app: mul}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: calc, name: add}, spec: {clusterIP: 10.96.0.3, selector: {app: fan}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: calc, name: mixed}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {namespace: calc, name: mixed, labels: {kubernetes.io/service-name: mixed}}
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.4]}]
---
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: calc, name: mul}
spec:
  selector: {matchLabels: {app: mul}}
  rules:
  - from: [{serviceAccounts: [fan]}, {cidrs: [192.0.2.0/24], exceptCidrs: [192.0.2.128/25]}]
    to: [{ports: [8080]}]
---
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: calc, name: nobody}
spec: {selector: {matchLabels: {odd: "yes"}}, rules: []}
"#;

fn snapshot() -> Snapshot {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    objects.read_file(Path::new("objects.yaml"), OBJECTS.as_bytes(), &mut findings);
    let snapshot = convert(&objects, "cluster.local", 1, &mut findings);
    assert_eq!(findings.errors, []);
    snapshot.unwrap()
}

/// Runs one test, with these lines under its name.
fn ask(lines: &str) -> Result<Tested, Vec<String>> {
    let text = format!("tests:\n- name: t\n  {}\n", lines.replace('\n', "\n  "));
    let mut findings = Findings::default();
    let sheet = read(Path::new("t.yaml"), text.as_bytes(), &mut findings);
    let tested = sheet.and_then(|sheet| run(&snapshot(), "cluster.local", &sheet.tests[0], &mut findings));
    match tested {
        Some(tested) if findings.errors.is_empty() => Ok(tested),
        _ => Err(findings.errors.iter().map(Finding::to_string).collect()),
    }
}

/// A test's failures, as `from to port expected got`, and how many calls it asks about.
fn failures(lines: &str) -> (usize, Vec<String>) {
    let tested = ask(lines).unwrap_or_else(|errors| panic!("{lines}: {errors:#?}"));
    assert_eq!(tested.ok, tested.failures.is_empty());
    let told = tested.failures.iter().map(|failure| {
        let Failure { from, to, port, expected, got, .. } = failure;
        format!("{from} {to} {port} {expected:?} {got:?}")
    });
    (tested.calls, told.collect())
}

#[test]
fn what_is_expected_is_held_against_what_explain_says() {
    for (lines, calls, expected) in [
        (
            "to: calc/mul-1\nport: 8080\nallow: [calc/fan]\nrefuse: [calc/add, far/away, plain/pod]",
            4,
            &[][..],
        ),
        ("to: calc/mul\nport: 80\nallow: [calc/fan, 192.0.2.1]\nrefuse: [192.0.2.129, 203.0.113.7]", 4, &[]),
        ("to: calc/mul-1\nports: [8080, 9]\nallow: [calc/fan]", 2, &["calc/fan calc/mul-1 9 Allow Refuse"]),
        ("to: calc/mul-1\nport: 8080\nrefuse: [calc/fan]", 1, &["calc/fan calc/mul-1 8080 Refuse Allow"]),
        // An identity is every pod that has it.
        (
            "to: calc/fan\nport: 1\nrefuse: [\"spiffe://cluster.local/ns/calc/sa/mul\"]",
            2,
            &["calc/mul-1 calc/fan 1 Refuse Allow", "calc/mul-2 calc/fan 1 Refuse Allow"],
        ),
        ("to: calc/mul-1\nport: 8080\nrefuse: [\"spiffe://other.org/ns/calc/sa/fan\"]", 1, &[]),
        // A pattern leaves out what is called, and whom a name speaks of.
        ("to: calc/mul-1\nport: 8080\nallow: [calc/fan]\nrefuse: [\"calc/*\", \"*/away\"]", 4, &[]),
        ("to: \"calc/mul-*\"\nport: 8080\nallow: [calc/fan]\nrefuse: [\"calc/*\"]", 6, &[]),
        // A pod of a pattern is not taken for the service of its name.
        ("to: \"calc/ad*\"\nport: 80\nrefuse: [calc/fan]", 1, &[]),
        // The node's own processes pass, and are asked about where they are named.
        ("to: calc/mul-1\nport: 8080\nallow: [host, plain/proxy]", 2, &[]),
        // An address of a pod is the pod.
        ("to: calc/mul-1\nport: 8080\nallow: [10.0.0.3]\nrefuse: [\"calc/*\"]", 3, &[]),
        ("to: calc/mul-1\nport: 8080\nprotocol: UDP\nrefuse: [calc/fan]", 1, &[]),
    ] {
        assert_eq!(failures(lines), (calls, expected.iter().map(ToString::to_string).collect()), "{lines}");
    }
}

#[test]
fn only_speaks_of_everybody_else() {
    // Five pods; the outside, the network that is admitted, and the part of it that is not.
    let (calls, told) = failures("to: calc/mul-1\nport: 8080\nallow: [calc/fan]\nonly: true");
    assert_eq!((calls, told), (8, vec!["192.0.2.1 calc/mul-1 8080 Refuse Allow".to_owned()]));
    let (calls, told) = failures("to: calc/mul-1\nport: 8080\nallow: [calc/fan, 192.0.2.77]\nonly: true");
    assert_eq!((calls, told), (8, Vec::<String>::new()));
    let (_, told) = failures("to: calc/fan\nport: 8080\nallow: []\nonly: true");
    assert!(told.contains(&"203.0.113.1 calc/fan 8080 Refuse Allow".to_owned()), "{told:?}");
    assert!(told.len() == 8, "{told:?}");
}

#[test]
fn a_service_of_which_one_endpoint_admits_refuses_nobody_and_admits_nobody() {
    let admits = failures("to: calc/mixed\nport: 80\nallow: [calc/fan]");
    assert_eq!(admits, (1, vec!["calc/fan calc/mixed 80 Allow Partly".to_owned()]));
    let refuses = failures("to: calc/mixed\nport: 80\nrefuse: [calc/fan]");
    assert_eq!(refuses, (1, vec!["calc/fan calc/mixed 80 Refuse Partly".to_owned()]));
    // Its own endpoint is no call of it.
    assert_eq!(failures("to: calc/mixed\nport: 80\nrefuse: [calc/mul-1]").1, Vec::<String>::new());
}

#[test]
fn a_failure_names_the_policy_and_the_rule() {
    let tested = ask("to: calc/mul-1\nport: 8080\nrefuse: [calc/fan]\n").unwrap();
    let failure = &tested.failures[0];
    assert_eq!((failure.policy.as_deref(), failure.rule), (Some("AccessPolicy calc/mul"), Some(0)));
    assert_eq!(
        failure.summary,
        "allowed: an Allow policy matches the caller (AccessPolicy calc/mul, rules[0])"
    );
    let tested = ask("to: plain/pod\nport: 8080\nallow: [calc/fan]\n").unwrap();
    assert!(tested.ok && tested.notes[0].starts_with("plain/pod is not enrolled"), "{tested:?}");
}

#[test]
fn what_cannot_be_asked_is_an_error_with_its_place() {
    for (lines, expected) in [
        ("to: calc/mul-1\nport: 80", "t.yaml:2:3: tests[0]: the test expects nothing; name callers"),
        ("to: calc/mul-1\nport: 80\nallow: []", "t.yaml:5:3: tests[0].allow: the list is empty"),
        ("to: calc/mul-1\nport: 80\nrefuse: []", "t.yaml:5:3: tests[0].refuse: the list is empty"),
        ("to: calc/mul-1\nport: 80\nonly: true", "t.yaml:2:3: tests[0]: the test expects nothing"),
        (
            "to: calc/mul-1\nport: 80\nrefuse: [host]\nonly: true",
            "t.yaml:6:3: tests[0].only: `only` speaks of those",
        ),
        (
            "to: calc/mul-1\nport: 80\nallow: [host]\nonly: false",
            "t.yaml:6:3: tests[0].only: `false` says nothing",
        ),
        ("to: calc/mul-1\nallow: [host]", "t.yaml:2:3: tests[0]: the test has neither `port` nor `ports`"),
        (
            "to: calc/mul-1\nport: http\nallow: [host]",
            "t.yaml:4:3: tests[0].port: expected a number from 1 to 65535",
        ),
        (
            "to: calc/mul-1\nport: 80\nports: [80]\nallow: [host]",
            "t.yaml:5:3: tests[0].ports: `port` and `ports`",
        ),
        ("port: 80\nallow: [host]", "t.yaml:2:3: tests[0]: the test has no `to`"),
        (
            "to: calc/mul-1\nport: 80\nalow: [host]",
            "t.yaml:5:3: tests[0].alow: unknown field; did you mean `allow`?",
        ),
        (
            "to: calc/mul-1\nport: 80\nprotocol: tcp\nallow: [host]",
            "t.yaml:5:3: tests[0].protocol: unknown protocol",
        ),
        ("to: calc/mul-1\nport: 80\nallow: [a/b]\nallow: [a/c]", "t.yaml:6:3: tests[0].allow: stands twice"),
        (
            "to: calc/mul-1\nport: 80\nallow: [calc/fen]",
            "t.yaml:5:11: tests[0].allow[0]: calc/fen: no pod has that name; did you mean `calc/fan`?",
        ),
        (
            "to: calc/mul-1\nport: 80\nrefuse: [\"clac/*\"]",
            "t.yaml:5:12: tests[0].refuse[0]: \"clac/*\": no pod of the objects has such a name",
        ),
        (
            "to: calc/mul-1\nport: 80\nrefuse: [\"*\"]",
            "t.yaml:5:12: tests[0].refuse[0]: \"*\": write NAMESPACE/POD",
        ),
        (
            "to: calc/mul-1\nport: 80\nrefuse: [\"spiffe://cluster.local/ns/calc/sa/fen\"]",
            "t.yaml:5:12: tests[0].refuse[0]: \"spiffe://cluster.local/ns/calc/sa/fen\": no pod of the objects has this identity; did you mean `spiffe://cluster.local/ns/calc/sa/fan`?",
        ),
        (
            "to: calc/mul-1\nport: 80\nrefuse: [\"spiffe://cluster.local/ns/calc/sa/*\"]",
            "t.yaml:5:12: tests[0].refuse[0]: \"spiffe://cluster.local/ns/calc/sa/*\": write the identity out",
        ),
        (
            "to: calc/mol\nport: 80\nrefuse: [host]",
            "t.yaml:3:3: tests[0].to: calc/mol: no pod and no service has that name",
        ),
        (
            "to: calc/x*\nport: 80\nrefuse: [host]",
            "t.yaml:3:3: tests[0].to: \"calc/x*\": no pod of the objects",
        ),
        (
            "to: calc/mul\nport: 81\nrefuse: [host]",
            "t.yaml:3:3: tests[0].to: calc/mul: the service calc/mul has no TCP port 81",
        ),
        (
            "to: 192.0.2.1\nport: 81\nrefuse: [host]",
            "t.yaml:3:3: tests[0].to: 192.0.2.1: neither side is a pod",
        ),
        (
            "to: calc/mul-1\nport: 80\nallow: [calc/fan]\nrefuse: [10.0.0.3]",
            "t.yaml:6:12: tests[0].refuse[0]: calc/fan stands under `allow` and `refuse`, first on line 5",
        ),
        (
            "to: calc/mul-1\nport: 80\nrefuse: [\"calc/mul-1*\"]",
            "t.yaml:2:3: tests[0]: the test asks about nothing",
        ),
    ] {
        let errors = ask(lines).expect_err(lines);
        assert!(errors.len() == 1 && errors[0].starts_with(expected), "{lines}\n{expected}\n{errors:#?}");
    }
    for (text, expected) in [
        ("", "t.yaml: the file holds no tests"),
        ("tests: []", "t.yaml:1:1: tests: the list is empty"),
        ("objects: [a]", "t.yaml:1:1: the file has no `tests`"),
        ("tests: [a", "t.yaml:1:8: cannot be parsed"),
        (
            "test: []\ntests: [{name: a, to: b/c, port: 1, allow: [host]}]",
            "t.yaml:1:1: test: unknown field; did you mean `tests`?",
        ),
        (
            "tests: [{name: a, to: b/c, port: 1, allow: [host]}]\n---\ntests: []",
            "t.yaml:3:1: a second document",
        ),
    ] {
        let mut findings = Findings::default();
        assert!(read(Path::new("t.yaml"), text.as_bytes(), &mut findings).is_none(), "{text}");
        let errors: Vec<String> = findings.errors.iter().map(Finding::to_string).collect();
        assert!(errors.len() == 1 && errors[0].starts_with(expected), "{text}: {errors:#?}");
    }
}
