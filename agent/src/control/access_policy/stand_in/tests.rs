//! What refuses at least as much as anything that may have been meant.

use std::path::Path;

use ambit_core::PolicyId;

use super::*;
use crate::control::file::load_or_stand_in;
use crate::control::objects::Objects;

/// Reads a text with one policy that cannot be read.
fn objects(text: &str) -> Objects {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    objects.read_file(Path::new("in.yaml"), text.as_bytes(), &mut findings);
    assert!(!findings.errors.is_empty() && objects.policies.is_empty(), "{text}");
    objects
}

/// A policy with these lines under `spec`.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  {}\n",
        spec.replace('\n', "\n  ")
    )
}

/// What stands in, as `action selector dryRun egressOnly`.
fn told(text: &str) -> Option<String> {
    let objects = objects(text);
    let policy = &objects.stand_ins.first()?.value;
    assert_eq!(policy.id, PolicyId { namespace: Some("shop".to_owned()), name: "p".to_owned() });
    assert_eq!(policy.egress, []);
    let refuses = match policy.action {
        Action::Allow => policy.rules.is_empty(),
        Action::Deny => policy.rules == [everyone()],
    };
    assert!(refuses, "{policy:?}");
    let selector = if policy.selector == Selector::default() { "all" } else { "some" };
    Some(format!("{:?} {selector} {} {}", policy.action, policy.dry_run, policy.egress_only))
}

#[test]
fn of_what_is_not_certain_the_most_is_refused() {
    let some = "selector: {matchLabels: {app: db}}";
    let bad = "rules: [{form: []}]";
    for (text, expected) in [
        (policy(&format!("{some}\n{bad}")), Some("Allow some false false")),
        (policy(&format!("{some}\naction: Deny\n{bad}")), Some("Deny some false false")),
        (policy(&format!("{some}\naction: Deny")), Some("Deny some false false")),
        (policy(bad), Some("Allow all false false")),
        (policy(&format!("selector: {{matchLabel: {{a: b}}}}\n{bad}")), Some("Allow all false false")),
        (policy(&format!("selector: {{matchLabels: {{a: b, a: c}}}}\n{bad}")), Some("Allow all false false")),
        (policy(&format!("{some}\n{some}\n{bad}")), Some("Allow all false false")),
        // An action that cannot be read, or that may be what was mistyped, is Deny.
        (policy(&format!("{some}\naction: deny\n{bad}")), Some("Deny some false false")),
        (policy(&format!("{some}\nacton: Allow\nrules: []")), Some("Deny some false false")),
        (policy("action: Allow\nselctor: {matchLabels: {a: b}}\nrules: []"), Some("Allow all false false")),
        (policy("[]"), Some("Deny all false false")),
        (policy("").replace("spec:", "sepc:"), Some("Deny all false false")),
        (policy(&format!("{some}\nrules: []")) + "action: Deny\n", Some("Deny some false false")),
        // What is only reported is not enforced because of a mistake.
        (policy(&format!("{some}\ndryRun: true\n{bad}")), Some("Allow some true false")),
        (policy(&format!("{some}\ndryRun: yes\n{bad}")), Some("Allow some false false")),
        // A policy about what pods call says nothing about who calls them.
        (policy(&format!("{some}\negress: [{{cidrs: [x]}}]")), Some("Allow some false true")),
        (policy(&format!("{some}\nruls: []\negress: [{{cidrs: [x]}}]")), Some("Deny some false false")),
        (policy(&format!("{some}\naction: Deny\negress: [{{cidrs: [x]}}]")), Some("Deny some false false")),
        // Nobody knows whose pods these are about.
        (policy(bad).replace("namespace: shop", "namespce: shop"), None),
        (policy(bad).replace("namespace: shop", "namespace: shop, namespace: other"), None),
        (policy(bad).replace("namespace: shop", "namespace: [shop]"), None),
        (policy(bad).replace("name: p", "name: P"), None),
        (policy(bad).replace("AccessPolicy", "ClusterAccessPolicy"), None),
    ] {
        assert_eq!(told(&text).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_cluster_wide_policy_whose_namespaces_cannot_be_read_is_about_all() {
    let text = policy("namespaceSelector: {matchLabel: {}}\nrules: [{}]")
        .replace("AccessPolicy", "ClusterAccessPolicy")
        .replace(", namespace: shop", "");
    let objects = objects(&text);
    assert_eq!(objects.stand_ins[0].value.namespace_selector, None);
}

#[test]
fn a_directory_starts_with_stand_ins_for_policies_alone() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nstatus: {podIP: 10.0.0.1}\n";
    write("pod.yaml", pod);
    write("policy.yaml", &policy("rules: [{form: []}]"));
    let loaded = load_or_stand_in(directory.path(), "cluster.local", 1).unwrap();
    let pod_named = loaded.snapshot.workload_named("shop", "a").unwrap();
    assert_eq!(loaded.snapshot.policies_of(pod_named)[0].rules, []);
    let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    assert!(
        errors.iter().any(|line| line.contains("policy.yaml:5:12: spec.rules[0].form: unknown field")),
        "{errors:?}"
    );
    assert!(
        errors.iter().any(|line| line
            .contains("until it is mended, AccessPolicy shop/p admits nobody to the pods that it selects")),
        "{errors:?}"
    );
    // Anything else that is wrong has nothing to stand in for it.
    write("b.yaml", "kind: [");
    assert!(load_or_stand_in(directory.path(), "cluster.local", 1).is_err());
    // Two of one name are no one.
    write("b.yaml", &policy("rules: []"));
    assert!(load_or_stand_in(directory.path(), "cluster.local", 1).is_err());
    write("b.yaml", &policy("rules: [{from: [{}]}]").replace("name: p", "name: q"));
    assert_eq!(load_or_stand_in(directory.path(), "cluster.local", 1).unwrap().snapshot.policies().len(), 2);
}
