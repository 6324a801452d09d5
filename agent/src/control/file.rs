//! Kubernetes objects from a directory of YAML and JSON files.
//!
//! Reads `*.yaml`, `*.yml` and `*.json` of the directory and of its direct sub-directories, in the order of their names,
//! and skips names that begin with a `.`. All files together are one state: valid as a whole or not at all.
//! An empty directory is the empty state at the start; later it is taken for an accident.

mod watch;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ambit_core::{Action, Policy, Snapshot};

use super::convert::convert;
use super::finding::{Finding, Findings};
use super::lint::lint;
use super::node::MAX_FILE_BYTES;
use super::objects::{Located, Objects};

pub use watch::{FileSource, SourceStatus, Start, watch};

/// The most files that one directory may hold.
const MAX_FILES: usize = 10_000;
/// The most bytes that all files of a directory may have together.
const MAX_TOTAL_BYTES: u64 = 4 * MAX_FILE_BYTES;

/// Why a directory gives no state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory cannot be listed.
    #[error("list the objects in {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong; each finding is one error.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Finding>),
    /// It had objects and has no files any more, which is more likely an accident than a wish.
    #[error("{} holds no objects any more; to release every pod, label its namespace ambit.dev/mode: none", path.display())]
    Emptied {
        /// The directory.
        path: PathBuf,
    },
}

impl LoadError {
    /// Returns each error as a line of its own.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Directory { source, .. } => vec![format!("{self}: {source}")],
            Self::Invalid(findings) => findings.iter().map(Finding::to_string).collect(),
            Self::Emptied { .. } => vec![self.to_string()],
        }
    }
}

/// Prints findings one a line.
struct Lines<'a>(&'a [Finding]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// A valid directory.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub snapshot: Snapshot,
    /// What is probably not meant so.
    pub warnings: Vec<Finding>,
    /// What is wrong with policies for which something stands in; empty if nothing does.
    pub errors: Vec<Finding>,
    /// How many files were read.
    pub files: usize,
    /// How many objects they hold.
    pub objects: usize,
}

/// What was found in files, valid or not.
#[derive(Debug)]
pub struct Examined {
    /// The state, if there is no error.
    pub snapshot: Option<Snapshot>,
    /// The errors and warnings, ordered by place.
    pub findings: Findings,
    /// How many files were read.
    pub files: usize,
    /// How many objects they hold.
    pub objects: usize,
}

/// Loads a directory.
///
/// # Errors
/// When the directory cannot be listed, or when any file in it has an error; then every error is returned.
pub fn load(directory: &Path, trust_domain: &str, version: u64) -> Result<Loaded, LoadError> {
    let examined = examine(&list(directory)?, trust_domain, version);
    match examined.snapshot {
        Some(snapshot) => Ok(Loaded {
            snapshot,
            warnings: examined.findings.warnings,
            errors: Vec::new(),
            files: examined.files,
            objects: examined.objects,
        }),
        None => Err(LoadError::Invalid(examined.findings.errors)),
    }
}

/// Loads a directory for somebody who remembers no earlier state of it: where nothing but policies cannot be read, something
/// stands in for each that refuses at least as much.
///
/// # Errors
/// As `load`, when anything else has an error too.
pub fn load_or_stand_in(directory: &Path, trust_domain: &str, version: u64) -> Result<Loaded, LoadError> {
    let files = list(directory)?;
    let mut findings = Findings::default();
    let mut objects = read_objects(&files, &mut findings);
    if objects.stand_ins.is_empty() || findings.errors.len() > objects.stood_in_for {
        return load(directory, trust_domain, version);
    }
    let mut errors = std::mem::take(&mut findings.errors);
    let stand_ins = std::mem::take(&mut objects.stand_ins);
    errors.extend(stand_ins.iter().map(say_what_stands_in));
    objects.policies.extend(stand_ins);
    let snapshot = related(&objects, trust_domain, version, &mut findings);
    if let Some(snapshot) = &snapshot {
        lint(&objects, snapshot, &mut findings);
    }
    findings.errors.extend(errors);
    findings.arrange();
    let Findings { errors, warnings } = findings;
    match snapshot {
        Some(snapshot) => {
            Ok(Loaded { snapshot, warnings, errors, files: files.len(), objects: objects.found })
        }
        None => Err(LoadError::Invalid(errors)),
    }
}

