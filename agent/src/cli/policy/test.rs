//! `ambit policy test`: do policies admit and refuse whom they should?
//!
//! Reads the tests and the objects, and prints what came of them. Never decides anything: that is `expect`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ambit_core::Snapshot;
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::super::check::OutputFormat;
use super::super::input::{UNANSWERED, load};
use super::super::output::print;
use crate::control::file::read_text;
use crate::control::finding::{Finding, Findings};
use crate::expect::{self, Expected, Failure, Got, Sheet, Tested};

/// The most failures of a test that are shown to people; programs get all of them.
const SHOWN: usize = 20;

/// Arguments of `ambit policy test`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit code: 0 when every test holds, 1 when one does not, 2 when tests or objects cannot be used."
)]
pub struct TestArgs {
    /// Files of tests
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Hold the tests against these files or directories of objects instead of those that the tests name; also a dump of
    /// `kubectl get ns,pods,svc,endpointslices,accesspolicies,clusteraccesspolicies -A -o yaml`
    #[arg(long, value_name = "FILE-OR-DIR", num_args = 1..)]
    objects: Vec<PathBuf>,
    /// The trust domain of the mesh
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the tests.
///
/// # Errors
/// Never: what keeps them from being run is printed, and the exit code tells it.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let told = test(args).and_then(|outcomes| {
        print(&match args.output {
            OutputFormat::Json => json(args, &outcomes)?,
            OutputFormat::Text => render(args, &outcomes),
        })?;
        Ok(outcomes.iter().all(|outcome| outcome.tested.ok))
    });
    match told {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("ambit: {error:#}");
            Ok(ExitCode::from(UNANSWERED))
        }
    }
}

/// A test that was run, and the objects that it was held against.
struct Outcome {
    tested: Tested,
    objects: Arc<[PathBuf]>,
}

/// Runs every test of every file, or none.
fn test(args: &TestArgs) -> anyhow::Result<Vec<Outcome>> {
    let mut findings = Findings::default();
    let sheets: Vec<Sheet> =
        args.files.iter().filter_map(|file| read_sheet(file, args, &mut findings)).collect();
    refuse_if_wrong(&mut findings)?;
    let mut states: BTreeMap<Arc<[PathBuf]>, Snapshot> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for sheet in &sheets {
        let objects = objects_of(sheet, args);
        if !states.contains_key(&objects) {
            states.insert(Arc::clone(&objects), load(&objects, &args.trust_domain)?);
        }
        let Some(snapshot) = states.get(&objects) else { continue };
        for test in &sheet.tests {
            let tested = expect::run(snapshot, &args.trust_domain, test, &mut findings);
            outcomes.extend(tested.map(|tested| Outcome { tested, objects: Arc::clone(&objects) }));
        }
    }
    refuse_if_wrong(&mut findings)?;
    Ok(outcomes)
}

fn read_sheet(file: &Path, args: &TestArgs, findings: &mut Findings) -> Option<Sheet> {
    let text = match read_text(file) {
        Ok(text) => text,
        Err(error) => {
            findings.error(Finding::about_file(file, format!("cannot be read: {error}")));
            return None;
        }
    };
    let sheet = expect::read(file, &text, findings)?;
    if sheet.objects.is_empty() && args.objects.is_empty() {
        let message = "the file names no objects to hold its tests against".to_owned();
        let finding = Finding { message, ..sheet.at.clone() };
        findings.error(
            finding.with_hint("write `objects: [FILE-OR-DIR]`, relative to this file, or give --objects"),
        );
        return None;
    }
    Some(sheet)
}

/// Returns the objects of a file of tests: those of the command line, or its own.
fn objects_of(sheet: &Sheet, args: &TestArgs) -> Arc<[PathBuf]> {
    if !args.objects.is_empty() {
        return Arc::from(args.objects.as_slice());
    }
    let folder = sheet.at.file.parent().unwrap_or(Path::new(""));
    sheet.objects.iter().map(|path| folder.join(path)).collect()
}

fn refuse_if_wrong(findings: &mut Findings) -> anyhow::Result<()> {
    if findings.errors.is_empty() {
        return Ok(());
    }
    findings.arrange();
    let lines: Vec<String> = findings.errors.iter().map(Finding::to_string).collect();
    bail!("the tests cannot be used:\n{}", lines.join("\n"))
}

/// Writes the result for people.
fn render(args: &TestArgs, outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome { tested, objects } in outcomes {
        let word = if tested.ok { "ok    " } else { "FAILED" };
        let place = format!("{}:{}", tested.file.display(), tested.line);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{word}  {} ({place}, {})", tested.name, count(tested.calls, "call"));
        for note in &tested.notes {
            let _ = writeln!(text, "        note: {note}");
        }
        for failure in tested.failures.iter().take(SHOWN) {
            write_failure(&mut text, failure, &question(args, objects, failure));
        }
        if tested.failures.len() > SHOWN {
            let _ = writeln!(text, "        and {} more", tested.failures.len() - SHOWN);
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.tested.ok).count();
    let calls = outcomes.iter().map(|outcome| outcome.tested.calls).sum();
    let (tests, passed) = (count(outcomes.len(), "test"), outcomes.len() - failed);
    let _ = writeln!(text, "{tests}: {passed} ok, {failed} failed; {}", count(calls, "call"));
    text
}

fn write_failure(text: &mut String, failure: &Failure, question: &str) {
    let expected = match failure.expected {
        Expected::Allow => "allowed",
        Expected::Refuse => "refused",
    };
    let got = match failure.got {
        Got::Allow => "allowed",
        Got::Refuse => "refused",
        Got::Partly => "allowed by some endpoints and refused by others",
    };
    let Failure { from, to, port, protocol, summary, .. } = failure;
    let _ = writeln!(text, "        {from} to {to}, {protocol} {port}: expected {expected}, got {got}");
    let _ = writeln!(text, "          {summary}");
    let _ = writeln!(text, "          {question}");
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns the command line that explains a call.
fn question(args: &TestArgs, objects: &[PathBuf], failure: &Failure) -> String {
    let Failure { from, to, port, .. } = failure;
    let mut line = format!("ambit explain --from {} --to {} --port {port}", quoted(from), quoted(to));
    if failure.protocol != "TCP" {
        let _ = write!(line, " --protocol {}", failure.protocol);
    }
    line.push_str(" --objects");
    for path in objects {
        let _ = write!(line, " {}", quoted(&path.display().to_string()));
    }
    if args.trust_domain != "cluster.local" {
        let _ = write!(line, " --trust-domain {}", quoted(&args.trust_domain));
    }
    line
}

/// Quotes a word that a shell would take apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Writes the result for programs.
fn json(args: &TestArgs, outcomes: &[Outcome]) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        passed: usize,
        failed: usize,
        tests: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(flatten)]
        tested: &'a Tested,
        failures: Vec<Told<'a>>,
    }
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        failure: &'a Failure,
        /// What to ask to see why.
        explain: String,
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.tested.ok).count();
    let tests = outcomes.iter().map(|Outcome { tested, objects }| Entry {
        tested,
        failures: tested
            .failures
            .iter()
            .map(|failure| Told { failure, explain: question(args, objects, failure) })
            .collect(),
    });
    let (ok, passed) = (failed == 0, outcomes.len() - failed);
    let report = Report { ok, passed, failed, tests: tests.collect() };
    Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
}

#[cfg(test)]
mod tests;
