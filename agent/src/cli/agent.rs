//! `ambit agent`.

use crate::run::AgentOptions;
use anyhow::Context;
use std::{io::IsTerminal, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Runs an agent in the foreground; its log goes to standard error.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run(options: AgentOptions) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("AMBIT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(crate::run::run(options))?;
    Ok(ExitCode::SUCCESS)
}
