//! `ambit-bench`: how fast ambit is, against the same load without a mesh in the same round, and what it needs for it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambit_harness::{Testbed, binary};
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::Serialize;

mod changes;
mod chart;
mod cpu;
mod crowd;
mod first;
mod machine;
mod memory;
mod objects;
mod plan;
mod policies;
mod report;
mod series;
mod speed;
mod world;

use plan::{Plan, Section};

/// Measures ambit against no mesh on nodes made of network namespaces: speeds, latencies, CPU, memory, and how fast
/// changes take effect. Also writes results.json and speed.svg.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// Fewer and shorter rounds, of the speeds and the time of a change alone.
    #[arg(long)]
    quick: bool,
    /// How the results are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Measure only this: a test such as `bulk1`, a path such as `across`, or a section: `first`, `policies`, `changes`,
    /// `memory`; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = plan::name)]
    only: Vec<String>,
    /// How many rounds; at least one.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes.
    #[arg(long, value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Where the files are written; absent: `bench` in cargo's target directory.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables for people.
    Table,
    /// One JSON object, and nothing else on standard output.
    Json,
}

/// Everything that was measured; what was not asked for is absent.
#[derive(Serialize)]
struct Results {
    results: Vec<series::Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Vec<first::First>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<Vec<policies::Rate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<changes::Changes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<memory::Memory>,
    machine: machine::Machine,
    commit: String,
    date: String,
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
    let plan = Plan::new(args.quick, args.rounds, args.time, &args.only);
    // Before anything is measured: a folder that cannot be written would waste it all.
    let folder = args.save.clone().map_or_else(default_folder, Ok)?;
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    warn_of_noise()?;
    let results = measure(&plan)?;
    let json = serde_json::to_string_pretty(&results).context("write the results as JSON")?;
    save(&folder.join("results.json"), &json)?;
    if !results.results.is_empty() {
        save(&folder.join("speed.svg"), &chart::svg(&results))?;
    }
    match args.output {
        Output::Table => print!("{}", report::text(&results)),
        Output::Json => println!("{json}"),
    }
    if results.results.iter().any(|speed| speed.noisy) {
        eprintln!(
            "bench: the machine was busy with something else: series marked noisy are no measure of ambit"
        );
    }
    Ok(())
}

fn measure(plan: &Plan) -> Result<Results> {
    let mut results = Results {
        results: Vec::new(),
        first: None,
        policies: None,
        changes: None,
        memory: None,
        machine: machine::Machine::this(),
        commit: machine::commit(),
        date: machine::now(),
    };
    if plan.needs_world() {
        let world = world::World::build();
        results.results = speed::run(&world, plan)?;
        if plan.wants(Section::Policies) {
            results.policies = Some(policies::run(&world, plan.repeats, plan.time)?);
        }
        if plan.wants(Section::Changes) {
            let refusals = changes::refusals(&world, plan.changes)?;
            results.changes = Some(changes::Changes { refusals, enrolment: None });
        }
        if plan.wants(Section::First) {
            results.first = Some(first::run(&world, plan.firsts)?);
        }
    }
    if let (Some(changes), false) = (&mut results.changes, plan.quick) {
        changes.enrolment = Some(changes::enrolment()?);
    }
    if plan.wants(Section::Memory) {
        results.memory = Some(memory::run()?);
    }
    Ok(results)
}

/// Looks at the machine for a second, and says when it is not idle.
fn warn_of_noise() -> Result<()> {
    let before = cpu::Machine::now()?;
    std::thread::sleep(Duration::from_secs(1));
    let (busy, stolen) = cpu::Machine::now()?.since(before);
    if busy + stolen > 0.1 {
        let share = (busy + stolen) * 100.0;
        eprintln!("bench: the machine is {share:.0} % busy before anything is measured: expect noise");
    }
    Ok(())
}

/// Returns the folder `bench` of the target directory that this executable lies in.
fn default_folder() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("find the running executable")?;
    let target = executable.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    Ok(target.context("this executable lies in no target directory of cargo: say --save DIR")?.join("bench"))
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("bench: {} is written", path.display());
    Ok(())
}
