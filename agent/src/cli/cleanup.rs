//! `ambit cleanup`.

use crate::run::DEFAULT_BPFFS;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

/// Arguments of `ambit cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Folder for pins, as given to the agent
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    bpffs: PathBuf,
}

/// Removes every pin: pods are no longer enforced.
///
/// # Errors
/// A pin cannot be removed.
pub fn run(args: &CleanupArgs) -> anyhow::Result<ExitCode> {
    let removed = ambit_bpf::cleanup(&args.bpffs)?;
    println!(
        "removed {removed} pins below {}; no pod is enforced through them any more",
        args.bpffs.display()
    );
    Ok(ExitCode::SUCCESS)
}
