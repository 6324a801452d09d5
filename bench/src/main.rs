//! `ambit-bench`: how fast ambit is, against the same load without a mesh in the same round.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use ambit_harness::{Testbed, binary};
use anyhow::Result;
use clap::{Parser, ValueEnum};

mod cpu;
mod report;
mod series;
mod speed;
mod world;

/// Measures throughput, latency, connection rate and the agents' CPU on nodes made of network namespaces.
#[derive(Parser)]
struct Args {
    /// Fewer and shorter rounds, and the speeds alone.
    #[arg(long)]
    quick: bool,
    /// How the results are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Measure only these tests and paths, such as `bulk1` or `across`; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes.
    #[arg(long, value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// One JSON object, and nothing else on standard output.
    Json,
}

/// What is measured, and how long.
struct Plan {
    rounds: usize,
    time: Duration,
    only: Vec<String>,
}

impl Plan {
    fn new(args: &Args) -> Self {
        let (rounds, time) =
            if args.quick { (2, Duration::from_millis(500)) } else { (5, Duration::from_secs(2)) };
        Self {
            rounds: args.rounds.unwrap_or(rounds).max(1),
            time: args.time.unwrap_or(time),
            only: args.only.clone(),
        }
    }

    /// Tells whether this test on this path was asked for: names of paths choose among paths, others among tests.
    fn wants(&self, path: &str, test: &str) -> bool {
        let (paths, tests): (Vec<&str>, Vec<&str>) =
            self.only.iter().map(String::as_str).partition(|name| is_path(name));
        let chosen = |names: &[&str], name| names.is_empty() || names.contains(&name);
        chosen(&paths, path) && chosen(&tests, test)
    }
}

fn is_path(name: &str) -> bool {
    matches!(name, "same-node" | "across" | "to-plain")
}

fn main() -> ExitCode {
    // The harness reports faults of the set-up as panics: a person needs their message, not a source line.
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a fault without a message");
        eprintln!("bench: {message}");
    }));
    let args = Args::parse();
    match std::panic::catch_unwind(|| run(&args)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
        // The hook has told it already, and what was made is removed.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(args: &Args) -> Result<()> {
    Testbed::check_machine()?;
    for program in ["ambit", "load"] {
        binary(program);
    }
    let plan = Plan::new(args);
    let before = cpu::Machine::now()?;
    std::thread::sleep(Duration::from_secs(1));
    let (busy, stolen) = cpu::Machine::now()?.since(before);
    if busy + stolen > 0.1 {
        eprintln!(
            "bench: the machine is {:.0} % busy before anything is measured: expect noise",
            (busy + stolen) * 100.0
        );
    }
    let world = world::World::build();
    let speeds = speed::run(&world, &plan)?;
    match args.output {
        Output::Table => print!("{}", report::table(&speeds)),
        Output::Json => {
            println!("{}", serde_json::to_string_pretty(&serde_json::json!({"results": speeds}))?)
        }
    }
    Ok(())
}
