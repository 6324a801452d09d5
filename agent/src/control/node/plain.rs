//! The YAML and JSON that people and tools write for Kubernetes, read straight into a tree.
//!
//! Several times as fast as the reader of all of YAML beside it, to which it leaves what is rare: anchors, aliases, tags,
//! merge keys, and keys that are no texts. Never reads anything differently.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::{Entry, MAX_DEPTH, Node, Place, Value};

/// Why a text was not read.
#[derive(Debug)]
pub(super) enum Stop {
    /// It has something that is rare.
    Rare,
    /// It is no YAML.
    Wrong(Place, String),
    /// It has more values than may be read.
    TooLarge,
}

/// A collection whose end has not been seen.
enum Open {
    List(Place, Vec<Node>),
    Map(Place, Vec<Entry>, Option<(String, Place)>),
}

/// Reads the documents of a text, at most so many values; those before the one at which it stops are kept.
pub(super) fn read(text: &str, most: usize, documents: &mut Vec<Node>) -> Result<(), Stop> {
    let mut left = most;
    let mut open: Vec<Open> = Vec::new();
    // Not `new_from_str`: it reads an empty line inside of a plain text, and an indented `---`, otherwise than all others.
    for event in Parser::new_from_iter(text.chars()) {
        let (event, span) = event.map_err(|error| wrong(&error))?;
        let place = place(&span);
        let node = match event {
            Event::Scalar(text, style, 0, None) => {
                Some(Node { place, value: scalar(text.into_owned(), style)? })
            }
            Event::SequenceStart(_, 0, None) => {
                open.push(Open::List(place, Vec::new()));
                None
            }
            Event::MappingStart(_, 0, None) => {
                open.push(Open::Map(place, Vec::new(), None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(place, items)) => Some(Node { place, value: Value::List(items) }),
                Some(Open::Map(place, entries, None)) => Some(Node { place, value: Value::Map(entries) }),
                Some(Open::Map(_, _, Some(_))) | None => return Err(Stop::Rare),
            },
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => continue,
            Event::Comment(..) => continue,
            _ => return Err(Stop::Rare),
        };
        if open.len() > MAX_DEPTH {
            return Err(Stop::Rare);
        }
        let Some(node) = node else { continue };
        left = left.checked_sub(1).ok_or(Stop::TooLarge)?;
        match open.last_mut() {
            None if node.value == Value::Null => {}
            None => documents.push(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some((key, place)) => entries.push(Entry { key, place, node }),
                None => *key = Some((as_key(node.value)?, node.place)),
            },
        }
    }
    Ok(())
}

fn place(span: &Span) -> Place {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: bounded(span.start.line()), column: bounded(span.start.col()).saturating_add(1) }
}

fn wrong(error: &ScanError) -> Stop {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let at = error.marker();
    let place = Place { line: bounded(at.line()), column: bounded(at.col()).saturating_add(1) };
    Stop::Wrong(place, error.info())
}

/// Returns a key; a number or a word that is no text is rare.
fn as_key(value: Value) -> Result<String, Stop> {
    match value {
        Value::Text(text) if text != "<<" => Ok(text),
        _ => Err(Stop::Rare),
    }
}

/// Returns what a scalar means. What is not surely a text or a number is asked of the reader of all of YAML.
fn scalar(text: String, style: ScalarStyle) -> Result<Value, Stop> {
    if style != ScalarStyle::Plain {
        return Ok(Value::Text(text));
    }
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else { return Ok(Value::Null) };
    let word = first.is_ascii_alphabetic() || *first == b'/' || *first == b'_';
    let special = || ["null", "true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word));
    // No number and no word that means something has a space in it, and a mark of documents is none of them.
    let several = bytes.iter().any(|byte| matches!(byte, b' ' | b'\n'));
    if several || word && !special() || text.starts_with("---") || text.starts_with("...") {
        return Ok(Value::Text(text));
    }
    let decimal = bytes.len() < 18 && *first != b'0' && bytes.iter().all(u8::is_ascii_digit);
    if decimal {
        return text.parse().map(Value::Integer).map_err(|_| Stop::Rare);
    }
    match text.as_str() {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        "null" | "~" => Ok(Value::Null),
        "0" => Ok(Value::Integer(0)),
        _ => match super::read_scalar(&text) {
            None | Some(Value::List(_) | Value::Map(_)) => Err(Stop::Rare),
            Some(value) => Ok(value),
        },
    }
}

#[cfg(test)]
mod tests;
