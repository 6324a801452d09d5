//! Tests of reading a directory.

use std::fs;

use ambit_core::{Mode, Protocol, Reason, Source, SpiffeId};

use super::*;

const EXAMPLE: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {ambit.dev/mode: strict}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations: {ambit.dev/netns: /run/netns/web}
spec: {nodeName: one, serviceAccountName: web}
status: {podIP: 10.1.1.2, podIPs: [{ip: 10.1.1.2}, {ip: "fd00::2"}]}
---
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from:
    - serviceAccounts: [web]
    to:
    - ports: [80, "8000-8080"]
"#;

#[test]
fn a_directory_becomes_a_state_that_decides() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), EXAMPLE).unwrap();
    let loaded = load(directory.path(), "cluster.local", 7).unwrap();
    assert_eq!((loaded.files, loaded.objects, loaded.snapshot.version()), (1, 3, 7));
    assert_eq!(loaded.warnings, []);
    let web = loaded.snapshot.workload_named("shop", "web").unwrap();
    assert_eq!(web.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(
        (web.mode, web.node.as_str(), web.netns.as_deref()),
        (Mode::Strict, "one", Some("/run/netns/web"))
    );
    assert_eq!(web.addresses.len(), 2);

    let caller = |account| SpiffeId::new("cluster.local", "shop", account).unwrap();
    let decide = |id: &SpiffeId, port| {
        let source = Source::Identity { id, address: "10.1.1.9".parse().unwrap() };
        loaded
            .snapshot
            .evaluate(&ambit_core::Connection { source, destination: web, protocol: Protocol::Tcp, port })
            .reason
    };
    assert_eq!(decide(&caller("web"), 8001), Reason::AllowMatch);
    assert_eq!(decide(&caller("web"), 81), Reason::NoAllowMatch);
    assert_eq!(decide(&caller("db"), 80), Reason::NoAllowMatch);
}

#[test]
fn sub_directories_are_read_one_level_deep_and_hidden_names_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for folder in ["b", "b/deeper", ".hidden"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let names = [
        "z.yaml",
        "a.yml",
        "m.json",
        "b/x.yaml",
        "b/deeper/x.yaml",
        ".hidden/x.yaml",
        ".x.yaml",
        "notes.txt",
    ];
    for name in names {
        fs::write(at(name), "").unwrap();
    }
    assert_eq!(list(directory.path()).unwrap(), ["a.yml", "b/x.yaml", "m.json", "z.yaml"].map(at));
}

#[test]
fn json_and_lists_are_read_like_yaml() {
    let directory = tempfile::tempdir().unwrap();
    let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"List\",\n\t\"metadata\": {\"resourceVersion\": \"\"},\n\t\"items\": [\n\t\t\
                {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"a\", \"creationTimestamp\": null},\n\t\t \
                \"spec\": {\"containers\": [{\"name\": \"c\", \"resources\": {\"limits\": {\"cpu\": 1}}}]},\n\t\t \
                \"status\": {\"podIP\": \"10.0.0.1\"}}\n\t]\n}\n";
    fs::write(directory.path().join("pods.json"), json).unwrap();
    let loaded = load(directory.path(), "cluster.local", 1).unwrap();
    assert_eq!(loaded.objects, 1);
    let pod = loaded.snapshot.workload_named("default", "a").unwrap();
    assert_eq!(pod.identity.service_account(), "default");
}

#[test]
fn a_missing_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let error = load(&directory.path().join("none"), "cluster.local", 1).unwrap_err();
    assert!(matches!(error, LoadError::Directory { .. }), "{error}");
}

/// Returns the warnings about the example with these changes.
fn warnings(changes: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let text = changes.iter().fold(EXAMPLE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    fs::write(directory.path().join("all.yaml"), text).unwrap();
    let loaded = load(directory.path(), "cluster.local", 1).unwrap();
    loaded
        .warnings
        .iter()
        .map(|finding| format!("{} {}: {}", finding.line, finding.field, finding.message))
        .collect()
}

#[test]
fn what_is_probably_not_meant_so_is_warned_about() {
    for (from, to, expected) in [
        (
            "mode: strict",
            "mode: Strict",
            "6 metadata.labels[\"ambit.dev/mode\"]: unknown mode \"Strict\", enforced as strict",
        ),
        ("matchLabels: {app: web}", "matchLabels: {app: wep}", "22 spec.selector: the policy selects no pod"),
        (
            "serviceAccounts: [web]",
            "serviceAccounts: [wep]",
            "25 spec.rules[0].from[0].serviceAccounts[0]: no pod uses the service account shop/wep",
        ),
        ("    to:\n", "  - to:\n", "26 spec.rules[1]: this is a rule of its own"),
    ] {
        let found = warnings(&[(from, to)]);
        assert!(found.len() == 1 && found[0].starts_with(expected), "expected {expected}\nfound {found:#?}");
    }
}

#[test]
fn a_mode_that_nobody_knows_is_enforced_as_strict() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), EXAMPLE.replace("mode: strict", "mode: off")).unwrap();
    let loaded = load(directory.path(), "cluster.local", 1).unwrap();
    let web = loaded.snapshot.workload_named("shop", "web").unwrap();
    assert_eq!((web.mode, web.mode_problem.is_some()), (Mode::Strict, true));
}

#[test]
fn a_policy_alone_is_not_told_that_it_selects_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let policy = EXAMPLE.split("---").last().unwrap();
    fs::write(directory.path().join("policy.yaml"), policy).unwrap();
    assert_eq!(load(directory.path(), "cluster.local", 1).unwrap().warnings, []);
}

#[test]
fn a_policy_speaks_of_protocols_and_of_egress() {
    let rules = |spec: &str| {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{{spec}}}\n"
        );
        fs::write(directory.path().join("in.yaml"), text).unwrap();
        let loaded = load(directory.path(), "cluster.local", 1).unwrap();
        ambit_core::Policy::clone(&loaded.snapshot.policies()[0])
    };
    let policy = rules("rules: [{to: [{protocol: UDP}, {ports: [80]}, {protocol: UDP, ports: [53]}]}]");
    let to = policy.rules[0].to.as_ref().unwrap();
    let seen: Vec<_> = to.iter().map(|to| (to.protocol, to.ports.len())).collect();
    assert_eq!(seen, [(Protocol::Udp, 0), (Protocol::Tcp, 1), (Protocol::Udp, 1)]);
    assert!(!policy.egress_only);

    for (spec, egress_only) in [
        ("egress: [{cidrs: [10.0.0.0/8]}]", true),
        ("rules: [], egress: [{cidrs: [10.0.0.0/8]}]", false),
        ("rules: , egress: [{cidrs: [10.0.0.0/8]}]", false),
        ("rules: []", false),
        ("", false),
    ] {
        assert_eq!(rules(spec).egress_only, egress_only, "{spec}");
    }
    for (fields, protocol) in [
        ("", None),
        (", ports: [53]", Some(Protocol::Tcp)),
        (", ports: [53], protocol: UDP", Some(Protocol::Udp)),
        (", protocol: UDP", Some(Protocol::Udp)),
    ] {
        let policy = rules(&format!("egress: [{{cidrs: [10.0.0.0/8], exceptCidrs: [10.1.0.0/16]{fields}}}]"));
        let [rule] = policy.egress.as_slice() else { panic!("{fields}") };
        assert_eq!((rule.protocol, rule.cidrs.len(), rule.except_cidrs.len()), (protocol, 1, 1), "{fields}");
    }
}
