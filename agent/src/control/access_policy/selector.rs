//! Reads a label selector.
//!
//! Never guesses: an operator or a combination that Kubernetes would refuse is an error here too.

use std::collections::BTreeMap;

use ambit_core::{Requirement, Selector};

use crate::control::fields::{Fields, filled_list, list, text};
use crate::control::finding::{Findings, did_you_mean};
use crate::control::node::{Cursor, Value};

pub(super) const SELECTOR: [&str; 2] = ["matchLabels", "matchExpressions"];
pub(super) const REQUIREMENT: [&str; 3] = ["key", "operator", "values"];
pub(super) const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Reads a selector; `{}` selects everything, and nothing at all is an error.
pub(crate) fn read(field: &Cursor<'_>, findings: &mut Findings) -> Option<Selector> {
    if field.node.value == Value::Null {
        let hint = "remove it, or write `{}`, to select everything";
        findings.error(field.finding("the selector is empty").with_hint(hint));
        return None;
    }
    let fields = Fields::of(field, &SELECTOR, findings)?;
    let match_labels = fields.get("matchLabels").map(|labels| read_labels(&labels, findings));
    let match_expressions =
        fields.get("matchExpressions").map(|expressions| list(&expressions, findings, read_requirement));
    Some(Selector {
        match_labels: match_labels.unwrap_or_else(|| Some(BTreeMap::new()))?,
        match_expressions: match_expressions.unwrap_or_else(|| Some(Vec::new()))?,
    })
}

fn read_labels(field: &Cursor<'_>, findings: &mut Findings) -> Option<BTreeMap<String, String>> {
    if !matches!(field.node.value, Value::Map(_)) {
        let message = format!("expected a mapping, found {}", field.node.value.describe());
        findings.error(field.finding(message));
        return None;
    }
    let labels: Vec<Option<(String, String)>> = field
        .entries()
        .map(|entry| {
            let value = text(&field.enter(entry), findings)?;
            Some((entry.key.clone(), value.to_owned()))
        })
        .collect();
    labels.into_iter().collect()
}

fn read_requirement(item: &Cursor<'_>, findings: &mut Findings) -> Option<Requirement> {
    let fields = Fields::of(item, &REQUIREMENT, findings)?;
    let key = match fields.get("key") {
        Some(key) => text(&key, findings)?.to_owned(),
        None => {
            findings.error(item.finding("a requirement needs a `key`"));
            return None;
        }
    };
    let Some(operator) = fields.get("operator") else {
        findings.error(item.finding("a requirement needs an `operator`").with_hint(use_operator()));
        return None;
    };
    let values = fields.get("values");
    match text(&operator, findings)? {
        "In" => Some(Requirement::In { key, values: read_values(item, values, findings)? }),
        "NotIn" => Some(Requirement::NotIn { key, values: read_values(item, values, findings)? }),
        name @ ("Exists" | "DoesNotExist") => {
            if let Some(values) = values.filter(|values| values.items().next().is_some()) {
                findings
                    .error(values.finding(format!("{name} takes no values")).with_hint("use In or NotIn"));
                return None;
            }
            Some(if name == "Exists" {
                Requirement::Exists { key }
            } else {
                Requirement::DoesNotExist { key }
            })
        }
        other => {
            let hint = did_you_mean(other, &OPERATORS).unwrap_or_else(use_operator);
            findings.error(operator.finding(format!("unknown operator {other:?}")).with_hint(hint));
            None
        }
    }
}

fn read_values(
    requirement: &Cursor<'_>,
    values: Option<Cursor<'_>>,
    findings: &mut Findings,
) -> Option<Vec<String>> {
    match values {
        Some(values) => {
            filled_list(&values, findings, |item, findings| text(item, findings).map(str::to_owned))
        }
        None => {
            findings.error(requirement.finding("In and NotIn need `values`"));
            None
        }
    }
}

fn use_operator() -> String {
    format!("use {}", OPERATORS.join(", "))
}
