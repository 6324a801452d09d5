//! `ambit explain`: what would happen to a call, and why.

use super::{
    check::OutputFormat,
    input::{UNANSWERED, load},
};
use crate::{
    explain::{Change, Explanation, Question, Step, explain},
    observe::{Query, ask},
    run::{DEFAULT_SOCKET, SameNode},
};
use anyhow::{Context, anyhow};
use clap::Args;
use std::{fmt::Write, path::PathBuf, process::ExitCode};

/// Arguments of `ambit explain`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit code: 0 when the question is answered, whatever the verdict; 2 when it cannot be."
)]
pub struct ExplainArgs {
    /// Who calls: NAMESPACE/POD, a SPIFFE identity, an address, or `host` for a process of the called pod's node
    #[arg(long, value_name = "WHO")]
    from: String,
    /// What is called: NAMESPACE/POD, NAMESPACE/SERVICE or an address; `pod:` or `service:` before it tells two of one name apart
    #[arg(long, value_name = "WHAT")]
    to: String,
    /// The port of the pod, or of the service
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// TCP or UDP
    #[arg(long, value_name = "PROTOCOL", default_value = "TCP")]
    protocol: String,
    /// Answer from these files or directories of objects instead of asking an agent; also a dump of
    /// `kubectl get ns,pods,svc,endpointslices,accesspolicies,clusteraccesspolicies -A -o yaml`
    #[arg(long, value_name = "FILE-OR-DIR", num_args = 1.., conflicts_with = "socket")]
    objects: Vec<PathBuf>,
    /// The agent's unix socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// With --objects: the trust domain of the mesh
    #[arg(long, value_name = "NAME", default_value = "cluster.local", requires = "objects")]
    trust_domain: String,
    /// With --objects: how enrolled pods of one node reach each other, as given to the agents
    #[arg(long, value_enum, default_value_t, requires = "objects")]
    same_node: SameNode,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Explains a call.
///
/// # Errors
/// Never: what keeps the question from being answered is printed, and the exit code tells it.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    match answer(args).and_then(|answer| print(args.output, &answer)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("ambit: {error:#}");
            Ok(ExitCode::from(UNANSWERED))
        }
    }
}

fn answer(args: &ExplainArgs) -> anyhow::Result<Explanation> {
    let question = Question {
        from: args.from.clone(),
        to: args.to.clone(),
        port: args.port,
        protocol: args.protocol.clone(),
    };
    if args.objects.is_empty() {
        let answer = ask(&args.socket, Query::Explain(question)).map_err(|error| {
            // Only where nobody can be asked.
            if error.root_cause().is::<std::io::Error>() {
                anyhow!("{error:#}; to answer from files instead, name them with --objects")
            } else {
                error
            }
        })?;
        return serde_json::from_value(answer).context("read the agent's answer");
    }
    let loaded = load(&args.objects, &args.trust_domain)?;
    let paths: Vec<String> = args.objects.iter().map(|path| path.display().to_string()).collect();
    let answered_by = format!("the objects in {}", paths.join(", "));
    Ok(explain(&loaded, &question, args.same_node, &answered_by)?)
}

fn print(output: OutputFormat, answer: &Explanation) -> anyhow::Result<()> {
    match output {
        OutputFormat::Json => super::output::print(&format!("{}\n", serde_json::to_string_pretty(answer)?)),
        OutputFormat::Text => super::output::print(&render(answer)),
    }
}

/// Writes an answer for people.
pub(crate) fn render(answer: &Explanation) -> String {
    let mut text = format!("{}\n\n", answer.summary);
    for step in &answer.steps {
        write_step(&mut text, step);
    }
    // Where all come to the same, the answer has said it.
    if answer.endpoints.iter().any(|endpoint| endpoint.summary != answer.endpoints[0].summary) {
        text.push_str("\nendpoints\n");
        for endpoint in &answer.endpoints {
            let pod = endpoint.pod.as_deref().unwrap_or("outside the mesh");
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {} ({pod}): {}", endpoint.address, endpoint.summary);
        }
    }
    let other = match answer.verdict {
        crate::explain::Answer::Allow => "refuse",
        crate::explain::Answer::Refuse => "allow",
    };
    match answer.changes.len() {
        0 => {
            let _ = writeln!(text, "\nto {other} it: nothing here that ambit could propose");
        }
        1 => {
            let _ = writeln!(text, "\nto {other} it:");
        }
        _ => {
            let _ = writeln!(text, "\nto {other} it, do all of this:");
        }
    }
    answer.changes.iter().for_each(|change| write_change(&mut text, change));
    for note in &answer.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    let _ = writeln!(text, "\nanswered by {}", answer.answered_by);
    text
}

fn write_step(text: &mut String, step: &Step) {
    let _ = writeln!(text, "{:<9} {}", step.about, step.text);
    for detail in &step.details {
        let _ = writeln!(text, "{:<9}   {detail}", "");
    }
}

fn write_change(text: &mut String, change: &Change) {
    let colon = if change.lines.is_empty() { "" } else { ":" };
    let _ = writeln!(text, "- {}{colon}", change.what);
    for line in change.lines.lines() {
        let _ = writeln!(text, "    {line}");
    }
}
