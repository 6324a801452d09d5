//! Who is asked about: the names of a test become callers of the objects.
//!
//! A name that stands for nobody is an error, since a test of it would pass for ever. Never decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ambit_core::{Peer, Snapshot, SpiffeId, Workload, policy::pieces};
use ipnet::IpNet;

use super::Expected;
use super::read::{Test, Written};
use crate::control::finding::{Finding, Findings, did_you_mean};

/// The most calls that one test asks about.
const MAX_CALLS: usize = 1_000_000;
/// How many addresses of a network are tried for one that is nobody's.
const TRIES: usize = 4096;
/// Addresses that documentation uses for somebody outside, which readers know as such.
const EXAMPLES: [&str; 4] = ["203.0.113.1", "198.51.100.1", "192.0.2.1", "2001:db8::1"];

/// The calls of a test.
pub(super) struct Calls<'a> {
    callers: BTreeMap<String, Caller<'a>>,
    called: Vec<String>,
    ports: &'a [u16],
}

/// A call to ask about.
pub(super) struct Call<'a> {
    pub(super) from: &'a String,
    pub(super) to: &'a str,
    pub(super) port: u16,
    pub(super) expected: Expected,
    /// What names the caller in the file.
    pub(super) at: &'a Finding,
    /// Whether the caller is written out.
    pub(super) by_name: bool,
}

struct Caller<'a> {
    expected: Expected,
    how: How,
    at: &'a Finding,
}

/// How a caller is meant: what says more wins over what says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    ByName,
    ByIdentity,
    ByPattern,
    AsRest,
}

impl Calls<'_> {
    /// Returns every call.
    pub(super) fn all(&self) -> impl Iterator<Item = Call<'_>> {
        let of_caller = |(from, caller)| self.called.iter().map(move |to| (from, caller, to));
        let each = self.callers.iter().flat_map(of_caller);
        each.flat_map(|(from, caller, to): (&String, &Caller<'_>, &String)| {
            self.ports.iter().map(move |port| Call {
                from,
                to,
                port: *port,
                expected: caller.expected,
                at: caller.at,
                by_name: caller.how == How::ByName,
            })
        })
    }
}

/// Returns the calls of a test.
pub(super) fn calls<'a>(
    snapshot: &Snapshot,
    trust_domain: &str,
    test: &'a Test,
    findings: &mut Findings,
) -> Option<Calls<'a>> {
    let errors = findings.errors.len();
    let called = called(snapshot, &test.to, findings);
    let mut callers: BTreeMap<String, Caller<'a>> = BTreeMap::new();
    let allowed = test.allow.iter().flatten().map(|written| (written, Expected::Allow));
    for (written, expected) in allowed.chain(test.refuse.iter().map(|written| (written, Expected::Refuse))) {
        match named(snapshot, trust_domain, &written.text) {
            Ok((how, names)) => {
                let new = |name| (name, Caller { expected, how, at: &written.at });
                names.into_iter().map(new).for_each(|(name, new)| add(&mut callers, name, new, findings));
            }
            Err(problem) => findings.error(about(written, problem)),
        }
    }
    if test.only {
        for name in rest(snapshot, &called, &callers) {
            let rest = Caller { expected: Expected::Refuse, how: How::AsRest, at: &test.at };
            callers.entry(name).or_insert(rest);
        }
    }
    let count = callers.len().saturating_mul(called.len()).saturating_mul(test.ports.len());
    if count > MAX_CALLS {
        let message = format!("the test asks about {count} calls, at most {MAX_CALLS} are asked about");
        let finding = Finding { message, ..test.at.clone() };
        findings.error(finding.with_hint("write several tests, each of them about less"));
    }
    (findings.errors.len() == errors).then_some(Calls { callers, called, ports: &test.ports })
}

/// Adds a caller, unless another name says more about it.
fn add<'a>(
    callers: &mut BTreeMap<String, Caller<'a>>,
    name: String,
    new: Caller<'a>,
    findings: &mut Findings,
) {
    match callers.get(&name) {
        Some(known) if known.how < new.how => {}
        Some(known) if known.how == new.how && known.expected != new.expected => {
            let message =
                format!("{name} stands under `allow` and `refuse`, first on line {}", known.at.line);
            findings.error(Finding { message, ..new.at.clone() });
        }
        _ => {
            callers.insert(name, new);
        }
    }
}

/// Returns what is called: pods, if it is a pattern.
fn called(snapshot: &Snapshot, to: &Written, findings: &mut Findings) -> Vec<String> {
    if !to.text.contains('*') {
        return vec![to.text.clone()];
    }
    match matching(snapshot, &to.text) {
        Ok(pods) => pods.into_iter().map(|pod| unmistakable(snapshot, pod)).collect(),
        Err(problem) => {
            findings.error(about(to, problem));
            Vec::new()
        }
    }
}

/// Names a pod so that it is not taken for a service of its name.
fn unmistakable(snapshot: &Snapshot, pod: String) -> String {
    let bears = |service: &ambit_core::Service| format!("{}/{}", service.namespace, service.name) == pod;
    if snapshot.services().any(|service| bears(service)) { format!("pod:{pod}") } else { pod }
}

