//! Which pods a policy speaks of, and how two such sets lie to each other.
//!
//! Reasons about labels alone, whatever pods there are. When it cannot tell, it says what is safe for the question.

use ambit_core::{Requirement, Selector};
use std::collections::BTreeMap;

/// A set of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The namespace; absent: every namespace.
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
}

impl Selection {
    /// Tells whether a pod can be in both; `true` when in doubt.
    pub(crate) fn may_overlap(&self, other: &Self) -> bool {
        let namespaces = match (&self.namespace, &other.namespace) {
            (Some(left), Some(right)) => left == right,
            _ => true,
        };
        namespaces && may_overlap(&self.selector, &other.selector)
    }

    /// Tells whether every pod of this is in the other; `false` when in doubt.
    pub(crate) fn within(&self, other: &Self) -> bool {
        let namespaces = other.namespace.is_none() || self.namespace == other.namespace;
        namespaces && within(&self.selector, &other.selector)
    }

    /// Says which pods, for a person.
    pub(crate) fn describe(&self) -> String {
        let whose = match &self.namespace {
            Some(namespace) => format!("the namespace {namespace}"),
            None => "all namespaces".to_owned(),
        };
        let terms: Vec<String> = requirements(&self.selector).iter().map(written).collect();
        if terms.is_empty() {
            return format!("every pod of {whose}");
        }
        format!("the pods of {whose} with {}", terms.join(", "))
    }
}

/// Tells whether labels can satisfy both selectors; `true` when in doubt.
pub(crate) fn may_overlap(left: &Selector, right: &Selector) -> bool {
    let differ =
        |(key, value): (&String, &String)| right.match_labels.get(key).is_some_and(|other| other != value);
    if left.match_labels.iter().any(differ) {
        return false;
    }
    let right = requirements(right);
    !requirements(left).iter().any(|left| right.iter().any(|right| exclude(left, right)))
}

/// Tells whether whatever satisfies `inner` satisfies `outer`; `false` when in doubt.
pub(crate) fn within(inner: &Selector, outer: &Selector) -> bool {
    unimplied(inner, outer).is_empty()
}

/// Narrows a selector to the pods that the other does not select. `None` when no selector says that.
pub(crate) fn without(selector: &Selector, other: &Selector) -> Option<Selector> {
    if !may_overlap(selector, other) {
        return Some(selector.clone());
    }
    let mut open = unimplied(selector, other);
    let requirement = open.pop().filter(|_| open.is_empty())?;
    let mut narrowed = selector.clone();
    let negated = negation(requirement);
    if !narrowed.match_expressions.contains(&negated) {
        narrowed.match_expressions.push(negated);
    }
    Some(narrowed)
}

/// Returns the selector that demands exactly these labels.
pub(crate) fn exactly(labels: &BTreeMap<String, String>) -> Selector {
    Selector { match_labels: labels.clone(), match_expressions: Vec::new() }
}

/// Returns all requirements of a selector in one form.
fn requirements(selector: &Selector) -> Vec<Requirement> {
    let labels = selector.match_labels.iter();
    let labels = labels.map(|(key, value)| Requirement::In { key: key.clone(), values: vec![value.clone()] });
    labels.chain(selector.match_expressions.iter().cloned()).collect()
}

/// Returns the requirements of `outer` that do not follow from one of `inner`.
fn unimplied(inner: &Selector, outer: &Selector) -> Vec<Requirement> {
    let inner = requirements(inner);
    let mut open = requirements(outer);
    open.retain(|outer| !inner.iter().any(|inner| implies(inner, outer)));
    open
}

/// Tells whether no labels satisfy both.
fn exclude(left: &Requirement, right: &Requirement) -> bool {
    use Requirement::{DoesNotExist, Exists, In, NotIn};
    if key(left) != key(right) {
        return false;
    }
    match (left, right) {
        (In { values, .. }, In { values: others, .. }) => !values.iter().any(|value| others.contains(value)),
        (In { values, .. }, NotIn { values: others, .. })
        | (NotIn { values: others, .. }, In { values, .. }) => {
            values.iter().all(|value| others.contains(value))
        }
        (DoesNotExist { .. }, In { .. } | Exists { .. })
        | (In { .. } | Exists { .. }, DoesNotExist { .. }) => true,
        _ => false,
    }
}

/// Tells whether one follows from the other.
fn implies(inner: &Requirement, outer: &Requirement) -> bool {
    use Requirement::{DoesNotExist, Exists, In, NotIn};
    if key(inner) != key(outer) {
        return false;
    }
    match (inner, outer) {
        (In { values, .. }, In { values: others, .. }) => values.iter().all(|value| others.contains(value)),
        (In { values, .. }, NotIn { values: others, .. }) => {
            !values.iter().any(|value| others.contains(value))
        }
        (NotIn { values, .. }, NotIn { values: others, .. }) => {
            others.iter().all(|value| values.contains(value))
        }
        (In { .. } | Exists { .. }, Exists { .. })
        | (DoesNotExist { .. }, DoesNotExist { .. } | NotIn { .. }) => true,
        _ => false,
    }
}

fn negation(requirement: Requirement) -> Requirement {
    match requirement {
        Requirement::In { key, values } => Requirement::NotIn { key, values },
        Requirement::NotIn { key, values } => Requirement::In { key, values },
        Requirement::Exists { key } => Requirement::DoesNotExist { key },
        Requirement::DoesNotExist { key } => Requirement::Exists { key },
    }
}

fn key(requirement: &Requirement) -> &str {
    let (Requirement::In { key, .. }
    | Requirement::NotIn { key, .. }
    | Requirement::Exists { key }
    | Requirement::DoesNotExist { key }) = requirement;
    key
}

fn written(requirement: &Requirement) -> String {
    match requirement {
        Requirement::In { key, values } if values.len() == 1 => format!("{key}: {}", values[0]),
        Requirement::In { key, values } => format!("{key} in ({})", values.join(", ")),
        Requirement::NotIn { key, values } => format!("{key} not in ({})", values.join(", ")),
        Requirement::Exists { key } => format!("the label {key}"),
        Requirement::DoesNotExist { key } => format!("no label {key}"),
    }
}

#[cfg(test)]
mod tests;
