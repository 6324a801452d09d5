//! Boots Debian's 6.1 kernel, the oldest that is tested, in an emulator and runs kernel tests there. Nothing is
//! installed for it but the emulator; kernel and root filesystem lie in the target directory.

mod archive;
mod console;
mod kernel;
mod root;

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    build,
    setup::{self, Need, Report},
    test,
    workspace::{Profile, Workspace},
};
use console::Console;

/// What runs when nothing else is asked for: theme, then parts of the names of its tests; no part stands for all. The
/// emulator is thirty times slower than the machine: one or two tests for each kind of hook.
const SUITE: [(&str, &[&str]); 5] = [
    ("lane", &["pods::pods_of_one_node", "pods::a_direct_connection"]),
    (
        "bypass",
        &["raw::", "datagrams::a_policy", "sockets::every_way_to_connect_is_decided_alike_on_the_lane"],
    ),
    ("policy", &["host::"]),
    ("egress", &["raw::a_connection", "serving::a_closed", "serving::the_kernel"]),
    ("dataplane", &["endings::"]),
];

/// What `timeout` ends with when it had to stop the machine.
const TIMED_OUT: i32 = 124;

/// Which tests to run in the virtual machine.
#[derive(clap::Args)]
pub(crate) struct Request {
    /// A theme of the kernel tests; a selection of several if absent.
    theme: Option<String>,
    /// Only the tests whose name contains this.
    name: Option<String>,
    /// After how many seconds the machine is stopped.
    #[arg(long, default_value_t = 900)]
    timeout: u32,
}

/// Sets up, builds, boots, and runs the tests; the last line on standard output holds the totals.
///
/// # Errors
/// When set-up or the build fails, or this Debian has no such kernel.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<ExitCode> {
    let report = Report::terse();
    setup::tools(&[Need::Compile, Need::Run, Need::Test, Need::Vm], &report)?;
    build::object(workspace, &report)?;
    build::binaries(workspace, Profile::Dev, build::EVERYTHING)?;
    let suite: Vec<(String, Vec<String>)> = match &request.theme {
        Some(theme) => vec![(theme.clone(), request.name.iter().cloned().collect())],
        None => SUITE
            .iter()
            .map(|(theme, names)| {
                ((*theme).to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
            })
            .collect(),
    };
    let themes: Vec<&str> = suite.iter().map(|(theme, _)| theme.as_str()).collect();
    let tests = test::executables(workspace, &themes)?;
    let dir = workspace.target().join("vm");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let kernel = kernel::fetch(&dir, &report)?;
    let initrd = dir.join("initrd");
    root::assemble(&dir.join("root"), workspace, &kernel, &tests, &suite)?;
    archive::write(&dir.join("root"), &initrd).with_context(|| format!("write {}", initrd.display()))?;
    eprintln!("xtask: booting Linux {} in an emulator; a test takes seconds there", kernel.release);
    let console = boot(&kernel.image, &initrd, request.timeout)?;
    println!("{}", console.totals);
    Ok(if console.totals.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the machine to its end, and passes on what its tests say.
fn boot(image: &Path, initrd: &Path, timeout: u32) -> Result<Console> {
    let mut machine = Command::new("timeout");
    machine
        .args(["--kill-after=5", &timeout.to_string(), "qemu-system-x86_64"])
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"])
        .arg(image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    let mut child =
        machine.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start the emulator")?;
    let stdout = child.stdout.take().context("read the machine's console")?;
    let mut console = Console::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("read the machine's console")?;
        if let Some(said) = console.read(&String::from_utf8_lossy(&line)) {
            writeln!(io::stdout(), "{said}").context("pass on what the tests say")?;
        }
    }
    let status = child.wait().context("wait for the emulator")?;
    if !console.ended {
        eprintln!("xtask: the machine said at last:");
        console.last().for_each(|line| eprintln!("  {line}"));
        if status.code() == Some(TIMED_OUT) {
            eprintln!("xtask: stopped after {timeout} s: it hung, or --timeout is too short");
        } else {
            eprintln!("xtask: the machine stopped before its tests were through ({status})");
        }
        console.totals.broke_off();
    }
    Ok(console)
}