/// Returns the callers that a text names, each as `explain` names it.
fn named(snapshot: &Snapshot, trust_domain: &str, text: &str) -> Result<(How, Vec<String>), String> {
    if text.contains("://") {
        if text.contains('*') {
            return Err("write the identity out: `*` stands in names of pods, such as shop/*".to_owned());
        }
        let id = SpiffeId::parse(text).map_err(|error| error.to_string())?;
        return Ok((How::ByIdentity, having(snapshot, trust_domain, &id)?));
    }
    if text.contains('*') {
        return Ok((How::ByPattern, matching(snapshot, text)?));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        let pod = snapshot.workload(address).map(|pod| pod.key().to_string());
        return Ok((How::ByName, vec![pod.unwrap_or_else(|| address.to_string())]));
    }
    // Whether the pod is there, `explain` says.
    Ok((How::ByName, vec![text.strip_prefix("pod:").unwrap_or(text).to_owned()]))
}

/// Returns every pod of an identity; somebody of another trust domain is no pod of the objects.
fn having(snapshot: &Snapshot, trust_domain: &str, id: &SpiffeId) -> Result<Vec<String>, String> {
    let pods = snapshot.workloads().filter(|pod| pod.identity == *id);
    let pods: Vec<String> = pods.map(|pod| pod.key().to_string()).collect();
    if pods.is_empty() && id.trust_domain() == trust_domain {
        let known: BTreeSet<String> = snapshot.workloads().map(|pod| pod.identity.to_string()).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let guess = did_you_mean(&id.to_string(), &known).map(|guess| format!("; {guess}"));
        return Err(format!("no pod of the objects has this identity{}", guess.unwrap_or_default()));
    }
    Ok(if pods.is_empty() { vec![id.to_string()] } else { pods })
}

/// Returns the pods that a pattern matches.
fn matching(snapshot: &Snapshot, pattern: &str) -> Result<Vec<String>, String> {
    let pattern = pattern.strip_prefix("pod:").unwrap_or(pattern);
    let Some((namespace, name)) = pattern.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        return Err("write NAMESPACE/POD; a `*` stands for any characters of either".to_owned());
    };
    let meant = |pod: &&std::sync::Arc<Workload>| glob(namespace, &pod.namespace) && glob(name, &pod.name);
    let pods: Vec<String> = snapshot.workloads().filter(meant).map(|pod| pod.key().to_string()).collect();
    if pods.is_empty() { Err("no pod of the objects has such a name".to_owned()) } else { Ok(pods) }
}

/// Tells whether a text is of a pattern in which each `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    let Some(mut text) = text.strip_suffix(last) else { return false };
    for part in parts {
        let Some(found) = text.find(part) else { return false };
        text = &text[found + part.len()..];
    }
    true
}

/// Returns everybody whom the objects know but those who are named: pods, and an address of each part of the outside that
/// policies tell from others. The nodes' own processes, which pass by default, are meant only where they are named.
fn rest(snapshot: &Snapshot, called: &[String], named: &BTreeMap<String, Caller<'_>>) -> Vec<String> {
    let pods = snapshot.workloads().filter(|pod| !pod.host_network).map(|pod| pod.key().to_string());
    let mut rest: Vec<String> = pods.filter(|pod| !named.contains_key(pod)).collect();
    // Calls between two addresses outside are not ambit's.
    if called.iter().any(|to| to.parse::<IpAddr>().is_ok_and(|address| snapshot.workload(address).is_none()))
    {
        return rest;
    }
    let peers: Vec<&Peer> = snapshot
        .policies()
        .iter()
        .flat_map(|policy| &policy.rules)
        .flat_map(|rule| rule.from.iter().flatten())
        .collect();
    let pieces = pieces(peers.iter().flat_map(|peer| peer.cidrs.iter().chain(&peer.except_cidrs)));
    let networks: Vec<IpNet> = pieces.iter().map(|(network, _)| *network).collect();
    let covered: BTreeSet<IpNet> =
        named.keys().filter_map(|name| piece_of(&networks, name.parse::<IpAddr>().ok()?)).collect();
    let families: BTreeSet<bool> =
        snapshot.workloads().flat_map(|pod| &pod.addresses).map(IpAddr::is_ipv4).collect();
    for (network, first) in pieces {
        if !covered.contains(&network) && families.contains(&first.is_ipv4()) {
            rest.extend(nobodys(snapshot, &networks, network, first).map(|address| address.to_string()));
        }
    }
    rest
}

/// Returns the longest network that holds an address.
fn piece_of(networks: &[IpNet], address: IpAddr) -> Option<IpNet> {
    let holding = networks.iter().filter(|network| network.contains(&address));
    holding.max_by_key(|network| network.prefix_len()).copied()
}

/// Returns an address of a piece that is of no pod, no node and no service.
fn nobodys(snapshot: &Snapshot, networks: &[IpNet], network: IpNet, first: IpAddr) -> Option<IpAddr> {
    let examples = EXAMPLES.iter().filter_map(|example| example.parse::<IpAddr>().ok());
    let following = (0..TRIES).scan(Some(first), |next, _| {
        let address = (*next)?;
        *next = after(address);
        Some(address)
    });
    let taken: BTreeSet<IpAddr> = snapshot
        .workloads()
        .flat_map(|pod| pod.addresses.iter())
        .chain(snapshot.services().flat_map(|service| service.vips.iter()))
        .copied()
        .collect();
    examples
        .chain(following)
        .find(|address| piece_of(networks, *address) == Some(network) && !taken.contains(address))
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

fn about(written: &Written, problem: String) -> Finding {
    Finding { message: format!("{:?}: {problem}", written.text), ..written.at.clone() }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("*", "web", true),
            ("web", "web", true),
            ("web", "webs", false),
            ("web-*", "web-1", true),
            ("web-*", "web", false),
            ("*-1", "web-1", true),
            ("w*b-*1", "web-x1", true),
            ("w*b-*1", "web-x2", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("*a*b*", "xbxa", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
