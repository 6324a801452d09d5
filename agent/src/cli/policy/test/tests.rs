//! Tests of `ambit policy test`.

use std::fs;

use super::*;

const OBJECTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {ambit.dev/mode: strict}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}, spec: {serviceAccountName: web, containers: []}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, spec: {containers: []}, status: {podIP: 10.0.0.2}}
---
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec: {selector: {matchLabels: {app: db}}, rules: [{from: [{serviceAccounts: [web]}]}]}
";

fn sheet(expected: &str) -> String {
    format!("objects: [objs]\ntests:\n- name: web and db\n  to: shop/db\n  port: 5432\n  {expected}\n")
}

/// A folder with objects in `objs` and tests in `t.yaml`, and the arguments that run them.
fn folder(tests: &str) -> (tempfile::TempDir, TestArgs) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("objs")).unwrap();
    fs::write(folder.path().join("objs/all.yaml"), OBJECTS).unwrap();
    fs::write(folder.path().join("t.yaml"), tests).unwrap();
    let args = TestArgs {
        files: vec![folder.path().join("t.yaml")],
        objects: Vec::new(),
        trust_domain: "cluster.local".to_owned(),
        output: OutputFormat::Text,
    };
    (folder, args)
}

#[test]
fn a_failure_is_printed_with_what_decided_and_what_to_ask() {
    let (folder, args) = folder(&sheet("refuse: [shop/web, 192.0.2.1]"));
    let at = folder.path().display().to_string();
    let outcomes = test(&args).unwrap();
    let expected = "\
FAILED  web and db (AT/t.yaml:3, 2 calls)
        shop/web to shop/db, TCP 5432: expected refused, got allowed
          allowed: an Allow policy matches the caller (AccessPolicy shop/db, rules[0])
          ambit explain --from shop/web --to shop/db --port 5432 --objects AT/objs
1 test: 0 ok, 1 failed; 2 calls
";
    assert_eq!(render(&args, &outcomes), expected.replace("AT", &at));
    let report: serde_json::Value = serde_json::from_str(&json(&args, &outcomes).unwrap()).unwrap();
    assert_eq!((&report["ok"], &report["failed"]), (&false.into(), &1.into()), "{report:#}");
    let failure = &report["tests"][0]["failures"][0];
    assert_eq!((&failure["expected"], &failure["got"]), (&"refuse".into(), &"allow".into()), "{report:#}");
    assert_eq!((&failure["policy"], &failure["rule"]), (&"AccessPolicy shop/db".into(), &0.into()));
    assert!(failure["explain"].as_str().unwrap().starts_with("ambit explain --from shop/web"), "{report:#}");
}

#[test]
fn the_exit_code_tells_what_holds_from_what_does_not_and_from_what_cannot_be_used() {
    for (tests, expected) in [
        (sheet("allow: [shop/web]"), 0),
        (sheet("refuse: [shop/web]"), 1),
        (sheet("allow: [shop/wep]"), 2),
        (sheet("alow: [shop/web]"), 2),
        (sheet("allow: [shop/web]").replace("[objs]", "[nowhere]"), 2),
        (sheet("allow: [shop/web]").replace("objects: [objs]\n", ""), 2),
        // One file that cannot be used keeps the others from being taken for all.
        ("tests: []".to_owned(), 2),
    ] {
        let (_folder, args) = folder(&tests);
        let code = run(&TestArgs { output: OutputFormat::Json, ..args }).unwrap();
        assert_eq!(code, ExitCode::from(expected), "{tests}");
    }
}

#[test]
fn objects_of_the_command_line_take_the_place_of_the_files() {
    let (folder, args) = folder(&sheet("allow: [shop/web]"));
    let open = folder.path().join("other.yaml");
    fs::write(&open, OBJECTS.replace("[web]", "[api]")).unwrap();
    let outcomes = test(&TestArgs { objects: vec![open], ..args }).unwrap();
    assert!(!outcomes[0].tested.ok);
}

#[test]
fn words_that_a_shell_would_take_apart_are_quoted() {
    assert_eq!(quoted("shop/web"), "shop/web");
    assert_eq!(quoted("my dir"), "'my dir'");
    assert_eq!(quoted("it's"), "'it'\\''s'");
}
