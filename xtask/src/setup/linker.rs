//! bpf-linker: finds it, or builds it against an LLVM that reads the bitcode of one of the compilers at hand.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{Report, apt, find_program, toolchain::Toolchain};
use crate::workspace::{self, Workspace};

/// How far an LLVM may be ahead of the compiler's: a newer one reads older bitcode.
const AHEAD: u32 = 3;

/// Finds bpf-linker on PATH or where cargo installs programs.
pub(super) fn find() -> Option<PathBuf> {
    find_program("bpf-linker").or_else(|| Some(cargo_bin().join("bpf-linker")).filter(|file| file.is_file()))
}

/// Returns where `cargo install` puts programs.
pub(super) fn cargo_bin() -> PathBuf {
    let home = ["CARGO_INSTALL_ROOT", "CARGO_HOME"].iter().find_map(env::var_os).map(PathBuf::from);
    home.unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".cargo")).join("bin")
}

/// Builds bpf-linker for the first of `toolchains` that an LLVM here or in the distribution fits, and returns it.
///
/// # Errors
/// When no LLVM fits, or the build fails, with the commands to run.
pub(super) fn install<'a>(
    workspace: &Workspace,
    toolchains: &'a [Toolchain],
    report: &Report,
) -> Result<&'a Toolchain> {
    for toolchain in toolchains {
        let Some((llvm, prefix)) = installed_llvm(toolchain.llvm) else { continue };
        report.found(format!("LLVM {llvm} for bpf-linker: {}", prefix.display()));
        if apt::present() && prefix.starts_with("/usr/lib") {
            install_llvm(llvm, "building bpf-linker", report)?;
        }
        build(workspace, llvm, &prefix, report)?;
        return Ok(toolchain);
    }
    if apt::present() {
        for toolchain in toolchains {
            let Some(llvm) = apt::offered(report, || offered_llvm(toolchain.llvm))? else { continue };
            install_llvm(llvm, &format!("building bpf-linker for {toolchain}"), report)?;
            let (llvm, prefix) = installed_llvm(llvm).context("find the LLVM that apt-get just installed")?;
            build(workspace, llvm, &prefix, report)?;
            return Ok(toolchain);
        }
    }
    let versions: Vec<String> = toolchains.iter().map(ToString::to_string).collect();
    let llvm = toolchains.first().map_or(0, |toolchain| toolchain.llvm);
    bail!(
        "bpf-linker is missing, and no LLVM here or in the distribution reads the bitcode of {}: install the \
         development files of LLVM {llvm}, then run `LLVM_PREFIX=<its directory> cargo install bpf-linker --locked \
         --no-default-features --features llvm-{llvm}`; or unpack a release of \
         https://github.com/aya-rs/bpf-linker/releases into {}",
        versions.join(", "),
        cargo_bin().display()
    )
}

/// Installs what is missing of the distribution's LLVM and of what bpf-linker links besides.
fn install_llvm(llvm: u32, why: &str, report: &Report) -> Result<()> {
    let (llvm, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    let mut packages = vec![llvm.as_str(), &polly, "libzstd-dev", "zlib1g-dev"];
    if find_program("c++").is_none() {
        // LLVM is C++: its standard library comes with the compiler.
        packages.push("g++");
    }
    let missing = apt::missing(&packages);
    if missing.is_empty() {
        return Ok(());
    }
    apt::install(&missing, &format!("{why} takes packages that are missing"), report)
}

fn build(workspace: &Workspace, llvm: u32, prefix: &Path, report: &Report) -> Result<()> {
    let feature = format!("llvm-{llvm}");
    report.doing(format!(
        "bpf-linker is missing: LLVM_PREFIX={} cargo install bpf-linker --locked --no-default-features --features \
         {feature} (some minutes)",
        prefix.display()
    ));
    let mut cargo = workspace.cargo();
    cargo
        .args(["install", "bpf-linker", "--locked", "--no-default-features", "--features", &feature])
        .env("LLVM_PREFIX", prefix)
        .env("CARGO_TARGET_DIR", workspace.target().join("bpf-linker"))
        // Not the workspace: its configuration is not bpf-linker's.
        .current_dir("/");
    workspace::run(&mut cargo, &format!("build bpf-linker against LLVM {llvm}"))
}

/// The least installed LLVM, with development files, that reads what a compiler on LLVM `least` writes.
fn installed_llvm(least: u32) -> Option<(u32, PathBuf)> {
    (least..=least + AHEAD).find_map(|version| {
        let debian = PathBuf::from(format!("/usr/lib/llvm-{version}"));
        let candidates = [
            env::var_os("LLVM_PREFIX").map(PathBuf::from),
            Some(debian),
            prefix_of(&format!("llvm-config-{version}")),
            prefix_of("llvm-config"),
        ];
        let fits = |prefix: &PathBuf| {
            major_of(&prefix.join("bin/llvm-config")) == Some(version)
                && prefix.join("include/llvm-c").is_dir()
        };
        candidates.into_iter().flatten().find(fits).map(|prefix| (version, prefix))
    })
}

/// The least LLVM in the distribution's archive that reads what a compiler on LLVM `least` writes.
fn offered_llvm(least: u32) -> Option<u32> {
    (least..=least + AHEAD).find(|version| apt::candidate(&format!("llvm-{version}-dev")).is_some())
}

fn prefix_of(llvm_config: &str) -> Option<PathBuf> {
    ask(&find_program(llvm_config)?, "--prefix").map(PathBuf::from)
}

fn major_of(llvm_config: &Path) -> Option<u32> {
    ask(llvm_config, "--version")?.split('.').next()?.parse().ok()
}

fn ask(program: &Path, question: &str) -> Option<String> {
    let output = Command::new(program).arg(question).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
