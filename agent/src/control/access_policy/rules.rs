//! Reads the rules of a policy: callers, protocols and ports.
//!
//! Refuses a rule that can match nobody by mistake, or everybody without saying so.

use ambit_core::{Destination, IdentityPattern, Peer, PortRange, Protocol, Rule, ServiceAccount};
use ipnet::IpNet;

use crate::control::fields::{Fields, check_name, filled_list, flag, list, name, text};
use crate::control::finding::Findings;
use crate::control::node::{Cursor, Value};

pub(super) const RULE: [&str; 2] = ["from", "to"];
pub(super) const DESTINATION: [&str; 2] = ["protocol", "ports"];
pub(super) const PEER: [&str; 7] =
    ["serviceAccounts", "namespaces", "identities", "cidrs", "exceptCidrs", "host", "anyone"];

/// Reads the rules of a policy in this namespace; none for a cluster-wide one.
pub(super) fn read(
    field: &Cursor<'_>,
    namespace: Option<&str>,
    findings: &mut Findings,
) -> Option<Vec<Rule>> {
    list(field, findings, |item, findings| read_rule(item, namespace, findings))
}

fn read_rule(item: &Cursor<'_>, namespace: Option<&str>, findings: &mut Findings) -> Option<Rule> {
    let fields = Fields::of(item, &RULE, findings)?;
    let (from, to) = (fields.get("from"), fields.get("to"));
    if from.is_none() && to.is_none() {
        // A mistyped field has been reported already, and is more likely what is wrong.
        if fields.has_unknown {
            return None;
        }
        let finding = item.finding("the rule has neither `from` nor `to`");
        findings.error(finding.with_hint("write `from: [{anyone: true}]` to match everyone"));
        return None;
    }
    let from =
        from.map(|from| filled_list(&from, findings, |peer, findings| read_peer(peer, namespace, findings)));
    let to = to.map(|to| filled_list(&to, findings, read_destination));
    Some(Rule {
        from: match from {
            Some(peers) => Some(peers?),
            None => None,
        },
        to: match to {
            Some(destinations) => Some(destinations?),
            None => None,
        },
    })
}

fn read_peer(item: &Cursor<'_>, namespace: Option<&str>, findings: &mut Findings) -> Option<Peer> {
    let fields = Fields::of(item, &PEER, findings)?;
    let service_accounts = values(fields.get("serviceAccounts"), findings, |field, findings| {
        read_service_account(field, namespace, findings)
    });
    let namespaces = values(fields.get("namespaces"), findings, read_namespace);
    let identities = values(fields.get("identities"), findings, read_identity);
    let cidrs = values(fields.get("cidrs"), findings, read_cidr);
    let except_cidrs = values(fields.get("exceptCidrs"), findings, read_cidr);
    let host = flag(fields.get("host"), findings);
    let anyone = flag(fields.get("anyone"), findings);
    if fields.has_unknown {
        return None;
    }
    let peer = Peer {
        service_accounts: service_accounts?,
        namespaces: namespaces?,
        identities: identities?,
        cidrs: cidrs?,
        except_cidrs: except_cidrs?,
        host: host?,
        anyone: anyone?,
    };
    check_peer(item, peer, findings)
}

/// Refuses a peer that says nothing, or whose fields contradict each other.
fn check_peer(item: &Cursor<'_>, peer: Peer, findings: &mut Findings) -> Option<Peer> {
    let by_identity =
        !peer.service_accounts.is_empty() || !peer.namespaces.is_empty() || !peer.identities.is_empty();
    let problem = if peer.is_empty() {
        Some((
            "the caller has no field",
            format!("name one of {}; `anyone: true` for everyone", PEER.join(", ")),
        ))
    } else if peer.host && by_identity {
        let hint = "the fields of an entry are AND-ed: write `- host: true` as an entry of its own";
        Some(("matches nobody: the node's own processes have no identity", hint.to_owned()))
    } else if peer.anyone && (by_identity || peer.host) {
        let hint =
            "the fields of an entry are AND-ed: write `- anyone: true` as an entry of its own, or remove it";
        Some(("`anyone` adds nothing to the other fields", hint.to_owned()))
    } else {
        None
    };
    match problem {
        Some((message, hint)) => {
            findings.error(item.finding(message).with_hint(hint));
            None
        }
        None => Some(peer),
    }
}

/// Reads the values of a field; an absent field has none, an empty list is an error.
pub(super) fn values<T>(
    field: Option<Cursor<'_>>,
    findings: &mut Findings,
    read: impl FnMut(&Cursor<'_>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    match field {
        Some(field) => filled_list(&field, findings, read),
        None => Some(Vec::new()),
    }
}

