//! Runs set-up commands, inside a network namespace where asked. Never runs the traffic under test.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::netns;

/// Runs a shell script (stopping at its first failing line) in the namespace `netns`, or in the caller's.
pub(crate) fn script(in_netns: Option<&str>, text: &str) -> Result<String> {
    piped(in_netns, &["sh", "-e", "-s"], text)
}

/// Runs a command with `input` on its standard input and returns what it printed.
pub(crate) fn piped(in_netns: Option<&str>, argv: &[&str], input: &str) -> Result<String> {
    let mut command = match in_netns {
        Some(name) => {
            let mut nsenter = Command::new("nsenter");
            nsenter.arg(format!("--net={}", netns::path(name).display())).arg("--").args(argv);
            nsenter
        }
        None => {
            let mut plain = Command::new(argv[0]);
            plain.args(&argv[1..]);
            plain
        }
    };
    let shown = argv.join(" ");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{shown}`; is it installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that stops reading early says why on its own: its exit status is what counts.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("wait for `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed with {}: {}\nits input was:\n{input}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns whether a program is found on the PATH.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_line_stops_the_script_and_is_told() {
        let error = script(None, "echo before >&2\nfalse\ntouch /nonexistent/x").unwrap_err().to_string();
        assert!(error.contains("before") && !error.contains("No such file"), "{error}");
    }

    #[test]
    fn output_is_returned() {
        assert_eq!(script(None, "echo hello").unwrap(), "hello\n");
    }
}
