//! An agent that is killed: nothing passes unchecked meanwhile, no stream looks complete, a restart recovers.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_harness::{Mesh, Pod, PodSpec, Process};

use super::pins::links;

const SOON: Duration = Duration::from_secs(5);

fn hold(client: &Pod, to: SocketAddr) -> Process {
    let mut held = client.traffic_spawn(&["hold", &to.to_string(), "--every", "5ms"]);
    held.wait_log("holding");
    held
}

#[track_caller]
fn assert_ends_in_a_reset(mut held: Process) {
    held.wait(SOON);
    let result = held.result();
    assert_eq!(result["end"], "reset", "a cut stream never looks complete: {result}");
}

#[track_caller]
fn assert_loopback_goes_on(pod: &Pod) {
    let own = ["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()];
    for to in own.into_iter().chain([pod.addr(8080), pod.addr6(8080)]) {
        let seen = pod.connect(to);
        assert!(seen.all_ok(), "{} to itself at {to}: {seen:?}", pod.name());
    }
}

#[track_caller]
fn assert_refused(from: &Pod, to: SocketAddr) {
    let seen = from.connect_with(to, &["--timeout", "10s"]);
    assert!(seen.none_ok(), "{} to {to}: {seen:?}", from.name());
    let ends: Vec<&str> = seen.errors.keys().map(String::as_str).collect();
    assert!(["refused", "reset"].contains(&ends[0]), "refused at once, and not cut: {seen:?}");
}

/// Kills one agent, and checks that its `pod` is cut off from `peer` (on the other node) and `neighbour`.
#[track_caller]
fn kill_and_recover(mut mesh: Mesh, killed: usize) {
    let outside = mesh.b.pod(PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let (node, pod, peer) =
        if killed == 0 { (&mesh.a, &mesh.client, &mesh.far) } else { (&mesh.b, &mesh.far, &mesh.client) };
    let _hello = [&mesh.client, &mesh.near, &mesh.far].map(|pod| pod.serve("hello", 8080));
    let _echo = [&mesh.near, &mesh.far].map(|pod| pod.serve("echo", 8081));
    let held = hold(&mesh.client, mesh.far.addr(8081));
    let before = links(node);
    mesh.agents[killed].kill();
    assert_ends_in_a_reset(held);
    for to in [peer.addr(8080), peer.addr6(8080)] {
        assert_refused(pod, to);
    }
    // The agent of the caller waits a moment for the other one to come back.
    assert_refused(peer, pod.addr(8080));
    for to in [pod.addr(8080), pod.addr6(8080)] {
        assert_refused(&outside, to);
    }
    assert_loopback_goes_on(pod);
    assert_eq!(links(node), before, "every link stays pinned");

    mesh.agents[killed].restart();
    mesh.wait_captured();
    assert_eq!(links(node), before, "the next agent takes the links over");
    for (from, to) in [(pod, peer), (peer, pod), (&mesh.client, &mesh.near)] {
        for address in [to.addr(8080), to.addr6(8080)] {
            let seen = from.connect_with(address, &["--count", "20"]);
            assert_eq!(seen.ok, 20, "{} to {address}: {seen:?}", from.name());
        }
    }
    assert!(mesh.allowed(killed) >= 40, "through the mesh, as before");
}

#[test]
fn a_killed_agent_of_the_client_fails_closed_and_recovers() {
    kill_and_recover(Mesh::start("kill-a", "strict", &[]), 0);
}

#[test]
fn a_killed_agent_of_the_server_fails_closed_and_recovers() {
    kill_and_recover(Mesh::start("kill-b", "strict", &[]), 1);
}

#[test]
fn a_killed_agent_fails_closed_in_permissive_mode_too() {
    let mut mesh = Mesh::start("kill-p", "permissive", &[]);
    let outside = mesh.a.pod(PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let _hello = mesh.far.serve("hello", 8080);
    assert!(outside.connect(mesh.far.addr(8080)).all_ok(), "permissive serves a peer outside the mesh");
    mesh.agents[1].kill();
    assert_refused(&outside, mesh.far.addr(8080));
    mesh.agents[1].restart();
    outside.wait_connect(mesh.far.addr(8080), true, SOON);
}

#[test]
fn what_the_agent_does_not_carry_does_not_notice_its_death() {
    let mut mesh = Mesh::start("kill-o", "strict", &[]);
    let outside = mesh.b.pod(PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let _servers = [outside.serve("hello", 8080), outside.serve("echo", 8081)];
    let mut held = hold(&mesh.client, outside.addr(8081));
    for agent in &mut mesh.agents {
        agent.kill();
    }
    for to in [outside.addr(8080), outside.addr6(8080)] {
        assert!(mesh.client.connect_with(to, &["--count", "20"]).all_ok());
    }
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
}
