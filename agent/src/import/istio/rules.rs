//! Reads the rules of an AuthorizationPolicy: callers and ports, and what only a request shows.
//!
//! `when` is folded into both. Decides nothing about what cannot be said in ambit: that is `express`.

use ipnet::IpNet;

use super::is_written;
use crate::control::fields::{self, Fields};
use crate::control::finding::{Finding, Findings, did_you_mean};
use crate::control::node::Cursor;
use crate::import::Options;
use crate::import::callers::Pattern;
use crate::import::ports::PortSet;
use crate::import::report::{Kind, Report, refusal};
use crate::import::source::Object;

const SOURCE: [&str; 12] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];
const OPERATION: [&str; 8] =
    ["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];
const KEYS: [&str; 8] = [
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "destination.port",
    "destination.ip",
    "remote.ip",
    "connection.sni",
];

/// A rule: one of the sources calls one of the ports.
pub(super) struct Rule<'a> {
    pub(super) at: Cursor<'a>,
    pub(super) sources: Vec<Source<'a>>,
    pub(super) operations: Vec<Operation<'a>>,
    /// Whether it has `from`, and whether it has `to`.
    pub(super) written: (bool, bool),
}

/// Callers; everything that is said must hold.
#[derive(Clone, Default)]
pub(super) struct Source<'a> {
    /// Identities: one of each list.
    pub(super) who: Vec<Vec<Pattern>>,
    /// Identities that are not meant.
    pub(super) nots: Vec<Pattern>,
    /// Networks: one of each list.
    pub(super) networks: Vec<Vec<IpNet>>,
    /// Networks that are not meant.
    pub(super) except: Vec<IpNet>,
    /// The fields that only a request answers.
    pub(super) requests: Vec<Cursor<'a>>,
    /// The fields that say who does not match.
    pub(super) negative: Vec<Cursor<'a>>,
}

/// Ports, and the fields that only a request answers.
#[derive(Clone)]
pub(super) struct Operation<'a> {
    pub(super) ports: PortSet,
    pub(super) requests: Vec<Cursor<'a>>,
}

/// Reads one policy. Mistakes go into `findings`, what ambit has no words for into `refusals`.
pub(super) struct Reader<'r, 'a> {
    pub(super) object: &'a Object,
    pub(super) options: &'r Options,
    pub(super) findings: &'r mut Findings,
    pub(super) report: &'r mut Report,
    pub(super) refusals: Vec<Finding>,
}

/// A field, its list, and the texts in it with their places.
type List<'a> = (&'static str, Cursor<'a>, Vec<(Cursor<'a>, &'a str)>);

impl<'r, 'a> Reader<'r, 'a> {
    pub(super) fn new(
        object: &'a Object,
        options: &'r Options,
        findings: &'r mut Findings,
        report: &'r mut Report,
    ) -> Self {
        Self { object, options, findings, report, refusals: Vec::new() }
    }

    /// Remembers why the policy cannot be expressed.
    pub(super) fn refuse<T>(&mut self, at: &Cursor<'a>, message: impl Into<String>, hint: &str) -> Option<T> {
        self.refusals.push(refusal(at, message, hint));
        None
    }

