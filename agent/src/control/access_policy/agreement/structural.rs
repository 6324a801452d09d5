//! Holds a value against a structural schema as the API server does, with the keywords that ambit's definitions use.
//!
//! Panics at any other keyword, so that none goes unheeded.

use regex::Regex;
use serde_json::Value as Json;

/// Keywords that say nothing about whether a value is valid, or are looked at by somebody else.
const SILENT: [&str; 8] = [
    "default",
    "description",
    "format",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
];

/// Returns what is wrong with a value; a field that the schema does not know is wrong too, as kubectl has it.
pub(super) fn check(path: &str, schema: &Json, value: &Json) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut demand = |holds: bool, keyword: &str| {
        if !holds {
            wrong.push(format!("{path}: {keyword}: {value}"));
        }
    };
    let length = value.as_str().map(|text| text.chars().count() as u64);
    let (items, fields) = (value.as_array(), value.as_object());
    let most =
        |limit: &Json, length: Option<u64>| length.is_none_or(|length| length <= limit.as_u64().unwrap());
    for (keyword, limit) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "type" => match limit.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                other => panic!("type {other}"),
            },
            "enum" => limit.as_array().unwrap().contains(value),
            "required" => {
                limit.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "minimum" => value.as_f64().is_none_or(|number| number >= limit.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= limit.as_f64().unwrap()),
            "pattern" => {
                value.as_str().is_none_or(|text| Regex::new(limit.as_str().unwrap()).unwrap().is_match(text))
            }
            "minLength" => length.is_none_or(|length| length >= limit.as_u64().unwrap()),
            "maxLength" => most(limit, length),
            "minItems" => items.is_none_or(|items| items.len() as u64 >= limit.as_u64().unwrap()),
            "maxItems" => most(limit, items.map(|items| items.len() as u64)),
            "maxProperties" => most(limit, fields.map(|fields| fields.len() as u64)),
            "properties" | "items" | "additionalProperties" => true,
            silent => {
                assert!(SILENT.contains(&silent), "the keyword {silent}");
                true
            }
        };
        demand(holds, keyword);
    }
    let int_or_string = schema.get("x-kubernetes-int-or-string").is_some();
    demand(!int_or_string || value.is_i64() || value.is_string(), "x-kubernetes-int-or-string");
    for (index, item) in items.into_iter().flatten().enumerate() {
        wrong.extend(
            schema
                .get("items")
                .into_iter()
                .flat_map(|schema| check(&format!("{path}[{index}]"), schema, item)),
        );
    }
    for (key, inner) in fields.into_iter().flatten() {
        let known = schema.get("properties").and_then(|known| known.get(key));
        match known.or(schema.get("additionalProperties")) {
            Some(schema) => wrong.extend(check(&format!("{path}.{key}"), schema, inner)),
            None => wrong.push(format!("{path}.{key}: unknown field")),
        }
    }
    wrong
}
