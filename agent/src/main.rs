//! The `ambit` command.
#![forbid(unsafe_code)]

use ambit_agent::cli::Cli;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ambit: {error:#}");
            ExitCode::FAILURE
        }
    }
}
