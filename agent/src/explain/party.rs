//! Who calls and what is called: names of a question, found in a snapshot.
//!
//! What is not there is an error that says what is. Never decides anything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ambit_core::{
    Protocol, Service, ServicePort, Snapshot, SpiffeId, Workload,
    reach::{Attempt, Called, Caller, unspecified},
};

use super::{Question, Unanswerable};
use crate::control::finding::did_you_mean;

/// The most names that an error lists.
const LISTED: usize = 12;

/// Who calls.
pub(super) enum From<'a> {
    Pod(&'a Workload),
    Identity(SpiffeId),
    Host,
    Address(IpAddr),
}

/// What is called, as far as names go.
pub(super) struct Target<'a> {
    /// The service and its port, where one was named.
    pub(super) service: Option<(&'a Service, &'a ServicePort)>,
    /// Where a connection may go.
    pub(super) endpoints: Vec<Endpoint<'a>>,
}

/// One address that may be reached.
#[derive(Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) called: Called<'a>,
    pub(super) port: u16,
}

impl From<'_> {
    /// Returns the caller's name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Pod(pod) => pod.key().to_string(),
            Self::Identity(id) => id.to_string(),
            Self::Host => "host".to_owned(),
            Self::Address(address) => address.to_string(),
        }
    }

    /// Returns the caller as the called side's node would see it.
    pub(super) fn caller<'b>(&'b self, snapshot: &'b Snapshot, called: Called<'_>) -> Caller<'b> {
        let towards = called.address();
        match self {
            Self::Pod(pod) => Caller::Pod(pod),
            Self::Identity(id) => Caller::Identity { id, address: unspecified(towards) },
            Self::Host => Caller::Host {
                address: node_address(snapshot, called).unwrap_or_else(|| unspecified(towards)),
            },
            Self::Address(address) => match (node_of(snapshot, *address), called) {
                (Some(node), Called::Pod { pod, .. }) if pod.node == node => {
                    Caller::Host { address: *address }
                }
                _ => Caller::Outside { address: *address },
            },
        }
    }

    /// Says what the answer leaves open because of what is not known of the caller.
    pub(super) fn doubts(&self, snapshot: &Snapshot, attempt: &Attempt<'_>) -> Option<String> {
        let Called::Pod { pod, .. } = attempt.called else { return None };
        if !attempt.caller.address(attempt.called.address()).is_unspecified() {
            return None;
        }
        let names_addresses = snapshot.policies_of(pod).iter().flat_map(|policy| &policy.rules).any(|rule| {
            rule.from.iter().flatten().any(|peer| !peer.cidrs.is_empty() || !peer.except_cidrs.is_empty())
        });
        names_addresses.then(|| {
            "the caller's address is not known, and policies of the called pod name addresses: ask with a pod or an \
             address in --from"
                .to_owned()
        })
    }
}

/// Returns the address of the called pod's node, as pods with its network have it.
fn node_address(snapshot: &Snapshot, called: Called<'_>) -> Option<IpAddr> {
    let Called::Pod { pod, address } = called else { return None };
    let mut of_node = snapshot.workloads().filter(|other| other.host_network && other.node == pod.node);
    of_node.find_map(|other| other.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4()).copied())
}

/// Returns the node that has this address, as pods with its network have it.
fn node_of(snapshot: &Snapshot, address: IpAddr) -> Option<&str> {
    let mut on_node = snapshot.workloads().filter(|pod| pod.host_network);
    on_node.find(|pod| pod.addresses.contains(&address)).map(|pod| pod.node.as_str())
}

/// Reads the protocol.
pub(super) fn protocol(text: &str) -> Result<Protocol, Unanswerable> {
    let found = Protocol::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| wrong("--protocol", text, "write TCP or UDP".to_owned()))
}

