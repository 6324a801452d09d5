//! What is wrong, or looks wrong, in an object: where, which field, and what to do.
//!
//! Holds and prints findings. Never decides whether one is an error or a warning: the list that it stands in does.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// The most findings that are kept of one file; the rest is only counted.
pub const MAX_FINDINGS_PER_FILE: usize = 100;

/// Something that a person should look at in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file, as it was named by whoever asked.
    pub file: PathBuf,
    /// The line, from 1; 0 when the finding is about the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 when the finding is about the file as a whole.
    pub column: u32,
    /// The field, such as `spec.rules[0].from`; empty when it is about no field.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// Builds a finding about a file as a whole.
    pub fn about_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            field: String::new(),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the finding without its hint, as `file:line:column: field: message`.
    pub fn headline(&self) -> String {
        let mut line = self.file.display().to_string();
        if self.line > 0 {
            line.push_str(&format!(":{}:{}", self.line, self.column));
        }
        if !self.field.is_empty() {
            line.push_str(&format!(": {}", self.field));
        }
        format!("{line}: {}", self.message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Errors and warnings, gathered while objects are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What makes the objects unusable.
    pub errors: Vec<Finding>,
    /// What is probably not meant so.
    pub warnings: Vec<Finding>,
}

impl Findings {
    /// Adds an error.
    pub fn error(&mut self, finding: Finding) {
        self.errors.push(finding);
    }

    /// Adds a warning.
    pub fn warn(&mut self, finding: Finding) {
        self.warnings.push(finding);
    }

    /// Orders the findings by place, and keeps at most `MAX_FINDINGS_PER_FILE` errors and warnings of each file.
    pub fn arrange(&mut self) {
        arrange(&mut self.errors, "errors");
        arrange(&mut self.warnings, "warnings");
    }
}

/// Sorts by place, drops repetitions, and replaces what exceeds the bound of a file by one line.
fn arrange(findings: &mut Vec<Finding>, noun: &str) {
    findings.sort();
    findings.dedup();
    let mut kept: Vec<Finding> = Vec::with_capacity(findings.len());
    for file in findings.chunk_by(|left, right| left.file == right.file) {
        let (shown, rest) = file.split_at(file.len().min(MAX_FINDINGS_PER_FILE));
        kept.extend_from_slice(shown);
        if let Some(first) = rest.first() {
            let message = format!("{} further {noun} in this file are not shown", rest.len());
            kept.push(Finding::about_file(&first.file, message));
        }
    }
    *findings = kept;
}

/// Returns a hint at the candidate that a mistyped word comes closest to, if one is close.
pub(crate) fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    let close = |candidate: &&&str| {
        let limit = (word.chars().count().max(candidate.chars().count()) / 3).max(1);
        distance(word, candidate) <= limit
    };
    let best = candidates.iter().filter(close).min_by_key(|candidate| distance(word, candidate))?;
    Some(format!("did you mean `{best}`?"))
}

/// Returns how many letters must be inserted, removed, replaced or swapped to turn one word into the other.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().take(64).collect();
    let right: Vec<char> = right.to_lowercase().chars().take(64).collect();
    let mut before_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let replaced = previous[column] + usize::from(from != to);
            let mut best = replaced.min(previous[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && left[row - 1] == *to && *from == right[column - 1];
            if swapped {
                best = best.min(before_previous[column - 1] + 1);
            }
            current.push(best);
        }
        before_previous = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_told_its_neighbour() {
        for (word, expected) in [
            ("form", Some("from")),
            ("serviceaccounts", Some("serviceAccounts")),
            ("serviceAccount", Some("serviceAccounts")),
            ("port", Some("ports")),
            ("zebra", None),
            ("", None),
        ] {
            let found = did_you_mean(word, &["from", "serviceAccounts", "ports", "namespaces"]);
            assert_eq!(found, expected.map(|word| format!("did you mean `{word}`?")), "{word}");
        }
    }

    #[test]
    fn a_flood_of_findings_is_cut_and_counted() {
        let mut findings = Findings::default();
        for line in 0..250 {
            findings.error(Finding { line, ..Finding::about_file("a.yaml", "bad") });
        }
        findings.error(Finding::about_file("b.yaml", "bad"));
        findings.arrange();
        assert_eq!(findings.errors.len(), MAX_FINDINGS_PER_FILE + 2);
        assert_eq!(
            findings.errors[MAX_FINDINGS_PER_FILE].to_string(),
            "a.yaml: 150 further errors in this file are not shown"
        );
    }

    #[test]
    fn a_finding_prints_place_field_message_and_hint() {
        let finding = Finding {
            file: "policies.yaml".into(),
            line: 12,
            column: 9,
            field: "spec.rules[0].form".to_owned(),
            message: "unknown field".to_owned(),
            hint: None,
        };
        let expected = "policies.yaml:12:9: spec.rules[0].form: unknown field; did you mean `from`?";
        assert_eq!(finding.with_hint("did you mean `from`?").to_string(), expected);
    }
}
