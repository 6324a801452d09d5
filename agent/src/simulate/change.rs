//! Objects as they would be: some put in the place of others, some taken away.
//!
//! Never relates objects to each other: that is `control::convert`.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::control::finding::did_you_mean;
use crate::control::objects::{Located, Objects, name_of, namespace_of};

/// The kinds that can be taken away, as they are written.
const KINDS: [&str; 6] =
    ["Namespace", "Pod", "Service", "EndpointSlice", "AccessPolicy", "ClusterAccessPolicy"];

/// Why nothing can be taken away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--without {asked}: {problem}")]
pub struct NotThere {
    asked: String,
    problem: String,
}

/// Puts each object of `with` in the place of the one of its kind and name, or beside the others.
///
/// A pod with neither `spec` nor `status` gives its labels to the one that is there.
pub fn put(objects: &mut Objects, with: Objects) {
    replace(&mut objects.namespaces, with.namespaces, |object| name_of(&object.metadata).to_owned());
    replace(&mut objects.services, with.services, |object| full_name(&object.metadata));
    replace(&mut objects.slices, with.slices, |object| full_name(&object.metadata));
    replace(&mut objects.policies, with.policies, |policy| policy.id.to_string());
    let (labels_only, whole): (Vec<_>, Vec<_>) =
        with.pods.into_iter().partition(|pod| pod.value.spec.is_none() && pod.value.status.is_none());
    replace(&mut objects.pods, whole, |pod| full_name(&pod.metadata));
    for change in labels_only {
        let name = full_name(&change.value.metadata);
        let there = objects.pods.iter_mut().find(|pod| full_name(&pod.value.metadata) == name);
        match there {
            Some(pod) => relabel(pod, change),
            None => objects.pods.push(change),
        }
    }
}

/// Gives a pod the labels of another one.
fn relabel(pod: &mut Located<Pod>, change: Located<Pod>) {
    pod.value.metadata.labels = change.value.metadata.labels;
}

fn replace<T>(objects: &mut Vec<Located<T>>, with: Vec<Located<T>>, name: impl Fn(&T) -> String) {
    let names: std::collections::HashSet<String> = with.iter().map(|object| name(&object.value)).collect();
    objects.retain(|object| !names.contains(&name(&object.value)));
    objects.extend(with);
}

/// Takes an object away, named as `kind/namespace/name`, or `kind/name` where the kind has no namespace.
///
/// # Errors
/// There is no such object; the text says what there is.
pub fn take(objects: &mut Objects, named: &str) -> Result<(), NotThere> {
    let fail = |problem: String| NotThere { asked: named.to_owned(), problem };
    let (kind, name) = named.split_once('/').ok_or_else(|| fail(form()))?;
    let Some(kind) = KINDS.iter().find(|known| known.eq_ignore_ascii_case(kind)) else {
        let hint = did_you_mean(kind, &KINDS).map(|guess| format!("; {guess}")).unwrap_or_default();
        return Err(fail(format!("unknown kind {kind:?}{hint}; {}", form())));
    };
    let has_namespace = !["Namespace", "ClusterAccessPolicy"].contains(kind);
    if has_namespace != name.contains('/') || name.is_empty() {
        return Err(fail(form()));
    }
    let taken = match *kind {
        "Namespace" => remove(&mut objects.namespaces, name, |object| name_of(&object.metadata).to_owned()),
        "Pod" => remove(&mut objects.pods, name, |object| full_name(&object.metadata)),
        "Service" => remove(&mut objects.services, name, |object| full_name(&object.metadata)),
        "EndpointSlice" => remove(&mut objects.slices, name, |object| full_name(&object.metadata)),
        kind => remove(&mut objects.policies, &format!("{kind} {name}"), |policy| policy.id.to_string()),
    };
    taken.map_err(|there| {
        let names: Vec<&str> = there.iter().map(|name| name.rsplit(' ').next().unwrap_or(name)).collect();
        let hint = did_you_mean(name, &names).map(|guess| format!("; {guess}")).unwrap_or_default();
        fail(format!("there is no {kind} of that name{hint}"))
    })
}

/// Removes the object of a name, or returns the names that there are.
fn remove<T>(
    objects: &mut Vec<Located<T>>,
    wanted: &str,
    name: impl Fn(&T) -> String,
) -> Result<(), Vec<String>> {
    let before = objects.len();
    objects.retain(|object| name(&object.value) != wanted);
    if objects.len() < before {
        return Ok(());
    }
    Err(objects.iter().map(|object| name(&object.value)).collect())
}

fn form() -> String {
    "write KIND/NAMESPACE/NAME, such as AccessPolicy/shop/db, or KIND/NAME for a Namespace or a ClusterAccessPolicy"
        .to_owned()
}

fn full_name(metadata: &ObjectMeta) -> String {
    format!("{}/{}", namespace_of(metadata), name_of(metadata))
}
