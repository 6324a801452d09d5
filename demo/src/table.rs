//! The table that a person reads. Pure: rows in, text out.

use std::fmt::Write;

use crate::probe::Observation;
use crate::row::Via;

/// One step of the demo and what was seen in it.
pub(crate) struct Step {
    pub(crate) title: String,
    pub(crate) observations: Vec<Observation>,
}

/// Whether to colour, decided by who looks.
#[derive(Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

const HEADER: [&str; 7] = ["from", "to", "via", "expected", "observed", "on the wire", ""];

/// Renders every step as one block of a table whose columns line up.
pub(crate) fn render(steps: &[Step], paint: Paint) -> String {
    let cells: Vec<Vec<[String; 7]>> =
        steps.iter().map(|step| step.observations.iter().map(cells_of).collect()).collect();
    let mut widths = HEADER.map(str::len);
    for row in cells.iter().flatten() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (step, rows) in steps.iter().zip(&cells) {
        let _ = writeln!(text, "\n{}", paint.bold(&step.title));
        let _ = writeln!(text, "{}", paint.dim(&line(&HEADER.map(String::from), &widths)));
        for (observation, row) in step.observations.iter().zip(rows) {
            let padded = line(row, &widths);
            let (Some(verdict), ok) = (row.last(), observation.row.ok) else { continue };
            let body = padded.strip_suffix(verdict.as_str()).unwrap_or(&padded);
            let shown = if ok { paint.good(verdict) } else { paint.bad(verdict) };
            let _ = writeln!(text, "{body}{shown}");
        }
    }
    text
}

/// Says in one line how many rows are as expected.
pub(crate) fn summary(steps: &[Step], paint: Paint) -> String {
    let rows = steps.iter().flat_map(|step| &step.observations);
    let (good, bad): (Vec<_>, Vec<_>) = rows.partition(|observation| observation.row.ok);
    let all = good.len() + bad.len();
    if bad.is_empty() {
        paint.good(&format!("all {all} rows as expected"))
    } else {
        paint.bad(&format!("{} of {all} rows not as expected", bad.len()))
    }
}

/// Says of one row what was tried and seen, for the progress of a person who waits.
pub(crate) fn sentence(observation: &Observation) -> String {
    let row = &observation.row;
    let via = if row.via == Via::Service { "by service" } else { "by pod IP" };
    let wire = wire(row.encrypted);
    format!("{} → {} {via}: {} ({}), {wire}", row.from, row.to, row.observed, observation.note)
}

fn cells_of(observation: &Observation) -> [String; 7] {
    let row = &observation.row;
    let via = if row.via == Via::Service { "service" } else { "pod IP" };
    let verdict = if row.ok { "ok" } else { "NOT AS EXPECTED" };
    [&*row.from, &*row.to, via, &*row.expected, &*row.observed, wire(row.encrypted), verdict]
        .map(String::from)
}

fn wire(encrypted: Option<bool>) -> &'static str {
    match encrypted {
        Some(true) => "TLS",
        Some(false) => "readable",
        None => "-",
    }
}

fn line(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| {
        let blanks = width.saturating_sub(cell.chars().count());
        format!("{cell}{}", " ".repeat(blanks))
    });
    format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    fn step(ok: bool) -> Step {
        let row = Row {
            from: "addition".into(),
            to: "multiplication".into(),
            via: Via::PodIp,
            mode: "strict",
            expected: "refused".into(),
            observed: if ok { "refused" } else { "reached" }.into(),
            encrypted: None,
            ok,
        };
        Step { title: "strict".into(), observations: vec![Observation { row, note: String::new() }] }
    }

    #[test]
    fn columns_line_up_and_a_bad_row_stands_out() {
        let text = render(&[step(true), step(false)], Paint(false));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "  from      to              via     expected  observed  on the wire");
        assert_eq!(lines[3], "  addition  multiplication  pod IP  refused   refused   -            ok");
        assert!(lines[7].ends_with("reached   -            NOT AS EXPECTED"), "{text}");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let plain = render(&[step(false)], Paint(false));
        let coloured = render(&[step(false)], Paint(true));
        assert!(coloured.contains("\x1b[1;31mNOT AS EXPECTED\x1b[0m"));
        let stripped = ["\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(stripped, plain);
    }

    #[test]
    fn the_summary_counts() {
        assert_eq!(summary(&[step(true)], Paint(false)), "all 1 rows as expected");
        assert_eq!(summary(&[step(true), step(false)], Paint(false)), "1 of 2 rows not as expected");
    }
}
