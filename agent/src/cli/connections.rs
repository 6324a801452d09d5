//! `ambit connections`.

use super::{check::OutputFormat, output::table};
use crate::{
    dataplane::live::ConnectionRow,
    observe::{Query, ask},
    run::DEFAULT_SOCKET,
};
use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use std::{path::PathBuf, process::ExitCode};

/// Arguments of `ambit connections`.
#[derive(Clone, Debug, Args)]
pub struct ConnectionsArgs {
    /// The agent's unix socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Deserialize)]
struct Answer {
    connections: Vec<ConnectionRow>,
}

/// Shows the connections that a running agent carries.
///
/// # Errors
/// No agent answers.
pub fn run(args: &ConnectionsArgs) -> anyhow::Result<ExitCode> {
    let answer = ask(&args.socket, Query::Connections)?;
    match args.output {
        OutputFormat::Json => println!("{answer:#}"),
        OutputFormat::Text => {
            let answer: Answer = serde_json::from_value(answer).context("read the agent's answer")?;
            print!("{}", render(&answer.connections));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn render(connections: &[ConnectionRow]) -> String {
    if connections.is_empty() {
        return "no connection is carried now\n".to_owned();
    }
    let row = |connection: &ConnectionRow| {
        vec![
            connection.id.to_string(),
            connection.direction.to_string(),
            connection.source.clone(),
            connection.client.to_string(),
            called(connection),
            connection.server.to_string(),
            connection.service.clone().unwrap_or_default(),
            format!("{}{}", connection.path, if connection.draining { " (draining)" } else { "" }),
            connection.sent_bytes.to_string(),
            connection.received_bytes.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = connections.iter().map(row).collect();
    let headings = ["ID", "SIDE", "FROM", "CLIENT", "TO", "ADDRESS", "SERVICE", "PATH", "SENT", "RECEIVED"];
    table(&headings, &rows)
}

fn called(connection: &ConnectionRow) -> String {
    match (&connection.destination, &connection.destination_id) {
        (Some(pod), Some(id)) => format!("{id} ({pod})"),
        (Some(pod), None) => pod.clone(),
        (None, _) => "outside the mesh".to_owned(),
    }
}
