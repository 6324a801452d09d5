//! What is wrong in a file, and where ambit says so.

use std::fs;
use std::time::{Duration, Instant};

use super::*;

/// Checks a text as `in.yaml` and returns its errors, as `line:column field: message`.
fn errors(text: &[u8]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("in.yaml"), text).unwrap();
    let examined = examine(&list(directory.path()).unwrap(), "cluster.local", 1);
    assert_eq!(examined.snapshot.is_some(), examined.findings.errors.is_empty());
    let describe = |finding: &Finding| {
        let hint = finding.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{}:{} {}: {}{hint}", finding.line, finding.column, finding.field, finding.message)
    };
    examined.findings.errors.iter().map(describe).collect()
}

/// A policy with these lines under `spec`, the first of which is line 5.
fn policy(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n{spec}"
    )
}

/// A policy whose only rule has only this caller, the first line of which is line 7.
fn caller(peer: &str) -> String {
    policy(&format!("rules:\n- from:\n  - {}", peer.replace('\n', "\n    ")))
}

const RUNNING_POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nstatus: {podIP: 10.0.0.1}\n";

#[test]
fn each_mistake_is_reported_at_its_line_and_field() {
    let second_address = format!("{RUNNING_POD}---\n{}", RUNNING_POD.replace("name: a", "name: b"));
    let second_name = format!("{RUNNING_POD}---\n{}", RUNNING_POD.replace("10.0.0.1", "10.0.0.2"));
    let mut missed = Vec::new();
    for (text, expected) in [
        // Not objects at all.
        ("a: [b".into(), "1:4 : cannot be parsed: unclosed bracket"),
        ("just words".into(), "1:1 : expected an object with apiVersion and kind, found a text"),
        ("- 1".into(), "1:1 : expected an object with apiVersion and kind, found a list"),
        ("apiVersion: v1".into(), "1:1 : the object has no `kind`"),
        ("kind: Pod".into(), "1:1 : the object has no `apiVersion`"),
        ("a: *b".into(), "1:4 : cannot be parsed: "),
        // Objects that ambit does not read.
        ("apiVersion: v1\nkind: Pods".into(), "2:1 kind: unknown kind \"Pods\"; did you mean `Pod`? (ambit reads Namespace, Pod,"),
        ("apiVersion: v1\nkind: ConfigMap".into(), "2:1 kind: unknown kind \"ConfigMap\"; ambit reads Namespace, Pod,"),
        ("apiVersion: v2\nkind: Pod".into(), "1:1 apiVersion: Pod of apiVersion \"v2\" is not known; use v1"),
        ("apiVersion: v1\nkind: List\nitems:\n- {kind: Secret, apiVersion: v1}".into(), "4:4 items[0].kind: unknown kind \"Secret\""),
        ("apiVersion: v1\nkind: List\nitems: 3".into(), "3:1 items: a List needs a list of `items`"),
        ("apiVersion: v1\nkind: List".into(), "1:1 items: a List needs a list of `items`"),
        // Objects with wrong types.
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {v: 1}}".into(), "3:30 metadata.labels.v: expected a text, found a number; put it in quotes"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: 7, containers: []}".into(), "4:8 spec.hostNetwork: invalid type: integer `7`, expected a boolean"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: http}]}".into(), "4:17 spec.ports[0].port: invalid type: string \"http\", expected i32"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {labels: {}}".into(), "3:1 metadata.name: the object has no metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  name: b".into(), "5:3 metadata.name: stands twice, first on line 4"),
        // Pods.
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}".into(), "1:1 status.podIP: the pod has no address; add `status: {podIP: ADDRESS}`"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {phase: Running}".into(), "4:1 status.podIP: the pod has no address"),
        (RUNNING_POD.replace("10.0.0.1", "10.0.0.256"), "4:10 status.podIP: \"10.0.0.256\" is no address"),
        (RUNNING_POD.replace("10.0.0.1", "127.0.0.1"), "4:10 status.podIP: 127.0.0.1 cannot be the address of a pod"),
        (RUNNING_POD.replace("shop", "shop/x"), "3:21 metadata.namespace: the pod can have no identity: the namespace contains '/'"),
        (format!("{RUNNING_POD}spec: {{serviceAccountName: a b, containers: []}}"), "5:8 spec.serviceAccountName: the pod can have no identity: the service account contains ' '"),
        (second_address, "9:10 status.podIP: pods shop/a and shop/b have the same address 10.0.0.1; every pod needs an address of its own"),
        (second_name, "8:12 metadata.name: Pod shop/a is defined twice, first at "),
        // Services.
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: ten}".into(), "4:8 spec.clusterIP: \"ten\" is no address; write an address, or None"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 0}]}".into(), "4:17 spec.ports[0].port: 0 is no port"),
        ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\nendpoints: [{addresses: [ten]}]".into(), "5:26 endpoints[0].addresses[0]: \"ten\" is no address"),
        // Policies.
        (policy("rules:\n- form: []"), "6:5 spec.rules[0].form: unknown field; did you mean `from`?"),
        (policy("rule: []"), "5:3 spec.rule: unknown field; did you mean `rules`?"),
        (policy("namespaceSelector: {}\nrules: []"), "5:3 spec.namespaceSelector: unknown field"),
        (policy("rules: {}"), "5:3 spec.rules: expected a list, found a mapping"),
        (policy("action: Deny"), "4:1 spec: a Deny policy without rules refuses nobody; write "),
        (policy("action: Deny\nrules: []"), "6:3 spec.rules: a Deny policy without rules refuses nobody"),
        (policy("action: allow\nrules: []"), "5:3 spec.action: unknown action \"allow\"; use Allow or Deny"),
        (policy("dryRun: yes\nrules: []"), "5:3 spec.dryRun: expected true or false, found a text"),
        (policy("rules:\n- {}"), "6:5 spec.rules[0]: the rule has neither `from` nor `to`"),
        (policy("rules:\n- from: []"), "6:5 spec.rules[0].from: the list is empty"),
        (policy("rules:\n- from:"), "6:5 spec.rules[0].from: expected a list, found nothing"),
        (policy("rules:\n- to: [{}]"), "6:10 spec.rules[0].to[0]: the destination has neither `ports` nor `protocol`"),
        (policy("rules:\n- to: [{ports: [0]}]"), "6:19 spec.rules[0].to[0].ports[0]: 0 is neither a port nor a range"),
        (policy("rules:\n- to: [{ports: [65536]}]"), "6:19 spec.rules[0].to[0].ports[0]: 65536 is neither"),
        (policy("rules:\n- to: [{ports: [\"9-3\"]}]"), "6:19 spec.rules[0].to[0].ports[0]: 9-3 is neither"),
        (policy("rules:\n- to: [{ports: [http]}]"), "6:19 spec.rules[0].to[0].ports[0]: http is neither"),
        (policy("rules:\n- to: [{protocol: SCTP}]"), "6:11 spec.rules[0].to[0].protocol: unknown protocol \"SCTP\"; use TCP or UDP"),
        (policy("rules:\n- to: [{protocol: udp}]"), "6:11 spec.rules[0].to[0].protocol: unknown protocol \"udp\"; use TCP or UDP"),
        (policy("egress: []"), "5:3 spec.egress: the list is empty"),
        (policy("egress: [{ports: [53]}]"), "5:12 spec.egress[0]: the egress rule has no `cidrs`; write"),
        (policy("egress: [{cidrs: []}]"), "5:13 spec.egress[0].cidrs: the list is empty"),
        (policy("egress: [{cidrs: [10.0.0.1]}]"), "5:21 spec.egress[0].cidrs[0]: \"10.0.0.1\" is an address"),
        (policy("egress: [{cidrs: [10.0.0.0/8], protocol: 17}]"), "5:34 spec.egress[0].protocol: expected a text"),
        (policy("egress: [{cidrs: [10.0.0.0/8], port: [53]}]"), "5:34 spec.egress[0].port: unknown field; did you mean `ports`?"),
        (policy("action: Deny\negress: [{cidrs: [10.0.0.0/8]}]"), "6:3 spec.egress: a Deny policy has no `egress`"),
        (policy("selector:\nrules: []"), "5:3 spec.selector: the selector is empty"),
        (policy("selector: {matchLabel: {a: b}}\nrules: []"), "5:14 spec.selector.matchLabel: unknown field; did you mean `matchLabels`?"),
        (policy("selector: {matchLabels: {app: 1}}\nrules: []"), "5:28 spec.selector.matchLabels.app: expected a text, found a number"),
        (policy("selector: {matchExpressions: [{key: a, operator: in, values: [b]}]}\nrules: []"), "5:42 spec.selector.matchExpressions[0].operator: unknown operator \"in\"; did you mean `In`?"),
        (policy("selector: {matchExpressions: [{key: a, operator: In}]}\nrules: []"), "5:33 spec.selector.matchExpressions[0]: In and NotIn need `values`"),
        (policy("selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}\nrules: []"), "5:60 spec.selector.matchExpressions[0].values: Exists takes no values"),
        (policy("rules: []").replace("name: p, ", ""), "3:1 metadata.name: the policy has no metadata.name"),
        (policy("rules: []").replace("name: p", "name: P"), "3:12 metadata.name: \"P\" is no name"),
        (policy("rules: []").replace("kind: Acc", "kind: ClusterAcc"), "3:21 metadata.namespace: a ClusterAccessPolicy has no namespace"),
        (policy("").replace("spec:", ""), "1:1 spec: the policy has no spec"),
        // Callers.
        (caller("{}"), "7:7 spec.rules[0].from[0]: the caller has no field"),
        (caller("anyone: false"), "7:7 spec.rules[0].from[0].anyone: `false` says nothing here"),
        (caller("host: false"), "7:7 spec.rules[0].from[0].host: `false` says nothing here"),
        (caller("host: true\nserviceAccounts: [a]"), "7:7 spec.rules[0].from[0]: matches nobody"),
        (caller("anyone: true\nnamespaces: [a]"), "7:7 spec.rules[0].from[0]: `anyone` adds nothing"),
        (caller("serviceAccounts: []"), "7:7 spec.rules[0].from[0].serviceAccounts: the list is empty"),
        (caller("serviceAccounts: [a/b/c]"), "7:25 spec.rules[0].from[0].serviceAccounts[0]: \"a/b/c\" is no service account"),
        (caller("serviceAccounts: [shop/*]"), "7:25 spec.rules[0].from[0].serviceAccounts[0]: \"shop/*\" is no service account: only lower-case letters, digits, `-` and `.` may stand there; use `namespaces`"),
        (caller("namespaces: [\"*\"]"), "7:20 spec.rules[0].from[0].namespaces[0]: \"*\" is no name"),
        (caller("identities: [web]"), "7:20 spec.rules[0].from[0].identities[0]: \"web\": not an identity"),
        (caller("identities: [\"spiffe://*/ns/*\"]"), "7:20 spec.rules[0].from[0].identities[0]: \"spiffe://*/ns/*\": more than one `*`"),
        (caller("cidrs: [10.0.0.0/33]"), "7:15 spec.rules[0].from[0].cidrs[0]: \"10.0.0.0/33\" is no network"),
        (caller("cidrs: [10.0.0.1]"), "7:15 spec.rules[0].from[0].cidrs[0]: \"10.0.0.1\" is an address, not a network; write 10.0.0.1/32"),
        (caller("cidrs: [10.0.0.1/8]"), "7:15 spec.rules[0].from[0].cidrs[0]: \"10.0.0.1/8\" has bits set beyond its length; write 10.0.0.0/8"),
        (caller("exceptCidrs: [\"::ffff:10.0.0.0/104\"]"), "7:21 spec.rules[0].from[0].exceptCidrs[0]: \"::ffff:10.0.0.0/104\" is IPv4 written as IPv6"),
        (caller("cidr: [10.0.0.0/8]"), "7:7 spec.rules[0].from[0].cidr: unknown field; did you mean `cidrs`?"),
        (caller("serviceAccounts: [a]").replace("kind: Acc", "kind: ClusterAcc").replace(", namespace: shop", ""), "7:25 spec.rules[0].from[0].serviceAccounts[0]: \"a\" needs its namespace"),
    ] as [(String, &str); _]
    {
        let found = errors(text.as_bytes());
        if found.len() != 1 || !found[0].starts_with(expected) {
            missed.push(format!("{text}\nexpected {expected}\nfound {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn every_mistake_of_a_file_is_reported_not_only_the_first() {
    let text = format!(
        "{}---\napiVersion: v1\nkind: Pods\n---\n{}",
        policy("acton: Deny\nrules:\n- form: []\n- from: [{cidrs: [x, y]}]"),
        RUNNING_POD.replace("10.0.0.1", "nowhere"),
    );
    let found = errors(text.as_bytes());
    let fields: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "5:3 spec.acton",
            "7:5 spec.rules[0].form",
            "8:21 spec.rules[1].from[0].cidrs[0]",
            "8:24 spec.rules[1].from[0].cidrs[1]",
            "11:1 kind",
            "16:10 status.podIP",
        ]
    );
}

#[test]
fn one_bad_policy_makes_the_whole_directory_invalid() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), RUNNING_POD).unwrap();
    assert!(load(directory.path(), "cluster.local", 1).is_ok());
    fs::write(directory.path().join("b.yaml"), policy("action: Deny")).unwrap();
    let LoadError::Invalid(findings) = load(directory.path(), "cluster.local", 1).unwrap_err() else {
        panic!("expected an invalid directory");
    };
    assert_eq!(findings.len(), 1);
    assert!(findings[0].file.ends_with("b.yaml"));
}

