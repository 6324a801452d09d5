//! Hooks that somebody takes off behind the agent's back: it says so, and puts them back.

use std::fs;
use std::time::Duration;

use ambit_harness::wait_for;
use serde_json::Value;

use crate::world::Lane;

fn pod(lane: &Lane, name: &str) -> Value {
    let status = lane.agent.status();
    status["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == name).unwrap().clone()
}

#[test]
fn a_pod_whose_hook_is_taken_off_is_not_captured_until_it_is_proven_again() {
    let lane = Lane::start("repair", "hello", &[]);
    let links = lane.node.bpffs().join("links");
    let patience = Duration::from_secs(10);
    let first = wait_for("db to be captured", patience, || {
        Some(pod(&lane, "db")).filter(|pod| pod["captured"] == true && !pod["tested_at"].is_null())
    });
    assert!(first["problem"].is_null(), "{first}");
    for program in ["from_pod_", "to_pod_", "lookup_", "connect4_", "connection_"] {
        let pins: Vec<_> = fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().path()).collect();
        let is_ours =
            |path: &&std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(program);
        let taken: Vec<_> = pins.iter().filter(is_ours).collect();
        assert!(!taken.is_empty(), "no {program} in {pins:?}");
        // The pin holds the link's last reference: without it the program is detached.
        taken.iter().for_each(|path| fs::remove_file(path).unwrap());
        let failed = wait_for(&format!("the status to miss {program}"), patience, || {
            Some(pod(&lane, "db")).filter(|pod| pod["captured"] == false && !pod["problem"].is_null())
        });
        let problem = failed["problem"].as_str().unwrap();
        assert!(problem.contains("was taken off, not by the agent"), "{program}: {problem}");
        let again = wait_for("db to be captured again", patience, || {
            Some(pod(&lane, "db")).filter(|pod| pod["captured"] == true)
        });
        assert!(again["problem"].is_null() && again["tested_at"] != first["tested_at"], "{again}");
        assert!(taken.iter().all(|path| path.exists()), "{program} is pinned again");
        lane.assert_policy_holds();
    }
}
