//! SIGTERM without a successor: what is carried goes on for the drain time, then the agent is gone.

use std::time::{Duration, Instant};

use ambit_harness::{Mesh, Process, Signal, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn hold(mesh: &Mesh) -> Process {
    let mut held = mesh.client.traffic_spawn(&["hold", &mesh.far.addr(8081).to_string(), "--every", "5ms"]);
    held.wait_log("holding");
    held
}

#[test]
fn an_agent_that_carries_nothing_stops_at_once() {
    let mut mesh = Mesh::start("idle", "strict", &["--drain-timeout", "5m"]);
    let _hello = mesh.far.serve("hello", 8080);
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "5"]).all_ok());
    for agent in &mut mesh.agents {
        let asked = Instant::now();
        agent.process().signal(Signal::TERM);
        assert!(agent.process().wait(SOON).success());
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}: {}", asked.elapsed(), agent.log());
        assert!(!agent.socket().exists());
    }
}

#[test]
fn an_agent_stays_for_what_it_carries_serves_new_connections_and_leaves_with_the_last() {
    let mut mesh = Mesh::start("stays", "strict", &["--drain-timeout", "5m"]);
    let _servers = [mesh.far.serve("hello", 8080), mesh.far.serve("echo", 8081)];
    let mut held = hold(&mesh);
    mesh.agents[1].process().signal(Signal::TERM);
    mesh.agents[1].wait_log("told to stop");
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
    assert_eq!(mesh.agents[1].status()["ready"], true, "it is in charge until it goes");
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
    assert!(mesh.agents[1].process().wait(SOON).success());
}

#[test]
fn a_successor_takes_over_from_an_agent_that_was_told_to_stop() {
    let mut mesh = Mesh::start("heir", "strict", &["--drain-timeout", "5m"]);
    let _servers = [mesh.far.serve("hello", 8080), mesh.far.serve("echo", 8081)];
    let mut held = hold(&mesh);
    let to = mesh.far_service.addr().to_string();
    let mut looping = mesh.client.traffic_spawn(&["loop", &to, "--every", "1ms", "--timeout", "10s"]);
    looping.wait_log("looping");
    mesh.agents[1].process().signal(Signal::TERM);
    mesh.agents[1].wait_log("told to stop");
    let mut old = mesh.agents[1].hand_over();
    looping.stop();
    assert_eq!(looping.result()["failed"], 0, "{}", looping.result());
    assert!(old.is_running(), "{}", old.log());
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
    assert!(old.wait(SOON).success(), "{}", old.log());
}

#[test]
fn an_agent_that_is_to_stay_after_a_hand_over_ends_when_it_is_told_to() {
    let mut mesh = Mesh::start("stay", "strict", &["--drain-timeout", "1s", "--stay-after-hand-over"]);
    let _hello = mesh.far.serve("hello", 8080);
    let mut old = mesh.agents[1].hand_over();
    old.wait_log("staying until told to stop");
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
    assert!(old.is_running());
    old.signal(Signal::TERM);
    assert!(old.wait(SOON).success(), "{}", old.log());
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
}

#[test]
fn a_second_signal_or_an_interrupt_ends_an_agent_at_once() {
    let mut mesh = Mesh::start("twice", "strict", &["--drain-timeout", "5m"]);
    let _echo = mesh.far.serve("echo", 8081);
    for signals in [&[Signal::TERM, Signal::TERM][..], &[Signal::TERM, Signal::INT], &[Signal::INT]] {
        let mut held = hold(&mesh);
        for signal in signals {
            mesh.agents[1].process().signal(*signal);
            if signals.len() > 1 && *signal == Signal::TERM {
                mesh.agents[1].wait_log("told to");
            }
        }
        assert!(mesh.agents[1].process().wait(Duration::from_secs(3)).success());
        held.wait(SOON);
        assert_eq!(held.result()["end"], "reset", "a cut stream never looks complete");
        mesh.agents[1].restart();
        mesh.wait_captured();
    }
}

#[test]
fn what_is_still_carried_when_the_time_is_over_is_reset() {
    let mut mesh = Mesh::start("over", "strict", &["--drain-timeout", "1s"]);
    let _echo = mesh.far.serve("echo", 8081);
    for index in [0, 1] {
        let mut held = hold(&mesh);
        mesh.agents[index].process().signal(Signal::TERM);
        assert!(mesh.agents[index].process().wait(SOON).success());
        held.wait(SOON);
        assert_eq!(held.result()["end"], "reset");
        mesh.agents[index].restart();
        mesh.wait_captured();
    }
    wait_until("both to serve", SOON, || mesh.agents.iter().all(|agent| agent.status()["ready"] == true));
}