    /// Reads the rules; `None` when one of them is mistyped.
    pub(super) fn rules(&mut self, field: &Cursor<'a>) -> Option<Vec<Rule<'a>>> {
        let errors = self.findings.errors.len();
        let items = self.items(field);
        let rules: Vec<Rule<'a>> = items.iter().filter_map(|item| self.rule(item)).collect();
        (self.findings.errors.len() == errors).then_some(rules)
    }

    fn rule(&mut self, at: &Cursor<'a>) -> Option<Rule<'a>> {
        let known = Fields::of(at, &["from", "to", "when"], self.findings)?;
        let (mut source, mut operation) =
            (Source::default(), Operation { ports: PortSet::all(), requests: Vec::new() });
        for condition in self.list(&known, "when") {
            self.condition(&condition, &mut source, &mut operation);
        }
        let (from, to) = (self.list(&known, "from"), self.list(&known, "to"));
        let written = (!from.is_empty(), !to.is_empty());
        let mut sources = Vec::new();
        for item in &from {
            let mut one = source.clone();
            self.source(item, &mut one);
            sources.push(one);
        }
        let mut operations = Vec::new();
        for item in &to {
            let mut one = operation.clone();
            self.operation(item, &mut one);
            operations.push(one);
        }
        if sources.is_empty() {
            sources.push(source);
        }
        if operations.is_empty() {
            operations.push(operation);
        }
        Some(Rule { at: at.clone(), sources, operations, written })
    }

    /// Returns the lists of texts that are written and say something, each with its field.
    fn lists(&mut self, known: &Fields<'a>, keys: &[&'static str]) -> Vec<List<'a>> {
        let mut lists = Vec::new();
        for key in keys {
            let Some(list) = known.get(key).filter(is_written) else { continue };
            let values = self.texts(&list);
            if values.is_empty() {
                self.report.note(self.object, &list, "an empty list says nothing in Istio, and is left out");
            } else {
                lists.push((*key, list, values));
            }
        }
        lists
    }

    fn source(&mut self, item: &Cursor<'a>, source: &mut Source<'a>) {
        let Some(field) = self.inside(item, "source") else { return };
        let Some(known) = Fields::of(&field, &SOURCE, self.findings) else { return };
        let lists = self.lists(&known, &SOURCE);
        let says_something = !lists.is_empty();
        for (key, list, values) in lists {
            match key {
                "requestPrincipals" | "notRequestPrincipals" | "remoteIpBlocks" | "notRemoteIpBlocks" => {
                    source.requests.push(list);
                }
                _ => self.callers(source, key, &list, &values),
            }
        }
        if !says_something {
            self.refuse::<()>(
                &field,
                "a source that says nothing: Istio rejects it",
                "leave out `from` for everyone",
            );
        }
    }

    /// Adds what a field says of the callers.
    fn callers(
        &mut self,
        source: &mut Source<'a>,
        key: &str,
        list: &Cursor<'a>,
        values: &[(Cursor<'a>, &'a str)],
    ) {
        let key = match key {
            "source.ip" => "ipBlocks",
            "source.namespace" => "namespaces",
            "source.principal" => "principals",
            "source.serviceAccount" => "serviceAccounts",
            key => key,
        };
        let negative = key.starts_with("not");
        if key.ends_with("pBlocks") {
            let networks = values.iter().filter_map(|(at, text)| self.network(at, text)).collect::<Vec<_>>();
            if negative {
                source.except.extend(networks);
                source.negative.push(list.clone());
            } else {
                source.networks.push(networks);
            }
            return;
        }
        let mut patterns = Vec::new();
        for (at, text) in values {
            let pattern = match key {
                "principals" | "notPrincipals" => self.principal(at, text),
                "namespaces" | "notNamespaces" => {
                    let own = self.namespace(at, text);
                    patterns.extend(own.iter().flat_map(|own| self.in_aliases(own)));
                    own
                }
                _ => self.service_account(at, text),
            };
            patterns.extend(pattern);
        }
        if key.ends_with("amespaces") && self.options.trust_aliases.is_empty() {
            let own = &self.options.trust_domain;
            let message = format!(
                "namespaces are those of the trust domain {own}, the only one that agents trust by default"
            );
            let hint = "if yours trust others, say --trust-domain-alias as you do to them";
            self.report.add(Kind::Note, self.object, list.finding(message).with_hint(hint));
        }
        if negative {
            source.nots.extend(patterns);
            source.negative.push(list.clone());
        } else {
            source.who.push(patterns);
        }
    }

