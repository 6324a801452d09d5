//! Servers: a port of some pods.
//!
//! Resolves named ports by the pods of the input. Never says who may call: that is `authorizations`.

use std::collections::BTreeSet;

use ambit_core::Selector;

use super::access::Access;
use crate::control::access_policy::selector;
use crate::control::fields::{self, Fields};
use crate::control::finding::{Finding, Findings};
use crate::control::node::{Cursor, Value};
use crate::import::ledger::Ledger;
use crate::import::report::refusal;
use crate::import::selection::Selection;
use crate::import::source::{Kind, Object, Sources};

/// The most Servers of one namespace: each is compared with each.
const MAX_SERVERS: usize = 100;
const SPEC: [&str; 5] = ["podSelector", "externalWorkloadSelector", "port", "proxyProtocol", "accessPolicy"];

/// A Server, read.
pub(super) struct Server<'a> {
    pub(super) object: &'a Object,
    pub(super) selector: Selector,
    pub(super) port: u16,
    /// Who is admitted without an authorization.
    pub(super) access: Access,
}

impl Server<'_> {
    /// Orders Servers as Linkerd does: the first one of a port is in force.
    pub(super) fn age(&self) -> (Option<&str>, &str) {
        (self.object.created.as_deref(), &self.object.name)
    }
}

/// Reads the Servers of a namespace.
pub(super) fn read<'a>(
    sources: &'a Sources,
    namespace: &str,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) -> Vec<Server<'a>> {
    let objects: Vec<&Object> =
        sources.of(Kind::Server).filter(|server| server.namespace == namespace).collect();
    if let Some(one) = objects.get(MAX_SERVERS) {
        let message = format!("{} Servers in one namespace, at most {MAX_SERVERS} are read", objects.len());
        findings.error(one.cursor().finding(message));
        return Vec::new();
    }
    objects.into_iter().filter_map(|object| read_one(object, sources, ledger, findings)).collect()
}

fn read_one<'a>(
    object: &'a Object,
    sources: &'a Sources,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) -> Option<Server<'a>> {
    let spec = object.at(&["spec"]);
    // A mistyped field has been reported already, and is more likely what is wrong.
    let known = Fields::of(&spec, &SPEC, findings).filter(|known| !known.has_unknown)?;
    let access = match known.get("accessPolicy").filter(|field| field.node.value != Value::Null) {
        Some(field) => read_access(&field, findings)?,
        None => Access::Deny,
    };
    let Some(field) = known.get("podSelector") else {
        if let Some(field) = known.get("externalWorkloadSelector") {
            let message = "external workloads are no pods, and no policy of ambit protects them";
            ledger.refuse(object, refusal(&field, message, "nothing is lost for pods"));
        } else {
            findings.error(spec.follow(&["podSelector"]).finding("a Server needs a `podSelector`"));
        }
        return None;
    };
    let selector = selector::read(&field, findings)?;
    let Some(port) = known.get("port") else {
        findings.error(spec.follow(&["port"]).finding("a Server needs a `port`"));
        return None;
    };
    let selection = Selection { namespace: Some(object.namespace.clone()), selector: selector.clone() };
    let number = match &port.node.value {
        Value::Integer(number) => match u16::try_from(*number).ok().filter(|port| *port > 0) {
            Some(number) => number,
            None => {
                findings.error(port.finding(format!("{number} is no port")));
                return None;
            }
        },
        Value::Text(name) => match named_port(object, &port, name, &selector, sources, ledger, findings)? {
            Ok(number) => number,
            Err(finding) => {
                ledger.refuse_protection(object, finding, selection);
                return None;
            }
        },
        other => {
            let finding = port.finding(format!("expected a port, found {}", other.describe()));
            findings.error(finding.with_hint("write a number or the name of a container's port"));
            return None;
        }
    };
    if let Some((route, at)) = route_of(object, sources) {
        let message =
            format!("{} admits some requests to it only, and ambit decides about connections", route.title());
        let finding = object.cursor().finding(message);
        let hint = "detach the route, or decide about requests in the application";
        ledger.refuse_protection(object, finding.with_hint(hint), selection);
        ledger.refuse(
            route,
            refusal(&at, "a route of a Server: only a request tells whether it matches", hint),
        );
        return None;
    }
    Some(Server { object, selector, port: number, access })
}

