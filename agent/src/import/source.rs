//! The objects that an import reads: those of other meshes, and the plain ones around them.
//!
//! Tells the kinds apart and keeps where each object stands. Never reads a spec: that is the work of each mesh's module.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::report::printable;
use crate::control::fields::{self, Fields};
use crate::control::finding::{Finding, Findings};
use crate::control::node::{self, Cursor, Node, Origin, Value};
use crate::control::objects::{items, required_text};

/// The most objects of other meshes: each is compared with others of its namespace.
const MAX_OBJECTS: usize = 5_000;
const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// What an object is to an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Namespace,
    Pod,
    Service,
    NetworkPolicy,
    IstioAuthorization,
    PeerAuthentication,
    Server,
    ServerAuthorization,
    LinkerdAuthorization,
    MeshTls,
    NetworkAuthentication,
    Route,
    Configuration,
    /// A policy that acts on requests; leaving it out changes nobody's access to a port.
    RequestPolicy,
    /// Any other object of another mesh's policy group.
    UnknownPolicy,
}

/// Group, kind, versions, and what it is.
const KINDS: [(&str, &str, &[&str], Kind); 19] = [
    ("", "Namespace", &["v1"], Kind::Namespace),
    ("", "Pod", &["v1"], Kind::Pod),
    ("", "Service", &["v1"], Kind::Service),
    ("networking.k8s.io", "NetworkPolicy", &["v1"], Kind::NetworkPolicy),
    ("security.istio.io", "AuthorizationPolicy", &["v1", "v1beta1"], Kind::IstioAuthorization),
    ("security.istio.io", "PeerAuthentication", &["v1", "v1beta1"], Kind::PeerAuthentication),
    ("security.istio.io", "RequestAuthentication", &["v1", "v1beta1"], Kind::RequestPolicy),
    ("policy.linkerd.io", "Server", &["v1beta1", "v1beta2", "v1beta3"], Kind::Server),
    ("policy.linkerd.io", "ServerAuthorization", &["v1beta1"], Kind::ServerAuthorization),
    ("policy.linkerd.io", "AuthorizationPolicy", &["v1alpha1"], Kind::LinkerdAuthorization),
    ("policy.linkerd.io", "MeshTLSAuthentication", &["v1alpha1"], Kind::MeshTls),
    ("policy.linkerd.io", "NetworkAuthentication", &["v1alpha1"], Kind::NetworkAuthentication),
    ("policy.linkerd.io", "HTTPRoute", &[], Kind::Route),
    ("policy.linkerd.io", "HTTPLocalRateLimitPolicy", &[], Kind::RequestPolicy),
    ("policy.linkerd.io", "HTTPLocalConcurrencyLimitPolicy", &[], Kind::RequestPolicy),
    ("policy.linkerd.io", "EgressNetwork", &[], Kind::RequestPolicy),
    ("gateway.networking.k8s.io", "HTTPRoute", &[], Kind::Route),
    ("gateway.networking.k8s.io", "GRPCRoute", &[], Kind::Route),
    ("dapr.io", "Configuration", &["v1alpha1"], Kind::Configuration),
];

/// The groups of which no kind is passed over in silence.
const POLICY_GROUPS: [&str; 2] = ["security.istio.io", "policy.linkerd.io"];

/// An object and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// The kind as it is written.
    pub(crate) word: String,
    /// Its namespace; empty for a Namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it was made, in a form that sorts by time.
    pub(crate) created: Option<String>,
    origin: Origin,
    node: Node,
}

impl Object {
    /// Stands at the object.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor::at_object(&self.origin, &self.node)
    }

    /// Stands at a field, or at the nearest one above it that is written.
    pub(crate) fn at(&self, steps: &[&str]) -> Cursor<'_> {
        self.cursor().follow(steps)
    }

    /// Returns kind, namespace and name.
    pub(crate) fn title(&self) -> String {
        if self.kind == Kind::Namespace {
            return format!("{} {}", self.word, self.name);
        }
        format!("{} {}/{}", self.word, self.namespace, self.name)
    }

    /// Returns the object with its place, for comments.
    pub(crate) fn titled_place(&self) -> String {
        format!("{} ({}:{})", self.title(), self.origin.file.display(), self.node.place.line)
    }
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub(crate) objects: Vec<Object>,
    /// Kinds that an import has nothing to do with, and how often they occur.
    passed_over: BTreeMap<String, usize>,
    mesh_objects: usize,
}

impl Sources {
    /// Reads every object of a file; `file` is its name in findings.
    pub fn read_file(&mut self, file: &Path, text: &[u8], findings: &mut Findings) {
        let file: Arc<Path> = Arc::from(file);
        for document in node::read_documents(&file, text, &mut findings.errors) {
            let origin = Origin { file: Arc::clone(&file), prefix: String::new() };
            // A document that holds nothing but comments is no object.
            if document.value != Value::Null {
                self.read_object(origin, document, findings);
            }
        }
    }

    /// Refuses objects of one kind that bear one name, and more objects than can be compared.
    pub fn finish(&self, findings: &mut Findings) {
        let mut seen: HashMap<(Kind, &str, &str, &str), &Object> = HashMap::new();
        // Routes of two groups may share a name.
        for object in self.objects.iter().filter(|object| object.kind != Kind::Route) {
            let key = (object.kind, object.word.as_str(), object.namespace.as_str(), object.name.as_str());
            if let Some(first) = seen.insert(key, object) {
                let message = format!("stands twice, first as {}", first.titled_place());
                findings.error(
                    object.at(&["metadata", "name"]).finding(message).with_hint("remove one of the two"),
                );
            }
        }
        if self.mesh_objects > MAX_OBJECTS {
            let message =
                format!("{} objects of other meshes, at most {MAX_OBJECTS} are read", self.mesh_objects);
            findings.error(
                Finding::about_file("", message).with_hint("import the namespaces one after the other"),
            );
        }
    }

