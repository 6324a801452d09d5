//! Linkerd's policies: a Server turns one port of some pods to deny, and authorizations admit callers to it.
//!
//! A pod's other ports keep their default: `rest` leaves them as open as they were. Within one port the oldest Server
//! decides alone. Never looks at routes: a Server that has some is refused.

mod access;
mod authentications;
mod authorizations;
mod identities;
mod rest;
mod servers;

use std::collections::BTreeSet;

use ambit_core::{Policy, PolicyId, Rule, Selector};

use super::Options;
use super::ledger::{Draft, Ledger, Mesh};
use super::ports::PortSet;
use super::report::refusal;
use super::selection::{Selection, may_overlap, within, without};
use super::source::{Kind, Object, Sources};
use crate::control::finding::Findings;

pub use access::Access;
use authorizations::Grant;
use rest::{Anchor, Rest};
use servers::Server;

/// The annotation of pods that names ports past the proxy.
const SKIPPED_PORTS: &str = "config.linkerd.io/skip-inbound-ports";

/// One namespace with policies of Linkerd's.
struct Namespace<'a> {
    name: &'a str,
    servers: Vec<Server<'a>>,
    grants: Vec<Grant<'a>>,
    /// What stands on ports without a Server.
    default: Access,
    /// The Namespace that says so.
    annotated: Option<&'a Object>,
}

/// Translates everything of Linkerd's.
pub(crate) fn translate<'a>(
    sources: &'a Sources,
    options: &Options,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) {
    for name in namespaces(sources) {
        let annotated = sources.find(Kind::Namespace, "", name);
        let default = match annotated {
            Some(namespace) => access::annotated(namespace, findings),
            None => None,
        };
        let annotated = annotated.filter(|_| default.is_some());
        let mut servers = servers::read(sources, name, ledger, findings);
        servers.sort_by(|left, right| left.age().cmp(&right.age()));
        let grants = authorizations::read(sources, name, options, ledger, findings);
        let default = default.unwrap_or(options.default_inbound_policy);
        let namespace = Namespace { name, servers, grants, default, annotated };
        namespace.translate(sources, ledger, findings);
    }
}

/// Returns the namespaces that have policies, or a default of their own.
fn namespaces(sources: &Sources) -> BTreeSet<&str> {
    let names = sources.objects.iter().filter_map(|object| match object.kind {
        Kind::Server | Kind::ServerAuthorization | Kind::LinkerdAuthorization => {
            Some(object.namespace.as_str())
        }
        Kind::Namespace if object.annotations.contains_key(access::ANNOTATION) => Some(object.name.as_str()),
        Kind::Pod if object.annotations.contains_key(access::ANNOTATION) => Some(object.namespace.as_str()),
        _ => None,
    });
    names.collect()
}

impl<'a> Namespace<'a> {
    fn translate(&self, sources: &'a Sources, ledger: &mut Ledger<'a>, findings: &mut Findings) {
        let pods: Vec<(&Object, Access)> = sources
            .of(Kind::Pod)
            .filter(|pod| pod.namespace == self.name)
            .map(|pod| (pod, access::annotated(pod, findings).unwrap_or(self.default)))
            .collect();
        for index in 0..self.servers.len() {
            self.server(index, &pods, ledger);
        }
        self.ports_without_server(&pods, ledger);
        for (pod, _) in pods.iter().filter(|(pod, _)| pod.annotations.contains_key(SKIPPED_PORTS)) {
            let at = pod.at(&["metadata", "annotations", SKIPPED_PORTS]);
            let message = "Linkerd lets everyone call these ports; in ambit they are ports like others";
            ledger.report.differs(pod, &at, message, "admit the callers in a policy of its own");
        }
        self.authorizations_without_server(ledger);
    }

