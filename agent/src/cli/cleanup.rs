//! `ambit cleanup`.

use crate::{
    observe::{elders, left_sockets},
    run::{DEFAULT_BPFFS, DEFAULT_SOCKET},
};
use ambit_bpf::{CgroupError, find_cgroup2, remove_own_cgroup};
use anyhow::{Context, bail};
use clap::Args;
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Arguments of `ambit cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Folder for pins, as given to the agent
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    bpffs: PathBuf,
    /// The agent's unix socket, as given to the agent
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// The cgroup at whose root the hooks were attached, as given to the agent [default: the cgroup2 mount]
    #[arg(long, value_name = "DIR")]
    cgroup_root: Option<PathBuf>,
}

/// Removes every pin, so that pods are no longer enforced, and whatever else agents have left on the node.
///
/// # Errors
/// An agent runs or drains, or something cannot be removed; what could be removed is gone then.
pub fn run(args: &CleanupArgs) -> anyhow::Result<ExitCode> {
    refuse_while_draining(&args.socket)?;
    let removed = ambit_bpf::cleanup(&args.bpffs)?;
    println!(
        "removed {removed} pins below {}; no pod is enforced through them any more",
        args.bpffs.display()
    );
    for socket in stale_sockets(&args.socket)? {
        std::fs::remove_file(&socket).with_context(|| format!("remove {}", socket.display()))?;
        println!("removed the socket {}", socket.display());
    }
    let root = match &args.cgroup_root {
        Some(root) => Some(root.clone()),
        // A node without cgroup2 has had no agent.
        None => match find_cgroup2() {
            Ok(root) => Some(root),
            Err(CgroupError::NotMounted) => None,
            Err(error) => return Err(error.into()),
        },
    };
    if let Some(cgroup) = root.map(|root| remove_own_cgroup(&root)).transpose()?.flatten() {
        println!("removed the cgroup {}", cgroup.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse_while_draining(socket: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let elders = runtime.context("start the runtime")?.block_on(elders(socket));
    if let Some(elder) = elders.first() {
        bail!(
            "an agent (pid {}) still carries {} connections, until {} at the latest: wait, or end it",
            elder.pid,
            elder.carried,
            elder.until
        );
    }
    Ok(())
}

/// Returns the sockets that are left of agents.
fn stale_sockets(socket: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut stale = left_sockets(socket).context("look for the agents' sockets")?;
    if socket.exists() {
        if UnixStream::connect(socket).is_ok() {
            bail!("an agent with other pins answers at {}: name its --bpffs too", socket.display());
        }
        stale.push(socket.to_owned());
    }
    Ok(stale)
}