    fn operation(&mut self, item: &Cursor<'a>, operation: &mut Operation<'a>) {
        let Some(field) = self.inside(item, "operation") else { return };
        let Some(known) = Fields::of(&field, &OPERATION, self.findings) else { return };
        let lists = self.lists(&known, &OPERATION);
        let says_something = !lists.is_empty();
        for (key, list, values) in lists {
            match key {
                "ports" | "notPorts" => self.ports(operation, key == "notPorts", &values),
                _ => operation.requests.push(list),
            }
        }
        if !says_something {
            self.refuse::<()>(
                &field,
                "an operation that says nothing: Istio rejects it",
                "leave out `to` for every port",
            );
        }
    }

    fn ports(&mut self, operation: &mut Operation<'a>, negative: bool, values: &[(Cursor<'a>, &'a str)]) {
        let ports =
            PortSet::of(values.iter().filter_map(|(at, text)| self.port(at, text)).collect::<Vec<_>>());
        let ports = if negative { ports.complement() } else { ports };
        operation.ports = operation.ports.intersect(&ports);
    }

    fn condition(&mut self, item: &Cursor<'a>, source: &mut Source<'a>, operation: &mut Operation<'a>) {
        let Some(known) = Fields::of(item, &["key", "values", "notValues"], self.findings) else { return };
        let Some(key_at) = known.get("key") else {
            self.findings.error(item.follow(&["key"]).finding("a condition needs a `key`"));
            return;
        };
        let Some(key) = fields::text(&key_at, self.findings) else { return };
        let request = ["request.", "experimental."].iter().any(|group| key.starts_with(group));
        if !request && !KEYS.contains(&key) {
            let hint = did_you_mean(key, &KEYS).unwrap_or_else(|| "Istio knows no such key".to_owned());
            self.findings.error(key_at.finding(format!("unknown key {key:?}")).with_hint(hint));
            return;
        }
        let mut says_something = false;
        for (field, negative) in [("values", false), ("notValues", true)] {
            let Some(list) = known.get(field).filter(is_written) else { continue };
            let values = self.texts(&list);
            if values.is_empty() {
                continue;
            }
            says_something = true;
            match key {
                "destination.port" => self.ports(operation, negative, &values),
                "source.ip" if negative => self.callers(source, "notIpBlocks", &list, &values),
                "source.namespace" if negative => self.callers(source, "notNamespaces", &list, &values),
                "source.principal" if negative => self.callers(source, "notPrincipals", &list, &values),
                "source.serviceAccount" if negative => {
                    self.callers(source, "notServiceAccounts", &list, &values)
                }
                key if key.starts_with("source.") => self.callers(source, key, &list, &values),
                _ => source.requests.push(list),
            }
        }
        if !says_something {
            self.findings.error(item.finding("a condition needs `values` or `notValues`"));
        }
    }

    /// Opens the only field of an item of `from` or `to`.
    fn inside(&mut self, item: &Cursor<'a>, key: &str) -> Option<Cursor<'a>> {
        let known = Fields::of(item, &[key], self.findings)?;
        let field = known.get(key).filter(is_written);
        if field.is_none() {
            self.refuse::<()>(
                item,
                format!("an entry without `{key}`: Istio rejects it"),
                "remove the entry",
            );
        }
        field
    }

    /// Returns the items of a list field; an absent one has none.
    fn list(&mut self, known: &Fields<'a>, key: &str) -> Vec<Cursor<'a>> {
        known.get(key).filter(is_written).map(|field| self.items(&field)).unwrap_or_default()
    }

    fn items(&mut self, field: &Cursor<'a>) -> Vec<Cursor<'a>> {
        match fields::list(field, self.findings, |_, _| Some(())) {
            Some(_) => field.items().collect(),
            None => Vec::new(),
        }
    }

    fn texts(&mut self, field: &Cursor<'a>) -> Vec<(Cursor<'a>, &'a str)> {
        let items = self.items(field);
        items
            .into_iter()
            .filter_map(|item| fields::text(&item, self.findings).map(|text| (item, text)))
            .collect()
    }
}
