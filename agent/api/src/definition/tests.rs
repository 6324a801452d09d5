//! What the API server demands of a definition.

use std::path::Path;

use super::*;

/// Returns every mapping below a value.
fn mappings(value: &Value) -> Vec<&Map<String, Value>> {
    match value {
        Value::Object(fields) => {
            let mut all = vec![fields];
            all.extend(fields.values().flat_map(mappings));
            all
        }
        Value::Array(items) => items.iter().flat_map(mappings).collect(),
        _ => Vec::new(),
    }
}

/// Returns the schemas of a schema, itself first, each with its path.
fn schemas(path: &str, schema: &Value) -> Vec<(String, Value)> {
    let mut all = vec![(path.to_owned(), schema.clone())];
    if let Some(Value::Object(properties)) = schema.get("properties") {
        all.extend(properties.iter().flat_map(|(key, inner)| schemas(&format!("{path}.{key}"), inner)));
    }
    for below in ["items", "additionalProperties"] {
        all.extend(schema.get(below).into_iter().flat_map(|inner| schemas(&format!("{path}[]"), inner)));
    }
    all
}

#[test]
fn the_files_are_those_that_the_types_give() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    for definition in definitions().unwrap() {
        let stored = std::fs::read_to_string(folder.join(definition.file)).unwrap_or_default();
        assert_eq!(stored, definition.text().unwrap(), "{}: run `cargo xtask crds`", definition.file);
    }
}

#[test]
fn a_schema_is_structural_and_bounded() {
    for definition in definitions().unwrap() {
        let schema = definition.schema().unwrap();
        for fields in mappings(schema) {
            for key in ["$ref", "$defs", "definitions", "$schema", "nullable", "uniqueItems", "title"] {
                assert!(!fields.contains_key(key), "{key} in {fields:?}");
            }
        }
        for (path, schema) in schemas("", schema) {
            if path.starts_with(".metadata") {
                continue;
            }
            let int_or_string = schema["x-kubernetes-int-or-string"] == true;
            assert!(schema["type"].is_string() || int_or_string, "{path} has no type: {schema}");
            if schema["type"] == "array" {
                assert!(schema["maxItems"].is_u64(), "{path} is not bounded: {schema}");
            }
            let bounded = ["maxLength", "enum", "format"].iter().any(|key| !schema[key].is_null());
            let of_api = [".apiVersion", ".kind"].contains(&path.as_str());
            assert!(schema["type"] != "string" || bounded || of_api, "{path} is not bounded: {schema}");
        }
    }
}

#[test]
fn kubectl_finds_and_shows_them() {
    for (definition, name, short, scope) in [
        (0, "accesspolicies.ambit.dev", "ap", "Namespaced"),
        (1, "clusteraccesspolicies.ambit.dev", "cap", "Cluster"),
    ] {
        let defined = &definitions().unwrap()[definition].value;
        let spec = &defined["spec"];
        let version = &spec["versions"][0];
        assert_eq!(defined["metadata"]["name"], name);
        assert_eq!((&spec["names"]["shortNames"][0], &spec["scope"]), (&short.into(), &scope.into()));
        assert_eq!(spec["preserveUnknownFields"], false);
        assert_eq!(
            (&version["name"], &version["served"], &version["storage"]),
            (&"v1alpha1".into(), &true.into(), &true.into())
        );
        assert!(version["subresources"]["status"].is_object(), "{version:#}");
        let columns = version["additionalPrinterColumns"].as_array().unwrap().iter();
        let columns: Vec<&str> = columns.map(|column| column["name"].as_str().unwrap()).collect();
        assert_eq!(columns, ["Action", "Dry-run", "Age"]);
    }
}

/// The most that a rule may cost for all values together, as the API server estimates it.
const BUDGET: u64 = 10_000_000;

#[test]
fn rules_stay_in_the_budget_of_the_api_server() {
    // Each of these rules asks for fields, sizes and short enumerations: far less than this for one value.
    const EACH: u64 = 100;
    fn visit(path: &str, schema: &Value, times: u64) {
        if let Some(rules) = schema["x-kubernetes-validations"].as_array() {
            assert!(times * EACH < BUDGET, "{path}: {times} values");
            for rule in rules {
                let text = rule["rule"].as_str().unwrap();
                assert!(
                    !["matches", "all(", "exists(", "split"].iter().any(|word| text.contains(word)),
                    "{text}"
                );
                assert!(rule["message"].is_string(), "{text}");
            }
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            visit(&format!("{path}.{key}"), inner, times);
        }
        if schema["items"].is_object() {
            visit(
                &format!("{path}[]"),
                &schema["items"],
                times * schema["maxItems"].as_u64().unwrap_or(u64::MAX / BUDGET),
            );
        }
    }
    for definition in definitions().unwrap() {
        visit("", &definition.schema().unwrap()["properties"]["spec"], 1);
    }
}
