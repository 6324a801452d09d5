//! The objects that ambit reads, whatever file or list they stand in.
//!
//! Tells the kinds apart and reads each one, keeping where it stands. Never relates objects to each other: that is
//! `convert`.

use std::path::Path;
use std::sync::Arc;

use ambit_core::Policy;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use super::access_policy;
use super::finding::{Finding, Findings, did_you_mean};
use super::node::{self, Cursor, Node, Origin, Value};

/// The group and version of ambit's own kinds.
pub const AMBIT_API: &str = "ambit.dev/v1alpha1";

/// The namespace of an object that names none, as for `kubectl`.
const DEFAULT_NAMESPACE: &str = "default";

/// The kinds, each with the apiVersion that it is read in.
const KINDS: [(&str, &str); 7] = [
    ("Namespace", "v1"),
    ("Pod", "v1"),
    ("Service", "v1"),
    ("EndpointSlice", "discovery.k8s.io/v1"),
    ("AccessPolicy", AMBIT_API),
    ("ClusterAccessPolicy", AMBIT_API),
    ("List", "v1"),
];

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The object.
    pub value: T,
    /// Its file.
    pub origin: Origin,
    /// Its text, as a tree.
    pub node: Node,
}

impl<T> Located<T> {
    /// Stands at the object, to walk to one of its fields.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor::at_object(&self.origin, &self.node)
    }

    /// Builds a finding about a field, or about the nearest field above it that is written.
    pub fn finding(&self, steps: &[&str], message: impl Into<String>) -> Finding {
        self.cursor().follow(steps).finding(message)
    }

    /// Returns where the object stands, as `file:line`.
    pub fn whereabouts(&self) -> String {
        format!("{}:{}", self.origin.file.display(), self.node.place.line)
    }
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// The namespaces.
    pub namespaces: Vec<Located<Namespace>>,
    /// The pods.
    pub pods: Vec<Located<Pod>>,
    /// The services.
    pub services: Vec<Located<Service>>,
    /// The endpoint slices.
    pub slices: Vec<Located<EndpointSlice>>,
    /// The policies of both kinds.
    pub policies: Vec<Located<Policy>>,
    /// What stands in for policies that cannot be read, for whoever remembers no version of them that could.
    pub stand_ins: Vec<Located<Policy>>,
    /// How many of the errors are about policies that have a stand-in.
    pub stood_in_for: usize,
    /// How many objects were found, valid or not.
    pub found: usize,
}

impl Objects {
    /// Reads every object of a file; `file` is its name in findings.
    pub fn read_file(&mut self, file: &Path, text: &[u8], findings: &mut Findings) {
        let file: Arc<Path> = Arc::from(file);
        for document in node::read_documents(&file, text, &mut findings.errors) {
            let origin = Origin { file: Arc::clone(&file), prefix: String::new() };
            self.read_object(origin, document, findings);
        }
    }

    /// Reads one object, or the objects of a list.
    fn read_object(&mut self, origin: Origin, node: Node, findings: &mut Findings) {
        let cursor = Cursor::at_object(&origin, &node);
        let Some(kind) = recognise(&cursor, findings) else {
            self.found += 1;
            return;
        };
        if kind == "List" {
            for (origin, item) in items(&origin, node, findings) {
                self.read_object(origin, item, findings);
            }
            return;
        }
        self.found += 1;
        if let "AccessPolicy" | "ClusterAccessPolicy" = kind {
            self.read_policy(origin, node, kind == "ClusterAccessPolicy", findings);
            return;
        }
        let errors = findings.errors.len();
        cursor.find_duplicate_keys(&mut findings.errors);
        if findings.errors.len() > errors {
            return;
        }
        match kind {
            "Namespace" => push(&mut self.namespaces, origin, node, findings),
            "Pod" => push(&mut self.pods, origin, node, findings),
            "Service" => push(&mut self.services, origin, node, findings),
            _ => push(&mut self.slices, origin, node, findings),
        }
    }

