//! The command line of `cargo xtask`: set-up, build, demo, test and upkeep. Each command brings about by itself what
//! it needs. It decides nothing about ambit's behaviour, and everything it says goes to standard error, so that the
//! standard output belongs to what it runs.
#![forbid(unsafe_code)]

mod build;
mod fuzz;
mod launch;
mod lint;
mod setup;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use setup::{Need, Report};
use workspace::{Profile, Workspace};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, build, demo, test and upkeep of ambit."
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what building, running and testing ambit need, and says what it found.
    Setup,
    /// Builds the BPF programs and the `ambit` binary, and prints where the binary is.
    Build {
        /// Optimises, as for production.
        #[arg(long)]
        release: bool,
    },
    /// Builds ambit and runs the calculator demo on two nodes (root).
    #[command(disable_help_flag = true)]
    Demo {
        /// Arguments of the demo, such as `--keep` or `-o json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measures ambit's speed against no mesh, in a release build (root).
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmark, such as `--quick` or `-o json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs the lints, the unit tests and the kernel tests (root), or the part that FILTER names.
    Test(test::Request),
    /// Runs kernel tests on the oldest kernel that is tested, Debian's 6.1, in an emulator.
    Vm(vm::Request),
    /// Feeds the parsers and the policy compiler with inputs that nobody would write.
    Fuzz(fuzz::Request),
    /// Writes the definitions of ambit's kinds into deploy/crds.
    Crds,
    /// Checks formatting, house rules and clippy.
    Lint,
    /// Checks the house rules that neither rustfmt nor clippy knows.
    Tidy,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let code = match task {
        Task::Setup => {
            setup::everything(&workspace, &Report::verbose())?;
            ExitCode::SUCCESS
        }
        Task::Build { release } => {
            let profile = if release { Profile::Release } else { Profile::Dev };
            setup::tools(&[Need::Compile], &Report::terse())?;
            build::object(&workspace, &Report::terse())?;
            build::binaries(&workspace, profile, build::AGENT)?;
            println!("{}", workspace.binary(profile, "ambit").display());
            ExitCode::SUCCESS
        }
        Task::Demo { args } => launch::demo(&workspace, &args)?,
        Task::Bench { args } => launch::bench(&workspace, &args)?,
        Task::Test(request) => test::run(&workspace, &request)?,
        Task::Fuzz(request) => fuzz::run(&workspace, &request)?,
        Task::Vm(request) => vm::run(&workspace, &request)?,
        Task::Crds => {
            let mut cargo = workspace.cargo();
            cargo.args(["run", "--quiet", "-p", "ambit-api", "--bin", "crds", "--", "deploy/crds"]);
            workspace::run(cargo.current_dir(workspace.root()), "write the definitions")?;
            ExitCode::SUCCESS
        }
        Task::Lint => {
            build::object(&workspace, &Report::terse())?;
            lint::run(&workspace)?;
            ExitCode::SUCCESS
        }
        Task::Tidy => {
            tidy::run(workspace.root())?;
            ExitCode::SUCCESS
        }
    };
    Ok(code)
}
