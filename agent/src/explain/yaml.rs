//! Rules and policies as a person writes them in a file.
//!
//! Writes only what `advice` proposes. Never reads.

use ambit_core::{Action, EgressRule, Peer, Policy, PortRange, Protocol, Rule};

/// Writes one rule, as an item of `spec.rules` of a policy in this namespace.
pub(super) fn rule(rule: &Rule, namespace: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(peers) = &rule.from {
        text.push_str("from:\n");
        peers.iter().for_each(|entry| text.push_str(&format!("- {}\n", peer(entry, namespace))));
    }
    if let Some(destinations) = &rule.to {
        text.push_str("to:\n");
        for to in destinations {
            let protocol = if to.protocol == Protocol::Udp { "protocol: UDP\n" } else { "" };
            text.push_str(&item(&format!("{protocol}ports: {}\n", ports(&to.ports))));
        }
    }
    item(&text)
}

/// Writes one egress rule, as an item of `spec.egress`.
pub(super) fn egress(rule: &EgressRule) -> String {
    let cidrs: Vec<String> = rule.cidrs.iter().map(|cidr| quoted(&cidr.to_string())).collect();
    let mut text = format!("cidrs: [{}]\nports: {}\n", cidrs.join(", "), ports(&rule.ports));
    if let Some(protocol) = rule.protocol {
        text.push_str(&format!("protocol: {protocol}\n"));
    }
    item(&text)
}

/// Writes a whole policy whose selector has no expressions.
pub(super) fn policy(policy: &Policy) -> String {
    let namespace = policy.id.namespace.as_deref();
    let mut text = String::from("apiVersion: ambit.dev/v1alpha1\n");
    match namespace {
        Some(namespace) => text.push_str(&format!(
            "kind: AccessPolicy\nmetadata: {{namespace: {}, name: {}}}\nspec:\n",
            quoted(namespace),
            quoted(&policy.id.name)
        )),
        None => text.push_str(&format!(
            "kind: ClusterAccessPolicy\nmetadata: {{name: {}}}\nspec:\n",
            quoted(&policy.id.name)
        )),
    }
    if !policy.selector.match_labels.is_empty() {
        let labels: Vec<String> = policy
            .selector
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}: {}", quoted(value)))
            .collect();
        text.push_str(&format!("  selector: {{matchLabels: {{{}}}}}\n", labels.join(", ")));
    }
    if policy.action == Action::Deny {
        text.push_str("  action: Deny\n");
    }
    if !policy.rules.is_empty() {
        text.push_str("  rules:\n");
        policy.rules.iter().for_each(|entry| text.push_str(&indented(&rule(entry, namespace))));
    }
    if !policy.egress.is_empty() {
        text.push_str("  egress:\n");
        policy.egress.iter().for_each(|entry| text.push_str(&indented(&egress(entry))));
    }
    text
}

fn peer(peer: &Peer, namespace: Option<&str>) -> String {
    if peer.host {
        return "host: true".to_owned();
    }
    if !peer.service_accounts.is_empty() {
        let accounts = peer.service_accounts.iter().map(|account| {
            if Some(account.namespace.as_str()) == namespace {
                quoted(&account.name)
            } else {
                quoted(&account.to_string())
            }
        });
        return format!("serviceAccounts: [{}]", accounts.collect::<Vec<_>>().join(", "));
    }
    if !peer.identities.is_empty() {
        let identities = peer.identities.iter().map(|pattern| format!("\"{pattern}\""));
        return format!("identities: [{}]", identities.collect::<Vec<_>>().join(", "));
    }
    let cidrs = peer.cidrs.iter().map(|cidr| quoted(&cidr.to_string()));
    format!("cidrs: [{}]", cidrs.collect::<Vec<_>>().join(", "))
}

fn ports(ranges: &[PortRange]) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|range| if range.first == range.last { range.to_string() } else { format!("\"{range}\"") })
        .collect();
    format!("[{}]", ranges.join(", "))
}

/// Quotes a text that YAML would take for something else: names may be numbers or words such as `true`.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    let network = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.') && text.contains('/');
    if plain || network { text.to_owned() } else { format!("{text:?}") }
}

/// Makes lines an item of a list.
fn item(text: &str) -> String {
    let mut lines = String::new();
    for (index, line) in text.lines().enumerate() {
        lines.push_str(if index == 0 { "- " } else { "  " });
        lines.push_str(line);
        lines.push('\n');
    }
    lines
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