/// Says what a policy does that cannot be read.
fn say_what_stands_in(policy: &Located<Policy>) -> Finding {
    let does = match (policy.value.action, policy.value.dry_run) {
        (_, true) => "is not enforced, as `dryRun` says, and reports as if it named nobody",
        (Action::Allow, _) if policy.value.egress_only => "admits nothing to be called outside the mesh",
        (Action::Allow, _) => "admits nobody to the pods that it selects",
        (Action::Deny, _) => "refuses everyone who calls the pods that it selects",
    };
    let id = &policy.value.id;
    policy.finding(&["spec"], format!("until it is mended, {id} {does}"))
}

/// Reads files and checks all of them together.
pub fn examine(files: &[PathBuf], trust_domain: &str, version: u64) -> Examined {
    let mut findings = Findings::default();
    let objects = read_objects(files, &mut findings);
    let snapshot = related(&objects, trust_domain, version, &mut findings);
    if let Some(snapshot) = &snapshot {
        lint(&objects, snapshot, &mut findings);
    }
    findings.arrange();
    Examined { snapshot, findings, files: files.len(), objects: objects.found }
}

/// Reads the objects of files.
pub fn read_objects(files: &[PathBuf], findings: &mut Findings) -> Objects {
    let mut objects = Objects::default();
    for_each_text(files, findings, |file, text, findings| objects.read_file(file, text, findings));
    objects
}

/// Hands over the text of each file, within the bounds of one file and of all together.
pub(crate) fn for_each_text(
    files: &[PathBuf],
    findings: &mut Findings,
    mut take: impl FnMut(&Path, &[u8], &mut Findings),
) {
    let mut rest = MAX_TOTAL_BYTES;
    for file in files {
        match read(file, rest.min(MAX_FILE_BYTES)) {
            Ok(text) => {
                rest = rest.saturating_sub(text.len() as u64);
                take(file, &text, findings);
            }
            Err(error) => findings.error(Finding::about_file(file, format!("cannot be read: {error}"))),
        }
    }
}

/// Relates objects to each other; `None` when anything is wrong, with them or before.
pub fn related(
    objects: &Objects,
    trust_domain: &str,
    version: u64,
    findings: &mut Findings,
) -> Option<Snapshot> {
    let snapshot = convert(objects, trust_domain, version, findings);
    snapshot.filter(|_| findings.errors.is_empty())
}

/// Lists the files of a directory and of its direct sub-directories, in the order of their names.
///
/// # Errors
/// When one of the directories cannot be listed, or holds too many files.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = Vec::new();
    for path in visible_entries(directory)? {
        if path.is_dir() {
            files.extend(
                visible_entries(&path)?.into_iter().filter(|path| is_object_file(path) && !path.is_dir()),
            );
        } else if is_object_file(&path) {
            files.push(path);
        }
    }
    if files.len() > MAX_FILES {
        let message = format!("{} files, at most {MAX_FILES} are read", files.len());
        return Err(LoadError::Invalid(vec![Finding::about_file(directory, message)]));
    }
    Ok(files)
}

/// Returns the entries of a directory whose names do not begin with a `.`, ordered.
fn visible_entries(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Directory { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Tells by its name whether a file holds objects.
fn is_object_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads a file that is no directory's: one of tests, or of anything else that is read by itself.
///
/// # Errors
/// When it cannot be read, is not a regular file, or is too large.
pub fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    read(path, MAX_FILE_BYTES)
}

/// Reads a regular file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        let message = match limit {
            MAX_FILE_BYTES => format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20),
            _ => format!("all files together are larger than {} MiB", MAX_TOTAL_BYTES >> 20),
        };
        return Err(io::Error::other(message));
    }
    Ok(text)
}

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod tests;