    /// Reads a policy, or notes what stands in for it.
    fn read_policy(&mut self, origin: Origin, node: Node, cluster_wide: bool, findings: &mut Findings) {
        let cursor = Cursor::at_object(&origin, &node);
        let errors = findings.errors.len();
        cursor.find_duplicate_keys(&mut findings.errors);
        let sound = findings.errors.len() == errors;
        let read = sound.then(|| access_policy::read(&cursor, cluster_wide, findings)).flatten();
        match read {
            Some(value) => self.policies.push(Located { value, origin, node }),
            None => {
                if let Some(value) = access_policy::stand_in::stand_in(&cursor, cluster_wide) {
                    self.stood_in_for += findings.errors.len() - errors;
                    self.stand_ins.push(Located { value, origin, node });
                }
            }
        }
    }
}

/// Reads a typed object and keeps it, if it has a name.
fn push<T: DeserializeOwned + k8s_openapi::Metadata<Ty = ObjectMeta>>(
    list: &mut Vec<Located<T>>,
    origin: Origin,
    node: Node,
    findings: &mut Findings,
) {
    let cursor = Cursor::at_object(&origin, &node);
    match cursor.read::<T>() {
        Ok(value) => {
            let named = value.metadata().name.as_deref().is_some_and(|name| !name.is_empty());
            if named {
                list.push(Located { value, origin, node });
            } else {
                findings
                    .error(cursor.follow(&["metadata", "name"]).finding("the object has no metadata.name"));
            }
        }
        Err(finding) => findings.error(finding),
    }
}

/// Returns the kind of an object, if ambit reads it.
fn recognise(cursor: &Cursor<'_>, findings: &mut Findings) -> Option<&'static str> {
    if !matches!(cursor.node.value, Value::Map(_)) {
        let message =
            format!("expected an object with apiVersion and kind, found {}", cursor.node.value.describe());
        findings.error(cursor.finding(message));
        return None;
    }
    let kind = required_text(cursor, "kind", findings);
    let api_version = required_text(cursor, "apiVersion", findings);
    let (kind, api_version) = (kind?, api_version?);
    let Some((known, expected)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let names = KINDS.map(|(name, _)| name);
        let list = format!("ambit reads {}", names.join(", "));
        let hint = did_you_mean(kind, &names).map_or(list.clone(), |guess| format!("{guess} ({list})"));
        findings.error(cursor.follow(&["kind"]).finding(format!("unknown kind {kind:?}")).with_hint(hint));
        return None;
    };
    if api_version != *expected {
        let message = format!("{kind} of apiVersion {api_version:?} is not known");
        let finding = cursor.follow(&["apiVersion"]).finding(message).with_hint(format!("use {expected}"));
        findings.error(finding);
        return None;
    }
    Some(known)
}

/// Returns a text that every object has.
pub(crate) fn required_text<'a>(cursor: &Cursor<'a>, key: &str, findings: &mut Findings) -> Option<&'a str> {
    let Some(field) = cursor.field(key) else {
        findings.error(cursor.finding(format!("the object has no `{key}`")));
        return None;
    };
    match &field.node.value {
        Value::Text(text) => Some(text),
        other => {
            findings.error(field.finding(format!("expected a text, found {}", other.describe())));
            None
        }
    }
}

/// Takes the objects out of a List, so that none is copied, each with where it stands.
pub(crate) fn items(origin: &Origin, mut list: Node, findings: &mut Findings) -> Vec<(Origin, Node)> {
    let found = match &mut list.value {
        Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == "items"),
        _ => None,
    };
    let items = match found.map(|entry| std::mem::replace(&mut entry.node.value, Value::Null)) {
        Some(Value::List(items)) => items,
        _ => {
            let cursor = Cursor::at_object(origin, &list);
            findings.error(cursor.follow(&["items"]).finding("a List needs a list of `items`"));
            Vec::new()
        }
    };
    let prefix = node::join(&origin.prefix, "items");
    let place = |(index, item)| {
        let (file, prefix) = (Arc::clone(&origin.file), format!("{prefix}[{index}]"));
        (Origin { file, prefix }, item)
    };
    items.into_iter().enumerate().map(place).collect()
}

/// Returns the namespace of an object.
pub(crate) fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// Returns the name of an object; `push` has refused those without one.
pub(crate) fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}
