//! `ambit-demo`: the calculator on two nodes, before and under ambit, as rows that are as expected or not.

use std::io::IsTerminal;
use std::process::ExitCode;

use ambit_harness::{Testbed, binary};
use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;

mod interrupt;
mod keep;
mod probe;
mod row;
mod steps;
mod table;
mod world;

use row::Row;
use table::Paint;
use world::World;

/// Shows ambit at work on two nodes of this machine: network namespaces, cgroups and real agents.
#[derive(Parser)]
struct Args {
    /// Leave everything running at the end, and print what to try.
    #[arg(long, conflicts_with = "without_agents")]
    keep: bool,
    /// How the rows are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Show only the first step: the calculator without ambit.
    #[arg(long)]
    without_agents: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// One JSON object, and nothing else on standard output.
    Json,
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Report<'a> {
    rows: Vec<&'a Row>,
}

fn main() -> ExitCode {
    // The harness reports faults of the set-up as panics: a person needs their message, not a source line.
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a fault without a message");
        eprintln!("ambit-demo: {message}");
    }));
    let args = Args::parse();
    match std::panic::catch_unwind(|| run(&args)) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("ambit-demo: {error:#}");
            ExitCode::from(2)
        }
        // The hook has told it already, and what was made is removed.
        Err(_) => ExitCode::from(2),
    }
}

/// Runs the demo; returns whether every row is as expected.
fn run(args: &Args) -> Result<bool> {
    Testbed::check_machine()?;
    let colourful = |terminal: bool| Paint(terminal && std::env::var_os("NO_COLOR").is_none());
    let progress = colourful(std::io::stderr().is_terminal());
    for program in ["calculator", "ambit"] {
        if program != "ambit" || !args.without_agents {
            binary(program);
        }
    }
    let asked = interrupt::watch()?;
    eprintln!("building two nodes and the calculator");
    let mut world = World::build();
    let steps = steps::run(&mut world, args.without_agents, progress)?;
    let good = steps.iter().flat_map(|step| &step.observations).all(|observation| observation.row.ok);
    match args.output {
        Output::Json => {
            let rows = steps.iter().flat_map(|step| &step.observations).map(|observation| &observation.row);
            println!("{}", serde_json::to_string_pretty(&Report { rows: rows.collect() })?);
        }
        Output::Table => {
            let paint = colourful(std::io::stdout().is_terminal());
            println!("{}\n{}", table::render(&steps, paint), table::summary(&steps, paint));
        }
    }
    if args.keep {
        keep::running(&world, &asked, progress);
    }
    Ok(good)
}
