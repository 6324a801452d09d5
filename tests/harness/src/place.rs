//! A place where processes run: a network namespace and a cgroup. Pods and the groups of a node are places.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::bed::Shared;
use crate::must;
use crate::netns;
use crate::process::Process;

/// Enters the cgroup before anything else runs, so that the program's first instruction is already in it.
const ENTER: &str = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;

/// A network namespace and a cgroup, in which commands run.
#[derive(Clone)]
pub struct Place {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
    pub(crate) netns: String,
    pub(crate) cgroup: PathBuf,
}

impl Place {
    /// Returns a name for messages: `namespace/pod`, or `node:group`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the network namespace, as the annotation `ambit.dev/netns` gives it.
    pub fn netns(&self) -> PathBuf {
        netns::path(&self.netns)
    }

    /// Returns the name of the network namespace, as `ip netns` knows it.
    pub fn netns_name(&self) -> &str {
        &self.netns
    }

    /// Returns the absolute path of the cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Returns a command that runs in this namespace and cgroup, with the caller's mounts. Its pid is the program's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns().display()));
        command.args(["--", "sh", "-c", ENTER]).arg(&self.cgroup).arg(program);
        command
    }

    /// Runs a command to its end and returns what it printed; its exit status is the caller's to judge.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        must(self.try_run(program, args))
    }

    fn try_run(&self, program: &str, args: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(args).output().with_context(|| format!("run {program} in {}", self.name))
    }

    /// Starts a command that runs until it is stopped or dropped; its output goes to the testbed's log folder.
    #[track_caller]
    pub fn spawn(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Process {
        let program = program.as_ref();
        let short = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let mut command = self.command(program);
        command.args(args);
        must(Process::spawn(command, &format!("{short} in {}", self.name), self.shared.logs()))
    }
}
