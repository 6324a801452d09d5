//! `ambit simulate`: what a change of objects would do, and who may reach whom.

mod sheet;

use super::input::{UNANSWERED, finish, read};
use crate::{
    control::finding::Findings,
    control::objects::Objects,
    dataplane::live::ConnectionRow,
    observe::{Query, Status, ask},
    run::DEFAULT_SOCKET,
    simulate::{Changes, Direction, Seen, compare, put, seen, take},
};
use ambit_core::{Protocol, Snapshot};
use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use std::{path::PathBuf, process::ExitCode};

/// Arguments of `ambit simulate`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit code: 0 when it is simulated, 1 when --fail-on holds, 2 when it cannot be simulated."
)]
pub struct SimulateArgs {
    /// The objects as they are: files or directories, also a dump of
    /// `kubectl get ns,pods,svc,endpointslices,accesspolicies,clusteraccesspolicies -A -o yaml`
    #[arg(long, value_name = "FILE-OR-DIR", num_args = 1.., required = true)]
    objects: Vec<PathBuf>,
    /// Objects that are put in the place of those of their kind and name, or beside the others; a Pod with neither spec
    /// nor status gives its labels
    #[arg(long, value_name = "FILE-OR-DIR", num_args = 1..)]
    with: Vec<PathBuf>,
    /// An object that is taken away, as KIND/NAMESPACE/NAME; may be given more than once
    #[arg(long, value_name = "OBJECT")]
    without: Vec<String>,
    /// Show who may reach whom, with --with and --without in force, instead of what they change
    #[arg(long, conflicts_with_all = ["fail_on", "agent"])]
    matrix: bool,
    /// TCP or UDP [default: TCP with --matrix, else both]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Ask the agent at this socket too, which of the connections that it sees would change
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, default_missing_value = DEFAULT_SOCKET)]
    agent: Option<PathBuf>,
    /// Exit with 1 when anything is widened (allowed that was refused) or narrowed (refused that was allowed)
    #[arg(long, value_enum, value_name = "WAY")]
    fail_on: Vec<Direction>,
    /// The trust domain of the mesh
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object.
    Json,
    /// For spreadsheets, with a row for each caller.
    Csv,
    /// A page for a browser.
    Html,
}

/// Simulates.
///
/// # Errors
/// Never: what keeps it from being simulated is printed, and the exit code tells it.
pub fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    match simulate(args) {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("ambit: {error:#}");
            Ok(ExitCode::from(UNANSWERED))
        }
    }
}

fn simulate(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let changes_objects = !args.with.is_empty() || !args.without.is_empty();
    if !changes_objects && !args.matrix {
        bail!(
            "nothing is to change: name objects with --with or --without, or ask with --matrix who may reach whom"
        );
    }
    let protocols = protocols(args)?;
    let mut findings = Findings::default();
    let objects = read(&args.objects, &mut findings);
    if args.matrix {
        let after = changed(args, objects, findings)?;
        sheet::matrix(args.output, &after, protocols.first().copied().unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let before = finish(&objects, &args.trust_domain, findings)?;
    let after = changed(args, objects, Findings::default())?;
    let changes = compare(&before, &after, &protocols);
    let lately = match &args.agent {
        Some(socket) => Some(ask_about(socket, &after)?),
        None => None,
    };
    sheet::changes(args.output, &changes, lately.as_deref())?;
    Ok(if fails(args, &changes) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Returns the protocols that are meant, TCP first.
fn protocols(args: &SimulateArgs) -> anyhow::Result<Vec<Protocol>> {
    let Some(asked) = &args.protocol else { return Ok(Protocol::ALL.to_vec()) };
    let known = Protocol::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(asked));
    Ok(vec![known.with_context(|| format!("--protocol {asked}: write TCP or UDP"))?])
}

/// Returns the state with the changes in force.
fn changed(args: &SimulateArgs, mut objects: Objects, mut findings: Findings) -> anyhow::Result<Snapshot> {
    for named in &args.without {
        take(&mut objects, named)?;
    }
    let with = read(&args.with, &mut findings);
    put(&mut objects, with);
    finish(&objects, &args.trust_domain, findings)
}

fn fails(args: &SimulateArgs, changes: &Changes) -> bool {
    args.fail_on.iter().any(|direction| changes.pairs(*direction) > 0)
}

/// Asks an agent which of the connections that it sees would change.
fn ask_about(socket: &std::path::Path, after: &Snapshot) -> anyhow::Result<Vec<Seen>> {
    #[derive(Deserialize)]
    struct Open {
        connections: Vec<ConnectionRow>,
    }
    let open: Open =
        serde_json::from_value(ask(socket, Query::Connections)?).context("read the agent's answer")?;
    let status: Status =
        serde_json::from_value(ask(socket, Query::Status)?).context("read the agent's answer")?;
    Ok(seen(after, &open.connections, &status.recent_denials))
}