/// Finds who calls, with notes on what was taken for it.
pub(super) fn from<'a>(snapshot: &'a Snapshot, text: &str) -> Result<(From<'a>, Vec<String>), Unanswerable> {
    let fail = |problem: String| wrong("--from", text, problem);
    if text == "host" {
        return Ok((From::Host, Vec::new()));
    }
    if text.contains("://") {
        let id = SpiffeId::parse(text).map_err(|error| fail(error.to_string()))?;
        let mut pods = snapshot.workloads().filter(|pod| pod.identity == id);
        return Ok(match (pods.next(), pods.count()) {
            (Some(pod), more) => {
                let note = format!(
                    "of the {} with this identity, {} is asked about",
                    pods_text(more + 1),
                    pod.key()
                );
                (From::Pod(pod), if more > 0 { vec![note] } else { Vec::new() })
            }
            (None, _) => {
                let note = format!(
                    "no pod of the objects has the identity {id}: its address and node are not known"
                );
                (From::Identity(id), vec![note])
            }
        });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        if let Some(pod) = snapshot.workload(address) {
            return Ok((From::Pod(pod), vec![format!("{address} is the address of the pod {}", pod.key())]));
        }
        if let Some(service) = snapshot.services().find(|service| service.vips.contains(&address)) {
            let (namespace, name) = (&service.namespace, &service.name);
            return Err(fail(format!(
                "this is the address of the service {namespace}/{name}, and a service calls nobody: name a pod"
            )));
        }
        return Ok((From::Address(address), Vec::new()));
    }
    let (kind, namespace, name) = named(text).ok_or_else(|| {
        fail(format!("write namespace/pod, a SPIFFE identity, an address or host{}", {
            somewhere(snapshot, text, true)
        }))
    })?;
    if kind == Kind::Service {
        return Err(fail("a service calls nobody: name a pod".to_owned()));
    }
    match snapshot.workload_named(namespace, name) {
        Some(pod) => Ok((From::Pod(pod), Vec::new())),
        None if snapshot.services().any(|service| service.namespace == namespace && service.name == name) => {
            let pods = alike(snapshot, namespace, name);
            Err(fail(format!("this is a service, and a service calls nobody: name a pod{pods}")))
        }
        None => Err(fail(no_such(snapshot, namespace, name, true))),
    }
}

/// Finds what is called.
pub(super) fn target<'a>(
    snapshot: &'a Snapshot,
    question: &Question,
    protocol: Protocol,
) -> Result<Target<'a>, Unanswerable> {
    let (text, port) = (question.to.as_str(), question.port);
    let fail = |problem: String| wrong("--to", text, problem);
    if port == 0 {
        return Err(wrong("--port", "0", "a port is a number from 1 to 65535".to_owned()));
    }
    let one = |called| Ok(Target { service: None, endpoints: vec![Endpoint { called, port }] });
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        if let Some(service) = snapshot.services().find(|service| service.vips.contains(&address)) {
            return behind(snapshot, service, port, protocol, &fail);
        }
        return one(called_at(snapshot, address));
    }
    let (kind, namespace, name) = named(text).ok_or_else(|| {
        let hint = somewhere(snapshot, text, false);
        fail(format!("write namespace/pod, namespace/service or an address{hint}"))
    })?;
    let pod = snapshot.workload_named(namespace, name).filter(|_| kind != Kind::Service);
    let mut services = snapshot.services().filter(|_| kind != Kind::Pod);
    let service = services.find(|service| service.namespace == namespace && service.name == name);
    match (pod, service) {
        (Some(pod), Some(service)) => {
            // Both bear the name: the port tells which one is meant.
            let of_service = protocol == Protocol::Tcp && service.ports.iter().any(|own| own.port == port);
            if of_service { behind(snapshot, service, port, protocol, &fail) } else { one(Called::pod(pod)) }
        }
        (Some(pod), None) => one(Called::pod(pod)),
        (None, Some(service)) => behind(snapshot, service, port, protocol, &fail),
        (None, None) => Err(fail(no_such(snapshot, namespace, name, false))),
    }
}

/// Says that neither side has to do with ambit.
pub(super) fn both_outside(question: &Question) -> Unanswerable {
    let problem =
        "neither side is a pod, so that ambit has nothing to say about it: name a pod in --from or --to";
    wrong("--to", &question.to, problem.to_owned())
}

/// Returns the endpoints of a service that a connection may go to.
fn behind<'a>(
    snapshot: &'a Snapshot,
    service: &'a Service,
    port: u16,
    protocol: Protocol,
    fail: &impl Fn(String) -> Unanswerable,
) -> Result<Target<'a>, Unanswerable> {
    let name = format!("service {}/{}", service.namespace, service.name);
    if protocol == Protocol::Udp {
        return Err(fail(format!("ambit reads TCP ports of services only: name a pod behind the {name}")));
    }
    let Some(of_port) = service.ports.iter().find(|own| own.port == port) else {
        let ports: Vec<String> = service.ports.iter().map(port_text).collect();
        let ports =
            if ports.is_empty() { "it has none".to_owned() } else { format!("it has {}", ports.join(", ")) };
        return Err(fail(format!("the {name} has no TCP port {port}; {ports}")));
    };
    let ready = of_port.endpoints.iter().filter(|endpoint| endpoint.ready);
    let endpoints: Vec<Endpoint<'_>> = ready
        .map(|endpoint| Endpoint { called: called_at(snapshot, endpoint.address), port: endpoint.port })
        .collect();
    if !endpoints.is_empty() {
        return Ok(Target { service: Some((service, of_port)), endpoints });
    }
    let there: Vec<String> = of_port
        .endpoints
        .iter()
        .map(|endpoint| {
            let pod = snapshot
                .workload(endpoint.address)
                .map(|pod| format!(" ({})", pod.key()))
                .unwrap_or_default();
            format!("{}{pod}", std::net::SocketAddr::new(endpoint.address, endpoint.port))
        })
        .collect();
    Err(fail(if there.is_empty() {
        format!(
            "the {name} has no endpoint on port {port}: no pod that its selector selects, and no EndpointSlice"
        )
    } else {
        format!(
            "none of the endpoints of the {name} is ready: {}; to ask about one, name the pod",
            listed(&there)
        )
    }))
}

