//! Reads the fields of a mapping strictly: unknown ones, wrong types and empty values are errors.
//!
//! Knows nothing about what the fields mean beyond that an empty list must not mean everyone.

use crate::control::finding::{Findings, did_you_mean};
use crate::control::node::{Cursor, Value};

/// The longest name of an object: a DNS subdomain.
const MAX_NAME: usize = 253;

/// A mapping, its unknown fields reported.
pub(crate) struct Fields<'a> {
    pub(crate) cursor: Cursor<'a>,
    /// Whether there are unknown fields.
    pub(crate) has_unknown: bool,
}

impl<'a> Fields<'a> {
    /// Opens a mapping and reports each field that is not known.
    pub(crate) fn of(cursor: &Cursor<'a>, known: &[&str], findings: &mut Findings) -> Option<Self> {
        if !matches!(cursor.node.value, Value::Map(_)) {
            let message = format!("expected a mapping, found {}", cursor.node.value.describe());
            let hint = format!("its fields are {}", known.join(", "));
            findings.error(cursor.finding(message).with_hint(hint));
            return None;
        }
        let errors_before = findings.errors.len();
        for entry in cursor.entries().filter(|entry| !known.contains(&entry.key.as_str())) {
            let hint = did_you_mean(&entry.key, known)
                .unwrap_or_else(|| format!("the fields here are {}", known.join(", ")));
            findings.error(cursor.enter(entry).finding("unknown field").with_hint(hint));
        }
        let has_unknown = findings.errors.len() > errors_before;
        Some(Self { cursor: cursor.clone(), has_unknown })
    }

    /// Returns a field, unless it is absent.
    pub(crate) fn get(&self, key: &str) -> Option<Cursor<'a>> {
        self.cursor.field(key)
    }
}

/// Reads a text.
pub(crate) fn text<'a>(field: &Cursor<'a>, findings: &mut Findings) -> Option<&'a str> {
    match &field.node.value {
        Value::Text(text) => Some(text),
        other => {
            let finding = field.finding(format!("expected a text, found {}", other.describe()));
            findings.error(match other {
                Value::Bool(_) | Value::Integer(_) | Value::Float(_) => finding.with_hint("put it in quotes"),
                _ => finding,
            });
            None
        }
    }
}

/// Reads true or false.
pub(crate) fn boolean(field: &Cursor<'_>, findings: &mut Findings) -> Option<bool> {
    match &field.node.value {
        Value::Bool(value) => Some(*value),
        other => {
            let message = format!("expected true or false, found {}", other.describe());
            findings.error(field.finding(message));
            None
        }
    }
}

/// Reads a flag that only says something when it is true; an absent one is false.
pub(crate) fn flag(field: Option<Cursor<'_>>, findings: &mut Findings) -> Option<bool> {
    let Some(field) = field else { return Some(false) };
    let value = boolean(&field, findings)?;
    if !value {
        findings.error(field.finding("`false` says nothing here").with_hint("remove the field"));
        return None;
    }
    Some(true)
}

/// Reads the name of an object or of a namespace.
pub(crate) fn name(field: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let name = text(field, findings)?;
    match check_name(name) {
        Ok(()) => Some(name.to_owned()),
        Err(why) => {
            findings.error(field.finding(format!("{name:?} is no name: {why}")));
            None
        }
    }
}

/// Tells why a text cannot be the name of an object.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let in_alphabet = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME {
        return Err("it is longer than 253 characters");
    }
    if !name.chars().all(in_alphabet) {
        return Err("only lower-case letters, digits, `-` and `.` may stand there");
    }
    if name.starts_with(['-', '.']) || name.ends_with(['-', '.']) {
        return Err("it must begin and end with a letter or a digit");
    }
    Ok(())
}

/// Reads every item of a list that may be empty; none is returned if one of them is wrong.
pub(crate) fn list<T>(
    field: &Cursor<'_>,
    findings: &mut Findings,
    mut read: impl FnMut(&Cursor<'_>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    if !matches!(field.node.value, Value::List(_)) {
        let message = format!("expected a list, found {}", field.node.value.describe());
        findings.error(field.finding(message).with_hint("write it as `[…]` or with `- ` before each item"));
        return None;
    }
    let read: Vec<Option<T>> = field.items().map(|item| read(&item, findings)).collect();
    read.into_iter().collect()
}

/// Reads every item of a list that must say something.
pub(crate) fn filled_list<T>(
    field: &Cursor<'_>,
    findings: &mut Findings,
    read: impl FnMut(&Cursor<'_>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    let list = list(field, findings, read)?;
    if list.is_empty() {
        findings
            .error(field.finding("the list is empty").with_hint("remove the field, or name what it means"));
        return None;
    }
    Some(list)
}
