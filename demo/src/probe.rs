//! Tries one connection and says what happened, at both ends and on the wire.

use std::time::Duration;

use ambit_harness::{Captured, Place, WireReport, binary, wait_for};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::row::{Connection, Mode, REACHED, REFUSED, Row, Via, expected_on_wire};
use crate::world::{NAMESPACE, World};

/// How often a connection is tried: one that is refused by one endpoint of two must not pass for refused.
const TRIES: u32 = 6;
/// How many calls of mathfanboy's own are watched on the wire.
const WATCHED_CALLS: u64 = 12;

/// What `calculator get` printed.
#[derive(Debug, Deserialize)]
pub(crate) struct Answers {
    ok: u32,
    failed: u32,
    /// Who answered, and how often.
    pods: BTreeMap<String, u32>,
    errors: BTreeMap<String, u32>,
    last: serde_json::Value,
}

impl Answers {
    /// Says in a word or two what became of all tries. Silence is no refusal: it is told apart.
    fn outcome(&self) -> String {
        let refusals = ["refused", "reset", "eof", "permission"];
        if self.failed == 0 {
            REACHED.into()
        } else if self.ok > 0 {
            format!("{} of {} reached", self.ok, self.ok + self.failed)
        } else if self.errors.keys().all(|kind| refusals.contains(&kind.as_str())) {
            REFUSED.into()
        } else {
            self.errors.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}

/// A row, and what only a person wants to know of it.
pub(crate) struct Observation {
    pub(crate) row: Row,
    pub(crate) note: String,
}

/// Tries a connection; `number` makes its marker unique.
pub(crate) fn try_connection(
    world: &World,
    connection: &Connection,
    mode: Mode,
    number: usize,
) -> Result<Observation> {
    let marker = format!("ambit-demo-row-{number}-end");
    let by_service = connection.via == Via::Service;
    let url = world.url(connection.to, by_service, &marker);
    let answering = world.answering(connection.to);
    let expected = connection.expected(mode);

    let capture = world.bed.capture();
    let all_pods = if expected == REACHED { answering.len() } else { 1 };
    let answers = get(&world.place(connection.from), &url, TRIES, all_pods)?;
    let captured = capture.stop();

    let here = world.node_of(connection.from);
    let crossed = answers.pods.keys().any(|pod| world.node_of(pod) != here);
    let enrolled = !world.answering(connection.from).is_empty();
    let encrypted = if crossed {
        encrypted(world, connection, &captured, &marker)
    } else {
        // What a pod of the mesh says must not be readable even where it is refused.
        (enrolled && captured.contains(&marker)).then_some(false)
    };
    let wanted = expected_on_wire(mode, enrolled, crossed);
    let observed = answers.outcome();
    let right = answers.ok == 0 || answers.last["result"].as_f64().is_some();
    let row = Row {
        from: connection.from.into(),
        to: connection.to.into(),
        via: connection.via,
        mode: mode.label(),
        ok: observed == expected && encrypted == wanted && right,
        expected: expected.into(),
        observed,
        encrypted,
    };
    Ok(Observation { row, note: note(&answers) })
}

/// Watches what the running calculator itself puts on the wire, with nothing else going on.
pub(crate) fn watch_calculator(world: &World, mode: Mode) -> Result<Observation> {
    let mathfanboy = world.pod("mathfanboy");
    let diary = || get(mathfanboy, &world.diary(), 1, 1).map(|answers| answers.last);
    let capture = world.bed.capture();
    let before = diary()?;
    let calls = |body: &serde_json::Value, key: &str| body[key].as_u64().unwrap_or_default();
    let target = calls(&before, "calls") + WATCHED_CALLS;
    let after = wait_for("mathfanboy to make its calls", Duration::from_secs(60), || {
        diary().ok().filter(|body| calls(body, "calls") >= target)
    });
    let report = capture.stop().report();
    let failed = calls(&after, "failed") - calls(&before, "failed");
    let expected = if mode == Mode::None { "plaintext" } else { "only TLS" };
    let observed = on_wire(&report, failed);
    let row = Row {
        from: "mathfanboy's calls".into(),
        to: "all services".into(),
        via: Via::Service,
        mode: mode.label(),
        ok: observed == expected,
        expected: expected.into(),
        observed,
        encrypted: (!report.streams.is_empty()).then(|| report.only_tls()),
    };
    let plain = report.outside_tunnels();
    let sample = plain.first().map(|stream| format!("{} → {}: {:?}", stream.src, stream.dst, stream.sample));
    let note = sample
        .filter(|_| !row.ok)
        .unwrap_or_else(|| format!("in {NAMESPACE}, {} streams", report.streams.len()));
    Ok(Observation { row, note })
}

fn on_wire(report: &WireReport, failed: u64) -> String {
    if failed > 0 {
        format!("{failed} calls failed")
    } else if report.streams.is_empty() {
        "silence".into()
    } else if report.only_tls() {
        "only TLS".into()
    } else {
        "plaintext".into()
    }
}

/// Says whether the row's payload was hidden: false where its marker was readable, true where it was not and
/// tunnels to or from its ends carried bytes, None where neither shows.
fn encrypted(world: &World, connection: &Connection, captured: &Captured, marker: &str) -> Option<bool> {
    if captured.contains(marker) {
        return Some(false);
    }
    let mut ends: Vec<_> = world.ips_of(connection.from).into();
    ends.extend(world.answering(connection.to).iter().flat_map(|pod| world.ips_of(pod)));
    let streams = captured.report().streams;
    let tunnelled =
        streams.iter().any(|s| s.is_tunnel() && (ends.contains(&s.src.ip()) || ends.contains(&s.dst.ip())));
    tunnelled.then_some(true)
}

fn note(answers: &Answers) -> String {
    let counted = |counts: &BTreeMap<String, u32>| {
        counts.iter().map(|(what, times)| format!("{what} ×{times}")).collect::<Vec<_>>().join(", ")
    };
    if answers.failed > 0 { counted(&answers.errors) } else { format!("by {}", counted(&answers.pods)) }
}

fn get(place: &Place, url: &str, count: u32, pods: usize) -> Result<Answers> {
    let output = place
        .command(binary("calculator"))
        .args(["get", url, "--count", &count.to_string(), "--pods", &pods.to_string(), "--timeout", "3s"])
        .output()
        .with_context(|| format!("run calculator get in {}", place.name()))?;
    if !output.status.success() {
        bail!("calculator get in {}: {}", place.name(), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read what calculator get printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(ok: u32, errors: &[(&str, u32)]) -> Answers {
        let errors: BTreeMap<_, _> = errors.iter().map(|(kind, n)| (kind.to_string(), *n)).collect();
        let failed = errors.values().sum();
        Answers { ok, failed, pods: BTreeMap::new(), errors, last: serde_json::Value::Null }
    }

    #[test]
    fn an_outcome_is_reached_refused_or_named() {
        assert_eq!(answers(6, &[]).outcome(), "reached");
        assert_eq!(answers(0, &[("refused", 3), ("reset", 3)]).outcome(), "refused");
        assert_eq!(answers(2, &[("reset", 4)]).outcome(), "2 of 6 reached");
        assert_eq!(answers(0, &[("timeout", 6)]).outcome(), "timeout");
    }
}
