//! `traffic`: the clients and servers of the tests. Sockets are made by a process of the pod, as an application's
//! are. Prints one line of JSON as its result; never judges whether that is what a test wants.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

mod connect;
mod datagram;
mod endings;
mod exchange;
mod long;
mod pattern;
mod pour;
mod probe;
mod serve;
mod signals;
mod transfer;

#[derive(Parser)]
#[command(about = "Clients and servers for the tests of ambit; results are JSON on standard output.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM, then prints how many connections came.
    Serve(serve::Serve),
    /// Opens connections to a hello or echo server; prints how many succeeded, and what both sides saw.
    Connect(connect::Connect),
    /// Makes one connection to each of many hello servers; prints what became of each.
    Probe(probe::Probe),
    /// Sends to a discard server for a while, and keeps the connection until SIGTERM; prints how much was sent.
    Pour(pour::Pour),
    /// Moves a checked pattern to or from a transfer server.
    Transfer(transfer::Transfer),
    /// Sends, shuts down writing, then reads a sum server's answer.
    HalfClose(endings::HalfClose),
    /// Sends a payload and resets the connection, or waits for the server's end; prints what was seen.
    Reset(endings::Reset),
    /// Keeps a connection to an echo server busy until SIGTERM or its end; prints how it ended.
    Hold(long::Hold),
    /// Opens a new connection to a hello server each few milliseconds until SIGTERM; counts failures.
    Loop(long::Loop),
    /// Connects, never reads, and sends as much as the path takes; prints how much that was.
    Stall(endings::Stall),
    /// Sends back every UDP datagram until SIGTERM; prints how many came.
    Reflect(datagram::Reflect),
    /// Sends one UDP datagram to a reflecting server; prints whether it came back.
    Datagram(datagram::Datagram),
}

/// Where a client goes and how long it waits.
#[derive(clap::Args)]
struct Target {
    /// The server, ADDRESS:PORT.
    to: SocketAddr,
    /// How long each step may take.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Which way bytes go, as the client sees it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Up,
    Down,
    Both,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Serve(args) => args.run(),
        Command::Connect(args) => args.run(),
        Command::Probe(args) => args.run(),
        Command::Pour(args) => args.run(),
        Command::Transfer(args) => args.run(),
        Command::HalfClose(args) => args.run(),
        Command::Reset(args) => args.run(),
        Command::Hold(args) => args.run(),
        Command::Loop(args) => args.run(),
        Command::Stall(args) => args.run(),
        Command::Reflect(args) => args.run(),
        Command::Datagram(args) => args.run(),
    };
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("traffic: {error:#}");
            ExitCode::FAILURE
        }
    }
}
