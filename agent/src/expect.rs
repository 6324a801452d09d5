//! What people expect of their policies: who reaches what, and who does not, written beside the policies and held against
//! them by `ambit policy test`.
//!
//! Asks `explain` and nothing else, so that a test cannot disagree with it. Never passes a test that asks nothing, and
//! never overlooks a name that stands for nobody.

mod callers;
mod read;

use ambit_core::{Reason, Snapshot};
use serde::Serialize;
use std::path::PathBuf;

use crate::control::finding::{Finding, Findings};
use crate::explain::{Foreseen, Question, verdicts};

pub use read::{Sheet, Test, read};

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tested {
    /// The file.
    pub file: PathBuf,
    /// The line on which the test begins.
    pub line: u32,
    /// Its name.
    pub name: String,
    /// Whether everything is as expected.
    pub ok: bool,
    /// How many calls were asked about.
    pub calls: usize,
    /// What a reader should know although it is as expected.
    pub notes: Vec<String>,
    /// What is not as expected.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

/// A call that does not come to what is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Who calls, as `ambit explain --from` takes it.
    pub from: String,
    /// What is called, as `ambit explain --to` takes it.
    pub to: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: String,
    /// What is expected.
    pub expected: Expected,
    /// What comes of it.
    pub got: Got,
    /// Stable code of the reason.
    pub reason: String,
    /// The decision as a sentence, with policy and rule, as in the log.
    pub summary: String,
    /// The policy that decided.
    pub policy: Option<String>,
    /// Its rule, counted from 0.
    pub rule: Option<usize>,
}

/// What is expected of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It comes about, wherever it goes.
    Allow,
    /// It comes about nowhere.
    Refuse,
}

/// What comes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Got {
    /// It comes about, wherever it goes.
    Allow,
    /// It comes about nowhere.
    Refuse,
    /// Some endpoints of the service take it, and others refuse it.
    Partly,
}

/// Runs a test against a state; whatever it names that is not there goes into `findings`, and then nothing is returned.
pub fn run(snapshot: &Snapshot, trust_domain: &str, test: &Test, findings: &mut Findings) -> Option<Tested> {
    let calls = callers::calls(snapshot, trust_domain, test, findings)?;
    let errors = findings.errors.len();
    let mut tested = Tested {
        file: test.at.file.clone(),
        line: test.at.line,
        name: test.name.clone(),
        ok: true,
        calls: 0,
        failures: Vec::new(),
        notes: Vec::new(),
    };
    for call in calls.all() {
        let question = Question {
            from: call.from.clone(),
            to: call.to.to_owned(),
            port: call.port,
            protocol: test.protocol.to_string(),
        };
        match verdicts(snapshot, &question) {
            Ok(foreseen) => tested.hold(question, call.expected, foreseen, call.by_name),
            Err(unanswerable) => {
                let at = match unanswerable.option {
                    "--from" => call.at,
                    "--port" => &test.at,
                    _ => &test.to.at,
                };
                let message = format!("{}: {}", unanswerable.asked, unanswerable.problem);
                findings.error(Finding { message, ..at.clone() });
            }
        }
    }
    if tested.calls == 0 && findings.errors.len() == errors {
        let message = "the test asks about nothing: whoever it names is what is called";
        findings.error(Finding { message: message.to_owned(), ..test.at.clone() });
    }
    tested.notes.dedup();
    tested.ok = tested.failures.is_empty();
    (findings.errors.len() == errors).then_some(tested)
}

impl Tested {
    /// Holds what comes of a call against what is expected. A pod that calls itself meets no policy: of that only
    /// somebody who names it wants to hear.
    fn hold(&mut self, question: Question, expected: Expected, mut places: Vec<Foreseen>, by_name: bool) {
        if !by_name || places.iter().any(|place| !place.is_itself) {
            places.retain(|place| !place.is_itself);
        }
        let refused = places.iter().filter(|place| !place.verdict.allowed).count();
        let got = match refused {
            0 => Got::Allow,
            all if all == places.len() => Got::Refuse,
            _ => Got::Partly,
        };
        // What is told is a place that is not as expected.
        let wrong = |place: &&Foreseen| place.verdict.allowed == (expected == Expected::Refuse);
        let Some(first) = places.first() else { return };
        self.calls += 1;
        if first.verdict.reason == Reason::NotEnrolled {
            self.notes.push(format!("{} is not enrolled: no policy is asked about calls to it", question.to));
        }
        let Some(told) = places.iter().find(wrong) else { return };
        let verdict = &told.verdict;
        let summary = match got {
            Got::Partly if expected == Expected::Refuse => {
                let taken = places.len() - refused;
                format!("taken by {taken} of {} endpoints: {}", places.len(), verdict.summary())
            }
            Got::Partly => {
                format!("refused by {refused} of {} endpoints: {}", places.len(), verdict.summary())
            }
            _ => verdict.summary(),
        };
        self.failures.push(Failure {
            from: question.from,
            to: question.to,
            port: question.port,
            protocol: question.protocol,
            expected,
            got,
            reason: verdict.reason.code().to_owned(),
            summary,
            policy: verdict.policy.as_ref().map(ToString::to_string),
            rule: verdict.rule,
        });
    }
}

#[cfg(test)]
mod tests;