/// Returns what has an address.
fn called_at(snapshot: &Snapshot, address: IpAddr) -> Called<'_> {
    match snapshot.workload(address) {
        Some(pod) => Called::Pod { pod, address: address.to_canonical() },
        None => Called::Address(address.to_canonical()),
    }
}

/// What kind of thing a name says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Pod,
    Service,
}

/// Splits `namespace/name`, before which `pod:` or `service:` may stand.
fn named(text: &str) -> Option<(Kind, &str, &str)> {
    let (kind, rest) = match text.split_once(':') {
        Some(("pod", rest)) => (Kind::Pod, rest),
        Some(("service" | "svc", rest)) => (Kind::Service, rest),
        _ => (Kind::Any, text),
    };
    let (namespace, name) = rest.split_once('/')?;
    let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    whole.then_some((kind, namespace, name))
}

fn wrong(option: &'static str, asked: &str, problem: String) -> Unanswerable {
    Unanswerable { option, asked: asked.to_owned(), problem }
}

fn pods_text(count: usize) -> String {
    format!("{count} pod{}", if count == 1 { "" } else { "s" })
}

fn port_text(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    }
}

/// Joins names, the first few of them.
fn listed(names: &[String]) -> String {
    let shown = &names[..names.len().min(LISTED)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Names the pods of a namespace whose owner or service account bears a name.
fn alike(snapshot: &Snapshot, namespace: &str, name: &str) -> String {
    let bears = |pod: &&std::sync::Arc<Workload>| {
        pod.namespace == namespace && (pod.owner_name == name || pod.identity.service_account() == name)
    };
    let pods: Vec<String> = snapshot.workloads().filter(bears).map(|pod| pod.key().to_string()).collect();
    if pods.is_empty() { String::new() } else { format!(", such as {}", listed(&pods)) }
}

/// Says that something is not there, what comes closest, and what there is.
fn no_such(snapshot: &Snapshot, namespace: &str, name: &str, pods_only: bool) -> String {
    let what = if pods_only { "no pod" } else { "no pod and no service" };
    let names = names(snapshot, Some(namespace), pods_only);
    let whole = format!("{namespace}/{name}");
    let everywhere = self::names(snapshot, None, pods_only);
    let close = |names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        did_you_mean(&whole, &names)
    };
    let owned = alike(snapshot, namespace, name);
    let hint = match (owned.is_empty(), close(&names).or_else(|| close(&everywhere))) {
        (false, _) => format!("; there are pods of that owner or service account{owned}"),
        (true, Some(guess)) => format!("; {guess}"),
        (true, None) => String::new(),
    };
    if names.is_empty() {
        let known: BTreeSet<&str> = snapshot.workloads().map(|pod| pod.namespace.as_str()).collect();
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let known = if known.is_empty() {
            "there are no pods at all".to_owned()
        } else {
            format!("there are pods in {}", listed(&known))
        };
        return format!("{what} has that name{hint}; the namespace {namespace} has none, and {known}");
    }
    format!("{what} has that name{hint}; the namespace {namespace} has {}", listed(&names))
}

/// Names what bears a name that was written without its namespace.
fn somewhere(snapshot: &Snapshot, name: &str, pods_only: bool) -> String {
    let names: Vec<String> = names(snapshot, None, pods_only)
        .into_iter()
        .filter(|whole| whole.split_once('/').is_some_and(|(_, own)| own == name))
        .collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", listed(&names)) }
}

/// Returns the pods, and the services too unless `pods_only`, of a namespace or of all.
fn names(snapshot: &Snapshot, namespace: Option<&str>, pods_only: bool) -> Vec<String> {
    let here = |other: &str| namespace.is_none_or(|namespace| namespace == other);
    let pods = snapshot.workloads().filter(|pod| here(&pod.namespace)).map(|pod| pod.key().to_string());
    let services = snapshot.services().filter(|service| !pods_only && here(&service.namespace));
    let services = services.map(|service| format!("{}/{}", service.namespace, service.name));
    let all: BTreeSet<String> = pods.chain(services).collect();
    all.into_iter().collect()
}
