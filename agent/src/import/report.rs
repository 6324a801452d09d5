//! What an import says beside the objects that it writes: what differs, and what is refused.
//!
//! Gathers lines. Never decides which objects are written: that is `ledger`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::source::Object;
use crate::control::finding::Finding;
use crate::control::node::Cursor;

/// How a line bears on the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It could not be expressed, and nothing of it is written.
    Refused,
    /// It is written, and means something else than before.
    Differs,
    /// It means the same, and somebody should know of it.
    Note,
}

impl Kind {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Differs => "differs",
            Self::Note => "note",
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Line {
    /// The file, as it was named by whoever asked.
    pub file: PathBuf,
    /// The line, from 1; 0 when it is about no place.
    pub line: u32,
    /// The object: kind, namespace and name.
    pub object: String,
    /// The field, such as `spec.rules[0].from`.
    pub field: String,
    /// How it bears on the result.
    pub kind: Kind,
    /// What is so.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}:{}: {}", self.kind.as_str(), self.file.display(), self.line, self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The lines, gathered while objects are translated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    lines: BTreeSet<Line>,
    /// The objects of which nothing is written.
    refused: BTreeSet<String>,
}

impl Report {
    /// Adds a line.
    pub(crate) fn add(&mut self, kind: Kind, object: &Object, finding: Finding) {
        if kind == Kind::Refused {
            self.refused.insert(object.titled_place());
        }
        let Finding { file, line, field, message, hint, .. } = finding;
        let (message, hint) = (printable(&message), hint.map(|hint| printable(&hint)));
        self.lines.insert(Line {
            file,
            line,
            object: printable(&object.title()),
            field,
            kind,
            message,
            hint,
        });
    }

    /// Says that something means the same, and should be known.
    pub(crate) fn note(&mut self, object: &Object, at: &Cursor<'_>, message: impl Into<String>) {
        self.add(Kind::Note, object, at.finding(message));
    }

    /// Says that something means something else, and what to do about it.
    pub(crate) fn differs(
        &mut self,
        object: &Object,
        at: &Cursor<'_>,
        message: impl Into<String>,
        hint: &str,
    ) {
        let finding = at.finding(message);
        self.add(Kind::Differs, object, if hint.is_empty() { finding } else { finding.with_hint(hint) });
    }

    /// Returns the lines in the order of their places, and how many objects are refused.
    pub(crate) fn finish(self) -> (Vec<Line>, usize) {
        (self.lines.into_iter().collect(), self.refused.len())
    }
}

/// Keeps a text of unknown origin on its line, and off the terminal's controls.
pub(crate) fn printable(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

/// Why something cannot be expressed: a place, a message, and what to do.
pub(crate) fn refusal(at: &Cursor<'_>, message: impl Into<String>, hint: &str) -> Finding {
    at.finding(message).with_hint(hint)
}
