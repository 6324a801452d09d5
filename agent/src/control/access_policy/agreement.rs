//! Holds the reader against the definitions for Kubernetes: the same fields, and the same documents valid.

mod structural;

use std::path::Path;
use std::sync::LazyLock;

use ambit_api::{Definition, definitions};
use kube::core::cel;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::control::finding::Finding;
use crate::control::objects::Objects;

static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| definitions().unwrap());

/// Returns the schema of a kind's objects.
fn schema(cluster_wide: bool) -> &'static Json {
    DEFINITIONS[usize::from(cluster_wide)].schema().unwrap()
}

fn document(cluster_wide: bool, spec: &Json) -> Json {
    let (kind, metadata) = if cluster_wide {
        ("ClusterAccessPolicy", json!({"name": "p"}))
    } else {
        ("AccessPolicy", json!({"name": "p", "namespace": "shop"}))
    };
    json!({"apiVersion": "ambit.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// Returns what the reader has against a policy.
fn reader(cluster_wide: bool, spec: &Json) -> Vec<String> {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    let text = document(cluster_wide, spec).to_string();
    objects.read_file(Path::new("in.yaml"), text.as_bytes(), &mut findings);
    assert_eq!(objects.policies.is_empty(), !findings.errors.is_empty());
    findings.errors.iter().map(|finding: &Finding| finding.message.clone()).collect()
}

/// What every object has, and no schema of a kind speaks of.
const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Returns what the API server has against a policy.
fn server(cluster_wide: bool, spec: &Json) -> Vec<String> {
    let mut document = document(cluster_wide, spec);
    // These are the API server's own.
    for key in OWN {
        document.as_object_mut().unwrap().remove(key);
    }
    let mut errors = structural::check("", schema(cluster_wide), &document);
    if let Some(spec) = document["spec"].as_object_mut() {
        spec.entry("action").or_insert("Allow".into());
        spec.entry("dryRun").or_insert(false.into());
    }
    if errors.is_empty()
        && let Err(wrong) = cel::Validator::new().validate(schema(cluster_wide), &document, None)
    {
        errors.extend(wrong.iter().map(|error| error.message.clone()));
    }
    errors
}

/// Returns the fields of a part of a policy, as the schema has them.
fn fields(definition: usize, pointer: &str) -> Vec<String> {
    let part = schema(definition == 1).pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
    let mut fields: Vec<String> = part["properties"].as_object().unwrap().keys().cloned().collect();
    fields.sort();
    fields
}

#[test]
fn both_know_the_same_fields() {
    let spec = "/properties/spec";
    let rule = format!("{spec}/properties/rules/items");
    let selector = format!("{spec}/properties/selector");
    for (definition, pointer, known) in [
        (0, String::new(), &TOP_LEVEL[..]),
        (1, String::new(), &TOP_LEVEL),
        (0, spec.to_owned(), &SPEC),
        (1, spec.to_owned(), &CLUSTER_SPEC),
        (0, rule.clone(), &rules::RULE),
        (0, format!("{rule}/properties/from/items"), &rules::PEER),
        (1, format!("{rule}/properties/from/items"), &rules::PEER),
        (0, format!("{rule}/properties/to/items"), &rules::DESTINATION),
        (0, format!("{spec}/properties/egress/items"), &egress::RULE),
        (0, selector.clone(), &selector::SELECTOR),
        (0, format!("{selector}/properties/matchExpressions/items"), &selector::REQUIREMENT),
        (1, format!("{spec}/properties/namespaceSelector"), &selector::SELECTOR),
    ] {
        let mut known: Vec<&str> = known.iter().copied().filter(|key| !OWN.contains(key)).collect();
        known.sort_unstable();
        assert_eq!(fields(definition, &pointer), known, "{pointer}");
    }
    let operators =
        "/properties/spec/properties/selector/properties/matchExpressions/items/properties/operator/enum";
    assert_eq!(schema(false).pointer(operators).unwrap(), &json!(selector::OPERATORS));
}

#[test]
fn what_one_refuses_the_other_does_in_the_same_words() {
    let peer = |peer: Json| json!({"rules": [{"from": [peer]}]});
    let to = |to: Json| json!({"rules": [{"to": [to]}]});
    // With `true` the words are the same; else the API server has words of its own for types, lengths and patterns.
    for (spec, same_words) in [
        (json!({"action": "Deny"}), true),
        (json!({"action": "Deny", "rules": []}), true),
        (
            json!({"action": "Deny", "rules": [{"from": [{"host": true}]}], "egress": [{"cidrs": ["10.0.0.0/8"]}]}),
            true,
        ),
        (json!({"rules": [{}]}), true),
        (peer(json!({})), true),
        (peer(json!({"host": false})), true),
        (peer(json!({"anyone": false})), true),
        (peer(json!({"host": true, "serviceAccounts": ["a"]})), true),
        (peer(json!({"anyone": true, "namespaces": ["a"]})), true),
        (peer(json!({"anyone": true, "host": true})), true),
        (to(json!({})), true),
        (json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}), true),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
            false,
        ),
        (json!({"action": "allow"}), false),
        (json!({"dryRun": "yes"}), false),
        (json!({"rules": {}}), false),
        (json!({"rules": [{"form": []}]}), false),
        (json!({"rules": [{"from": []}]}), false),
        (json!({"egress": []}), false),
        (json!({"egress": [{"ports": [53]}]}), false),
        (json!({"egress": [{"cidrs": []}]}), false),
        (json!({"namespaceSelector": {}}), false),
        (json!({"selector": {"matchLabels": {"a": 1}}}), false),
        (json!({"selector": {"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}}), false),
        (peer(json!({"serviceAccounts": []})), false),
        (peer(json!({"serviceAccounts": ["a/b/c"]})), false),
        (peer(json!({"serviceAccounts": ["shop/*"]})), false),
        (peer(json!({"namespaces": ["*"]})), false),
        (peer(json!({"namespaces": ["-a"]})), false),
        (peer(json!({"identities": ["web"]})), false),
        (peer(json!({"identities": ["http://a*"]})), false),
        (peer(json!({"identities": ["spiffe://*/ns/*"]})), false),
        (to(json!({"ports": [0]})), false),
        (to(json!({"ports": [65536]})), false),
        (to(json!({"ports": ["0"]})), false),
        (to(json!({"ports": ["080"]})), false),
        (to(json!({"ports": ["65536"]})), false),
        (to(json!({"ports": ["http"]})), false),
        (to(json!({"ports": ["1-2-3"]})), false),
        (to(json!({"ports": []})), false),
        (to(json!({"protocol": "udp"})), false),
    ] {
        let (read, served) = (reader(false, &spec), server(false, &spec));
        assert!(!read.is_empty() && !served.is_empty(), "{spec}\n{read:?}\n{served:?}");
        assert!(!same_words || read == served, "{spec}\n{read:?}\n{served:?}");
    }
    let bare = peer(json!({"serviceAccounts": ["a"]}));
    assert!(
        server(false, &bare).is_empty() && !server(true, &bare).is_empty() && !reader(true, &bare).is_empty()
    );
    // What no rule of the API server can say within its budget; ambit refuses it when it is read.
    assert!(!reader(false, &to(json!({"ports": ["9-3"]}))).is_empty());
}

/// Some of the given fields, each with a value of its own.
fn some(fields: Vec<(&'static str, BoxedStrategy<Json>)>) -> BoxedStrategy<Json> {
    let each = fields.into_iter().map(|(key, value)| {
        proptest::option::weighted(0.4, value)
            .prop_map(move |value| value.map(|value| (key.to_owned(), value)))
    });
    each.collect::<Vec<_>>()
        .prop_map(|entries| Json::Object(entries.into_iter().flatten().collect::<Map<String, Json>>()))
        .boxed()
}

fn one_of(values: Vec<Json>) -> BoxedStrategy<Json> {
    proptest::sample::select(values).boxed()
}

fn list(items: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
    proptest::collection::vec(items, 0..3).prop_map(Json::Array).boxed()
}

fn texts(texts: &[&str]) -> BoxedStrategy<Json> {
    list(one_of(texts.iter().map(|text| json!(text)).collect()))
}

fn any_selector() -> BoxedStrategy<Json> {
    let requirement = some(vec![
        ("key", one_of(vec![json!("app")])),
        ("operator", one_of(vec![json!("In"), json!("Exists"), json!("NotIn")])),
        ("values", texts(&["web", ""])),
    ]);
    some(vec![
        ("matchLabels", one_of(vec![json!({}), json!({"app": "web", "example.org/tier": "back"})])),
        ("matchExpressions", list(requirement)),
    ])
}

fn any_spec(cluster_wide: bool) -> BoxedStrategy<Json> {
    let networks = || texts(&["10.0.0.0/8", "::/0", "fd00::1/128"]);
    let ports =
        || list(one_of(vec![json!(80), json!("443"), json!("8000-8080"), json!(65535), json!("1-65535")]));
    let protocol = || one_of(vec![json!("TCP"), json!("UDP")]);
    let accounts: &[&str] =
        if cluster_wide { &["shop/web", "a.b/c-d"] } else { &["web", "shop/web", "a.b/c-d"] };
    let peer = some(vec![
        ("serviceAccounts", texts(accounts)),
        ("namespaces", texts(&["shop", "a-b.c"])),
        (
            "identities",
            texts(&["spiffe://x.org/ns/a/sa/b", "*/sa/b", "spiffe://x*", "spiffe://x.org/ns/*/sa/b", "*"]),
        ),
        ("cidrs", networks()),
        ("exceptCidrs", networks()),
        ("host", one_of(vec![json!(true), json!(true), json!(false)])),
        ("anyone", one_of(vec![json!(true), json!(true), json!(false)])),
    ]);
    let to = some(vec![("protocol", protocol()), ("ports", ports())]);
    let rule = some(vec![("from", list(peer)), ("to", list(to))]);
    let egress = some(vec![
        ("cidrs", networks()),
        ("exceptCidrs", networks()),
        ("ports", ports()),
        ("protocol", protocol()),
    ]);
    let mut fields = vec![
        ("selector", any_selector()),
        ("action", one_of(vec![json!("Allow"), json!("Deny")])),
        ("dryRun", one_of(vec![json!(true), json!(false)])),
        ("rules", list(rule)),
        ("egress", list(egress)),
    ];
    if cluster_wide {
        fields.push(("namespaceSelector", any_selector()));
    }
    some(fields)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn both_take_the_same_policies(
        (cluster_wide, spec) in any::<bool>().prop_flat_map(|wide| (Just(wide), any_spec(wide)))
    ) {
        let (read, served) = (reader(cluster_wide, &spec), server(cluster_wide, &spec));
        prop_assert_eq!(read.is_empty(), served.is_empty(), "{}\n{:?}\n{:?}", spec, read, served);
    }
}
