//! `ambit policy`: what is done with policies before a cluster has them.

mod import;

use clap::Subcommand;
use std::process::ExitCode;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Read policies of Istio, Linkerd and Dapr, and write ambit's
    Import(import::ImportArgs),
}

/// Does what was asked.
///
/// # Errors
/// Whatever kept it from being done.
pub fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Import(args) => import::run(args),
    }
}
