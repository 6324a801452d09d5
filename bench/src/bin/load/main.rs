//! `load`: the clients and servers of the benchmark, one thread per connection, as most applications are. Prints one
//! line of JSON; knows nothing of meshes.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

mod bulk;
mod connects;
mod hold;
mod latency;
mod pingpong;
mod requests;
mod serve;

/// The servers, by their distance from the first port.
#[derive(Clone, Copy)]
enum Service {
    /// Takes everything, and says at the end how much it was.
    Sink,
    /// Sends back what it gets.
    Echo,
    /// Sends back one byte and closes.
    Once,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// Keeps connections open.
    Keep,
}

impl Service {
    fn port(self, first: u16) -> u16 {
        first + self as u16
    }
}

#[derive(Parser)]
#[command(about = "Clients and servers for ambit's benchmark; results are JSON on standard output.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves on six ports from `--port` on until it is ended; says `listening` when it does.
    Serve {
        /// The first port.
        #[arg(long, default_value_t = 7000)]
        port: u16,
    },
    /// Sends as much as goes; bytes per second, as the server counted them.
    Bulk(Client),
    /// Sends 64 bytes to and fro; round trips per second.
    Pingpong(Client),
    /// Connects, exchanges a byte, closes; connections per second.
    Connects(Client),
    /// Sends HTTP/1.1 requests on kept connections; requests per second.
    Http1(Client),
    /// Sends HTTP/2 requests, one connection each; requests per second.
    Http2(Client),
    /// Connects once and exchanges a byte; seconds.
    First(Client),
    /// Opens connections, says `open`, and keeps them until it is ended.
    Hold(Client),
    /// Connects every millisecond until it is refused; says `passed` after the first that is not, and then when that was.
    UntilRefused(Client),
}

/// Where a client goes, and for how long.
#[derive(Args)]
struct Client {
    /// The server's address.
    to: IpAddr,
    /// The server's first port.
    #[arg(long, default_value_t = 7000)]
    port: u16,
    /// How many connections or workers.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// How long it is measured.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    time: Duration,
}

impl Client {
    fn target(&self, service: Service) -> SocketAddr {
        (self.to, service.port(self.port)).into()
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<Value> {
    match command {
        Command::Serve { port } => serve::run(port),
        Command::Bulk(client) => bulk::run(&client),
        Command::Pingpong(client) => pingpong::run(&client),
        Command::Connects(client) => connects::run(&client),
        Command::First(client) => connects::first(&client),
        Command::Http1(client) => requests::run(&client, requests::Version::Http1),
        Command::Http2(client) => requests::run(&client, requests::Version::Http2),
        Command::Hold(client) => hold::run(&client),
        Command::UntilRefused(client) => connects::until_refused(&client),
    }
}
