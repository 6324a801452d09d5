//! Why a policy does not select a pod, label by label.

use std::collections::BTreeMap;

use super::fields::{Miss, miss};
use crate::model::Workload;
use crate::policy::{Policy, Requirement, Selector};

type Labels = BTreeMap<String, String>;

/// Returns what keeps a policy of the pod's namespace, or a cluster-wide one, from selecting a pod; nothing: it selects
/// it. Labels of a namespace that is not known are none.
pub fn unselected(policy: &Policy, pod: &Workload, namespace_labels: Option<&Labels>) -> Vec<Miss> {
    let mut misses = Vec::new();
    if let Some(selector) = policy.namespace_selector.as_ref().filter(|_| policy.id.namespace.is_none()) {
        let none = Labels::new();
        let labels = namespace_labels.unwrap_or(&none);
        let whose = format!("the namespace {}", pod.namespace);
        add(&mut misses, ("namespaceSelector", selector), labels, &whose);
    }
    add(&mut misses, ("selector", &policy.selector), &pod.labels, "the pod");
    misses
}

fn add(misses: &mut Vec<Miss>, (field, selector): (&str, &Selector), labels: &Labels, whose: &str) {
    let found = |key: &str| match labels.get(key) {
        Some(value) => format!("{whose} has {key}: {value}"),
        None => format!("{whose} has no label {key}"),
    };
    for (key, value) in selector.match_labels.iter().filter(|(key, value)| labels.get(*key) != Some(*value)) {
        misses.push(miss(format!("{field}.matchLabels"), format!("{{{key}: {value}}}"), found(key)));
    }
    for requirement in selector.match_expressions.iter().filter(|requirement| !requirement.holds(labels)) {
        let (Requirement::In { key, .. }
        | Requirement::NotIn { key, .. }
        | Requirement::Exists { key }
        | Requirement::DoesNotExist { key }) = requirement;
        misses.push(miss(format!("{field}.matchExpressions"), written(requirement), found(key)));
    }
}

fn written(requirement: &Requirement) -> String {
    match requirement {
        Requirement::In { key, values } => format!("{key} In [{}]", values.join(", ")),
        Requirement::NotIn { key, values } => format!("{key} NotIn [{}]", values.join(", ")),
        Requirement::Exists { key } => format!("{key} Exists"),
        Requirement::DoesNotExist { key } => format!("{key} DoesNotExist"),
    }
}
