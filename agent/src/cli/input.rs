//! Objects that a command is given instead of a running agent.

use std::path::{Path, PathBuf};

use ambit_core::Snapshot;
use anyhow::bail;

use crate::control::file::{LoadError, list, read_objects, related};
use crate::control::finding::{Finding, Findings};
use crate::control::objects::Objects;

/// The exit code of a command that could not answer; 1 is an answer, where a command gives one.
pub(crate) const UNANSWERED: u8 = 2;

/// Loads files and directories together into one state.
///
/// # Errors
/// Whatever is wrong with any of them: file, line, field, and what to do.
pub(crate) fn load(paths: &[PathBuf], trust_domain: &str) -> anyhow::Result<Snapshot> {
    let mut findings = Findings::default();
    let objects = read(paths, &mut findings);
    finish(&objects, trust_domain, findings)
}

/// Reads the objects of files and directories.
pub(crate) fn read(paths: &[PathBuf], findings: &mut Findings) -> Objects {
    let files = files(paths, findings);
    read_objects(&files, findings)
}

/// Relates objects to each other.
///
/// # Errors
/// What was found wrong, now or before.
pub(crate) fn finish(
    objects: &Objects,
    trust_domain: &str,
    mut findings: Findings,
) -> anyhow::Result<Snapshot> {
    match related(objects, trust_domain, 1, &mut findings) {
        Some(snapshot) => Ok(snapshot),
        None => {
            findings.arrange();
            let lines: Vec<String> = findings.errors.iter().map(Finding::to_string).collect();
            bail!("the objects cannot be used:\n{}", lines.join("\n"))
        }
    }
}

/// Lists the files that paths stand for, each once; what cannot be listed is an error.
pub(super) fn files(paths: &[PathBuf], findings: &mut Findings) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        match files_of(path) {
            Ok(found) if found.is_empty() => {
                let finding = Finding::about_file(path, "the directory holds no objects");
                findings.error(finding.with_hint("files must be named *.yaml, *.yml or *.json"));
            }
            Ok(found) => files.extend(found),
            Err(LoadError::Invalid(wrong)) => findings.errors.extend(wrong),
            Err(LoadError::Directory { path, source }) => {
                findings.error(Finding::about_file(path, format!("cannot be listed: {source}")));
            }
            Err(error @ LoadError::Emptied { .. }) => {
                findings.error(Finding::about_file(path, error.to_string()));
            }
        }
    }
    // A file that is named twice is not two files with the same objects.
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    files
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    if path.is_dir() { list(path) } else { Ok(vec![path.to_owned()]) }
}
