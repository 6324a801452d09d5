//! YAML and JSON as a tree that remembers where each value stands.
//!
//! Reads text of unknown origin within fixed bounds. Never knows what the values mean: that is `objects`.

mod cursor;
mod plain;
mod typed;

use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, NonFiniteFloatPolicy, Options, Spanned};

pub(crate) use cursor::join;
pub use cursor::{Cursor, Origin};
use plain::Stop;

use super::finding::Finding;

/// The largest file in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The most values in one file: a few thousand pods as a cluster prints them.
const MAX_NODES: usize = 2_000_000;
/// The most documents in one file.
const MAX_DOCUMENTS: usize = 50_000;
/// The deepest nesting; an object of the Kubernetes API has less than 20 levels.
const MAX_DEPTH: usize = 64;
/// The most values that aliases may repeat: enough for templates, too few for a bomb.
const MAX_ALIASED: usize = 100_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value begins.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// A line and a column in characters, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A value of YAML's core schema.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file; a key that stands twice is here twice.
    Map(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub node: Node,
}

impl Node {
    /// Returns how many values this is, with those inside it.
    fn count(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| 1 + entry.node.count()).sum(),
            _ => 0,
        }
    }
}

impl Value {
    /// Returns what the value is, with its article, for messages.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads every document of a file. Documents before one that cannot be parsed are kept.
pub fn read_documents(file: &Path, text: &[u8], errors: &mut Vec<Finding>) -> Vec<Node> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let valid = &text[..error.valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            let finding = Finding::about_file(file, "not a text file: it contains bytes that are not UTF-8");
            errors.push(Finding { line, column: 1, ..finding });
            return Vec::new();
        }
    };
    let separators = text.split('\n').filter(|line| line.starts_with("---")).count();
    if separators > MAX_DOCUMENTS {
        let message = format!("{separators} documents, at most {MAX_DOCUMENTS} are read");
        errors.push(Finding::about_file(file, message));
        return Vec::new();
    }
    let mut documents = Vec::new();
    match plain::read(text, MAX_NODES, &mut documents) {
        Ok(()) => {}
        Err(Stop::Rare) => return read_everything(file, text, errors),
        Err(Stop::TooLarge) => {
            errors.push(too_large(file));
            return Vec::new();
        }
        Err(Stop::Wrong(place, message)) => {
            let message = format!("cannot be parsed: {}", one_line(&message));
            errors.push(Finding {
                line: place.line,
                column: place.column,
                ..Finding::about_file(file, message)
            });
        }
    }
    documents
}

/// Reads every document of a text, whatever of YAML is in it.
fn read_everything(file: &Path, text: &str, errors: &mut Vec<Finding>) -> Vec<Node> {
    let mut documents = Vec::new();
    let mut nodes = 0;
    let mut reader = text.as_bytes();
    for document in serde_saphyr::read_with_options::<_, Node>(&mut reader, options()) {
        match document {
            Ok(node) => {
                nodes += node.count();
                documents.push(node);
            }
            Err(error) => errors.push(unparsable(file, &error)),
        }
        if nodes > MAX_NODES {
            errors.push(too_large(file));
            return Vec::new();
        }
    }
    documents
}

/// Reads a plain scalar that stands alone.
fn read_scalar(text: &str) -> Option<Value> {
    serde_saphyr::from_str_with_options(text, options()).ok()
}

/// Returns the bounds and the dialect: YAML 1.2, so that `off` and `yes` are texts.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: usize::try_from(MAX_FILE_BYTES).ok(),
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 2,
            max_depth: MAX_DEPTH,
            max_recorded_anchor_events: MAX_ALIASED,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
    }
}

/// Says that a file holds more than ambit reads.
fn too_large(file: &Path) -> Finding {
    let finding =
        Finding::about_file(file, format!("more than {MAX_NODES} values, which is more than ambit reads"));
    finding.with_hint("split the file")
}

/// Turns the parser's error into a finding.
fn unparsable(file: &Path, error: &serde_saphyr::Error) -> Finding {
    use serde_saphyr::Error;
    let place = error.location().map(Place::from).unwrap_or_default();
    let mut innermost = error.without_snippet();
    while let Error::AliasError { error, .. } = innermost {
        innermost = error.without_snippet();
    }
    let message = match innermost {
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            return too_large(file);
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("nested deeper than {MAX_DEPTH} levels, which is more than ambit reads")
        }
        Error::Budget { breach: BudgetBreach::RecordedAnchorEvents { .. }, .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "aliases repeat too much of the document".to_owned(),
        Error::Budget { breach, .. } => format!("more than ambit reads: {breach:?}"),
        other => format!("cannot be parsed: {}", one_line(&other.to_string())),
    };
    Finding { line: place.line, column: place.column, ..Finding::about_file(file, message) }
}

/// Joins the lines of a text and bounds its length, so that it fits a line of a log.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: bounded(location.line()), column: bounded(location.column()) }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: referenced.into(), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Builds a value from whatever stands there.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Value, E> {
        Err(E::custom("binary values are not used in these objects"))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(Spanned { value: key, referenced, .. }) = access.next_key::<Spanned<Key>>()? {
            map.push(Entry { key: key.0, place: referenced.into(), node: access.next_value()? });
        }
        Ok(Value::Map(map))
    }
}

/// A key of a mapping: a text, or a scalar written as one.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(text) => Ok(Self(text)),
            Value::Bool(value) => Ok(Self(value.to_string())),
            Value::Integer(value) => Ok(Self(value.to_string())),
            Value::Float(value) => Ok(Self(value.to_string())),
            other => Err(D::Error::custom(format!("a key must be a text, not {}", other.describe()))),
        }
    }
}

#[cfg(test)]
mod tests;
