//! The command line of ambit: what a person types, and what they read.

pub mod agent;
pub mod check;
pub mod cleanup;
pub mod connections;
pub mod explain;
mod input;
mod output;
pub mod policy;
pub mod simulate;
pub mod status;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Identity and policy for the TCP traffic of pods, without sidecars.
#[derive(Debug, Parser)]
#[command(name = "ambit", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of a node
    Agent(Box<crate::run::AgentOptions>),
    /// Validate files of objects: file, line, field, and what to do
    Check(check::CheckArgs),
    /// Show what a running agent enforces
    Status(status::StatusArgs),
    /// Show the connections that a running agent carries
    Connections(connections::ConnectionsArgs),
    /// Say what would happen to a call, and why
    Explain(explain::ExplainArgs),
    /// Say what a change of objects would do before it is made, and who may reach whom
    Simulate(simulate::SimulateArgs),
    /// Work with policies before they are in force
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Let go of every pod and remove all that agents left in the kernel
    Cleanup(cleanup::CleanupArgs),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Agent(options) => agent::run(*options),
            Command::Check(args) => check::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Connections(args) => connections::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Policy(command) => policy::run(&command),
            Command::Cleanup(args) => cleanup::run(&args),
        }
    }
}
