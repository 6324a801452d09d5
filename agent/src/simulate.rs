//! What a change of objects would do before it is made, and who may reach whom: `ambit simulate`.
//!
//! Verdicts come from `core`, for each class of pods that no decision tells apart. Never touches a cluster or a kernel.

mod change;
mod groups;
mod lately;
mod names;
mod reached;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ambit_core::{Protocol, Snapshot, Verdict};
use serde::{Serialize, Serializer};

pub use change::{NotThere, put, take};
pub use lately::{Seen, seen};
use names::{Callers, Everybody};
use reached::{Column, Ends, Reached};

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
    #[serde(serialize_with = "shared")]
    pub now: Arc<Decision>,
    /// What would come of them; `None` where nothing is to change.
    #[serde(serialize_with = "shared_if_any", skip_serializing_if = "Option::is_none")]
    pub then: Option<Arc<Decision>>,
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
    /// The protocols.
    pub protocols: String,
    /// The ports.
    pub ports: String,
    /// Who calls.
    pub from: String,
    /// What comes of it now.
    pub now: Arc<Decision>,
    /// What would come of it; `None` where nothing is to change.
    pub then: Option<Arc<Decision>>,
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
    /// Counts the pairs of caller and called between which anything changes this way.
    pub fn pairs(&self, direction: Direction) -> usize {
        let wanted = direction == Direction::Widened;
        let changed =
            self.calls.iter().filter(|calls| calls.then.as_ref().is_some_and(|then| then.allows() == wanted));
        changed.map(|calls| (&calls.from, &calls.to)).collect::<BTreeSet<_>>().len()
    }

    /// Adds a line, to the one that says the same of TCP where there is one.
    fn add_line(&mut self, line: Line) {
        let tcp = Protocol::Tcp.as_str();
        let same = |other: &&mut Line| {
            other.protocols == tcp
                && (&other.to, &other.ports, &other.from) == (&line.to, &line.ports, &line.from)
                && (&other.now, &other.then) == (&line.now, &line.then)
        };
        match self.lines.iter_mut().find(same) {
            Some(other) if line.protocols != tcp => {
                other.protocols = format!("{}, {}", other.protocols, line.protocols);
            }
            _ => self.lines.push(line),
        }
    }
}

/// What comes of all calls to one that is called, on some ports.
pub struct Called<'a> {
    reached: &'a Reached<'a>,
    everybody: &'a Everybody,
    column: &'a Column,
    protocol: Protocol,
    /// Whether only what changes is meant.
    changes_only: bool,
}

/// Tells who may reach whom, one that is called after the other.
///
/// # Errors
/// What `each` returns.
pub fn matrix<E>(
    snapshot: &Snapshot,
    protocol: Protocol,
    each: impl FnMut(&Called<'_>) -> Result<(), E>,
) -> Result<(), E> {
    columns(vec![snapshot], protocol, each)
}

/// Compares two states: every pair of pods that are in both, with the host and the outside.
pub fn compare(before: &Snapshot, after: &Snapshot, protocols: &[Protocol]) -> Changes {
    let mut changes = Changes::default();
    for protocol in protocols.iter().copied() {
        let told: Result<(), Infallible> = columns(vec![before, after], protocol, |called| {
            changes.calls.extend(called.calls());
            called.lines().into_iter().for_each(|line| changes.add_line(line));
            Ok(())
        });
        match told {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
    changes.only_in_one = groups::only_in_one(before, after).iter().map(ToString::to_string).collect();
    changes
}

fn columns<E>(
    states: Vec<&Snapshot>,
    protocol: Protocol,
    mut each: impl FnMut(&Called<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let changes_only = states.len() > 1;
    let mut reached = Reached::new(states, protocol);
    let everybody = Everybody::new(reached.callers());
    for index in 0..reached.columns() {
        for column in &reached.column(index) {
            each(&Called { reached: &reached, everybody: &everybody, column, protocol, changes_only })?;
        }
    }
    Ok(())
}

impl Called<'_> {
    /// Tells whether calls with these verdicts are meant.
    fn is_meant(&self, [first, last]: Ends) -> bool {
        let verdicts = &self.reached.verdicts;
        !self.changes_only || verdicts.allows(first) != verdicts.allows(last)
    }

    /// Returns what comes of calls now, and what would.
    fn decisions(&self, [first, last]: Ends) -> Option<(Arc<Decision>, Option<Arc<Decision>>)> {
        let verdicts = &self.reached.verdicts;
        let then = verdicts.decision(last).filter(|_| self.changes_only);
        Some((Arc::clone(verdicts.decision(first)?), then.map(Arc::clone)))
    }

    /// Returns every caller's calls.
    pub fn calls(&self) -> Vec<Calls> {
        let ports = names::ports(&self.column.ports);
        let mut all = Vec::new();
        for (from, cell) in &self.column.cells {
            for (ends, tally) in cell.iter().filter(|(ends, _)| self.is_meant(*ends)) {
                let Some((now, then)) = self.decisions(*ends) else { continue };
                all.push(Calls {
                    from: from.to_string(),
                    to: self.column.to.to_string(),
                    protocol: self.protocol.as_str(),
                    ports: ports.clone(),
                    now,
                    then,
                    pairs: tally.pairs,
                    example_from: tally.caller.to_string(),
                    example_to: tally.called.to_string(),
                });
            }
        }
        all
    }

    /// Returns the same for people: callers of whom the same is said together.
    pub fn lines(&self) -> Vec<Line> {
        let mut together: BTreeMap<Ends, Callers> = BTreeMap::new();
        let mut whole = true;
        for (from, cell) in &self.column.cells {
            for (ends, _) in cell {
                if self.is_meant(*ends) {
                    // Of a caller whose calls come to different ends, each is said of a part.
                    together.entry(*ends).or_default().insert(Arc::clone(from), cell.len() > 1);
                } else {
                    whole = false;
                }
            }
        }
        let lists: Vec<Callers> = together.values().cloned().collect();
        // Only where all callers are in the lists is the longest of them the rest.
        let names = match whole {
            true => self.everybody.lists(&lists),
            false => lists.iter().map(|list| self.everybody.list(list)).collect(),
        };
        let ports = names::ports(&self.column.ports);
        let lines = together.keys().zip(names).filter_map(|(ends, from)| {
            let (now, then) = self.decisions(*ends)?;
            let (to, protocols) = (self.column.to.to_string(), self.protocol.to_string());
            Some(Line { to, protocols, ports: ports.clone(), from, now, then })
        });
        let mut lines: Vec<Line> = lines.collect();
        // Who may comes before who may not.
        lines.sort_by_key(|line| !line.now.allows());
        lines
    }
}

fn shared_if_any<S: Serializer>(decision: &Option<Arc<Decision>>, serializer: S) -> Result<S::Ok, S::Error> {
    decision.as_deref().serialize(serializer)
}

fn shared<S: Serializer>(decision: &Arc<Decision>, serializer: S) -> Result<S::Ok, S::Error> {
    decision.as_ref().serialize(serializer)
}

#[cfg(test)]
mod tests;