fn read_service_account(
    field: &Cursor<'_>,
    namespace: Option<&str>,
    findings: &mut Findings,
) -> Option<ServiceAccount> {
    let written = text(field, findings)?;
    let (namespace, account) = match (written.split_once('/'), namespace) {
        (Some((namespace, account)), _) => (namespace, account),
        (None, Some(namespace)) => (namespace, written),
        (None, None) => {
            let message = format!("{written:?} needs its namespace: a ClusterAccessPolicy belongs to none");
            findings.error(field.finding(message).with_hint(format!("write `NAMESPACE/{written}`")));
            return None;
        }
    };
    for part in [namespace, account] {
        if let Err(why) = check_name(part) {
            let finding = field.finding(format!("{written:?} is no service account: {why}"));
            findings.error(if part.contains('*') {
                finding.with_hint("use `namespaces` for a whole namespace, or `identities` with a `*`")
            } else {
                finding.with_hint("write `NAME` or `NAMESPACE/NAME`")
            });
            return None;
        }
    }
    Some(ServiceAccount { namespace: namespace.to_owned(), name: account.to_owned() })
}

fn read_namespace(field: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    name(field, findings)
}

fn read_identity(field: &Cursor<'_>, findings: &mut Findings) -> Option<IdentityPattern> {
    let written = text(field, findings)?;
    match IdentityPattern::parse(written) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let finding = field.finding(format!("{written:?}: {error}"));
            findings.error(finding.with_hint(
                "write `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME`, with at most one `*` for any characters",
            ));
            None
        }
    }
}

pub(super) fn read_cidr(field: &Cursor<'_>, findings: &mut Findings) -> Option<IpNet> {
    let written = text(field, findings)?;
    let network: IpNet = match (written.parse(), written.parse::<std::net::IpAddr>()) {
        (Ok(network), _) => network,
        (Err(_), Ok(address)) => {
            let finding = field.finding(format!("{written:?} is an address, not a network"));
            findings.error(finding.with_hint(format!("write {}", IpNet::from(address))));
            return None;
        }
        (Err(_), Err(_)) => {
            let finding = field.finding(format!("{written:?} is no network"));
            findings.error(finding.with_hint("write it as ADDRESS/LENGTH, such as 10.0.0.0/8 or fd00::/8"));
            return None;
        }
    };
    let mapped =
        matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() && v6.prefix_len() > 0);
    let problem = if mapped {
        Some(("is IPv4 written as IPv6", "write the IPv4 network itself".to_owned()))
    } else if network != network.trunc() {
        Some(("has bits set beyond its length", format!("write {}", network.trunc())))
    } else {
        None
    };
    match problem {
        Some((problem, hint)) => {
            findings.error(field.finding(format!("{written:?} {problem}")).with_hint(hint));
            None
        }
        None => Some(network),
    }
}

fn read_destination(item: &Cursor<'_>, findings: &mut Findings) -> Option<Destination> {
    let fields = Fields::of(item, &DESTINATION, findings)?;
    let (protocol, ports) = (fields.get("protocol"), fields.get("ports"));
    if fields.has_unknown {
        return None;
    }
    if protocol.is_none() && ports.is_none() {
        let finding = item.finding("the destination has neither `ports` nor `protocol`");
        findings.error(finding.with_hint("leave out `to` to mean every port of every protocol"));
        return None;
    }
    let protocol = read_protocol(protocol, findings);
    let ports = values(ports, findings, read_ports);
    Some(Destination { protocol: protocol?.unwrap_or_default(), ports: ports? })
}

/// Reads a protocol; an absent field is `Some(None)`.
pub(super) fn read_protocol(field: Option<Cursor<'_>>, findings: &mut Findings) -> Option<Option<Protocol>> {
    let Some(field) = field else { return Some(None) };
    let written = text(&field, findings)?;
    let found = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == written);
    if found.is_none() {
        let finding = field.finding(format!("unknown protocol {written:?}"));
        findings.error(finding.with_hint("use TCP or UDP"));
    }
    found.map(Some)
}

pub(super) fn read_ports(field: &Cursor<'_>, findings: &mut Findings) -> Option<PortRange> {
    let (written, range) = match &field.node.value {
        Value::Integer(number) => {
            (number.to_string(), u16::try_from(*number).ok().filter(|port| *port > 0).map(PortRange::single))
        }
        Value::Text(text) => (text.clone(), parse_range(text)),
        other => (other.describe().to_owned(), None),
    };
    if range.is_none() {
        let finding = field.finding(format!("{written} is neither a port nor a range of ports"));
        findings.error(finding.with_hint("write a number from 1 to 65535, or a range such as \"8000-8080\""));
    }
    range
}

fn parse_range(text: &str) -> Option<PortRange> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A leading zero is octal to some.
        (digits && !text.starts_with('0'))
            .then(|| text.parse::<u16>().ok())
            .flatten()
            .filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = PortRange { first: port(first)?, last: port(last)? };
    (range.first <= range.last).then_some(range)
}
