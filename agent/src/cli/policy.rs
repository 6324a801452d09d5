//! `ambit policy`: what people do with policies before they are in force.
//!
//! One file for each command. Never talks to an agent or to a cluster.

mod import;
mod test;

use clap::Subcommand;
use std::process::ExitCode;

/// What to do with policies.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Read policies of Istio, Linkerd and Dapr, and write ambit's
    Import(import::ImportArgs),
    /// Check that policies admit and refuse whom they should
    Test(test::TestArgs),
}

/// Does what was asked.
///
/// # Errors
/// Whatever kept it from being done.
pub fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Import(args) => import::run(args),
        PolicyCommand::Test(args) => test::run(args),
    }
}
