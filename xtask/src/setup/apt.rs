//! Debian's package manager: what it offers, and installing without questions and without leaving services behind.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::{Report, find_program, is_root};
use crate::workspace;

/// Returns whether this is a system with apt.
pub(super) fn present() -> bool {
    find_program("apt-get").is_some() && find_program("apt-cache").is_some()
}

/// Returns the version of `package` that apt would install, if it knows one.
pub(super) fn candidate(package: &str) -> Option<String> {
    let output = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output().ok()?;
    candidate_in(&String::from_utf8_lossy(&output.stdout))
}

/// Returns what `ask` finds among the candidates, reading the archive's lists anew before it gives up.
///
/// # Errors
/// When the lists cannot be read.
pub(super) fn offered<T>(report: &Report, ask: impl Fn() -> Option<T>) -> Result<Option<T>> {
    let found = ask();
    if found.is_some() || !is_root() {
        return Ok(found);
    }
    update(report)?;
    Ok(ask())
}

/// Returns those of `packages` that are not installed.
pub(super) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &str| {
        let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
        query.is_ok_and(|output| output.stdout.starts_with(b"installed"))
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Installs `packages`, after reading the archive's lists when one of them is unknown or cannot be fetched.
///
/// # Errors
/// When this process is not root, with the command to run; when apt-get fails.
pub(super) fn install(packages: &[&str], why: &str, report: &Report) -> Result<()> {
    let list = packages.join(" ");
    if !is_root() {
        bail!(
            "{why}, and installing takes root: run `sudo apt-get update && sudo apt-get install \
             --no-install-recommends {list}`, then this command again"
        );
    }
    report.doing(format!("{why}: installing {list}"));
    let known = packages.iter().all(|package| candidate(package).is_some());
    if known && fetch_and_install(packages).is_ok() {
        return Ok(());
    }
    update(report)?;
    fetch_and_install(packages)
}

fn update(report: &Report) -> Result<()> {
    report.doing("reading the package lists: apt-get update");
    workspace::run(apt_get().arg("update"), "read the package lists")
}

/// Stops services that an installation has started: the tests start their own.
pub(super) fn stop_services(services: &[&str], report: &Report) {
    for service in services {
        let mut command = if Path::new("/run/systemd/system").is_dir() {
            let mut command = Command::new("systemctl");
            command.args(["disable", "--now", service]);
            command
        } else {
            let mut command = Command::new("service");
            command.args([service, "stop"]);
            command
        };
        // Whether it ran at all depends on the system: where it did not, there is nothing to stop.
        let stopped = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if stopped.is_ok_and(|status| status.success()) {
            report.doing(format!("stopped the service {service}, which its package may have started"));
        }
    }
}

fn fetch_and_install(packages: &[&str]) -> Result<()> {
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    workspace::run(&mut command, &format!("install {}", packages.join(" ")))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args([
            "-qq",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Dpkg::Options::=--force-confold",
        ])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // In the single-user runlevel, installing a server does not start it.
        .env("RUNLEVEL", "1");
    command
}

fn candidate_in(policy: &str) -> Option<String> {
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (line != "(none)" && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_without_candidate_is_unknown() {
        let known =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate_in(known).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate_in("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_in(""), None);
    }
}
