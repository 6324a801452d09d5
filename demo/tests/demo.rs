//! The demo as a user runs it, as far as it goes without agents.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ambit_harness::wait_until;
use serde_json::Value;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-demo"));
    command.env("CALCULATOR_BIN", env!("CARGO_BIN_EXE_calculator")).arg("--without-agents");
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

#[test]
fn json_has_every_row_and_nothing_else_and_no_row_is_wrong_without_a_mesh() {
    let output = demo().args(["-o", "json"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 19);
    for row in rows {
        let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["encrypted", "expected", "from", "mode", "observed", "ok", "to", "via"]);
        assert_eq!((&row["ok"], &row["mode"]), (&Value::from(true), &Value::from("none")), "{row}");
        assert_ne!(row["encrypted"], true, "{row}");
    }
    assert!(rows.iter().any(|row| row["via"] == "pod-ip" && row["encrypted"] == false));
    assert!(rows.iter().any(|row| row["via"] == "pod-ip" && row["encrypted"].is_null()));
}

#[test]
fn an_interrupted_demo_removes_everything() {
    let mut child = demo().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
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
