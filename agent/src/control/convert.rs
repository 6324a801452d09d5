//! Relates objects to each other: Kubernetes objects become the model that everything else decides by.
//!
//! Pure: objects in, model and findings out. Never reads a file, and never drops an object that it does not understand
//! without an error.

mod pods;
mod services;

use std::collections::{BTreeMap, HashMap};

use ambit_core::{Egress, Mode, Model, ModelError, Snapshot};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::finding::{Finding, Findings};
use super::objects::{Located, Objects, name_of, namespace_of};

/// The label that enrols a namespace or a pod.
pub const MODE_LABEL: &str = "ambit.dev/mode";
/// The label that restricts what a pod, or the pods of a namespace, may call.
pub const EGRESS_LABEL: &str = "ambit.dev/egress";
/// The annotation that names the network namespace of a pod on a bare host, as a path.
pub const NETNS_ANNOTATION: &str = "ambit.dev/netns";

/// The most contradictions between objects that are located: each takes a look at all of them.
const MAX_LOCATED: usize = 1000;

/// Builds the model and checks it as a whole; `None` if there is any error.
pub fn convert(
    objects: &Objects,
    trust_domain: &str,
    version: u64,
    findings: &mut Findings,
) -> Option<Snapshot> {
    let errors_before = findings.errors.len();
    refuse_duplicates(objects, findings);
    let namespaces: BTreeMap<String, BTreeMap<String, String>> = objects
        .namespaces
        .iter()
        .map(|namespace| {
            (name_of(&namespace.value.metadata).to_owned(), labels_of(&namespace.value.metadata))
        })
        .collect();
    warn_about_labels(&objects.namespaces, findings);
    let workloads = pods::workloads(&objects.pods, &namespaces, trust_domain, findings);
    let services = services::services(objects, &workloads, findings);
    let policies = objects.policies.iter().map(|policy| policy.value.clone()).collect();
    if findings.errors.len() > errors_before {
        return None;
    }
    match Snapshot::build(version, Model { workloads, services, policies, namespaces }) {
        Ok(snapshot) => Some(snapshot),
        Err(errors) => {
            let located = errors.into_iter().take(MAX_LOCATED).map(|error| locate(error, objects));
            findings.errors.extend(located);
            None
        }
    }
}

/// Returns the labels of an object.
fn labels_of(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    metadata.labels.clone().unwrap_or_default()
}

/// Refuses objects of one kind that bear one name.
fn refuse_duplicates(objects: &Objects, findings: &mut Findings) {
    let full_name = |metadata: &ObjectMeta| format!("{}/{}", namespace_of(metadata), name_of(metadata));
    let errors = &mut findings.errors;
    refuse_twice("Namespace", &objects.namespaces, |object| name_of(&object.metadata).to_owned(), errors);
    refuse_twice("Pod", &objects.pods, |object| full_name(&object.metadata), errors);
    refuse_twice("Service", &objects.services, |object| full_name(&object.metadata), errors);
    refuse_twice("EndpointSlice", &objects.slices, |object| full_name(&object.metadata), errors);
    refuse_twice("", &objects.policies, |policy| policy.id.to_string(), errors);
}

fn refuse_twice<T>(
    kind: &str,
    objects: &[Located<T>],
    name: impl Fn(&T) -> String,
    errors: &mut Vec<Finding>,
) {
    let mut seen: HashMap<String, &Located<T>> = HashMap::new();
    for object in objects {
        let name = name(&object.value);
        if let Some(first) = seen.get(&name) {
            let title = format!("{kind} {name}");
            let message =
                format!("{} is defined twice, first at {}", title.trim_start(), first.whereabouts());
            errors.push(object.finding(&["metadata", "name"], message).with_hint("remove one of the two"));
            continue;
        }
        seen.insert(name, object);
    }
}

/// Warns about namespaces whose mode or egress nobody knows.
fn warn_about_labels(namespaces: &[Located<Namespace>], findings: &mut Findings) {
    for namespace in namespaces {
        let labels = namespace.value.metadata.labels.as_ref();
        let value = |label: &str| labels.and_then(|labels| labels.get(label)).map(String::as_str);
        let (mode, mode_problem) = Mode::parse(value(MODE_LABEL));
        let (egress, egress_problem) = Egress::parse(value(EGRESS_LABEL));
        let inert = (egress == Egress::Mesh && !mode.is_enrolled())
            .then(|| format!("egress {egress} acts on enrolled pods only: add the label {MODE_LABEL}"));
        let problems = [(MODE_LABEL, mode_problem), (EGRESS_LABEL, egress_problem), (EGRESS_LABEL, inert)];
        for (label, problem) in problems {
            if let Some(problem) = problem {
                findings.warn(namespace.finding(&["metadata", "labels", label], problem));
            }
        }
    }
}

/// Gives an error of the model its place: that of the object that came second.
fn locate(error: ModelError, objects: &Objects) -> Finding {
    let message = error.to_string();
    let is = |metadata: &ObjectMeta, namespace: &str, name: &str| {
        namespace_of(metadata) == namespace && name_of(metadata) == name
    };
    let pod = |namespace: &str, name: &str, steps: &[&str]| {
        let pod = objects.pods.iter().rfind(|pod| is(&pod.value.metadata, namespace, name));
        pod.map(|pod| pod.finding(steps, &message))
    };
    let service = |namespace: &str, name: &str, steps: &[&str]| {
        let service = objects.services.iter().rfind(|service| is(&service.value.metadata, namespace, name));
        service.map(|service| service.finding(steps, &message))
    };
    let found = match &error {
        ModelError::DuplicateAddress { first, second, .. } => {
            let other =
                objects.pods.iter().rfind(|pod| is(&pod.value.metadata, &first.namespace, &first.name));
            let other =
                other.map(|pod| format!("; {first} stands at {}", pod.whereabouts())).unwrap_or_default();
            pod(&second.namespace, &second.name, &["status", "podIP"]).map(|finding| {
                finding.with_hint(format!(
                    "every pod needs an address of its own, unless it has `spec.hostNetwork: true`{other}"
                ))
            })
        }
        ModelError::DuplicateWorkload { workload } => {
            pod(&workload.namespace, &workload.name, &["metadata", "name"])
        }
        ModelError::DuplicateService { namespace, name } => service(namespace, name, &["metadata", "name"]),
        ModelError::AddressTaken { namespace, name, .. } => service(namespace, name, &["spec", "clusterIP"]),
        ModelError::DuplicatePolicy { policy } => objects
            .policies
            .iter()
            .rfind(|located| located.value.id == *policy)
            .map(|located| located.finding(&["metadata", "name"], &message)),
    };
    found.unwrap_or_else(|| Finding::about_file("", message))
}

#[cfg(test)]
mod tests;
