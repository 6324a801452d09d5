//! `calculator`: the demo's application, a handful of small HTTP services that call each other. Knows nothing of
//! ambit: no library, no header, no setting.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};

mod client;
mod get;
mod operation;
mod role;
mod server;

/// The services of the calculator, and a client for them.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers GET /addition?a=1&b=2.
    Addition(Serve),
    /// Answers GET /substraction?a=1&b=2.
    Substraction(Serve),
    /// Answers GET /multiplication?a=1&b=2.
    Multiplication(Serve),
    /// Answers GET /division?a=1&b=2.
    Division(Serve),
    /// Answers GET /percentage?a=1&b=2 (a percent of b) by calling multiplication and division.
    Percentage(Serve),
    /// Calls the other services at random for as long as it runs; GET /last tells what came of it.
    Mathfanboy(Serve),
    /// Requests a URL some times, each on a connection of its own, and prints what came of it as JSON.
    Get(get::Get),
}

/// What every service is told at its start.
#[derive(clap::Args)]
struct Serve {
    /// Where to listen; [::]:PORT takes both families.
    #[arg(long)]
    listen: SocketAddr,
    /// What answers say of who gave them.
    #[arg(long)]
    pod: String,
    /// Where another service is, NAME=http://ADDRESS:PORT; for percentage and mathfanboy.
    #[arg(long = "service", value_parser = name_and_url)]
    services: Vec<(String, String)>,
    /// The pause between two calls of mathfanboy.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    every: Duration,
}

fn name_and_url(text: &str) -> Result<(String, String)> {
    let (name, url) = text.split_once('=').context("NAME=URL is wanted")?;
    Ok((name.into(), url.trim_end_matches('/').into()))
}

/// Reads a duration in milliseconds or seconds.
fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').context("a duration such as 200ms or 2s is wanted")?, 1000),
    };
    let number: u64 = number.parse().map_err(|e| anyhow!("{number:?} is no number: {e}"))?;
    Ok(Duration::from_millis(number.saturating_mul(unit)))
}

impl Serve {
    async fn run(self, name: &'static str) -> Result<()> {
        let services: BTreeMap<String, String> = self.services.into_iter().collect();
        let role = role::Role::new(name, self.pod, services)?;
        server::run(self.listen, role, self.every).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Addition(serve) => serve.run("addition").await,
        Command::Substraction(serve) => serve.run("substraction").await,
        Command::Multiplication(serve) => serve.run("multiplication").await,
        Command::Division(serve) => serve.run("division").await,
        Command::Percentage(serve) => serve.run("percentage").await,
        Command::Mathfanboy(serve) => serve.run("mathfanboy").await,
        Command::Get(get) => get.run().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calculator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("200ms").unwrap(), Duration::from_millis(200));
        assert_eq!(duration("2s").unwrap(), Duration::from_secs(2));
        assert!(duration("2").is_err() && duration("xs").is_err());
    }
}
