//! Imported objects as JSON, and as YAML that a person goes on to edit.
//!
//! Writes what `control` reads back as the same objects. Never writes a comment that an object's name could end.

use ambit_core::{Action, Peer, Policy, Protocol, Requirement, Rule, Selector};
use serde_json::{Map, Value, json};

use super::Imported;
use super::ledger::ModeLabel;
use super::report::printable;
use crate::control::convert::MODE_LABEL;
use crate::control::objects::AMBIT_API;

/// Returns a policy as an object.
pub(crate) fn policy(policy: &Policy) -> Value {
    let namespace = policy.id.namespace.as_deref();
    let (kind, metadata) = match namespace {
        Some(namespace) => ("AccessPolicy", json!({"namespace": namespace, "name": policy.id.name})),
        None => ("ClusterAccessPolicy", json!({"name": policy.id.name})),
    };
    let mut spec = Map::new();
    if policy.selector != Selector::default() {
        spec.insert("selector".to_owned(), selector(&policy.selector));
    }
    let action = if policy.action == Action::Deny { "Deny" } else { "Allow" };
    spec.insert("action".to_owned(), json!(action));
    if policy.dry_run {
        spec.insert("dryRun".to_owned(), json!(true));
    }
    let rules: Vec<Value> = policy.rules.iter().map(|one| rule(one, namespace)).collect();
    spec.insert("rules".to_owned(), json!(rules));
    json!({"apiVersion": AMBIT_API, "kind": kind, "metadata": metadata, "spec": spec})
}

/// Returns a namespace or a pod with its mode, to be merged into the object of that name.
pub(crate) fn mode(label: &ModeLabel<'_>) -> Value {
    let labels = json!({MODE_LABEL: label.mode.as_str()});
    match &label.pod {
        None => {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": label.namespace, "labels": labels}})
        }
        Some(pod) => json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": label.namespace, "name": pod, "labels": labels},
        }),
    }
}

/// Returns objects as one stream of documents, each under a comment that says what it comes from.
pub(crate) fn documents(objects: &[Imported]) -> String {
    let mut text = String::new();
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        for origin in &object.origins {
            text.push_str(&format!("# from {}\n", printable(origin)));
        }
        block(&object.object, 0, &mut text);
    }
    text
}

fn rule(rule: &Rule, namespace: Option<&str>) -> Value {
    let mut written = Map::new();
    if let Some(peers) = &rule.from {
        let peers: Vec<Value> = peers.iter().map(|one| peer(one, namespace)).collect();
        written.insert("from".to_owned(), json!(peers));
    }
    if let Some(destinations) = &rule.to {
        let destinations = destinations.iter().map(|to| {
            let mut written = Map::new();
            if to.protocol == Protocol::Udp {
                written.insert("protocol".to_owned(), json!("UDP"));
            }
            let ports = to.ports.iter().map(|range| match range.first == range.last {
                true => json!(range.first),
                false => json!(range.to_string()),
            });
            if !to.ports.is_empty() {
                written.insert("ports".to_owned(), Value::Array(ports.collect()));
            }
            Value::Object(written)
        });
        written.insert("to".to_owned(), Value::Array(destinations.collect()));
    }
    Value::Object(written)
}

fn peer(peer: &Peer, namespace: Option<&str>) -> Value {
    let mut written = Map::new();
    let accounts = peer.service_accounts.iter().map(|account| {
        if Some(account.namespace.as_str()) == namespace { account.name.clone() } else { account.to_string() }
    });
    let lists = [
        ("serviceAccounts", accounts.collect::<Vec<_>>()),
        ("namespaces", peer.namespaces.clone()),
        ("identities", peer.identities.iter().map(ToString::to_string).collect()),
        ("cidrs", peer.cidrs.iter().map(ToString::to_string).collect()),
        ("exceptCidrs", peer.except_cidrs.iter().map(ToString::to_string).collect()),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        written.insert(key.to_owned(), json!(list));
    }
    for (key, flag) in [("host", peer.host), ("anyone", peer.anyone)] {
        if flag {
            written.insert(key.to_owned(), json!(true));
        }
    }
    Value::Object(written)
}

fn selector(selector: &Selector) -> Value {
    let mut written = Map::new();
    if !selector.match_labels.is_empty() {
        written.insert("matchLabels".to_owned(), json!(selector.match_labels));
    }
    if !selector.match_expressions.is_empty() {
        let requirements = selector.match_expressions.iter().map(|requirement| match requirement {
            Requirement::In { key, values } => json!({"key": key, "operator": "In", "values": values}),
            Requirement::NotIn { key, values } => json!({"key": key, "operator": "NotIn", "values": values}),
            Requirement::Exists { key } => json!({"key": key, "operator": "Exists"}),
            Requirement::DoesNotExist { key } => json!({"key": key, "operator": "DoesNotExist"}),
        });
        written.insert("matchExpressions".to_owned(), Value::Array(requirements.collect()));
    }
    Value::Object(written)
}

/// Writes a mapping, one key a line, lists of scalars in brackets.
fn block(value: &Value, depth: usize, text: &mut String) {
    let Value::Object(entries) = value else { return };
    let indent = "  ".repeat(depth);
    for (key, value) in entries {
        let key = scalar(key);
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(&format!("{indent}{key}:\n"));
                block(value, depth + 1, text);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text.push_str(&format!("{indent}{key}:\n"));
                for item in items {
                    let mut inner = String::new();
                    block(item, depth + 1, &mut inner);
                    // The dash takes the place of the first line's indentation.
                    text.push_str(&format!("{indent}- {}", inner.trim_start()));
                }
            }
            other => text.push_str(&format!("{indent}{key}: {}\n", flow(other))),
        }
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Writes a text plainly where YAML takes it for nothing else.
fn scalar(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    let network = text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<std::net::Ipv4Addr>().is_ok() && length.bytes().all(|byte| byte.is_ascii_digit())
    });
    if word || network { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests;
