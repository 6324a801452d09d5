//! The results for people: a section with a heading for each part that was measured.

use std::fmt::Write;

use crate::Results;
use crate::changes::Changes;
use crate::first::First;
use crate::memory::Memory;
use crate::policies::Rate;
use crate::series::{Spread, Summary};

/// Returns the whole report.
pub(crate) fn text(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "ambit {}, {}; Linux {}, {} cores of {}\n",
        results.commit, results.date, machine.kernel, machine.cores, machine.cpu
    );
    let mut section = |heading: &str, body: String| {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{heading}\n{body}");
    };
    if !results.results.is_empty() {
        section(
            "Speed: medians; the ratio is ambit's to no mesh, of the same round",
            speeds(&results.results),
        );
    }
    if let Some(first) = &results.first {
        section("First connection to a pod, no tunnel stands yet", firsts(first));
    }
    if let Some(policies) = &results.policies {
        section("New connections under policies that all select the server, 16 workers", rates(policies));
    }
    if let Some(changed) = &results.changes {
        section("Changes", changes(changed));
    }
    if let Some(measured) = &results.memory {
        section("Memory of an agent (resident)", memory(measured));
    }
    text
}

/// Returns rows under a heading, each column as wide as it must be: the first `left` to the left, the others to the right.
fn table(heading: &[&str], left: usize, rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    for row in [&heading].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text
}

fn speeds(speeds: &[Summary]) -> String {
    let row = |speed: &Summary| {
        let latency = |p50: Option<f64>, p99: Option<f64>| match (p50, p99) {
            (Some(p50), Some(p99)) => format!("{p50:.0}/{p99:.0} us"),
            _ => "-".to_owned(),
        };
        let ratio = Spread { median: speed.ratio, min: speed.min, max: speed.max };
        vec![
            speed.path.to_owned(),
            speed.test.to_owned(),
            speed.unit.to_owned(),
            figure(speed.direct),
            figure(speed.mesh),
            spread(ratio),
            format!("{:.2} {}", speed.cpu, speed.cpu_unit),
            latency(speed.direct_p50_us, speed.direct_p99_us),
            latency(speed.mesh_p50_us, speed.mesh_p99_us),
            if speed.noisy { "noisy" } else { "" }.to_owned(),
        ]
    };
    let heading = [
        "PATH",
        "TEST",
        "UNIT",
        "NO MESH",
        "AMBIT",
        "RATIO",
        "AGENTS' CPU",
        "P50/P99 NO MESH",
        "P50/P99 AMBIT",
        "",
    ];
    table(&heading, 3, &speeds.iter().map(row).collect::<Vec<_>>())
}

fn firsts(firsts: &[First]) -> String {
    let row = |first: &First| {
        vec![
            first.path.to_owned(),
            spread(first.direct),
            spread(first.mesh),
            spread(first.ratio),
            first.connections.to_string(),
        ]
    };
    let heading = ["PATH", "NO MESH, ms", "AMBIT, ms", "TIMES AS LONG", "CONNECTIONS"];
    table(&heading, 1, &firsts.iter().map(row).collect::<Vec<_>>())
}

fn rates(rates: &[Rate]) -> String {
    let row = |rate: &Rate| {
        vec![rate.path.to_owned(), rate.policies.to_string(), spread(rate.rate), spread(rate.ratio)]
    };
    let heading = ["PATH", "POLICIES", "CONNECTIONS/s", "TO NONE"];
    table(&heading, 1, &rates.iter().map(row).collect::<Vec<_>>())
}

fn changes(changes: &Changes) -> String {
    let refusals = changes.refusals.iter().map(|refusal| {
        vec![
            format!("from a changed policy file to the first refused connection, {}", refusal.path),
            format!("{} ms", spread(refusal.milliseconds)),
            refusal.times.to_string(),
        ]
    });
    let enrolment = changes.enrolment.iter().map(|enrolment| {
        vec![
            format!("from the label to {} captured pods of one node", enrolment.pods),
            format!("{} s", spread(enrolment.seconds)),
            enrolment.times.to_string(),
        ]
    });
    table(&["WHAT", "TIME", "TIMES"], 1, &refusals.chain(enrolment).collect::<Vec<_>>())
}

fn memory(memory: &Memory) -> String {
    let row = |what: String, rss: u64, more: String| vec![what, megabytes(rss), more];
    let mut rows = Vec::new();
    for at in &memory.pods {
        rows.push(row(format!("{} enrolled pods", at.count), at.rss, String::new()));
    }
    for at in &memory.connections {
        rows.push(row(format!("{} idle connections, client's side", at.count), at.client_rss, String::new()));
    }
    for at in &memory.connections {
        rows.push(row(format!("{} idle connections, server's side", at.count), at.server_rss, String::new()));
    }
    for at in &memory.workloads {
        let loading = format!("peak {}, in force after {:.1} s", megabytes(at.peak_rss), at.seconds);
        let more = if at.count > 0 { loading } else { String::new() };
        rows.push(row(format!("{} workloads of other nodes", at.count), at.rss, more));
    }
    let mut text = table(&["WITH", "MEMORY", ""], 1, &rows);
    let _ = writeln!(
        text,
        "  each pod {}, each idle connection {} at the client's and {} at the server's side, each workload {}",
        bytes(memory.per_pod),
        bytes(memory.per_connection_client),
        bytes(memory.per_connection_server),
        bytes(memory.per_workload),
    );
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

fn bytes(bytes: f64) -> String {
    if bytes.abs() < 10_240.0 { format!("{bytes:.0} B") } else { format!("{:.1} KiB", bytes / 1024.0) }
}

fn spread(spread: Spread) -> String {
    format!("{} ({}-{})", figure(spread.median), figure(spread.min), figure(spread.max))
}

fn figure(value: f64) -> String {
    if value < 1000.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text =
            table(&["PATH", "N", ""], 1, &[row(["same-node", "1", ""]), row(["across", "1000", "noisy"])]);
        assert_eq!(text, "  PATH          N\n  same-node     1\n  across     1000  noisy\n");
    }

    #[test]
    fn small_figures_have_decimals_and_large_ones_none() {
        assert_eq!(spread(Spread { median: 0.954, min: 0.5, max: 12_345.6 }), "0.95 (0.50-12346)");
        assert_eq!(bytes(512.4), "512 B");
        assert_eq!(bytes(20_480.0), "20.0 KiB");
        assert_eq!(megabytes(3 << 20), "3.0 MiB");
    }
}
