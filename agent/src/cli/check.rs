//! `ambit check`: are these objects valid, and if not, where and what to do.
//!
//! Reads the same way as the agent does. Never talks to an agent or to a cluster.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::input::files;
use crate::control::file::{Examined, examine};
use crate::control::finding::{Finding, Findings};

/// Check Kubernetes objects and policies: file, line, field, and what to do.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Files, or directories of `*.yaml`, `*.yml` and `*.json`; all of them are checked together.
    #[arg(required = true, value_name = "FILE-OR-DIR")]
    pub paths: Vec<PathBuf>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// The trust domain of the mesh.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object.
    Json,
}

/// Checks the objects and prints what is wrong: exit code 0 when nothing is, 1 when something is.
///
/// # Errors
/// When the result cannot be printed.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    report(args, &mut io::stdout().lock())
}

/// Checks the objects and prints the result to `out`.
fn report(args: &CheckArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let checked = check(&args.paths, &args.trust_domain);
    let printed = match args.output {
        OutputFormat::Text => print_text(out, &checked),
        OutputFormat::Json => print_json(out, &checked),
    };
    match printed {
        // Whoever reads only the first lines has seen what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("print the result")?,
    }
    Ok(if checked.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The result of a check.
struct Checked {
    findings: Findings,
    files: usize,
    objects: usize,
}

impl Checked {
    fn is_valid(&self) -> bool {
        self.findings.errors.is_empty()
    }
}

/// The result of a check, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    files: usize,
    objects: usize,
    errors: &'a [Finding],
    warnings: &'a [Finding],
}

/// Checks files and directories together.
fn check(paths: &[PathBuf], trust_domain: &str) -> Checked {
    let mut listed = Findings::default();
    let files = files(paths, &mut listed);
    let Examined { mut findings, files, objects, .. } = examine(&files, trust_domain, 1);
    findings.errors.extend(listed.errors);
    findings.arrange();
    Checked { findings, files, objects }
}

fn print_text(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    let Findings { errors, warnings } = &checked.findings;
    for (word, findings) in [("error", errors), ("warning", warnings)] {
        for finding in findings {
            writeln!(out, "{word}: {}", finding.headline())?;
            if let Some(hint) = &finding.hint {
                writeln!(out, "    {hint}")?;
            }
        }
    }
    writeln!(
        out,
        "{}, {}: {}, {}",
        count(checked.files, "file"),
        count(checked.objects, "object"),
        count(errors.len(), "error"),
        count(warnings.len(), "warning")
    )
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn print_json(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    let report = Report {
        valid: checked.is_valid(),
        files: checked.files,
        objects: checked.objects,
        errors: &checked.findings.errors,
        warnings: &checked.findings.warnings,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
