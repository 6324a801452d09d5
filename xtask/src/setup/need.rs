//! The programs that building, running and testing ambit call, and Debian's packages of them. It installs nothing.

use std::{fs, path::PathBuf};

use super::{Report, find_program};

/// What a task is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// Build the agent.
    Compile,
    /// Run nodes and pods as network namespaces.
    Run,
    /// Run the kernel tests, with real applications on both ends.
    Test,
    /// Fuzz the parsers.
    Fuzz,
    /// Run kernel tests in a virtual machine with an older kernel.
    Vm,
}

/// A program, and where it comes from.
#[derive(Debug)]
pub(super) struct Tool {
    need: Need,
    /// The name of the executable.
    pub(super) binary: &'static str,
    /// Debian's packages of it.
    pub(super) packages: &'static [&'static str],
    /// Services that the packages start, and that nobody asked for.
    pub(super) services: &'static [&'static str],
    why: &'static str,
}

const TOOLS: [Tool; 14] = [
    tool(Need::Compile, "cc", &["gcc", "libc6-dev"], "compiles the cryptography library"),
    tool(Need::Run, "ip", &["iproute2"], "makes namespaces and links"),
    tool(Need::Test, "nsenter", &["util-linux"], "enters a pod"),
    tool(Need::Test, "nft", &["nftables"], "shows that a pod has no rules"),
    tool(Need::Test, "iptables-save", &["iptables"], "shows that a pod has no rules"),
    tool(Need::Test, "curl", &["curl"], "is a client in the tests"),
    tool(Need::Test, "redis-cli", &["redis-tools"], "is a client in the tests"),
    tool(Need::Test, "psql", &["postgresql-client"], "is a client in the tests"),
    tool(Need::Fuzz, "c++", &["g++"], "compiles the fuzzer"),
    tool(Need::Vm, "qemu-system-x86_64", &["qemu-system-x86"], "runs another kernel"),
    tool(Need::Vm, "busybox", &["busybox-static"], "starts the tests there"),
    tool(Need::Vm, "depmod", &["kmod"], "lists the kernel's modules"),
    service(Need::Test, "nginx", &["nginx"], &["nginx"], "is a server in the tests"),
    service(Need::Test, "redis-server", &["redis-server"], &["redis-server"], "is a server in the tests"),
];

/// PostgreSQL's server programs stand outside PATH on Debian.
const POSTGRES: Tool =
    service(Need::Test, "initdb", &["postgresql"], &["postgresql"], "is a server in the tests");

const fn tool(
    need: Need,
    binary: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
) -> Tool {
    service(need, binary, packages, &[], why)
}

const fn service(
    need: Need,
    binary: &'static str,
    packages: &'static [&'static str],
    services: &'static [&'static str],
    why: &'static str,
) -> Tool {
    Tool { need, binary, packages, services, why }
}

/// Returns the programs that `needs` call for and that are not installed.
pub(super) fn missing(needs: &[Need], report: &Report) -> Vec<&'static Tool> {
    let mut missing = Vec::new();
    for tool in TOOLS.iter().chain([&POSTGRES]).filter(|tool| needs.contains(&tool.need)) {
        let found =
            find_program(tool.binary).or_else(|| if tool.binary == "initdb" { initdb() } else { None });
        match found {
            Some(path) => report.found(format!("{} ({}): {}", tool.binary, tool.why, path.display())),
            None => {
                report.found(format!("{} ({}): missing", tool.binary, tool.why));
                missing.push(tool);
            }
        }
    }
    missing
}

fn initdb() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|version| version.path().join("bin/initdb")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_calls_for_none_of_the_test_servers() {
        let run: Vec<_> =
            TOOLS.iter().filter(|tool| tool.need == Need::Run).map(|tool| tool.binary).collect();
        assert_eq!(run, ["ip"]);
    }

    #[test]
    fn nothing_is_missing_when_nothing_is_needed() {
        assert!(missing(&[], &Report::terse()).is_empty());
    }
}
