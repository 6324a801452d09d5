//! What is valid and yet probably not meant so, and what is not warned about.

use std::path::Path;

use super::*;
use crate::control::convert::convert;

const POD: &str = "\
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db, tier: back}}
spec: {serviceAccountName: db, containers: [{name: c, ports: [{containerPort: 5432}, {containerPort: 53, protocol: UDP}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: db}, ports: [{port: 80, targetPort: 9000}]}
";

/// A policy for `app: db` unless it says otherwise.
fn policy(name: &str, spec: &str) -> String {
    let selector = if spec.contains("selector") { "" } else { "selector: {matchLabels: {app: db}}, " };
    format!(
        "---\napiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{selector}{spec}}}\n"
    )
}

fn warnings(text: &str) -> Vec<String> {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    objects.read_file(Path::new("in.yaml"), text.as_bytes(), &mut findings);
    let snapshot =
        convert(&objects, "cluster.local", 1, &mut findings).unwrap_or_else(|| panic!("{findings:?}"));
    lint(&objects, &snapshot, &mut findings);
    findings.arrange();
    assert!(findings.warnings.iter().all(|finding| finding.line > 0), "{:?}", findings.warnings);
    let told = findings.warnings.iter().map(|finding| {
        let hint = finding.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{}: {}{hint}", finding.field, finding.message)
    });
    told.collect()
}

#[test]
fn an_allow_that_another_one_makes_void_is_named() {
    // The wide one, the narrow one, and whether the narrow one changes nothing.
    for (wide, narrow, void) in [
        ("rules: [{from: [{anyone: true}]}]", "rules: [{from: [{serviceAccounts: [db]}]}]", true),
        (
            "rules: [{from: [{anyone: true}]}]",
            "rules: [{from: [{cidrs: [10.0.0.0/8]}], to: [{protocol: UDP}]}]",
            false,
        ),
        (
            "rules: [{from: [{anyone: true}]}]",
            "rules: [{from: [{cidrs: [10.0.0.0/8]}], to: [{ports: [5432]}]}]",
            true,
        ),
        (
            "rules: [{from: [{namespaces: [shop]}]}]",
            "rules: [{from: [{serviceAccounts: [db]}], to: [{ports: [5432]}]}]",
            true,
        ),
        (
            "rules: [{from: [{namespaces: [shop]}], to: [{ports: [5432]}]}]",
            "rules: [{from: [{serviceAccounts: [db]}]}]",
            false,
        ),
        (
            "rules: [{to: [{ports: [\"5000-6000\"]}]}]",
            "rules: [{from: [{serviceAccounts: [db]}], to: [{ports: [5432]}]}]",
            true,
        ),
        (
            "rules: [{to: [{ports: [5432]}]}]",
            "rules: [{from: [{cidrs: [10.0.0.0/8]}], to: [{ports: [5432]}]}]",
            false,
        ),
        (
            "rules: [{from: [{exceptCidrs: [10.0.0.0/8]}]}]",
            "rules: [{from: [{serviceAccounts: [db]}]}]",
            false,
        ),
        (
            "rules: [{from: [{exceptCidrs: [10.0.0.0/8]}]}]",
            "rules: [{from: [{serviceAccounts: [db], exceptCidrs: [10.0.0.0/7]}]}]",
            true,
        ),
        (
            "rules: [{from: [{cidrs: [10.0.0.0/8]}]}]",
            "rules: [{from: [{cidrs: [10.1.0.0/16]}, {host: true}]}]",
            false,
        ),
        ("rules: [{from: [{cidrs: [10.0.0.0/8]}]}]", "rules: [{from: [{cidrs: [10.1.0.0/16]}]}]", true),
        ("rules: [{from: [{host: true}]}]", "rules: [{from: [{anyone: true}]}]", false),
        // What is not enforced makes nothing void, and neither does what selects fewer pods, or refuses.
        (
            "dryRun: true, rules: [{from: [{anyone: true}]}]",
            "rules: [{from: [{serviceAccounts: [db]}]}]",
            false,
        ),
        (
            "action: Deny, rules: [{from: [{anyone: true}]}]",
            "rules: [{from: [{serviceAccounts: [db]}]}]",
            false,
        ),
        (
            "rules: [{from: [{anyone: true}]}]",
            "selector: {matchLabels: {tier: back}}, rules: [{from: [{serviceAccounts: [db]}]}]",
            true,
        ),
        // Nobody is admitted by it at all: that it restricts the pods is all that it says.
        ("rules: [{from: [{anyone: true}]}]", "rules: []", false),
    ] {
        let text = format!("{POD}{}{}", policy("a-wide", wide), policy("b-narrow", narrow));
        let found = warnings(&text);
        let expected = "spec.rules: the rules change nothing: AccessPolicy shop/a-wide admits to the same pods whomever they \
                        admit; Allow policies add up: to restrict callers, narrow AccessPolicy shop/a-wide";
        let told = found.iter().any(|line| line == expected);
        // The other way around it may hold too, and is another warning; never both.
        let named = found.iter().filter(|line| line.contains("change nothing")).count();
        assert!(told == void && named <= 1, "{wide}\n{narrow}\n{found:#?}");
    }
    let twice = format!(
        "{POD}{0}{1}",
        policy("a", "rules: [{from: [{host: true}]}]"),
        policy("b", "rules: [{from: [{host: true}]}]")
    );
    assert_eq!(warnings(&twice).len(), 1, "of two that say the same, one is named");
    let other_pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop, labels: {tier: back}}\nstatus: {podIP: 10.0.0.2}\n";
    let narrow =
        policy("b", "selector: {matchLabels: {tier: back}}, rules: [{from: [{serviceAccounts: [db]}]}]");
    let fewer = format!("{POD}{other_pod}{}{narrow}", policy("a", "rules: [{from: [{anyone: true}]}]"));
    assert_eq!(warnings(&fewer), [""; 0], "the wide one does not select every pod of the other");
}

#[test]
fn a_port_that_no_selected_pod_has_is_named() {
    let of = |ports: &str| warnings(&format!("{POD}{}", policy("p", &format!("rules: [{{to: [{ports}]}}]"))));
    let have = "they have TCP 5432, TCP 9000, UDP 53";
    for (ports, expected) in [
        ("{ports: [5432, 9000, \"5000-6000\"]}", String::new()),
        ("{protocol: UDP, ports: [53]}", String::new()),
        ("{protocol: UDP}", String::new()),
        (
            "{ports: [5433]}",
            format!("spec.rules[0].to[0].ports[0]: no pod that the policy selects has TCP port 5433; {have}"),
        ),
        (
            "{ports: [53]}",
            format!("spec.rules[0].to[0].ports[0]: no pod that the policy selects has TCP port 53; {have}"),
        ),
        (
            "{ports: [5432, \"1-50\"]}",
            format!("spec.rules[0].to[0].ports[1]: no pod that the policy selects has TCP port 1-50; {have}"),
        ),
        (
            "{ports: [80]}",
            format!(
                "spec.rules[0].to[0].ports[0]: no pod that the policy selects has TCP port 80; {have}; policies speak of the pods' own ports: port 80 of the service shop/db leads to 9000"
            ),
        ),
    ] {
        assert_eq!(of(ports).join("\n"), expected, "{ports}");
    }
    let silent = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop, labels: {app: db}}\nstatus: {podIP: 10.0.0.2}\n";
    let text = format!("{POD}{silent}{}", policy("p", "rules: [{to: [{ports: [5433]}]}]"));
    assert_eq!(warnings(&text), [""; 0], "a pod that declares no ports may have any");
}

#[test]
fn names_that_stand_for_nothing_are_named() {
    let text = format!("{POD}{}", policy("p", "rules: [{from: [{namespaces: [shop, shpo]}]}]"));
    assert_eq!(
        warnings(&text),
        ["spec.rules[0].from[0].namespaces[1]: there is no namespace shpo; did you mean `shop`?"]
    );
    let alone = policy("p", "rules: [{from: [{namespaces: [far]}]}]");
    assert_eq!(warnings(&alone), [""; 0], "a policy alone is not told what else there is");
    let label =
        POD.replace("metadata: {name: shop}", "metadata: {name: shop, labels: {ambit.dev/mod: strict}}");
    assert_eq!(
        warnings(&label),
        ["metadata.labels[\"ambit.dev/mod\"]: ambit has no such label; did you mean `ambit.dev/mode`?"]
    );
}
