//! Watches a directory of objects and publishes each valid state of it.
//!
//! A change applies as a whole or not at all: while the directory is invalid, the last valid state stays and the errors are
//! published beside it. Notifications make it prompt, a look at every file's stamp makes it certain.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ambit_core::Snapshot;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde::{Serialize, Serializer};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Finding, LoadError, Loaded, list, load, load_or_stand_in};
use crate::observe::rfc3339;

/// How long a directory must be quiet before it is read.
const QUIET: Duration = Duration::from_millis(50);
/// How long a directory that never becomes quiet waits at most.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How often the stamps of the files are compared, for changes that no notification tells.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a directory that changes while it is read is read again before the next look.
const MAX_READS: usize = 5;

/// How a source of objects fares; what `ambit status` shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// The directory.
    pub path: PathBuf,
    /// When the state in force was loaded; in JSON as RFC 3339.
    #[serde(serialize_with = "as_rfc3339")]
    pub loaded_at: SystemTime,
    /// The version of the state in force.
    pub version: u64,
    /// How many files the state in force came from.
    pub files: usize,
    /// How many objects they held.
    pub objects: usize,
    /// Why the directory, as it is now, is not in force, or which of its policies are not; empty when it is.
    pub errors: Vec<String>,
    /// What is probably not meant so in the state in force.
    pub warnings: Vec<String>,
}

fn as_rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

/// A directory that is being watched, until this is dropped.
#[derive(Debug)]
pub struct FileSource {
    /// The state in force.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How the directory fares.
    pub status: watch::Receiver<Arc<SourceStatus>>,
    stop: Sender<Signal>,
}

impl Drop for FileSource {
    fn drop(&mut self) {
        // The thread may have ended before, and then nobody has to be told.
        let _ = self.stop.send(Signal::Stop);
    }
}

/// What a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A valid directory alone: somebody else holds an earlier state in force.
    Valid,
    /// A directory in which policies may be invalid: nobody remembers a state of it, and without one nothing would be
    /// refused.
    StandIns,
}

/// Loads a directory and keeps watching it.
///
/// # Errors
/// When the directory, as it is now, is invalid, or the thread that watches cannot be started.
pub fn watch(directory: &Path, trust_domain: &str, start: Start) -> Result<FileSource, LoadError> {
    let (stop, signals) = mpsc::channel();
    let mut watched = Watched { directory: absolute(directory)?, signals: stop.clone(), watcher: None };
    watched.arm();
    let load = match start {
        Start::Valid => load,
        Start::StandIns => load_or_stand_in,
    };
    let (loaded, stamps) = watched.read(|directory| load(directory, trust_domain, 1));
    let loaded = loaded?;
    for error in &loaded.errors {
        error!(problem = %error, "policy refused, and what refuses more is in force in its place");
    }
    report_warnings(&loaded.warnings);
    let status = Arc::new(status_of(&watched.directory, &loaded));
    let (snapshot_sender, snapshots) = watch::channel(Arc::new(loaded.snapshot));
    let (status_sender, status) = watch::channel(status);
    let publisher = Publisher { snapshots: snapshot_sender, status: status_sender };
    let trust_domain = trust_domain.to_owned();
    thread::Builder::new()
        .name("objects".to_owned())
        .spawn(move || follow(watched, &signals, &trust_domain, stamps, &publisher))
        .map_err(|source| LoadError::Directory { path: directory.to_owned(), source })?;
    Ok(FileSource { snapshots, status, stop })
}

/// What the watching thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Changed,
    Stop,
}

/// Where states go.
struct Publisher {
    snapshots: watch::Sender<Arc<Snapshot>>,
    status: watch::Sender<Arc<SourceStatus>>,
}

/// The watching thread: waits for a change, reads the directory and publishes what it holds.
fn follow(
    mut watched: Watched,
    signals: &Receiver<Signal>,
    trust_domain: &str,
    mut stamps: Stamps,
    publisher: &Publisher,
) {
    loop {
        match signals.recv_timeout(LOOK_EVERY) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Signal::Changed) => {
                if !settle(signals) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) if Stamps::take(&watched.directory) == stamps => continue,
            Err(RecvTimeoutError::Timeout) => {}
        }
        watched.arm();
        let version = publisher.snapshots.borrow().version() + 1;
        let (loaded, seen) = watched.read(|directory| load(directory, trust_domain, version));
        stamps = seen;
        let had_objects = publisher.status.borrow().objects > 0;
        let path = &watched.directory;
        match loaded {
            Ok(loaded) if loaded.files == 0 && had_objects => {
                publisher.refuse(&LoadError::Emptied { path: path.clone() });
            }
            Ok(loaded) => publisher.publish(path, loaded),
            Err(error) => publisher.refuse(&error),
        }
    }
}

