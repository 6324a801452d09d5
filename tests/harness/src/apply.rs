//! Knows when the agents have applied what was published. The one place that reads their status for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bed::Shared;
use crate::binaries;
use crate::wait::wait_for;

/// How long an agent may take to apply a change of its folder.
const APPLY: Duration = Duration::from_secs(20);
/// After how long an agent has surely looked at a folder that changed.
const LOOKED_AGAIN: Duration = Duration::from_secs(3);

/// What agents said before a publication, and when its last file was in place.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    before: BTreeMap<String, Mark>,
    published: Option<SystemTime>,
}

/// What of a status tells that an agent has looked at its folder again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    /// The snapshot that is in force.
    applied: u64,
    /// The snapshot that was loaded last.
    loaded: u64,
    loaded_at: Option<SystemTime>,
    /// Why the folder, as it is now, is not in force.
    errors: Vec<String>,
}

impl Mark {
    fn of(status: &Value) -> Self {
        let (applied, source) = (status["snapshot"].as_u64().unwrap_or_default(), &status["source"]);
        let errors = source["errors"].as_array().into_iter().flatten();
        Self {
            applied,
            loaded: source["version"].as_u64().unwrap_or(applied),
            loaded_at: serde_json::from_value(source["loaded_at"].clone()).ok(),
            errors: errors.map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned)).collect(),
        }
    }

    /// Returns whether an agent that says this has applied, or refused, everything published at `published`.
    fn has_seen(&self, before: &Self, published: SystemTime, now: SystemTime) -> bool {
        if self.errors.is_empty() {
            // The files are loaded first and put in force after: both must have happened.
            let loaded = match self.loaded_at {
                Some(at) => at >= published,
                None => self.loaded > before.loaded,
            };
            loaded && self.applied >= self.loaded
        } else {
            // A refused load leaves no time. The same refusal twice looks like none: it counts once the agent
            // must have looked again.
            self.errors != before.errors || now > published + LOOKED_AGAIN
        }
    }
}

/// Asks the agent behind `socket` with the CLI; `what` is `status` or `connections`.
pub(crate) fn ask(socket: &Path, what: &str) -> Result<Value> {
    let output = Command::new(binaries::find("ambit")?)
        .args([what, "-o", "json", "--socket"])
        .arg(socket)
        .output()
        .with_context(|| format!("run ambit {what}"))?;
    // A status that shows a fault is printed all the same, and fails: what was printed counts.
    if !output.status.success() && output.stdout.is_empty() {
        bail!("ambit {what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("ambit {what} printed no JSON"))
}

impl Shared {
    /// Publishes; the first publication since the last wait also notes what each agent says before it.
    pub(crate) fn publish_and_remember(&self) -> Result<()> {
        let agents = self.state().agents.clone();
        let marks = agents.into_iter().map(|(node, socket)| Ok((node, Mark::of(&ask(&socket, "status")?))));
        let marks = marks.collect::<Result<BTreeMap<_, _>>>()?;
        let mut state = self.state();
        if let Some(published) = self.publish(&mut state)? {
            for (node, mark) in marks {
                state.baseline.before.entry(node).or_insert(mark);
            }
            state.baseline.published = Some(published);
        }
        Ok(())
    }

    /// Waits until each running agent has seen what was published; returns the errors that they report now.
    #[track_caller]
    pub(crate) fn await_agents(&self) -> Vec<String> {
        let (baseline, agents) = {
            let mut state = self.state();
            (std::mem::take(&mut state.baseline), state.agents.clone())
        };
        let mut errors = Vec::new();
        for (node, socket) in agents {
            let mark = wait_for(&format!("the agent of {node} to apply the objects"), APPLY, || {
                let now = Mark::of(&ask(&socket, "status").ok()?);
                let seen = match (baseline.before.get(&node), baseline.published) {
                    (Some(before), Some(published)) => now.has_seen(before, published, SystemTime::now()),
                    // Nothing was published since this agent started or was last waited for.
                    _ => true,
                };
                seen.then_some(now)
            });
            errors.extend(mark.errors.into_iter().map(|error| format!("{node}: {error}")));
        }
        errors
    }

    /// Forgets an agent that was stopped, killed or is about to start anew.
    pub(crate) fn forget_agent(&self, node: &str) {
        let mut state = self.state();
        state.agents.remove(node);
        state.baseline.before.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn mark(applied: u64, loaded: u64, loaded_at: u64, errors: &[&str]) -> Mark {
        let source = json!({"version": loaded, "loaded_at": at(loaded_at), "errors": errors});
        Mark::of(&json!({"snapshot": applied, "source": source}))
    }

    #[test]
    fn a_change_counts_when_it_is_loaded_and_in_force() {
        let before = mark(1, 1, 100, &[]);
        let seen = |now: Mark| now.has_seen(&before, at(200), at(201));
        assert!(!seen(before.clone()), "nothing happened yet");
        assert!(!seen(mark(2, 2, 199, &[])), "only its first file was loaded");
        assert!(!seen(mark(2, 3, 200, &[])), "loaded, not yet in force");
        assert!(seen(mark(3, 3, 200, &[])));
    }

    #[test]
    fn a_refusal_counts_when_it_is_new_or_must_have_come_again() {
        let before = mark(1, 1, 100, &["a.yaml: unknown kind"]);
        let again = before.clone();
        assert!(mark(1, 1, 100, &["b.yaml: no spec"]).has_seen(&before, at(200), at(200)));
        assert!(!again.has_seen(&before, at(200), at(202)));
        assert!(again.has_seen(&before, at(200), at(204)));
    }

    #[test]
    fn without_a_time_a_new_version_counts() {
        let before = Mark::of(&json!({"snapshot": 1}));
        assert!(!before.has_seen(&before, at(1), at(1)));
        assert!(Mark::of(&json!({"snapshot": 2})).has_seen(&before, at(1), at(1)));
    }
}
