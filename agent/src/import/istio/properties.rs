//! Whatever Istio's policies are, what is written admits whom they admit, and never anybody else.
//!
//! Istio's side is decided here, directly on what was generated.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::import::testing::{Caller, allows, caller, imported_with};
use crate::import::{Options, Outcome};

#[derive(Clone, Debug)]
struct Policy {
    root: bool,
    app: Option<&'static str>,
    deny: bool,
    dry_run: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    from: Vec<Source>,
    to: Vec<Operation>,
    when: Vec<Source>,
}

/// Fields of a source; `when` has one of them.
#[derive(Clone, Debug, Default)]
struct Source {
    fields: Vec<(&'static str, Vec<&'static str>)>,
}

#[derive(Clone, Debug)]
struct Operation {
    ports: Vec<u16>,
    not_ports: Vec<u16>,
    methods: bool,
}

const PRINCIPALS: [&str; 7] = [
    "cluster.local/ns/shop/sa/a",
    "cluster.local/ns/other/sa/b",
    "*",
    "cluster.local/ns/shop/*",
    "*/sa/a",
    "*a",
    "cluster.local/ns/sh*",
];
const NAMESPACES: [&str; 4] = ["shop", "other", "sh*", "*"];
const ACCOUNTS: [&str; 3] = ["a", "other/b", "shop/b"];
const NETWORKS: [&str; 3] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.1"];

fn values(key: &str) -> &'static [&'static str] {
    match key.trim_start_matches("not").to_ascii_lowercase().as_str() {
        "principals" => &PRINCIPALS,
        "namespaces" => &NAMESPACES,
        "serviceaccounts" => &ACCOUNTS,
        _ => &NETWORKS,
    }
}

fn field(keys: &'static [&'static str]) -> impl Strategy<Value = (&'static str, Vec<&'static str>)> {
    prop::sample::select(keys).prop_flat_map(|key| (Just(key), vec(prop::sample::select(values(key)), 1..3)))
}

fn source() -> impl Strategy<Value = Source> {
    let positive = field(&["principals", "namespaces", "serviceAccounts", "ipBlocks"]);
    let negative = field(&["notPrincipals", "notNamespaces", "notServiceAccounts", "notIpBlocks"]);
    vec(prop_oneof![5 => positive.boxed(), 1 => negative.boxed()], 1..3).prop_map(|mut fields| {
        fields.sort_by_key(|(key, _)| *key);
        fields.dedup_by_key(|(key, _)| *key);
        Source { fields }
    })
}

fn ports() -> impl Strategy<Value = Vec<u16>> {
    vec(79u16..82, 1..3)
}

fn operation() -> impl Strategy<Value = Operation> {
    let either = prop_oneof![
        ports().prop_map(|ports| (ports, Vec::new())),
        ports().prop_map(|ports| (Vec::new(), ports)),
        (ports(), ports()),
    ];
    (either, prop::bool::weighted(0.05)).prop_map(|((ports, not_ports), methods)| Operation {
        ports,
        not_ports,
        methods,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let when = field(&["principals", "namespaces", "ipBlocks", "notIpBlocks", "notNamespaces"]);
    let when = vec(when.prop_map(|field| Source { fields: vec![field] }), 0..2);
    let when = prop_oneof![3 => Just(Vec::new()).boxed(), 1 => when.boxed()];
    (vec(source(), 0..3), vec(operation(), 0..3), when).prop_map(|(from, to, when)| Rule { from, to, when })
}

fn policy() -> impl Strategy<Value = Policy> {
    let app = prop_oneof![Just(None), Just(Some("web")), Just(Some("db"))];
    let dry_run = prop::bool::weighted(0.1);
    (prop::bool::weighted(0.2), app, any::<bool>(), dry_run, vec(rule(), 0..3))
        .prop_map(|(root, app, deny, dry_run, rules)| Policy { root, app, deny, dry_run, rules })
}

/// One rule with one source more often, so that what is not meant is expressed too.
fn policies() -> impl Strategy<Value = Vec<Policy>> {
    prop_oneof![vec(policy(), 1..4), vec(policy(), 1..2)]
}

fn yaml(policies: &[Policy]) -> String {
    let list =
        |values: &[&str]| values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for (number, policy) in policies.iter().enumerate() {
        let namespace = if policy.root { "istio-system" } else { "shop" };
        text.push_str(&format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  namespace: {namespace}\n  name: p{number}\n"
        ));
        if policy.dry_run {
            text.push_str("  annotations: {istio.io/dry-run: 'true'}\n");
        }
        text.push_str(&format!("spec:\n  action: {}\n", if policy.deny { "DENY" } else { "ALLOW" }));
        if let Some(app) = policy.app {
            text.push_str(&format!("  selector: {{matchLabels: {{app: {app}}}}}\n"));
        }
        let rules = policy.rules.iter().map(|rule| {
            let from = rule.from.iter().map(|source| {
                let fields = source.fields.iter().map(|(key, values)| format!("{key}: [{}]", list(values)));
                format!("{{source: {{{}}}}}", fields.collect::<Vec<_>>().join(", "))
            });
            let to = rule.to.iter().map(|operation| {
                let written = |ports: &[u16]| {
                    ports.iter().map(|port| format!("'{port}'")).collect::<Vec<_>>().join(", ")
                };
                let (ports, not) = (written(&operation.ports), written(&operation.not_ports));
                let methods = if operation.methods { ", methods: [GET]" } else { "" };
                format!("{{operation: {{ports: [{ports}], notPorts: [{not}]{methods}}}}}")
            });
            let when = rule.when.iter().flat_map(|source| &source.fields).map(|(key, values)| {
                let (field, key) = match key.strip_prefix("not") {
                    Some(key) => ("notValues", key.to_ascii_lowercase()),
                    None => ("values", key.to_ascii_lowercase()),
                };
                let key = match key.as_str() {
                    "principals" => "source.principal",
                    "namespaces" => "source.namespace",
                    _ => "source.ip",
                };
                format!("{{key: {key}, {field}: [{}]}}", list(values))
            });
            let join = |items: Vec<String>| items.join(", ");
            format!(
                "{{from: [{}], to: [{}], when: [{}]}}",
                join(from.collect()),
                join(to.collect()),
                join(when.collect())
            )
        });
        text.push_str(&format!("  rules: [{}]\n", rules.collect::<Vec<_>>().join(", ")));
    }
    text
}

/// What Istio says of a value.
fn holds(key: &str, value: &str, caller: &Caller) -> bool {
    let pattern = |text: &str| match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(suffix), _) => text.ends_with(suffix),
        (None, Some(prefix)) => text.starts_with(prefix),
        (None, None) => text == value,
    };
    let Some(id) = &caller.id else { return key == "ipblocks" && in_network(value, caller) };
    match key {
        "principals" => pattern(id.to_string().trim_start_matches("spiffe://")),
        "namespaces" => pattern(id.namespace()),
        "serviceaccounts" => {
            let (namespace, name) = value.split_once('/').unwrap_or(("shop", value));
            id.namespace() == namespace && id.service_account() == name
        }
        _ => in_network(value, caller),
    }
}

