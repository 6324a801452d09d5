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

    /// Stands at one item of this list, without a look at those before it.
    fn nth(&self, index: usize) -> Option<Self> {
        match &self.node.value {
            Value::List(items) => items.get(index).map(|node| self.item(index, node)),
            _ => None,
        }
    }

    /// Stands at an item of this list.
    pub(super) fn item(&self, index: usize, node: &'a Node) -> Self {
        Self { node, path: format!("{}[{index}]", self.path), place: node.place, origin: self.origin }
    }

    /// Follows a path of field names and `[index]`es. Where it ends before the path does, the rest of the path is kept
    /// and the place is that of the last value that exists.
    pub fn follow(&self, steps: &[&str]) -> Self {
        let mut here = self.clone();
        let mut steps = steps.iter();
        for step in steps.by_ref() {
            let next = match index_of(step) {
                Some(index) => here.nth(index),
                None => here.field(step),
            };
            let Some(next) = next else {
                here = here.missing(step);
                break;
            };
            here = next;
        }
        steps.fold(here, |here, step| here.missing(step))
    }

    /// Stands at a step that does not exist.
    fn missing(&self, step: &str) -> Self {
        match index_of(step) {
            Some(index) => self.item_below(index, None),
            None => self.below(step, None),
        }
    }

    /// Names a field of this value, whether it exists or not.
    pub(super) fn below(&self, key: &str, place: Option<Place>) -> Self {
        Self { path: join(&self.path, key), place: place.unwrap_or(self.place), ..self.clone() }
    }

    /// Names an item of this value, whether it exists or not.
    pub(super) fn item_below(&self, index: usize, place: Option<Place>) -> Self {
        Self { path: format!("{}[{index}]", self.path), place: place.unwrap_or(self.place), ..self.clone() }
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
        if has_duplicate_keys(self.node) {
            self.report_duplicate_keys(errors);
        }
    }

    fn report_duplicate_keys(&self, errors: &mut Vec<Finding>) {
        if let Value::Map(entries) = &self.node.value {
            for pair in sorted_keys(entries).windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                let (first, second) = (pair[0].1, pair[1].1);
                let duplicate = self.below(pair[1].0, Some(second));
                errors.push(duplicate.finding(format!("stands twice, first on line {}", first.line)));
            }
        }
        self.entries().for_each(|entry| self.enter(entry).report_duplicate_keys(errors));
        self.items().for_each(|item| item.report_duplicate_keys(errors));
    }
}

/// Tells whether a key stands twice in a mapping, here or below.
fn has_duplicate_keys(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => {
            let twice = sorted_keys(entries).windows(2).any(|pair| pair[0].0 == pair[1].0);
            twice || entries.iter().any(|entry| has_duplicate_keys(&entry.node))
        }
        Value::List(items) => items.iter().any(has_duplicate_keys),
        _ => false,
    }
}

fn sorted_keys(entries: &[Entry]) -> Vec<(&str, Place)> {
    let mut keys: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.place)).collect();
    keys.sort_unstable();
    keys
}

/// Reads `[3]` as an index.
fn index_of(step: &str) -> Option<usize> {
    step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Appends a field's name to a path; a name with a dot or a slash, such as a label's, is put into brackets.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}
