//! What is simulated, as text, JSON, CSV or a page of HTML.
//!
//! Never counts or decides: it prints what it is given, a called owner at a time.

use std::io::{self, BufWriter, Write};

use ambit_core::{Protocol, Snapshot};
use anyhow::Context;
use serde_json::json;

use super::Form;
use crate::cli::output::table;
use crate::simulate::{Calls, Changes, Direction, Line, Seen, matrix as each_column};

/// The longest line of a list of names, in characters.
const WIDTH: usize = 64;
/// What stands before the rows of a page.
const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ambit simulate</title><style>
body{font:14px/1.4 system-ui,sans-serif;margin:2em}
table{border-collapse:collapse;margin:1em 0}
th,td{border-bottom:1px solid #ccc;padding:.3em .8em;text-align:left;vertical-align:top}
th{position:sticky;top:0;background:#fff}
.allow{color:#05620e}.refuse{color:#a40000}
</style></head><body>
";
const CSV_HEAD: &str = "from,to,protocol,ports,verdict,reason,policy,rule,then_verdict,then_reason,then_policy,then_rule,pairs,example_from,example_to\n";

/// Prints who may reach whom.
///
/// # Errors
/// When it cannot be printed.
pub(super) fn matrix(form: Form, snapshot: &Snapshot, protocol: Protocol) -> anyhow::Result<()> {
    printing(|out| {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut first = true;
        match form {
            Form::Text => {}
            Form::Csv => out.write_all(CSV_HEAD.as_bytes())?,
            Form::Json => write!(out, "{{\"protocol\": \"{protocol}\", \"calls\": [")?,
            Form::Html => {
                write!(
                    out,
                    "{HEAD}<h1>Who may reach whom over {protocol}</h1>\n<table>{}",
                    html_row("th", &MATRIX, "")
                )?;
            }
        }
        each_column(snapshot, protocol, |called| -> io::Result<()> {
            match form {
                Form::Text => rows.extend(called.lines().iter().map(matrix_row)),
                Form::Csv => {
                    called.calls().iter().try_for_each(|calls| out.write_all(csv_row(calls).as_bytes()))?;
                }
                Form::Json => {
                    for calls in &called.calls() {
                        let comma = if std::mem::take(&mut first) { "" } else { "," };
                        write!(out, "{comma}\n{}", json!(calls))?;
                    }
                }
                Form::Html => {
                    for line in &called.lines() {
                        out.write_all(html_row("td", &matrix_row(line), line.now.verdict).as_bytes())?;
                    }
                }
            }
            Ok(())
        })?;
        match form {
            Form::Text => out.write_all(table(&MATRIX, &wrapped(without_repetition(rows), 3)).as_bytes()),
            Form::Csv => Ok(()),
            Form::Json => out.write_all(b"\n]}\n"),
            Form::Html => out.write_all(b"</table></body></html>\n"),
        }
    })
}

const MATRIX: [&str; 5] = ["TO", "PORTS", "CALLS ARE", "FROM", "WHY"];
const CHANGED: [&str; 5] = ["TO", "PORTS", "FROM", "NOW", "THEN"];
const LATELY: [&str; 6] = ["NOW", "COUNT", "FROM", "TO", "PORT", "THEN"];

/// Prints what a change does.
///
/// # Errors
/// When it cannot be printed.
pub(super) fn changes(form: Form, changes: &Changes, lately: Option<&[Seen]>) -> anyhow::Result<()> {
    printing(|out| match form {
        Form::Text => out.write_all(text(changes, lately).as_bytes()),
        Form::Csv => {
            out.write_all(CSV_HEAD.as_bytes())?;
            changes.calls.iter().try_for_each(|calls| out.write_all(csv_row(calls).as_bytes()))
        }
        Form::Json => {
            let report = json!({
                "widenedPairs": changes.pairs(Direction::Widened),
                "narrowedPairs": changes.pairs(Direction::Narrowed),
                "calls": changes.calls,
                "notCompared": changes.only_in_one,
                "connections": lately,
            });
            writeln!(out, "{report:#}")
        }
        Form::Html => {
            writeln!(out, "{HEAD}<h1>What would change</h1>")?;
            for (direction, title) in directions(changes) {
                writeln!(out, "<h2>{}</h2>", escaped(&title))?;
                let lines = of(changes, direction);
                if lines.is_empty() {
                    continue;
                }
                write!(out, "<table>{}", html_row("th", &CHANGED, ""))?;
                for line in lines {
                    let class = line.then.as_ref().map_or("", |then| then.verdict);
                    out.write_all(html_row("td", &changed_row(line), class).as_bytes())?;
                }
                out.write_all(b"</table>\n")?;
            }
            if let Some(seen) = lately {
                write!(
                    out,
                    "<h2>{}</h2>\n<table>{}",
                    escaped(&lately_title(seen)),
                    html_row("th", &LATELY, "")
                )?;
                for seen in seen {
                    out.write_all(html_row("td", &seen_row(seen), seen.then.verdict).as_bytes())?;
                }
                out.write_all(b"</table>\n")?;
            }
            out.write_all(b"</body></html>\n")
        }
    })
}

/// Writes to standard output. Whoever reads only the first lines has seen what they wanted.
fn printing(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("print the result"),
    }
}

/// Writes what a change does for people.
fn text(changes: &Changes, lately: Option<&[Seen]>) -> String {
    let mut text = String::new();
    for (direction, title) in directions(changes) {
        text.push_str(&format!("{title}\n"));
        let rows: Vec<Vec<String>> = of(changes, direction).into_iter().map(changed_row).collect();
        if !rows.is_empty() {
            text.push_str(&format!("{}\n", table(&CHANGED, &wrapped(without_repetition(rows), 2))));
        }
    }
    if let Some(seen) = lately {
        text.push_str(&format!("{}\n", lately_title(seen)));
        let rows: Vec<Vec<String>> = seen.iter().map(seen_row).collect();
        if !rows.is_empty() {
            text.push_str(&table(&LATELY, &rows));
        }
    }
    if !changes.only_in_one.is_empty() {
        let shown: Vec<&str> = changes.only_in_one.iter().take(10).map(String::as_str).collect();
        let more = changes.only_in_one.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!(
            "not compared, for they come or go with the change: {}{more}\n",
            shown.join(", ")
        ));
    }
    text
}

fn directions(changes: &Changes) -> [(Direction, String); 2] {
    let title = |direction, word: &str, what: &str| match changes.pairs(direction) {
        0 => format!("{word}: nothing"),
        1 => format!("{word}: calls of 1 pair {what}"),
        pairs => format!("{word}: calls of {pairs} pairs {what}"),
    };
    [
        (Direction::Narrowed, title(Direction::Narrowed, "narrowed", "would be refused")),
        (Direction::Widened, title(Direction::Widened, "widened", "would be allowed")),
    ]
}

fn of(changes: &Changes, direction: Direction) -> Vec<&Line> {
    let allows = direction == Direction::Widened;
    changes
        .lines
        .iter()
        .filter(|line| line.then.as_ref().is_some_and(|then| then.allows() == allows))
        .collect()
}

fn lately_title(seen: &[Seen]) -> String {
    let count: usize = seen.iter().map(|seen| seen.count).sum();
    match count {
        0 => "connections that the agent sees: none would change".to_owned(),
        count => format!("connections that the agent sees: {count} would change"),
    }
}

fn ports_of(line: &Line) -> String {
    format!("{} {}", line.protocols, line.ports)
}

fn matrix_row(line: &Line) -> Vec<String> {
    let (word, why) = line.now.summary.split_once(": ").unwrap_or(("", &line.now.summary));
    vec![line.to.clone(), ports_of(line), word.to_owned(), line.from.clone(), why.to_owned()]
}

fn changed_row(line: &Line) -> Vec<String> {
    let then = line.then.as_ref().map(|then| then.summary.clone()).unwrap_or_default();
    vec![line.to.clone(), ports_of(line), line.from.clone(), line.now.summary.clone(), then]
}

fn seen_row(seen: &Seen) -> Vec<String> {
    vec![
        seen.now.to_owned(),
        seen.count.to_string(),
        seen.from.clone(),
        seen.to.clone(),
        format!("{} {}", seen.protocol, seen.port),
        seen.then.summary.clone(),
    ]
}

/// Leaves out what the row above says too, in the first two columns.
fn without_repetition(rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut before: Vec<String> = Vec::new();
    let shorten = |row: Vec<String>| {
        let same = row.iter().zip(&before).take(2).take_while(|(one, other)| one == other).count();
        before.clone_from(&row);
        row.into_iter()
            .enumerate()
            .map(|(index, cell)| if index < same { String::new() } else { cell })
            .collect()
    };
    rows.into_iter().map(shorten).collect()
}

/// Breaks the list in a column into lines of `WIDTH` characters where it can be broken.
fn wrapped(rows: Vec<Vec<String>>, column: usize) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for mut row in rows {
        let list = row.get(column).cloned().unwrap_or_default();
        let mut parts: Vec<String> = Vec::new();
        for name in list.split_inclusive(", ") {
            match parts.last_mut() {
                Some(part) if part.chars().count() + name.chars().count() <= WIDTH => part.push_str(name),
                _ => parts.push(name.to_owned()),
            }
        }
        let width = row.len();
        let mut parts = parts.into_iter();
        row[column] = parts.next().unwrap_or_default();
        lines.push(row);
        for part in parts {
            let mut line = vec![String::new(); width];
            line[column] = part;
            lines.push(line);
        }
    }
    lines
}

