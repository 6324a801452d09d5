//! `ambit status`.

use super::{check::OutputFormat, output::table};
use crate::{
    observe::{Query, Status, ask},
    run::DEFAULT_SOCKET,
};
use anyhow::Context;
use clap::Args;
use std::{collections::BTreeMap, fmt::Write, path::PathBuf, process::ExitCode, time::SystemTime};

/// How many of the latest denials are shown.
const SHOWN: usize = 10;

/// Arguments of `ambit status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The agent's unix socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Shows what a running agent enforces; fails when a pod is not captured.
///
/// # Errors
/// No agent answers.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let answer = ask(&args.socket, Query::Status)?;
    let status: Status = serde_json::from_value(answer.clone()).context("read the agent's answer")?;
    match args.output {
        OutputFormat::Json => println!("{answer:#}"),
        OutputFormat::Text => print!("{}", render(&status)),
    }
    let sound = status.ready && status.pods.iter().all(|pod| pod.captured);
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(status: &Status) -> String {
    let mut text = String::new();
    let state = if status.ready { "ready" } else { "not ready" };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "node {}: {state}, ambit {}, snapshot {}",
        status.node, status.version, status.snapshot
    );
    let field = |name: &str| status.source.get(name).and_then(serde_json::Value::as_str).unwrap_or("unknown");
    let _ = writeln!(text, "objects: {}, loaded {}", field("path"), field("loaded_at"));
    for (name, mark) in [("errors", "error"), ("warnings", "warning")] {
        let list = status.source.get(name).and_then(serde_json::Value::as_array);
        for line in list.into_iter().flatten().filter_map(serde_json::Value::as_str) {
            let _ = writeln!(text, "  {mark}: {line}");
        }
    }
    let connections = &status.connections;
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let _ = writeln!(
        text,
        "connections: {} open in {} tunnels; {} allowed, {} denied, {} would be denied by strict, {} tunnels refused",
        connections.open,
        connections.tunnels,
        sum(&connections.decisions.allowed),
        sum(&connections.decisions.denied),
        sum(&connections.decisions.would_deny),
        connections.decisions.handshakes_refused
    );
    if connections.unreported > 0 {
        let _ = writeln!(
            text,
            "  {} more were refused by the kernel in a burst, and are missing here",
            connections.unreported
        );
    }
    for (policy, counts) in &connections.decisions.dry_run {
        let _ = writeln!(
            text,
            "dryRun: {policy} would have denied {} and allowed {}",
            counts.would_deny, counts.would_allow
        );
    }
    for elder in &status.draining {
        let _ = writeln!(
            text,
            "draining: an older agent (pid {}, ambit {}) carries {} connections, until {} at the latest",
            elder.pid, elder.version, elder.connections, elder.until
        );
    }
    text.push('\n');
    if status.pods.is_empty() {
        text.push_str(
            "no pod of this node is enrolled: label a namespace ambit.dev/mode=audit to begin with\n",
        );
    } else {
        text.push_str(&pods(status));
    }
    if !status.recent_denials.is_empty() {
        let _ = writeln!(text, "\nlatest denials:");
        text.push_str(&denials(status));
    }
    text
}

fn pods(status: &Status) -> String {
    let row = |pod: &crate::observe::PodStatus| {
        vec![
            format!("{}/{}", pod.namespace, pod.name),
            pod.mode.clone(),
            pod.egress.clone(),
            captured(pod),
            if pod.guard.is_empty() { "-".to_owned() } else { pod.guard.join(",") },
            pod.dropped.values().sum::<u64>().to_string(),
            pod.policies.to_string(),
            pod.addresses.join(","),
            pod.identity.clone(),
            pod.problem.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = status.pods.iter().map(row).collect();
    let titles = [
        "POD",
        "MODE",
        "EGRESS",
        "CAPTURED",
        "GUARD",
        "DROPPED",
        "POLICIES",
        "ADDRESSES",
        "IDENTITY",
        "PROBLEM",
    ];
    table(&titles, &rows)
}

/// Says whether the pod is captured, and how long ago that was last seen in a test.
fn captured(pod: &crate::observe::PodStatus) -> String {
    let word = if pod.captured { "yes" } else { "NO" };
    let tested = pod.tested_at.as_deref().and_then(|time| humantime::parse_rfc3339(time).ok());
    match tested.and_then(|time| SystemTime::now().duration_since(time).ok()) {
        Some(ago) => format!("{word}, tested {}s ago", ago.as_secs()),
        None => word.to_owned(),
    }
}

fn denials(status: &Status) -> String {
    let row = |denial: &crate::observe::Denial| {
        let who = match &denial.source_pod {
            Some(pod) => format!("{} ({pod})", denial.source),
            None => denial.source.clone(),
        };
        vec![
            denial.time.clone(),
            who,
            denial.client.to_string(),
            denial.destination.clone(),
            denial.server.to_string(),
            denial.summary.clone(),
        ]
    };
    let latest = status.recent_denials.len().saturating_sub(SHOWN);
    let rows: Vec<Vec<String>> = status.recent_denials[latest..].iter().map(row).collect();
    table(&["TIME", "FROM", "CLIENT", "TO", "ADDRESS", "WHY"], &rows)
}