    /// Returns the kinds that an import has nothing to do with, and how often they occur.
    pub fn passed_over(&self) -> impl Iterator<Item = (&str, usize)> {
        self.passed_over.iter().map(|(kind, count)| (kind.as_str(), *count))
    }

    /// Returns the objects of a kind.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.kind == kind)
    }

    /// Returns the object of a kind with this name.
    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.of(kind).find(|object| object.namespace == namespace && object.name == name)
    }

    fn read_object(&mut self, origin: Origin, node: Node, findings: &mut Findings) {
        let cursor = Cursor::at_object(&origin, &node);
        if !matches!(cursor.node.value, Value::Map(_)) {
            let found = cursor.node.value.describe();
            findings
                .error(cursor.finding(format!("expected an object with apiVersion and kind, found {found}")));
            return;
        }
        let word = required_text(&cursor, "kind", findings).map(str::to_owned);
        let version = required_text(&cursor, "apiVersion", findings).map(str::to_owned);
        let (Some(word), Some(api_version)) = (word, version) else { return };
        if word == "List" {
            for (origin, item) in items(&origin, node, findings) {
                self.read_object(origin, item, findings);
            }
            return;
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let kind = match KINDS.iter().find(|(of, kind, ..)| *of == group && *kind == word) {
            Some((.., versions, kind)) if versions.is_empty() || versions.contains(&version) => *kind,
            Some((.., versions, _)) => {
                let message = format!("{word} of apiVersion {api_version:?} is not known");
                let known: Vec<String> =
                    versions.iter().map(|version| format!("{group}/{version}")).collect();
                let hint = format!("use {}", known.join(" or ").trim_start_matches('/'));
                findings.error(cursor.follow(&["apiVersion"]).finding(message).with_hint(hint));
                return;
            }
            None if POLICY_GROUPS.contains(&group) => Kind::UnknownPolicy,
            None => {
                *self.passed_over.entry(printable(&word)).or_default() += 1;
                return;
            }
        };
        let errors = findings.errors.len();
        cursor.find_duplicate_keys(&mut findings.errors);
        if findings.errors.len() > errors {
            return;
        }
        let Some(metadata) = Metadata::read(&cursor, kind, findings) else { return };
        let plain = matches!(kind, Kind::Namespace | Kind::Pod | Kind::Service | Kind::NetworkPolicy);
        self.mesh_objects += usize::from(!plain);
        let Metadata { namespace, name, labels, annotations, created } = metadata;
        self.objects.push(Object { kind, word, namespace, name, labels, annotations, created, origin, node });
    }
}

/// What is read of an object's metadata.
struct Metadata {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    created: Option<String>,
}

impl Metadata {
    fn read(object: &Cursor<'_>, kind: Kind, findings: &mut Findings) -> Option<Self> {
        let errors = findings.errors.len();
        if !matches!(kind, Kind::Namespace | Kind::Pod | Kind::Service | Kind::Configuration) {
            Fields::of(object, &TOP_LEVEL, findings)?;
        }
        let metadata = object.follow(&["metadata"]);
        let Some(name) = metadata.field("name") else {
            findings.error(metadata.follow(&["name"]).finding("the object has no metadata.name"));
            return None;
        };
        let name = fields::name(&name, findings)?;
        let namespace = match metadata.field("namespace").filter(|_| kind != Kind::Namespace) {
            Some(namespace) => fields::name(&namespace, findings)?,
            None if kind == Kind::Namespace => String::new(),
            None => "default".to_owned(),
        };
        let labels = texts(&metadata, "labels", findings);
        let annotations = texts(&metadata, "annotations", findings);
        let created = metadata.field("creationTimestamp").filter(|field| field.node.value != Value::Null);
        let created = match created {
            Some(field) => Some(timestamp(&field, findings)?),
            None => None,
        };
        (findings.errors.len() == errors).then_some(Self { namespace, name, labels, annotations, created })
    }
}

/// Reads a mapping of texts; an absent one is empty.
pub(crate) fn texts(parent: &Cursor<'_>, key: &str, findings: &mut Findings) -> BTreeMap<String, String> {
    let Some(field) = parent.field(key).filter(|field| field.node.value != Value::Null) else {
        return BTreeMap::new();
    };
    if !matches!(field.node.value, Value::Map(_)) {
        findings.error(field.finding(format!("expected a mapping, found {}", field.node.value.describe())));
        return BTreeMap::new();
    }
    let entries = field.entries().filter_map(|entry| {
        let value = fields::text(&field.enter(entry), findings)?;
        Some((entry.key.clone(), value.to_owned()))
    });
    entries.collect()
}

/// Reads a time as Kubernetes writes it, in UTC and to the second, so that texts sort by time.
fn timestamp(field: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = fields::text(field, findings)?;
    let shape = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    if text.len() == 20 && text.bytes().enumerate().all(shape) {
        return Some(text.to_owned());
    }
    let finding = field.finding(format!("{text:?} is no time"));
    findings.error(finding.with_hint("write it as Kubernetes does: 2026-01-31T12:00:00Z"));
    None
}
