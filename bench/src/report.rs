//! The results as a table for people.

use std::fmt::Write;

use crate::series::Summary;

/// Returns the table of speeds.
pub(crate) fn table(speeds: &[Summary]) -> String {
    let mut text = format!(
        "{:<10} {:<11} {:>12} {:>12}  {:<14} {:>5}  {:<13} {:>18}  {:>17} {:>17}\n",
        "PATH",
        "TEST",
        "NO MESH",
        "AMBIT",
        "",
        "RATIO",
        "(MIN-MAX)",
        "AGENTS' CPU",
        "P50/P99 NO MESH",
        "P50/P99 AMBIT"
    );
    for speed in speeds {
        let latency = |p50: Option<f64>, p99: Option<f64>| match (p50, p99) {
            (Some(p50), Some(p99)) => format!("{p50:.0}/{p99:.0} us"),
            _ => "-".to_owned(),
        };
        let bounds = format!("({:.2}-{:.2})", speed.min, speed.max);
        let cpu = format!("{:.2} {}", speed.cpu, speed.cpu_unit);
        let _ = writeln!(
            text,
            "{:<10} {:<11} {:>12} {:>12}  {:<14} {:>5.2}  {:<13} {:>18}  {:>17} {:>17}{}",
            speed.path,
            speed.test,
            figure(speed.direct),
            figure(speed.mesh),
            speed.unit,
            speed.ratio,
            bounds,
            cpu,
            latency(speed.direct_p50_us, speed.direct_p99_us),
            latency(speed.mesh_p50_us, speed.mesh_p99_us),
            if speed.noisy { "  noisy" } else { "" },
        );
    }
    text
}

fn figure(value: f64) -> String {
    if value < 1000.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
