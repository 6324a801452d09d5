//! An agent that is stopped in order, and a rolling restart under traffic.

use std::time::Duration;

use ambit_harness::{Mesh, wait_until};

use super::pins::links;

#[test]
fn a_stopped_agent_leaves_its_hooks_and_says_so() {
    let mut mesh = Mesh::start("stop", "strict", &[]);
    let _hello = mesh.far.serve("hello", 8080);
    let _echo = mesh.far.serve("echo", 8081);
    let mut held = mesh.client.traffic_spawn(&["hold", &mesh.far.addr(8081).to_string(), "--every", "5ms"]);
    held.wait_log("holding");
    let before = links(&mesh.a);
    mesh.agents[0].stop();
    assert!(mesh.agents[0].log().contains("agent stopped"), "{}", mesh.agents[0].log());
    assert!(!mesh.agents[0].socket().exists(), "its socket is gone");
    held.wait(Duration::from_secs(5));
    assert_eq!(held.result()["end"], "reset", "a cut stream never looks complete");
    assert!(mesh.client.connect(mesh.far.addr(8080)).none_ok(), "it fails closed");
    assert_eq!(links(&mesh.a), before);
    mesh.agents[0].restart();
    mesh.wait_captured();
    assert_eq!(links(&mesh.a), before);
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
}

#[test]
fn a_rolling_restart_of_the_servers_agent_loses_no_new_connection() {
    let mut mesh = Mesh::start("rolling", "strict", &["--drain-timeout", "10s"]);
    let _hello = mesh.far.serve("hello", 8080);
    let to = mesh.far_service.addr().to_string();
    let mut looping = mesh.client.traffic_spawn(&["loop", &to, "--every", "1ms", "--timeout", "10s"]);
    looping.wait_log("looping");
    for _ in 0..3 {
        mesh.agents[1].restart();
        wait_until("traffic after the restart", Duration::from_secs(10), || mesh.allowed(1) > 20);
    }
    looping.stop();
    let result = looping.result();
    eprintln!("three restarts under traffic: {result}");
    assert!(result["ok"].as_u64().unwrap() > 60, "{result}");
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["longest_gap_ms"].as_f64().unwrap() < 3000.0, "{result}");
}
