//! The benchmark as programs read it: with the real agents, which must be built (`cargo xtask test` does it).

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-bench"));
    command.env("LOAD_BIN", env!("CARGO_BIN_EXE_load")).args(args).stdin(Stdio::null());
    command
}

#[test]
fn the_json_has_the_documented_fields_and_stands_in_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let save = dir.path().display().to_string();
    let mut command = bench(&[
        "--quick", "--only", "conn1", "--rounds", "1", "--time", "200ms", "-o", "json", "--save", &save,
    ]);
    let output = command.output().expect("the benchmark starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON is printed");
    let rows = report["results"].as_array().expect("results is a list");
    let paths: Vec<&str> = rows.iter().filter_map(|row| row["path"].as_str()).collect();
    assert_eq!(paths, ["same-node", "across", "to-plain"]);
    for row in rows {
        assert_eq!(row["test"], "conn1");
        for field in ["direct", "mesh", "ratio", "min", "max", "mesh_p50_us", "mesh_p99_us"] {
            assert!(row[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {row}");
        }
        assert!(row["cpu"].as_f64().is_some_and(|cpu| cpu >= 0.0), "{row}");
        assert_eq!(row["rounds"], 1, "{row}");
    }
    // Only what agents carry costs them anything: the bytes across nodes, in tunnels.
    let across = rows.iter().find(|row| row["path"] == "across").unwrap();
    assert!(across["cpu"].as_f64() > Some(0.0), "{across}");
    for field in ["kernel", "cpu"] {
        assert!(report["machine"][field].as_str().is_some_and(|text| !text.is_empty()), "{report}");
    }
    assert!(report["machine"]["cores"].as_u64() > Some(0), "{report}");
    assert!(report["commit"].is_string() && report["date"].is_string(), "{report}");
    for section in ["first", "policies", "changes", "memory"] {
        assert!(report[section].is_null(), "{section} was not asked for");
    }
    let saved = fs::read_to_string(dir.path().join("results.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&saved).unwrap(), report);
    let chart = fs::read_to_string(dir.path().join("speed.svg")).unwrap();
    assert_eq!(chart.matches("class=\"path\"").count(), 3, "{chart}");
}

#[test]
fn what_nobody_can_measure_is_refused_before_anything_is_built() {
    let output = bench(&["--only", "bulk2"]).output().expect("the benchmark starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("bulk2") && told.contains("bulk1"), "{told}");
}
