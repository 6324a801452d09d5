//! Builds programs that make network namespaces and load BPF programs, and becomes them, as root.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    setup::{self, Need, Report},
    workspace::{self, Profile, Workspace},
};

/// Builds the demo in the dev profile, which the tests share, and runs it with `args`.
///
/// # Errors
/// As [`become_root`].
pub(crate) fn demo(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    launch(workspace, Profile::Dev, "ambit-demo", args)
}

/// Builds the benchmark as for production and runs it with `args`.
///
/// # Errors
/// As [`become_root`].
pub(crate) fn bench(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    launch(workspace, Profile::Release, "ambit-bench", args)
}

fn launch(workspace: &Workspace, profile: Profile, program: &str, args: &[String]) -> Result<ExitCode> {
    setup::tools(&[Need::Compile, Need::Run], &Report::terse())?;
    build::object(workspace, &Report::terse())?;
    build::binaries(workspace, profile, build::EVERYTHING)?;
    become_root(Command::new(workspace.binary(profile, program)), args)
}

/// Replaces this process with `program`, as root; its exit code is this process's.
///
/// # Errors
/// When it cannot start, and without root when sudo would ask for a password.
fn become_root(program: Command, args: &[String]) -> Result<ExitCode> {
    let path = program.get_program().to_owned();
    let mut command = if setup::is_root() {
        program
    } else if sudo_asks_nothing() {
        let mut command = Command::new("sudo");
        command.args(["-n", "-E"]).arg(&path);
        command
    } else {
        bail!(
            "this makes network namespaces and loads BPF programs, which takes root. It is built: run `sudo {} {}`",
            path.display(),
            args.join(" ")
        );
    };
    workspace::forget_outer_cargo(&mut command);
    // Replacing this process hands on signals and the exit code as they are.
    let error = command.args(args).exec();
    Err(error).with_context(|| format!("start {}", command.get_program().display()))
}

fn sudo_asks_nothing() -> bool {
    let mut command = Command::new("sudo");
    let check = command.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    check.status().is_ok_and(|status| status.success())
}
