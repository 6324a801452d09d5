//! Set-up: finds what a task needs and installs what is missing, one line per step. It never prompts, and where it may
//! not install it fails with the commands that would.

mod apt;
mod linker;
mod need;
mod toolchain;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use toolchain::Toolchain;

pub(crate) use need::Need;

/// Where set-up says what it does: always when it changes the machine, and what it found only on request.
pub(crate) struct Report {
    verbose: bool,
}

impl Report {
    /// Reports every check.
    pub(crate) fn verbose() -> Self {
        Self { verbose: true }
    }

    /// Reports only what is changed.
    pub(crate) fn terse() -> Self {
        Self { verbose: false }
    }

    fn found(&self, text: impl AsRef<str>) {
        if self.verbose {
            eprintln!("set-up: {}", text.as_ref());
        }
    }

    pub(crate) fn doing(&self, text: impl AsRef<str>) {
        eprintln!("set-up: {}", text.as_ref());
    }
}

/// What builds the BPF programs.
pub(crate) struct BpfToolchain {
    /// A compiler whose library source is installed.
    pub(crate) rustc: PathBuf,
    /// The cargo beside it, or the one that runs xtask.
    pub(crate) cargo: PathBuf,
    /// The major version of the compiler's LLVM.
    pub(crate) llvm: u32,
    /// The bpf-linker.
    pub(crate) linker: PathBuf,
}

/// Sets up everything: building, running, testing.
///
/// # Errors
/// When something is missing that cannot be installed; the text holds the commands to run.
pub(crate) fn everything(workspace: &Workspace, report: &Report) -> Result<()> {
    tools(&[Need::Compile, Need::Run, Need::Test], report)?;
    bpf_toolchain(workspace, report)?;
    report.found("everything is there");
    Ok(())
}

/// Finds or installs the programs that `needs` call for.
///
/// # Errors
/// When one is missing and cannot be installed.
pub(crate) fn tools(needs: &[Need], report: &Report) -> Result<()> {
    let missing = need::missing(needs, report);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    let names: Vec<&str> = missing.iter().map(|tool| tool.binary).collect();
    if !apt::present() {
        bail!(
            "{} missing, and this system has no apt-get: install with its package manager what Debian calls {}",
            names.join(", "),
            packages.join(" ")
        );
    }
    apt::install(&packages, &format!("{} missing", names.join(", ")), report)?;
    for tool in &missing {
        apt::stop_services(tool.services, report);
    }
    match need::missing(needs, &Report::terse()).first() {
        Some(tool) => {
            bail!("{} is still not found after installing {}", tool.binary, tool.packages.join(" "))
        }
        None => Ok(()),
    }
}

/// Finds or installs a compiler with library source, and a bpf-linker that can read its bitcode.
///
/// # Errors
/// When there is none and none can be installed.
pub(crate) fn bpf_toolchain(workspace: &Workspace, report: &Report) -> Result<BpfToolchain> {
    let mut toolchains = toolchain::with_source();
    if toolchains.is_empty() {
        toolchain::install(report)?;
        toolchains = toolchain::with_source();
    }
    let Some(first) = toolchains.first() else { bail!(toolchain::advice()) };
    if let Some(linker) = linker::find() {
        report.found(format!("compiler for BPF: {first}"));
        report.found(format!("bpf-linker: {}", linker.display()));
        return Ok(first.with(linker));
    }
    let chosen = linker::install(workspace, &toolchains, report)?;
    let Some(linker) = linker::find() else {
        bail!(
            "bpf-linker was installed, but stands neither on PATH nor in {}",
            linker::cargo_bin().display()
        );
    };
    Ok(chosen.with(linker))
}

impl Toolchain {
    fn with(&self, linker: PathBuf) -> BpfToolchain {
        BpfToolchain { rustc: self.rustc.clone(), cargo: self.cargo.clone(), llvm: self.llvm, linker }
    }
}

/// Returns whether this process may install packages and load BPF programs.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of a process's own /proc entry is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Finds a program on PATH or where administrators' programs lie.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
