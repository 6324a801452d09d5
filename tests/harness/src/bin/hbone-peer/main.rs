//! `hbone-peer`: a peer that speaks HBONE as a ztunnel does, well-behaved or hostile. It shares no code with ambit, so
//! that a misreading of the protocol shows. Prints one line of JSON as its result; never judges it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod connect;
mod frames;
mod hostile;
mod identity;
mod pattern;
mod raw;
mod serve;
mod tls;

#[derive(Parser)]
#[command(about = "A peer that speaks HBONE, for the tests of ambit; results are JSON on standard output.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Opens a tunnel, and in it streams to an application; prints how each was answered.
    Connect(connect::Connect),
    /// Opens a tunnel and writes HTTP/2 frames of its own making into it; prints the frames that come back.
    Raw(raw::Raw),
    /// Opens connections that never become tunnels; prints when and how each was closed.
    Hostile(hostile::Hostile),
    /// Accepts tunnels on port 15008 and echoes their streams until SIGTERM; prints what the callers sent.
    Serve(serve::Serve),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Connect(args) => args.run().await,
        Command::Raw(args) => args.run().await,
        Command::Hostile(args) => args.run().await,
        Command::Serve(args) => args.run().await,
    };
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hbone-peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
