//! Builds the demo in the dev profile, which the tests share, and becomes it. What the demo shows is the demo's own.

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

/// Builds the demo and runs it with `args`, as root; the demo's exit code is this process's.
///
/// # Errors
/// When set-up or the build fails, and without root when sudo would ask for a password.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    setup::tools(&[Need::Compile, Need::Run], &Report::terse())?;
    build::object(workspace, &Report::terse())?;
    build::binaries(workspace, Profile::Dev, build::EVERYTHING)?;
    let demo = workspace.binary(Profile::Dev, "ambit-demo");
    let mut command = if setup::is_root() {
        Command::new(&demo)
    } else if sudo_asks_nothing() {
        let mut command = Command::new("sudo");
        command.args(["-n", "-E"]).arg(&demo);
        command
    } else {
        bail!(
            "the demo makes network namespaces and loads BPF programs, which takes root. It is built: run \
             `sudo {} {}`",
            demo.display(),
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
