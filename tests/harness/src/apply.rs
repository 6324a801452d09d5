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

/// What agents said before a publication, and when its last file was in place.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    before: BTreeMap<String, Mark>,
    published: Option<SystemTime>,
}

/// What of a status changes when an agent has looked at its folder again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    snapshot: Value,
    loaded_at: Value,
    errors: Vec<String>,
}

impl Mark {
    fn of(status: &Value) -> Self {
        let errors = status["source"]["errors"].as_array().into_iter().flatten();
        Self {
            snapshot: status["snapshot"].clone(),
            loaded_at: status["source"]["loaded_at"].clone(),
            errors: errors.map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned)).collect(),
        }
    }

    /// Returns whether an agent that says this has seen everything published at `published`.
    ///
    /// The time of its last load decides where the agent tells it; otherwise any change since `before`.
    fn has_seen(&self, before: &Self, published: SystemTime) -> bool {
        // Whole seconds are too coarse to decide it; a time cut to milliseconds is up to one too early.
        let loaded_at = self.loaded_at.as_str().filter(|text| text.contains('.'));
        match loaded_at.and_then(|text| humantime::parse_rfc3339(text).ok()) {
            Some(loaded) => loaded + Duration::from_millis(1) >= published,
            None => self != before,
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
    if !output.status.success() {
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
                    (Some(before), Some(published)) => now.has_seen(before, published),
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

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_load_that_began_before_the_publication_does_not_count() {
        let before = Mark::of(&json!({"snapshot": 1, "source": {"loaded_at": "2026-01-01T00:00:00.100Z"}}));
        let half = Mark::of(&json!({"snapshot": 2, "source": {"loaded_at": "2026-01-01T00:00:00.200Z"}}));
        let whole = Mark::of(&json!({"snapshot": 3, "source": {"loaded_at": "2026-01-01T00:00:00.300Z"}}));
        let published = at("2026-01-01T00:00:00.250Z");
        assert!(!half.has_seen(&before, published));
        assert!(whole.has_seen(&before, published));
    }

    #[test]
    fn without_a_time_a_new_snapshot_or_a_new_error_counts() {
        let before = Mark::of(&json!({"snapshot": 1}));
        assert!(!before.has_seen(&before, SystemTime::now()));
        assert!(Mark::of(&json!({"snapshot": 2})).has_seen(&before, SystemTime::now()));
        let refused = json!({"snapshot": 1, "source": {"errors": [{"file": "policy.yaml"}]}});
        assert!(Mark::of(&refused).has_seen(&before, SystemTime::now()));
        assert_eq!(Mark::of(&refused).errors, [r#"{"file":"policy.yaml"}"#]);
    }
}