/// Asserts that a hostile text is refused for this reason, within bounds.
fn refuse(name: &str, text: &[u8], reason: &str) {
    let started = Instant::now();
    let found = errors(text);
    assert!(found.len() <= crate::control::finding::MAX_FINDINGS_PER_FILE + 1, "{name}: {}", found.len());
    assert!(found.iter().any(|line| line.contains(reason)), "{name}: {:?}", found.first());
    // Unoptimised, on a busy machine; a text that is not bounded takes minutes or the memory.
    assert!(started.elapsed() < Duration::from_secs(30), "{name}: {:?}", started.elapsed());
}

#[test]
fn hostile_texts_are_refused_within_bounds() {
    const MIB: usize = 1 << 20;
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let repeated = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{repeated}]\n"));
    }
    let indented: String = (0..200).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let mut garbage = vec![0u8; 20 * MIB];
    let mut state = 1u32;
    for byte in &mut garbage {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let printable: Vec<u8> = garbage.iter().map(|byte| b' ' + byte % 95).collect();
    refuse("alias bomb", bomb.as_bytes(), "aliases repeat too much");
    refuse("alias of itself", b"a: &a [*a]\n", "cannot be parsed");
    refuse("deep block nesting", indented.as_bytes(), "nested deeper than 64 levels");
    refuse("deep flow nesting", &b"[".repeat(MIB), "recursion limit exceeded");
    refuse("garbage", &garbage, "bytes that are not UTF-8");
    refuse("printable garbage", &printable, "expected an object");
    refuse("zeros", &vec![0; MIB], "cannot be parsed");
    refuse("one long word", &b"a".repeat(20 * MIB), "expected an object");
    refuse(
        "many values",
        &[b"[".to_vec(), b"1,".repeat(3 * MIB), b"]".to_vec()].concat(),
        "more than 2000000 values",
    );
    refuse("many documents", &b"---\na: b\n".repeat(MIB), "documents, at most");
    refuse(
        "many bad objects",
        &[b"kind: List\napiVersion: v1\nitems:\n".to_vec(), b"- {}\n".repeat(10_000)].concat(),
        "further errors",
    );
    refuse(
        "merge keys",
        &[
            b"a: &a {x: 1}\n".to_vec(),
            (0..20_000).flat_map(|n| format!("b{n}:\n  <<: *a\n").into_bytes()).collect(),
        ]
        .concat(),
        "more than ambit reads",
    );
}