fn read_access(field: &Cursor<'_>, findings: &mut Findings) -> Option<Access> {
    let text = fields::text(field, findings)?;
    match Access::parse(text) {
        Ok(access) => Some(access),
        Err(hint) => {
            findings.error(field.finding(format!("unknown policy {text:?}")).with_hint(hint));
            None
        }
    }
}

/// Finds the number of a named port; `None` when a pod is mistyped, an error when the pods do not say one.
fn named_port<'a>(
    object: &'a Object,
    at: &Cursor<'_>,
    name: &str,
    selector: &Selector,
    sources: &Sources,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) -> Option<Result<u16, Finding>> {
    let pods = sources
        .of(Kind::Pod)
        .filter(|pod| pod.namespace == object.namespace && selector.matches(&pod.labels));
    let (mut numbers, mut without) = (BTreeSet::new(), 0);
    for pod in pods {
        let found = container_ports(pod, name, findings)?;
        without += usize::from(found.is_empty());
        numbers.extend(found);
    }
    let hint = "add the pods to the input, or write the number";
    let mut numbers = numbers.into_iter();
    match (numbers.next(), numbers.next()) {
        (Some(number), None) => {
            let message =
                format!("the port {name:?} is written as {number}, which the pods of the input have");
            let hint = "import again when pods come that have it at another number";
            ledger.report.differs(object, at, message, hint);
            if without > 0 {
                let message =
                    format!("some of its pods have no port {name:?}, and their port {number} is refused too");
                ledger.report.differs(object, at, message, "select only the pods that have it");
            }
            Some(Ok(number))
        }
        (Some(_), Some(_)) => {
            let message = format!("the port {name:?} has several numbers, and a policy has one for all pods");
            Some(Err(refusal(at, message, "write a Server for each number")))
        }
        (None, _) => {
            let message = format!("no pod of the input that it selects has a port {name:?}");
            Some(Err(refusal(at, message, hint)))
        }
    }
}

/// Returns the numbers of the TCP ports of a pod's containers that bear a name.
fn container_ports(pod: &Object, name: &str, findings: &mut Findings) -> Option<Vec<u16>> {
    let mut found = Vec::new();
    for list in ["containers", "initContainers"] {
        for port in pod.at(&["spec", list]).items().flat_map(|container| container.follow(&["ports"]).items())
        {
            let text = |key: &str| match port.field(key).map(|field| &field.node.value) {
                Some(Value::Text(text)) => Some(text.as_str()),
                _ => None,
            };
            if text("name") != Some(name) || text("protocol").is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            let number = match port.field("containerPort").map(|field| &field.node.value) {
                Some(Value::Integer(number)) => u16::try_from(*number).ok().filter(|port| *port > 0),
                _ => None,
            };
            let Some(number) = number else {
                findings.error(port.follow(&["containerPort"]).finding("expected a port"));
                return None;
            };
            found.push(number);
        }
    }
    Some(found)
}

/// Returns a route that is attached to a Server, and where it says so.
fn route_of<'a>(server: &Object, sources: &'a Sources) -> Option<(&'a Object, Cursor<'a>)> {
    sources.of(Kind::Route).find_map(|route| {
        let parents = route.at(&["spec", "parentRefs"]);
        let attached = parents.items().find(|parent| {
            let is =
                |key: &str, value: &str, absent: bool| match parent.field(key).map(|field| &field.node.value)
                {
                    Some(Value::Text(text)) => text == value,
                    Some(_) => false,
                    None => absent,
                };
            is("kind", "Server", false)
                && is("name", &server.name, false)
                && is("namespace", &server.namespace, route.namespace == server.namespace)
        });
        attached.map(|at| (route, at))
    })
}
