//! A running program: its output is kept, and it ends with its handle. Never ends a process it did not start.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::must;
use crate::wait::wait_until;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A program started by the harness; killed when dropped, with the workers of its process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, its output in two files of the folder `logs`.
    pub(crate) fn spawn(mut command: Command, what: &str, logs: &Path) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = format!("{number:03}-{}", what.replace([' ', '/', ':'], "-"));
        let (stdout, stderr) = (logs.join(format!("{file}.out")), logs.join(format!("{file}.err")));
        let open = |path: &Path| File::create(path).with_context(|| format!("make {}", path.display()));
        command.stdin(Stdio::null()).stdout(open(&stdout)?).stderr(open(&stderr)?);
        // Ctrl-C on the terminal is for the harness, which then ends its children in order.
        let child = command.process_group(0).spawn().with_context(|| format!("start {what}"))?;
        Ok(Self { child, what: what.into(), stdout, stderr })
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns what the program wrote to its standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Returns everything the program wrote so far: its standard output, then its standard error.
    pub fn log(&self) -> String {
        self.stdout() + &read(&self.stderr)
    }

    /// Waits up to 15 s until `text` stands in the output; panics with the output when it ends or does not say so.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        let mut over = false;
        let (what, limit) = (format!("{} to say {text:?}", self.what), Duration::from_secs(15));
        let deadline = std::time::Instant::now() + limit;
        wait_until(&what, limit * 2, || {
            over = !self.is_running() || std::time::Instant::now() > deadline;
            over || self.log().contains(text)
        });
        assert!(self.log().contains(text), "waited for {what}, in vain; it said:\n{}", self.log());
    }

    /// Sends a signal; a process that already ended is left alone.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let pid = Pid::from_child(&self.child);
            must(kill_process(pid, signal).with_context(|| format!("signal {}", self.what)));
        }
    }

    /// Waits until the program ends by itself and returns its status; panics after `timeout`.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        wait_until(&format!("{} to end", self.what), timeout, || !self.is_running());
        must(self.child.wait().with_context(|| format!("wait for {}", self.what)))
    }

    /// Asks the program to end (SIGTERM), waits up to 10 s and returns its standard output.
    #[track_caller]
    pub fn stop(&mut self) -> String {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(10));
        self.stdout()
    }

    /// Ends the program at once (SIGKILL).
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group is the program's own: its workers end with it. It is safe to name while the program is not
        // reaped, and signalling fails only when everything is over already.
        if self.is_running() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
