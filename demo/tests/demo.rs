//! The demo as a user runs it: with the real agents, which must be built (`cargo xtask test` does it).

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ambit_harness::wait_until;
use serde_json::Value;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-demo"));
    command.env("CALCULATOR_BIN", env!("CARGO_BIN_EXE_calculator"));
    command
}

/// Returns what stands of the testbeds of a process: namespaces, folders, mounts, cgroups.
fn remains_of(pid: u32) -> Vec<String> {
    let mine = format!("ambit-bed-{pid}-");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("/proc is mounted");
    let mut found: Vec<String> =
        mounts.lines().filter(|line| line.contains(&mine)).map(String::from).collect();
    let cgroups = mounts.lines().filter(|line| line.starts_with("cgroup2 "));
    let mut dirs: Vec<PathBuf> =
        cgroups.filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect();
    dirs.extend([PathBuf::from("/run/netns"), std::env::temp_dir()]);
    for dir in dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.starts_with(&mine)));
    }
    found
}

/// Runs the demo to its end and returns the rows of its JSON.
fn rows(args: &[&str]) -> Vec<Value> {
    let output = demo().args(["-o", "json"]).args(args).output().expect("the demo starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let mut report: Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON is printed");
    serde_json::from_value(report["rows"].take()).expect("rows is a list")
}

#[test]
fn without_a_mesh_everyone_reaches_everyone_in_plaintext() {
    let rows = rows(&["--without-agents"]);
    assert_eq!(rows.len(), 19);
    for row in &rows {
        let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["encrypted", "expected", "from", "mode", "observed", "ok", "to", "via"]);
        assert_eq!((&row["ok"], &row["mode"]), (&Value::from(true), &Value::from("none")), "{row}");
        assert_ne!(row["encrypted"], true, "{row}");
    }
    assert!(rows.iter().any(|row| row["via"] == "pod-ip" && row["encrypted"] == false));
    assert!(rows.iter().any(|row| row["via"] == "pod-ip" && row["encrypted"].is_null()));
}

#[test]
fn every_row_is_as_expected_in_every_mode() {
    let rows = rows(&[]);
    for mode in ["none", "strict", "audit", "permissive"] {
        assert!(rows.iter().any(|row| row["mode"] == mode), "{mode} is shown");
    }
    for row in &rows {
        assert_eq!(row["ok"], true, "{row}");
        assert_eq!(row["observed"], row["expected"], "{row}");
    }
    let strict = |from: &str, to: &str| {
        rows.iter().find(|row| row["mode"] == "strict" && row["from"] == from && row["to"] == to).unwrap()
    };
    assert_eq!(strict("mathfanboy", "multiplication-2")["encrypted"], true);
    assert_eq!(strict("addition", "multiplication-2")["observed"], "refused");
}

#[test]
fn a_kept_demo_prints_commands_that_work_and_ends_when_asked() {
    let dir = std::env::temp_dir().join(format!("ambit-demo-kept-{}", std::process::id()));
    let told = std::fs::File::create(&dir).unwrap();
    let mut child = demo().arg("--keep").stdout(Stdio::null()).stderr(told).spawn().unwrap();
    let pid = child.id();
    let mut hints = String::new();
    wait_until("the demo to print what to try", Duration::from_secs(120), || {
        hints = std::fs::read_to_string(&dir).unwrap();
        hints.contains("To end it") || !matches!(child.try_wait(), Ok(None))
    });
    let run = |wanted: &str| {
        let line = hints
            .lines()
            .map(str::trim)
            .find(|line| line.contains(wanted))
            .unwrap_or_else(|| panic!("{hints}"));
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (answered, status) = run("ambit status");
    assert!(answered && status.contains("mathfanboy"), "{status}");
    let (answered, why) = run("ambit explain");
    assert!(answered && why.starts_with("refused: no Allow policy"), "{why}");
    let (reached, answer) = run("pods/rest-calculator-mathfanboy/cgroup.procs; exec");
    assert!(reached && answer.contains("42"), "{answer}");
    let (reached, answer) = run("pods/rest-calculator-addition/cgroup.procs; exec");
    assert!(!reached && answer.is_empty(), "{answer}");
    assert_eq!(run("nft list ruleset"), (true, String::new()));

    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success(), "{hints}");
    assert_eq!(remains_of(pid), Vec::<String>::new());
    std::fs::remove_file(dir).unwrap();
}

#[test]
fn an_interrupted_demo_removes_everything() {
    let mut child =
        demo().arg("--without-agents").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    wait_until("the demo to build its nodes", Duration::from_secs(20), || {
        remains_of(pid).iter().any(|name| name.contains("mathfanboy"))
    });
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{told}");
    assert!(told.contains("interrupted"), "{told}");
    assert_eq!(remains_of(pid), Vec::<String>::new());
}