/// Waits until the directory is quiet, or has been restless for long; false when the thread must end.
fn settle(signals: &Receiver<Signal>) -> bool {
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        let wait = QUIET.min(deadline.saturating_duration_since(Instant::now()));
        match signals.recv_timeout(wait) {
            Ok(Signal::Changed) if Instant::now() < deadline => {}
            Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

impl Publisher {
    /// Puts a state into force.
    fn publish(&self, path: &Path, loaded: Loaded) {
        let status = status_of(path, &loaded);
        info!(path = %path.display(), version = status.version, objects = status.objects, "objects loaded");
        report_warnings(&loaded.warnings);
        self.snapshots.send_replace(Arc::new(loaded.snapshot));
        self.status.send_replace(Arc::new(status));
    }

    /// Keeps the state in force, and says why.
    fn refuse(&self, refusal: &LoadError) {
        let errors = refusal.lines();
        for line in &errors {
            error!(problem = %line, "objects refused, the last valid state stays in force");
        }
        self.status.send_modify(|status| Arc::make_mut(status).errors = errors);
    }
}

fn report_warnings(warnings: &[Finding]) {
    for warning in warnings {
        warn!(problem = %warning, "objects are valid but look wrong");
    }
}

fn status_of(path: &Path, loaded: &Loaded) -> SourceStatus {
    SourceStatus {
        path: path.to_owned(),
        loaded_at: SystemTime::now(),
        version: loaded.snapshot.version(),
        files: loaded.files,
        objects: loaded.objects,
        errors: loaded.errors.iter().map(Finding::to_string).collect(),
        warnings: loaded.warnings.iter().map(Finding::to_string).collect(),
    }
}

/// The directory and the notifications about it.
struct Watched {
    directory: PathBuf,
    signals: Sender<Signal>,
    watcher: Option<RecommendedWatcher>,
}

impl Watched {
    /// Asks anew for notifications, since the directory may be another one under the same name.
    fn arm(&mut self) {
        let (directory, signals) = (self.directory.clone(), self.signals.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let changed = match event {
                Ok(event) => {
                    let concerns = |path: &PathBuf| path.starts_with(&directory);
                    alters(event.kind) && (event.paths.is_empty() || event.paths.iter().any(concerns))
                }
                Err(_) => true,
            };
            if changed {
                // Once the receiver is gone the thread has ended.
                let _ = signals.send(Signal::Changed);
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                warn!(%error, "no notifications about files: changes are found every two seconds only");
                self.watcher = None;
                return;
            }
        };
        let sub_directories = super::visible_entries(&self.directory).unwrap_or_default();
        let sub_directories = sub_directories.iter().filter(|path| path.is_dir()).map(PathBuf::as_path);
        let here = [Some(self.directory.as_path()), self.directory.parent()];
        for path in here.into_iter().flatten().chain(sub_directories) {
            // A directory that cannot be watched, since it is gone or there are too many, is looked at all the same.
            let _ = watcher.watch(path, RecursiveMode::NonRecursive);
        }
        self.watcher = Some(watcher);
    }

    /// Reads the directory until it stands still while it is read.
    fn read(&self, load: impl Fn(&Path) -> Result<Loaded, LoadError>) -> (Result<Loaded, LoadError>, Stamps) {
        let mut before = Stamps::take(&self.directory);
        let mut reads = 0;
        loop {
            let load = || load(&self.directory);
            let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
                let message = "reading the objects failed inside ambit; please report it";
                Err(LoadError::Invalid(vec![Finding::about_file(&self.directory, message)]))
            });
            reads += 1;
            let after = Stamps::take(&self.directory);
            if before == after {
                return (loaded, after);
            }
            if reads == MAX_READS {
                let message = "changes all the time, so that no state of it can be read as a whole";
                let restless = LoadError::Invalid(vec![Finding::about_file(&self.directory, message)]);
                return (Err(restless), before);
            }
            before = after;
        }
    }
}

/// Tells whether an event may have altered a file; reading one does not.
fn alters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What tells one state of a directory from another without reading its files.
#[derive(Debug, PartialEq, Eq)]
enum Stamps {
    Files(Vec<(PathBuf, Option<Stamp>)>),
    Unreadable(String),
}

/// Device, inode, size, and the times of change of content and of inode, in seconds and nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamps {
    fn take(directory: &Path) -> Self {
        match list(directory) {
            Ok(files) => Self::Files(files.into_iter().map(|file| (stamp(&file), file)).map(swap).collect()),
            Err(error) => Self::Unreadable(error.lines().join("\n")),
        }
    }
}

fn swap((stamp, file): (Option<Stamp>, PathBuf)) -> (PathBuf, Option<Stamp>) {
    (file, stamp)
}

fn stamp(file: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.size(), (of.mtime(), of.mtime_nsec()), (of.ctime(), of.ctime_nsec())))
}

/// Returns a path that does not depend on the working directory, with the links in it kept.
fn absolute(directory: &Path) -> Result<PathBuf, LoadError> {
    std::path::absolute(directory)
        .map_err(|source: io::Error| LoadError::Directory { path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests;
