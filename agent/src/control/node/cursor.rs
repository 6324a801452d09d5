//! A place in the tree of a file: a value together with the path of fields that leads to it.
//!
//! Walks and reports. Never changes the tree.

use std::path::Path;
use std::sync::Arc;

use super::{Entry, Node, Place, Value};
use crate::control::finding::Finding;

/// Where an object comes from: a file, and the path of fields inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named by whoever asked.
    pub file: Arc<Path>,
    /// The path of the object in its document: empty, or `items[3]` in a list.
    pub prefix: String,
}

/// A value in a file.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// The value.
    pub node: &'a Node,
    /// The path to it inside its object, such as `spec.rules[0]`.
    pub path: String,
    /// Where the field's name stands, or the value's own place where it has none.
    place: Place,
    origin: &'a Origin,
}

impl<'a> Cursor<'a> {
    /// Stands at the object itself.
    pub fn at_object(origin: &'a Origin, node: &'a Node) -> Self {
        Self { node, path: origin.prefix.clone(), place: node.place, origin }
    }

    /// Returns the value of a field, unless it is absent.
    pub fn field(&self, key: &str) -> Option<Self> {
        self.entries().find(|entry| entry.key == key).map(|entry| self.enter(entry))
    }

    /// Returns the entries of a mapping; of anything else, none.
    pub fn entries(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            _ => &[],
        };
        entries.iter()
    }

    /// Stands at the value of an entry of this mapping.
    pub fn enter(&self, entry: &'a Entry) -> Self {
        let path = join(&self.path, &entry.key);
        Self { node: &entry.node, path, place: entry.place, origin: self.origin }
    }

    /// Returns the items of a list; of anything else, none.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'a> {
        let items: &[Node] = match &self.node.value {
            Value::List(items) => items,
            _ => &[],
        };
        let here = self.clone();
        items.iter().enumerate().map(move |(index, node)| here.item(index, node))
    }

    /// Stands at an item of this list.
    pub(super) fn item(&self, index: usize, node: &'a Node) -> Self {
        Self { node, path: format!("{}[{index}]", self.path), place: node.place, origin: self.origin }
    }

    /// Follows a path of field names and `[index]`es as far as it exists.
    pub fn follow(&self, steps: &[&str]) -> Self {
        let mut here = self.clone();
        for step in steps {
            let index = step.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
            let next = match index {
                Some(index) => here.items().nth(index),
                None => here.field(step),
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here
    }

    /// Builds a finding about this field, at its name.
    pub fn finding(&self, message: impl Into<String>) -> Finding {
        Finding {
            file: self.origin.file.to_path_buf(),
            line: self.place.line,
            column: self.place.column,
            field: self.path.clone(),
            message: message.into(),
            hint: None,
        }
    }

    /// Finds every key that stands twice in a mapping, here and below.
    pub fn find_duplicate_keys(&self, errors: &mut Vec<Finding>) {
        if let Value::Map(entries) = &self.node.value {
            let mut keys: Vec<(&str, Place)> =
                entries.iter().map(|entry| (entry.key.as_str(), entry.place)).collect();
            keys.sort_unstable();
            for pair in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                let (first, second) = (pair[0].1, pair[1].1);
                let path = join(&self.path, pair[1].0);
                let duplicate = Self { path, place: second, ..self.clone() };
                errors.push(duplicate.finding(format!("stands twice, first on line {}", first.line)));
            }
        }
        for entry in self.entries().filter(|entry| entry.node.value.is_container()) {
            self.enter(entry).find_duplicate_keys(errors);
        }
        if let Value::List(items) = &self.node.value
            && items.iter().any(|item| item.value.is_container())
        {
            self.items().for_each(|item| item.find_duplicate_keys(errors));
        }
    }
}

impl Value {
    /// Tells whether the value holds others.
    fn is_container(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_))
    }
}

/// Appends a field's name to a path; a name with a dot or a slash, such as a label's, is put into brackets.
pub(in crate::control) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}