fn csv_row(calls: &Calls) -> String {
    let mut cells =
        vec![calls.from.clone(), calls.to.clone(), calls.protocol.to_owned(), calls.ports.clone()];
    for decision in [Some(&calls.now), calls.then.as_ref()] {
        let rule = decision.and_then(|decision| decision.rule).map(|rule| rule.to_string());
        cells.push(decision.map_or("", |decision| decision.verdict).to_owned());
        cells.push(decision.map_or("", |decision| decision.reason).to_owned());
        cells.push(decision.and_then(|decision| decision.policy.clone()).unwrap_or_default());
        cells.push(rule.unwrap_or_default());
    }
    cells.extend([calls.pairs.to_string(), calls.example_from.clone(), calls.example_to.clone()]);
    let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
    format!("{}\n", cells.join(","))
}

/// Quotes a cell where CSV asks for it (RFC 4180).
fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn html_row<T: AsRef<str>>(cell: &str, cells: &[T], class: &str) -> String {
    let cells: String =
        cells.iter().map(|text| format!("<{cell}>{}</{cell}>", escaped(text.as_ref()))).collect();
    format!("<tr class=\"{class}\">{cells}</tr>\n")
}

/// Writes a text so that HTML takes it for nothing else: names come from files.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_holds_breaks_neither_csv_nor_html() {
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_cell("a/b"), "a/b");
        let row = html_row("td", &["<script>alert('x')</script> & \"y\""], "allow");
        assert!(!row.contains("<script>") && row.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{row}");
    }

    #[test]
    fn a_long_list_goes_on_below() {
        let names: Vec<String> = (10..20).map(|number| format!("namespace/a{number}")).collect();
        let rows = wrapped(vec![vec!["to".to_owned(), names.join(", "), "why".to_owned()]], 1);
        let text: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
        assert_eq!(text.concat(), names.join(", "));
        assert!(text.len() > 1 && text.iter().all(|line| line.chars().count() <= WIDTH), "{text:?}");
        assert!(rows[1..].iter().all(|row| row[0].is_empty() && row[2].is_empty()), "{rows:?}");
    }

    #[test]
    fn what_the_row_above_says_is_not_repeated() {
        let rows = |rows: &[[&str; 3]]| -> Vec<Vec<String>> {
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
        };
        let given = rows(&[["a", "1", "x"], ["a", "1", "x"], ["a", "2", "x"], ["b", "2", "x"]]);
        let expected = rows(&[["a", "1", "x"], ["", "", "x"], ["", "2", "x"], ["b", "2", "x"]]);
        assert_eq!(without_repetition(given), expected);
    }
}
