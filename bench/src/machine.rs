//! Where and of what it was measured: without that a figure means nothing.

use std::fs;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde::Serialize;

/// What the kernel says of the machine.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
}

impl Machine {
    /// Asks the kernel; what it does not tell is `unknown`.
    pub(crate) fn this() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: release.map_or_else(unknown, |release| release.trim().to_owned()),
            cpu: model(&cpus).map_or_else(unknown, str::to_owned),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Reads the model in what /proc/cpuinfo says: `model name` on x86, `Processor` or `CPU part` elsewhere.
fn model(cpus: &str) -> Option<&str> {
    let field = |name: &str| {
        cpus.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    ["model name", "Processor", "CPU part"].into_iter().find_map(field)
}

/// Returns what `git describe` says of the checkout that this was built from, with `-dirty` for changes that are not
/// committed; `unknown` without one.
pub(crate) fn commit() -> String {
    let mut git = Command::new("git");
    // The benchmark runs as root, the checkout may belong to somebody else.
    git.args([
        "-c",
        "safe.directory=*",
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "describe",
        "--always",
        "--dirty",
        "--tags",
    ]);
    let output = git.stdin(Stdio::null()).output().ok().filter(|output| output.status.success());
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.filter(|said| !said.is_empty()).unwrap_or_else(unknown)
}

/// Returns the time as RFC 3339.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_among_the_fields() {
        assert_eq!(model("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon 8358\n"), Some("Xeon 8358"));
        assert_eq!(model("processor\t: 0\nCPU part\t: 0xd0c\n"), Some("0xd0c"));
        assert_eq!(model("nothing of the kind"), None);
    }
}