fn in_network(value: &str, caller: &Caller) -> bool {
    match value.split_once('/') {
        Some(_) => value.parse::<ipnet::IpNet>().unwrap().contains(&caller.address),
        None => caller.address == value.parse::<std::net::IpAddr>().unwrap(),
    }
}

impl Source {
    fn matches(&self, caller: &Caller, namespace: &str) -> bool {
        self.fields.iter().all(|(key, values)| {
            let (negative, key) = match key.strip_prefix("not") {
                Some(key) => (true, key.to_ascii_lowercase()),
                None => (false, key.to_ascii_lowercase()),
            };
            let any = values.iter().any(|value| match (key.as_str(), value.contains('/')) {
                ("serviceaccounts", false) => holds(&key, &format!("{namespace}/{value}"), caller),
                _ => holds(&key, value, caller),
            });
            any != negative
        })
    }
}

impl Policy {
    fn selects(&self, app: &str) -> bool {
        !self.dry_run && self.app.is_none_or(|own| own == app)
    }

    /// Tells whether it matches; what only a request answers matches under DENY, and not under ALLOW.
    fn matches(&self, caller: &Caller, port: u16) -> bool {
        let namespace = if self.root { "istio-system" } else { "shop" };
        self.rules.iter().any(|rule| {
            let from =
                rule.from.is_empty() || rule.from.iter().any(|source| source.matches(caller, namespace));
            let to = rule.to.is_empty()
                || rule.to.iter().any(|operation| {
                    (operation.ports.is_empty() || operation.ports.contains(&port))
                        && !operation.not_ports.contains(&port)
                        && (!operation.methods || self.deny)
                });
            from && to && rule.when.iter().all(|condition| condition.matches(caller, namespace))
        })
    }
}

fn istio_allows(policies: &[Policy], app: &str, caller: &Caller, port: u16) -> bool {
    let selecting = || policies.iter().filter(|policy| policy.selects(app));
    if selecting().any(|policy| policy.deny && policy.matches(caller, port)) {
        return false;
    }
    let mut allow = selecting().filter(|policy| !policy.deny).peekable();
    allow.peek().is_none() || allow.any(|policy| policy.matches(caller, port))
}

/// Tells whether anything is written for the pods.
fn has_policy(outcome: &Outcome, app: &str) -> bool {
    outcome
        .objects
        .iter()
        .filter_map(|object| object.policy.as_ref())
        .any(|policy| policy.selector.match_labels.get("app").is_none_or(|own| own == app))
}

fn is_negative(policy: &Policy) -> bool {
    let sources = policy.rules.iter().flat_map(|rule| rule.from.iter().chain(&rule.when));
    sources.flat_map(|source| &source.fields).any(|(key, _)| key.starts_with("not"))
}

proptest! {
    #[test]
    fn what_is_written_admits_whom_istio_admits(policies in policies(), by_port in any::<bool>()) {
        let options = Options { deny_requests_by_port: by_port, ..Options::default() };
        let outcome = imported_with(&yaml(&policies), &options);
        for who in ["shop/a", "shop/b", "other/a", "other/b", "shoe/a", "-"] {
            for address in ["10.0.0.1", "10.1.0.1", "10.1.0.2", "9.0.0.1"] {
                let caller = caller(&format!("{who} from {address}"));
                for (app, port) in [("web", 79), ("web", 80), ("web", 82), ("db", 80)] {
                    let theirs = istio_allows(&policies, app, &caller, port);
                    let ours = allows(&outcome, ("shop", &[("app", app)]), &caller, port);
                    let call = format!("{who} from {address} to {app}:{port}\n{}\n{:#?}", outcome.yaml(), outcome.report);
                    if outcome.refused == 0 || has_policy(&outcome, app) {
                        prop_assert!(!ours || theirs, "wider: {}", call);
                    }
                    // Who is admitted for what they are not needs an identity in ambit, as the report says.
                    let told = caller.id.is_none() && policies.iter().any(|policy| !policy.deny && is_negative(policy));
                    if outcome.refused == 0 && !told {
                        prop_assert_eq!(ours, theirs, "narrower: {}", call);
                    }
                }
            }
        }
    }
}
