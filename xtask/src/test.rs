//! Runs the lints, the unit tests and the kernel tests, and adds up their results. A test that cannot run is a failure,
//! never a pass.

mod totals;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    build, fuzz, lint,
    setup::{self, Need, Report},
    workspace::{Profile, Workspace},
};
pub(crate) use totals::Totals;

/// Which tests to run, and how.
#[derive(clap::Args)]
pub(crate) struct Request {
    /// `unit`, `fuzz`, or a theme of the kernel tests such as `dataplane`; everything if absent.
    filter: Option<String>,
    /// Only the tests whose name contains this.
    name: Option<String>,
    /// How many kernel tests run at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// Leaves out the lints, which otherwise run before everything.
    #[arg(long)]
    no_lint: bool,
}

/// Sets up, builds, and runs what `request` names; the last line on standard output holds the totals.
///
/// # Errors
/// When set-up or the build fails, a filter names nothing, or kernel tests are wanted without root.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<ExitCode> {
    let themes = themes(workspace)?;
    let filter = request.filter.as_deref();
    let wanted: Vec<&str> = match filter {
        Some("unit" | "fuzz") => Vec::new(),
        Some(theme) if themes.iter().any(|known| known == theme) => vec![theme],
        Some(other) => bail!("no tests are called {other}: there are unit, fuzz, {}", themes.join(", ")),
        None if themes.is_empty() => bail!("there are no kernel tests in {}", THEMES.join(", ")),
        None => themes.iter().map(String::as_str).collect(),
    };
    if !wanted.is_empty() && !setup::is_root() {
        bail!(
            "the kernel tests make network namespaces and load BPF programs, which takes root: run `sudo -E env \
             PATH=\"$PATH\" cargo xtask test`, or `cargo xtask test unit` for the rest"
        );
    }
    let needs: &[Need] = if wanted.is_empty() {
        &[Need::Compile, Need::Fuzz]
    } else {
        &[Need::Compile, Need::Run, Need::Test, Need::Fuzz]
    };
    setup::tools(needs, &Report::terse())?;
    build::object(workspace, &Report::terse())?;
    if filter.is_none() && !request.no_lint {
        lint::run(workspace)?;
    }
    let mut totals = Totals::default();
    if matches!(filter, None | Some("unit")) {
        let mut cargo = cargo_test(workspace);
        cargo.args(["--lib", "--bins", "--"]).args(&request.name);
        count(&mut cargo, "the unit tests", &mut totals)?;
    }
    if matches!(filter, None | Some("fuzz")) {
        let programs = fuzz::programs(workspace)?;
        for target in fuzz::TARGETS {
            totals.count(fuzz::withstands(workspace, &programs, target, FUZZ_SECONDS)?);
        }
    }
    if !wanted.is_empty() {
        build::binaries(workspace, Profile::Dev, build::EVERYTHING)?;
        let mut cargo = cargo_test(workspace);
        cargo.args(wanted.iter().flat_map(|theme| ["--test", theme]));
        cargo.args(["--", "--test-threads", &request.threads.to_string()]).args(&request.name);
        count(&mut cargo, "the kernel tests", &mut totals)?;
    }
    if totals.nothing_ran() {
        eprintln!(
            "xtask: no test has a name that contains {:?}",
            request.name.as_deref().unwrap_or_default()
        );
    }
    println!("{totals}");
    Ok(if totals.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long each target is fuzzed; `cargo xtask fuzz` goes on for longer.
const FUZZ_SECONDS: u64 = 10;

/// The folders whose files are kernel tests.
const THEMES: [&str; 4] = ["tests/tests", "tests/harness/tests", "demo/tests", "bench/tests"];

/// The kernel tests: one binary a theme.
fn themes(workspace: &Workspace) -> Result<Vec<String>> {
    let mut themes = Vec::new();
    for folder in THEMES {
        let dir = workspace.root().join(folder);
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            if let (true, Some(stem)) = (is_rust, path.file_stem().and_then(|stem| stem.to_str())) {
                themes.push(stem.to_owned());
            }
        }
    }
    themes.sort();
    Ok(themes)
}

/// The same packages each time, so that their dependencies are built with one set of features.
fn cargo_test(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--exclude", "ambit-ebpf", "--no-fail-fast"]);
    cargo
}

/// Builds the kernel tests of `themes`, and returns their executables by theme.
///
/// # Errors
/// When one is not known, or the build fails.
pub(crate) fn executables(workspace: &Workspace, themes: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = cargo_test(workspace);
    cargo.arg("--no-run").args(themes.iter().flat_map(|theme| ["--test", theme]));
    let output = cargo.stdin(Stdio::null()).output().context("start cargo test")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("build the kernel tests: cargo failed ({}):\n{said}", output.status);
    }
    let found = executables_in(&said);
    for theme in themes {
        if !found.contains_key(*theme) {
            bail!("cargo built no kernel test called {theme}");
        }
    }
    Ok(found.into_iter().map(|(theme, path)| (theme, workspace.root().join(path))).collect())
}

/// Reads lines such as `Executable tests/lane.rs (target/debug/deps/lane-0123)`.
fn executables_in(said: &str) -> BTreeMap<String, PathBuf> {
    let line = |line: &str| {
        let (source, path) = line.trim().strip_prefix("Executable ")?.split_once(" (")?;
        let theme = source.rsplit('/').next()?.strip_suffix(".rs")?;
        Some((theme.to_owned(), PathBuf::from(path.strip_suffix(')')?)))
    };
    said.lines().filter_map(line).collect()
}

/// Runs `cargo`, passes its output on as it comes, and adds its results to `totals`.
fn count(cargo: &mut Command, what: &str, totals: &mut Totals) -> Result<()> {
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let stdout = child.stdout.take().context("read the output of cargo test")?;
    let failed_before = totals.failed();
    for line in BufReader::new(stdout).split(b'\n') {
        let mut line = line.context("read the output of cargo test")?;
        totals.read(&String::from_utf8_lossy(&line));
        line.push(b'\n');
        io::stdout().write_all(&line).context("pass on the output of cargo test")?;
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() && totals.failed() == failed_before {
        eprintln!("xtask: {what} did not run to their end ({status})");
        totals.broke_off();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_what_cargo_says() {
        let said =
            "    Finished `test` profile in 0.3s\n  Executable tests/lane.rs (target/debug/deps/lane-26)\n";
        let found = executables_in(said);
        assert_eq!(found.get("lane"), Some(&PathBuf::from("target/debug/deps/lane-26")));
        assert_eq!(found.len(), 1);
    }
}
