//! The lints: rustfmt, the house rules, clippy without a warning. It changes no file.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{
    setup::find_program,
    tidy,
    workspace::{self, Workspace},
};

/// Runs every lint; clippy needs the BPF object to be built.
///
/// # Errors
/// At the first lint that objects.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    component(workspace, "rustfmt", "fmt")?;
    component(workspace, "clippy", "clippy")?;
    eprintln!("xtask: rustfmt");
    workspace::run(
        workspace.cargo().args(["fmt", "--all", "--check"]),
        "check the formatting (repair: cargo fmt)",
    )?;
    eprintln!("xtask: tidy");
    tidy::run(workspace.root())?;
    eprintln!("xtask: clippy");
    let mut clippy = workspace.cargo();
    clippy
        .args(["clippy", "--quiet", "--workspace", "--exclude", "ambit-ebpf", "--all-targets"])
        .args(["--", "-D", "warnings"]);
    workspace::run(&mut clippy, "clippy")
}

/// Finds a component of the toolchain, or lets rustup install it.
fn component(workspace: &Workspace, name: &str, subcommand: &str) -> Result<()> {
    let mut probe = workspace.cargo();
    probe.args([subcommand, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let Some(rustup) = find_program("rustup") else {
        bail!(
            "cargo {subcommand} is missing: install the toolchain's {name} with the system's package manager"
        );
    };
    eprintln!("set-up: rustup component add {name}");
    workspace::run(Command::new(rustup).args(["component", "add", name]), &format!("install {name}"))
}
