//! An agent as a real process on a node: started, asked, killed and restarted the way an operator would.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::apply::ask;
use crate::binaries;
use crate::must;
use crate::node::Node;
use crate::process::Process;
use crate::wait::wait_until;

/// How long an agent may take to be ready.
const START: Duration = Duration::from_secs(30);

/// The agent of one node; killed when dropped, its pins left to the testbed's end.
pub struct Agent {
    node: Node,
    extra: Vec<String>,
    process: Process,
}

impl Agent {
    #[track_caller]
    pub(crate) fn start(node: &Node, extra: &[&str]) -> Self {
        let extra: Vec<String> = extra.iter().map(|arg| (*arg).to_owned()).collect();
        let process = launch(node, &extra);
        let mut agent = Self { node: node.clone(), extra, process };
        agent.wait_ready();
        agent
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let socket = self.socket();
        let mut ready = false;
        let pid = self.process.pid();
        wait_until(&format!("the agent of {} to be ready", self.node.name()), START, || {
            // An agent that has yet to hand over to this one answers at the same socket.
            ready =
                ask(&socket, "status").is_ok_and(|status| status["ready"] == true && status["pid"] == pid);
            ready || !self.process.is_running()
        });
        assert!(ready, "the agent of {} ended at its start; it said:\n{}", self.node.name(), self.log());
        self.node.shared.state().agents.insert(self.node.name().into(), socket);
    }

    /// Returns the path of the agent's unix socket, for `ambit status --socket`.
    pub fn socket(&self) -> PathBuf {
        socket(&self.node)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns what `ambit status -o json` prints.
    #[track_caller]
    pub fn status(&self) -> Value {
        must(ask(&self.socket(), "status"))
    }

    /// Returns what `ambit connections -o json` prints.
    #[track_caller]
    pub fn connections(&self) -> Value {
        must(ask(&self.socket(), "connections"))
    }

    /// Returns the most memory that the agent has used so far, in bytes.
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        must(peak_memory(self.pid()))
    }

    /// Returns the agent's process, to signal it or to wait for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns everything the agent has logged since it was last started.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits up to 15 s until the agent has logged `text`.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        self.process.wait_log(text);
    }

    /// Waits until the agent has applied what was published; [`crate::Testbed::apply`] does it for all agents.
    #[track_caller]
    pub fn wait_snapshot_applied(&self) {
        self.node.shared.await_agents();
    }

    /// Kills the agent (SIGKILL), as a crash would.
    #[track_caller]
    pub fn kill(&mut self) {
        self.node.shared.forget_agent(self.node.name());
        self.process.kill();
    }

    /// Stops the agent in order (SIGTERM).
    #[track_caller]
    pub fn stop(&mut self) {
        self.node.shared.forget_agent(self.node.name());
        self.process.stop();
    }

    /// Starts another agent with the same command line beside the running one, waits until it has taken over, and
    /// returns the process of the old one, which drains.
    #[track_caller]
    pub fn hand_over(&mut self) -> Process {
        self.node.shared.forget_agent(self.node.name());
        let old = std::mem::replace(&mut self.process, launch(&self.node, &self.extra));
        self.wait_ready();
        old
    }

    /// Starts another agent with the same command line beside the running one, and waits for nothing.
    #[track_caller]
    pub fn rival(&self) -> Process {
        launch(&self.node, &self.extra)
    }

    /// Starts the agent anew, with the same command line, and waits until it is ready. A running one is stopped first.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.process.is_running() {
            self.stop();
        }
        self.process = launch(&self.node, &self.extra);
        self.wait_ready();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.node.shared.forget_agent(self.node.name());
    }
}

fn peak_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = field.trim().trim_end_matches(" kB").parse().context("read VmHWM")?;
    Ok(kilobytes * 1024)
}

fn socket(node: &Node) -> PathBuf {
    node.dir().join("agent.sock")
}

#[track_caller]
fn launch(node: &Node, extra: &[String]) -> Process {
    let mut command = node.host("agent").command(must(binaries::find("ambit")));
    command.args(["agent", "--node", node.name()]);
    command.arg("--source").arg(format!("dir:{}", node.shared.objects().display()));
    command.arg("--cgroup-root").arg(node.cgroup());
    command.arg("--bpffs").arg(node.bpffs());
    command.arg("--state-dir").arg(node.dir().join("state"));
    command.arg("--ca-dir").arg(node.shared.dir.join("ca"));
    command.arg("--socket").arg(socket(node));
    // Tests that mean the end of an agent mean it at once.
    if !extra.iter().any(|arg| arg.starts_with("--drain-timeout")) {
        command.args(["--drain-timeout", "0s"]);
    }
    command.args(extra);
    must(Process::spawn(command, &format!("agent of {}", node.name()), node.shared.logs()))
}