#[test]
fn many_findings_take_no_longer_than_the_file() {
    let rules: String = (0..100_000)
        .map(|number| {
            format!(
                "- from: [{{serviceAccounts: [a{number}]}}]\n  to: [{{ports: [{}]}}]\n",
                1 + number % 60_000
            )
        })
        .collect();
    let twins: String = (0..20_000)
        .map(|number| format!("---\n{}", RUNNING_POD.replace("name: a", &format!("name: p{number}"))))
        .collect();
    let wide = policy("rules:\n- from: [{namespaces: [shop]}]").replace("name: p", "name: wide");
    let started = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let text = format!("{RUNNING_POD}---\n{wide}---\n{}", policy(&format!("rules:\n{rules}")));
    fs::write(directory.path().join("in.yaml"), text).unwrap();
    let loaded = load(directory.path(), "cluster.local", 1).unwrap();
    assert_eq!(loaded.warnings.len(), crate::control::finding::MAX_FINDINGS_PER_FILE + 1);
    let found = errors(twins.as_bytes());
    assert!(found[0].contains("have the same address 10.0.0.1"), "{}", found[0]);
    // Unoptimised, on a busy machine; what looks at everything for each finding takes minutes.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_file_that_is_too_large_or_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.yaml");
    fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    std::os::unix::fs::symlink("/dev/zero", directory.path().join("zero.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("dangling.yaml")).unwrap();
    let examined = examine(&list(directory.path()).unwrap(), "cluster.local", 1);
    let messages: Vec<&str> =
        examined.findings.errors.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "cannot be read: No such file or directory (os error 2)",
            "cannot be read: it is larger than 64 MiB",
            "cannot be read: it is not a regular file",
        ]
    );
}
