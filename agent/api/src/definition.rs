//! The definitions of ambit's kinds, as they stand in `deploy/crds`.
//!
//! Brings what the types give into the form that a structural schema has. Never writes a file.

use anyhow::Context;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::policy::{AccessPolicy, ClusterAccessPolicy};
use crate::value::ServiceAccount;

const HEADER: &str = "# Made by `cargo xtask crds` from agent/api; not to be edited.\n";

/// A definition and the name of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The file, in `deploy/crds`.
    pub file: &'static str,
    /// The definition.
    pub value: Value,
}

/// Returns the definitions of all kinds.
///
/// # Errors
/// A type whose definition cannot be written.
pub fn definitions() -> anyhow::Result<Vec<Definition>> {
    let namespaced = serde_json::to_value(AccessPolicy::crd()).context("define AccessPolicy")?;
    let mut cluster_wide =
        serde_json::to_value(ClusterAccessPolicy::crd()).context("define ClusterAccessPolicy")?;
    // A cluster-wide policy belongs to no namespace that could be meant.
    each(&mut cluster_wide, &mut |key, fields| {
        if key == "serviceAccounts"
            && let Some(Value::Object(items)) = fields.get_mut("items")
        {
            items.insert("pattern".to_owned(), ServiceAccount::pattern_with_namespace().into());
            fields.insert("description".to_owned(), "Service accounts, as NAMESPACE/NAME.".into());
        }
    });
    let files = ["accesspolicies.yaml", "clusteraccesspolicies.yaml"];
    let defined = files.into_iter().zip([namespaced, cluster_wide]);
    Ok(defined.map(|(file, value)| Definition { file, value: structural(value) }).collect())
}

impl Definition {
    /// Returns the text of the file.
    ///
    /// # Errors
    /// When it cannot be written as YAML.
    pub fn text(&self) -> anyhow::Result<String> {
        let yaml = serde_saphyr::to_string(&self.value).with_context(|| format!("write {}", self.file))?;
        Ok(format!("{HEADER}{yaml}"))
    }

    /// Returns the schema of the kind's objects.
    pub fn schema(&self) -> Option<&Value> {
        self.value.pointer("/spec/versions/0/schema/openAPIV3Schema")
    }
}

/// Removes what stands for Rust's types and not for what is written: a field that is absent is absent, and nothing is no
/// value.
fn structural(mut definition: Value) -> Value {
    each(&mut definition, &mut |_, fields| {
        fields.remove("nullable");
        if fields.get("title").is_some_and(Value::is_string) {
            fields.remove("title");
        }
        // Whether a field is known, the API server asks the properties.
        if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
            fields.remove("additionalProperties");
        }
        if let Some(Value::Array(values)) = fields.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
    });
    if let Some(Value::Object(spec)) = definition.get_mut("spec") {
        spec.insert("preserveUnknownFields".to_owned(), false.into());
    }
    definition
}

/// Visits every mapping, under the key that it stands under.
fn each(value: &mut Value, visit: &mut impl FnMut(&str, &mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields.iter_mut() {
                if let Value::Object(inner) = inner {
                    visit(key, inner);
                }
                each(inner, visit);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
