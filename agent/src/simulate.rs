//! What a change of objects would do before it is made, and who may reach whom: `ambit simulate`.
//!
//! Verdicts come from `core`, for each class of pods that no decision tells apart. Never touches a cluster or a kernel.

mod change;
mod groups;
mod lately;
mod names;
mod reached;

use std::collections::BTreeMap;

use ambit_core::{Protocol, Snapshot, Verdict};
use serde::Serialize;

pub use change::{NotThere, put, take};
pub use lately::{Seen, seen};
use names::{Callers, Everybody};
use reached::{Cell, Column, Number, Reached};

/// A verdict as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Decision {
    /// `allow` or `refuse`.
    pub verdict: &'static str,
    /// Stable code of the reason.
    pub reason: &'static str,
    /// The policy that decided.
    pub policy: Option<String>,
    /// Its rule, counted from 0.
    pub rule: Option<usize>,
    /// All of it as a sentence, as in the log.
    pub summary: String,
}

/// Calls of one owner, or of the host or the outside, to another one that come to the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// Who calls: namespace/service account, namespace/owner, `host`, or `outside` with the network.
    pub from: String,
    /// What is called.
    pub to: String,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// The ports.
    pub ports: String,
    /// What comes of them now.
    pub now: Decision,
    /// What would come of them; `None` where nothing is to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Decision>,
    /// How many pairs of pods.
    pub pairs: u64,
    /// One of the callers, as `ambit explain --from` takes it.
    pub example_from: String,
    /// What that one calls, as `--to` takes it.
    pub example_to: String,
}

/// Several callers of whom the same is said, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is called.
    pub to: String,
    /// The protocol and the ports.
    pub ports: String,
    /// Who calls.
    pub from: String,
    /// What comes of it now.
    pub now: Decision,
    /// What would come of it.
    pub then: Option<Decision>,
}

/// Which way a verdict changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// Something is allowed that was refused.
    Widened,
    /// Something is refused that was allowed.
    Narrowed,
}

/// What a change of objects does.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Each owner's calls whose verdict changes.
    pub calls: Vec<Calls>,
    /// The same for people.
    pub lines: Vec<Line>,
    /// Pods that are in one of the states alone, and are not compared.
    pub only_in_one: Vec<String>,
}

impl Decision {
    fn of(verdict: &Verdict) -> Self {
        Self {
            verdict: if verdict.allowed { "allow" } else { "refuse" },
            reason: verdict.reason.code(),
            policy: verdict.policy.as_ref().map(ToString::to_string),
            rule: verdict.rule,
            summary: verdict.summary(),
        }
    }

    /// Tells whether calls come about.
    pub fn allows(&self) -> bool {
        self.verdict == "allow"
    }
}

impl Changes {
    /// Counts the pairs whose verdict changes this way.
    pub fn pairs(&self, direction: Direction) -> u64 {
        let wanted = direction == Direction::Widened;
        let changed =
            self.calls.iter().filter(|calls| calls.then.as_ref().is_some_and(|then| then.allows() == wanted));
        changed.map(|calls| calls.pairs).sum()
    }
}

/// Tells who may reach whom, one called owner after the other: `calls` takes every cell, `lines` what people read.
///
/// # Errors
/// What `each` returns.
pub fn matrix<E>(
    snapshot: &Snapshot,
    protocol: Protocol,
    mut each: impl FnMut(Vec<Calls>, Vec<Line>) -> Result<(), E>,
) -> Result<(), E> {
    let mut reached = Reached::new(vec![snapshot], protocol);
    let everybody = Everybody::new(reached.callers());
    for index in 0..reached.columns() {
        for column in reached.column(index) {
            let all = |_: &[Number]| true;
            each(
                calls(&reached, &column, protocol, all),
                lines(&reached, &everybody, &column, protocol, all),
            )?;
        }
    }
    Ok(())
}

/// Compares two states: every pair of pods that are in both, with the host and the outside.
pub fn compare(before: &Snapshot, after: &Snapshot) -> Changes {
    let mut changes = Changes::default();
    for protocol in Protocol::ALL {
        let mut reached = Reached::new(vec![before, after], protocol);
        let everybody = Everybody::new(reached.callers());
        for index in 0..reached.columns() {
            for column in reached.column(index) {
                let turns = |numbers: &[Number]| {
                    let allows = |state: usize| {
                        numbers.get(state).is_some_and(|number| reached.verdicts.allows(*number))
                    };
                    allows(0) != allows(1)
                };
                changes.calls.extend(calls(&reached, &column, protocol, turns));
                changes.lines.extend(lines(&reached, &everybody, &column, protocol, turns));
            }
        }
    }
    changes.only_in_one = groups::only_in_one(before, after).iter().map(ToString::to_string).collect();
    changes
}

/// Returns the cells of a column that are `wanted`.
fn calls(
    reached: &Reached<'_>,
    column: &Column,
    protocol: Protocol,
    wanted: impl Fn(&[Number]) -> bool,
) -> Vec<Calls> {
    let mut all = Vec::new();
    for (from, cell) in &column.cells {
        for (numbers, tally) in cell.iter().filter(|(numbers, _)| wanted(numbers)) {
            let Some((now, then)) = decisions(reached, numbers) else { continue };
            all.push(Calls {
                from: from.clone(),
                to: column.to.clone(),
                protocol: protocol.as_str(),
                ports: names::ports(&column.ports),
                now,
                then,
                pairs: tally.pairs,
                example_from: tally.caller.clone(),
                example_to: tally.called.clone(),
            });
        }
    }
    all
}

/// Returns what people read of a column: callers of whom the same is said together.
fn lines(
    reached: &Reached<'_>,
    everybody: &Everybody,
    column: &Column,
    protocol: Protocol,
    wanted: impl Fn(&[Number]) -> bool,
) -> Vec<Line> {
    let mut together: BTreeMap<&[Number], Callers> = BTreeMap::new();
    let mut whole = true;
    for (from, cell) in &column.cells {
        for numbers in cell.keys() {
            if wanted(numbers) {
                together.entry(numbers).or_default().insert(from.clone(), is_part(cell));
            } else {
                whole = false;
            }
        }
    }
    let lists: Vec<Callers> = together.values().cloned().collect();
    // Only where all callers are in the lists is the longest of them the rest.
    let names = match whole {
        true => everybody.lists(&lists),
        false => lists.iter().map(|list| everybody.list(list)).collect(),
    };
    let lines = together.keys().zip(names).filter_map(|(numbers, from)| {
        let (now, then) = decisions(reached, numbers)?;
        let ports = format!("{protocol} {}", names::ports(&column.ports));
        Some(Line { to: column.to.clone(), ports, from, now, then })
    });
    let mut lines: Vec<Line> = lines.collect();
    // Who may comes before who may not.
    lines.sort_by_key(|line| !line.now.allows());
    lines
}

/// Tells whether the calls of one caller come to different ends.
fn is_part(cell: &Cell) -> bool {
    cell.len() > 1
}

fn decisions(reached: &Reached<'_>, numbers: &[Number]) -> Option<(Decision, Option<Decision>)> {
    let decision = |state: usize| Some(Decision::of(reached.verdicts.get(*numbers.get(state)?)?));
    Some((decision(0)?, decision(1)))
}

#[cfg(test)]
mod tests;
