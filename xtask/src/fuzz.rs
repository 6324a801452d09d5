//! Runs the fuzz targets in `fuzz/` for a while: builds them with LLVM's coverage counters, which libFuzzer steers by, and
//! keeps the inputs that reached something new. What they assert is theirs.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    setup::{self, Need, Report},
    workspace::{self, Workspace},
};

/// What is fuzzed, by the names of the files in `fuzz/targets`.
pub(crate) const TARGETS: [&str; 3] = ["hbone", "objects", "policies"];

/// What `cargo fuzz` passes, without a sanitizer: the code that is fuzzed has no `unsafe`.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cforce-frame-pointers",
    "--cfg=fuzzing",
];

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Request {
    /// Only this target; every one, one after the other, if absent.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Fuzzes what `request` names.
///
/// # Errors
/// When set-up or the build fails.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<ExitCode> {
    setup::tools(&[Need::Compile, Need::Fuzz], &Report::terse())?;
    build::object(workspace, &Report::terse())?;
    let targets = match &request.target {
        Some(target) => vec![target.as_str()],
        None => TARGETS.to_vec(),
    };
    let programs = programs(workspace)?;
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        if !withstands(workspace, &programs, target, request.seconds)? {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Builds every target, and returns the folder of the programs.
///
/// # Errors
/// When cargo fails.
pub(crate) fn programs(workspace: &Workspace) -> Result<PathBuf> {
    let (triple, target) = (host()?, folder(workspace));
    let mut cargo = workspace.cargo();
    cargo
        .args(["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target", &triple])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env("AMBIT_BPF_OBJECT", build::object_path(workspace));
    workspace::run(&mut cargo, "build the fuzz targets")?;
    Ok(target.join(triple).join("release"))
}

/// Fuzzes one target, and prints one line about it; `false` when an input made it fail.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn withstands(
    workspace: &Workspace,
    programs: &std::path::Path,
    target: &str,
    seconds: u64,
) -> Result<bool> {
    let folder = folder(workspace);
    let (corpus, failures) = (folder.join("corpus").join(target), folder.join("failures").join(target));
    for folder in [&corpus, &failures] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut fuzzer = Command::new(programs.join(target));
    fuzzer.arg(&corpus).arg(workspace.root().join("fuzz/seeds").join(target));
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .args(["-max_len=65536", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = fuzzer.spawn().with_context(|| format!("start the fuzz target {target}"))?;
    let stderr = child.stderr.take().context("read what the fuzz target says")?;
    let (mut said, mut inputs) = (Vec::new(), String::new());
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("read what the fuzz target says")?;
        let line = String::from_utf8_lossy(&line).into_owned();
        match line.strip_prefix("stat::number_of_executed_units:") {
            Some(number) => inputs = number.trim().to_owned(),
            None => said.push(line),
        }
    }
    let status = child.wait().context("wait for the fuzz target")?;
    if status.success() {
        println!("fuzz {target} ... ok ({inputs} inputs in {seconds} s)");
        return Ok(true);
    }
    println!("fuzz {target} ... FAILED ({status})");
    said.iter().for_each(|line| eprintln!("{line}"));
    eprintln!(
        "xtask: the input is in {}; try it again: {} INPUT",
        failures.display(),
        programs.join(target).display()
    );
    Ok(false)
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("fuzz")
}

/// Returns the triple of this machine. With a target named, build scripts and macros are built without counters.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("ask rustc for this machine's triple")?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(triple) => Ok(triple.to_owned()),
        None => bail!("`rustc -vV` names no host"),
    }
}