    /// Writes the policy of a Server: who may call its port, and what stays of the other ports.
    fn server(&self, index: usize, pods: &[(&'a Object, Access)], ledger: &mut Ledger<'a>) {
        let server = &self.servers[index];
        let Some(selector) = self.left_to(index, ledger) else { return };
        let grants: Vec<&Grant<'a>> = self.grants.iter().filter(|grant| grant.is_for(server)).collect();
        let mut rules: Vec<Rule> = Vec::new();
        let to = PortSet::of([server.port]).destinations();
        for grant in grants.iter().filter(|grant| !grant.peers.is_empty()) {
            rules.push(Rule { from: Some(grant.peers.clone()), to: to.clone() });
        }
        rules.extend(server.access.rule(&PortSet::of([server.port])));
        let mut from = vec![server.object];
        from.extend(grants.iter().map(|grant| grant.object));

        let selected: Vec<Access> =
            pods.iter().filter(|(pod, _)| selector.matches(&pod.labels)).map(|(_, access)| *access).collect();
        let meet = selected.iter().copied().reduce(Access::meet).unwrap_or(self.default);
        if selected.iter().any(|access| *access != meet) {
            let message = format!(
                "its pods differ in {}: the narrowest, {meet}, is written for all of them",
                access::ANNOTATION
            );
            ledger.report.differs(server.object, &server.object.cursor(), message, "give them one default");
        }
        let anchor = Anchor { selector: &selector, port: Some(server.port), access: meet };
        let rest = Rest::of(&anchor, &self.servers);
        rules.extend(rest.rule.clone());
        rest.report(server.object, &anchor, &mut ledger.report);
        self.draft(&server.object.name, selector, rules, from.clone(), ledger);
        for (number, (selector, rule)) in rest.further.into_iter().enumerate() {
            let name = format!("{}-rest-{}", server.object.name, number + 1);
            self.draft(&name, selector, vec![rule], from[..1].to_vec(), ledger);
        }
    }

    /// Returns the pods for which a Server is the one in force; `None` when it is for none, or when nothing can say which.
    fn left_to(&self, index: usize, ledger: &mut Ledger<'a>) -> Option<Selector> {
        let server = &self.servers[index];
        let object = server.object;
        let mut selector = server.selector.clone();
        for older in self.servers[..index].iter().filter(|older| older.port == server.port) {
            if !may_overlap(&server.selector, &older.selector) {
                continue;
            }
            let winner = older.object.titled_place();
            let at = object.at(&["metadata", "name"]);
            let selection =
                Selection { namespace: Some(self.name.to_owned()), selector: server.selector.clone() };
            match (&older.object.created, &object.created) {
                (Some(_), Some(_)) => {}
                (None, None) => {
                    let message = format!(
                        "port {} of some pods is that of {winner} too: taken as equally old, so that the name decides",
                        server.port
                    );
                    let hint = "import what `kubectl get -o yaml` prints: it has creationTimestamps";
                    ledger.report.differs(object, &at, message, hint);
                }
                _ => {
                    let message = format!(
                        "port {} of some pods is that of {winner} too, and which one is older is not known",
                        server.port
                    );
                    let hint = "import what `kubectl get -o yaml` prints: it has creationTimestamps";
                    ledger.refuse_protection(object, refusal(&at, message, hint), selection);
                    return None;
                }
            }
            if within(&server.selector, &older.selector) {
                ledger.report.note(
                    object,
                    &at,
                    format!("never in force: {winner} is older, or comes first by its name"),
                );
                return None;
            }
            let Some(narrowed) = without(&selector, &older.selector) else {
                let message = format!(
                    "{winner} has port {} of some of its pods, and no selector says which are left",
                    server.port
                );
                ledger.refuse_protection(
                    object,
                    refusal(&at, message, "let the two select by one label"),
                    selection,
                );
                return None;
            };
            selector = narrowed;
        }
        Some(selector)
    }

    /// Writes the default of a namespace that does not leave everything open.
    fn ports_without_server(&self, pods: &[(&'a Object, Access)], ledger: &mut Ledger<'a>) {
        let everything = Selector::default();
        let is_open = self.default == Access::AllUnauthenticated;
        for (pod, access) in pods.iter().filter(|(_, access)| *access != self.default) {
            let has_server = self.servers.iter().any(|server| server.selector.matches(&pod.labels));
            let at = pod.at(&["metadata", "annotations", access::ANNOTATION]);
            if access.meet(self.default) != self.default && !(is_open && has_server) {
                let selector = super::selection::exactly(&pod.labels);
                let selection = Selection { namespace: Some(self.name.to_owned()), selector };
                let message = format!("{access} for one pod, while its namespace has {}", self.default);
                let hint = "give the namespace the annotation, or write an AccessPolicy for the pod";
                ledger.refuse_protection(pod, refusal(&at, message, hint), selection);
            } else if !is_open {
                let message =
                    format!("the namespace's default, {}, is written for this pod too", self.default);
                ledger.report.differs(pod, &at, message, "");
            }
        }
        let owner = self.annotated.or_else(|| self.servers.first().map(|server| server.object));
        let Some(owner) = owner.filter(|_| !is_open) else { return };
        let anchor = Anchor { selector: &everything, port: None, access: self.default };
        let rest = Rest::of(&anchor, &self.servers);
        rest.report(owner, &anchor, &mut ledger.report);
        let name = "linkerd-default";
        self.draft(name, everything.clone(), rest.rule.into_iter().collect(), vec![owner], ledger);
        for (number, (selector, rule)) in rest.further.into_iter().enumerate() {
            self.draft(&format!("{name}-{}", number + 1), selector, vec![rule], vec![owner], ledger);
        }
    }

    /// Says which authorizations say nothing.
    fn authorizations_without_server(&self, ledger: &mut Ledger<'a>) {
        for grant in &self.grants {
            if !self.servers.iter().any(|server| grant.is_for(server)) {
                let message =
                    "no Server of the input is meant: in Linkerd it admits nobody, and nothing is written";
                ledger.report.differs(grant.object, &grant.target_at, message, "import the Server too");
            }
        }
    }

    fn draft(
        &self,
        name: &str,
        selector: Selector,
        rules: Vec<Rule>,
        from: Vec<&'a Object>,
        ledger: &mut Ledger<'a>,
    ) {
        let policy = Policy {
            id: PolicyId { namespace: Some(self.name.to_owned()), name: name.to_owned() },
            action: ambit_core::Action::Allow,
            dry_run: false,
            namespace_selector: None,
            selector,
            rules,
            egress_only: false,
            egress: Vec::new(),
        };
        ledger.draft(Draft { policy, mesh: Mesh::Linkerd, from });
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
