//! `attack`: what an attacker with root in a pod does to get around ambit, one way a subcommand. Prints one line of JSON
//! with what it saw; never judges whether that is what a test wants.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod datagram;
mod dial;
mod handed;
mod handshake;
mod packet;
mod read;
mod scan;
mod send;
mod syscalls;
mod watch;
mod wire;

#[derive(Parser)]
#[command(about = "Ways around ambit, for its tests; results are JSON on standard output.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends a packet that no socket stands behind.
    Send(send::Send),
    /// Makes TCP's handshake without a socket.
    Handshake(handshake::Handshake),
    /// Connects on an unusual way.
    Dial(dial::Dial),
    /// Hands a socket to another process.
    Hand(handed::Hand),
    /// Connects to every port of an address.
    Scan(scan::Scan),
    /// Answers datagrams.
    Hear(datagram::Hear),
    /// Sends a datagram and waits for the answer.
    Ask(datagram::Ask),
    /// Prints what reaches the pod over its link.
    Watch(watch::Watch),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Send(args) => args.run(),
        Command::Handshake(args) => args.run(),
        Command::Dial(args) => args.run(),
        Command::Hand(args) => args.run(),
        Command::Scan(args) => args.run(),
        Command::Hear(args) => args.run(),
        Command::Ask(args) => args.run(),
        Command::Watch(args) => args.run(),
    };
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("attack: {error:#}");
            ExitCode::FAILURE
        }
    }
}
