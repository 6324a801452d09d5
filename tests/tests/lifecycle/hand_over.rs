//! One agent takes over from another: no connection fails, what the old one carries goes on, and it stays decided upon.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ambit_harness::{Agent, Mesh, Pod, PodSpec, Process, wait_until};

use super::pins::links;

const SOON: Duration = Duration::from_secs(10);

fn hold(client: &Pod, to: SocketAddr) -> Process {
    let mut held = client.traffic_spawn(&["hold", &to.to_string(), "--every", "5ms"]);
    held.wait_log("holding");
    held
}

fn looping(client: &Pod, to: SocketAddr) -> Process {
    let mut looping = client.traffic_spawn(&["loop", &to.to_string(), "--every", "2ms", "--timeout", "10s"]);
    looping.wait_log("looping");
    looping
}

#[track_caller]
fn assert_none_failed(mut looping: Process) -> u64 {
    looping.stop();
    let result = looping.result();
    assert_eq!(result["failed"], 0, "{result}");
    // A first packet that is lost comes again after a second.
    assert!(result["longest_gap_ms"].as_f64().unwrap() < 900.0, "{result}");
    result["ok"].as_u64().unwrap()
}

fn drains(agent: &Agent) -> usize {
    agent.status()["draining"].as_array().map_or(0, Vec::len)
}

#[test]
fn rolling_hand_overs_fail_no_connection_and_keep_what_is_carried() {
    let mut mesh = Mesh::start("roll", "strict", &["--drain-timeout", "5m"]);
    let _hello = [mesh.near.serve("hello", 8080), mesh.far.serve("hello", 8080)];
    let _echo = mesh.far.serve("echo", 8081);
    let held = hold(&mesh.client, mesh.far.addr(8081));
    let ways = [mesh.far_service.addr(), mesh.far.addr6(8080), mesh.near_service.addr()];
    let loops = ways.map(|to| looping(&mesh.client, to));
    let before = links(&mesh.a);
    let mut old = Vec::new();
    for round in 0..20 {
        old.push(mesh.agents[round % 2].hand_over());
    }
    for (to, looping) in ways.into_iter().zip(loops) {
        let ok = assert_none_failed(looping);
        assert!(ok > 100, "{to}: {ok} connections only");
    }
    assert_eq!(links(&mesh.a), before, "links are updated, never attached anew");
    mesh.wait_captured();
    // The first agents carry the held connection, and only they are left.
    for process in &mut old[2..] {
        assert!(process.wait(SOON).success(), "{}", process.log());
    }
    for process in &mut old[..2] {
        assert!(process.is_running(), "{}", process.log());
    }
    assert_eq!(mesh.agents.each_ref().map(drains), [1, 1]);
    let mut held = held;
    held.stop();
    assert_eq!(held.result()["end"], "stopped", "it went on through every hand-over");
    for process in &mut old[..2] {
        assert!(process.wait(SOON).success(), "nothing keeps it any more: {}", process.log());
    }
    assert_eq!(mesh.agents.each_ref().map(drains), [0, 0]);
}

#[test]
fn a_hand_over_fails_no_plaintext_of_a_peer_that_tries_once() {
    let mut mesh = Mesh::start("once", "permissive", &["--drain-timeout", "5m"]);
    let outside = mesh.a.pod(PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let _hello = mesh.far.serve("hello", 8080);
    let loops = [mesh.far.addr(8080), mesh.far.addr6(8080), mesh.far_service.addr()];
    let loops = loops.map(|to| looping(&outside, to));
    for _ in 0..5 {
        let mut old = mesh.agents[1].hand_over();
        assert!(old.wait(SOON).success(), "{}", old.log());
    }
    loops.into_iter().for_each(|looping| assert!(assert_none_failed(looping) > 100));
}

#[test]
fn what_outlives_the_drain_time_is_reset() {
    let mut mesh = Mesh::start("late", "strict", &["--drain-timeout", "2s"]);
    let _echo = mesh.far.serve("echo", 8081);
    for index in [0, 1] {
        let mut held = hold(&mesh.client, mesh.far.addr(8081));
        let mut old = mesh.agents[index].hand_over();
        assert!(old.wait(SOON).success(), "{}", old.log());
        assert!(old.log().contains("the time to drain is over"), "{}", old.log());
        held.wait(SOON);
        let result = held.result();
        assert_eq!(result["end"], "reset", "a cut stream never looks complete: {result}");
    }
}

#[test]
fn a_change_of_policy_closes_what_a_draining_agent_carries() {
    let mut mesh = Mesh::start("judged", "strict", &["--drain-timeout", "5m"]);
    let _echo = mesh.far.serve("echo", 8081);
    let mut held = hold(&mesh.client, mesh.far.addr(8081));
    let mut old = mesh.agents[1].hand_over();
    let status = mesh.agents[1].status();
    assert_eq!(status["draining"][0]["connections"], 1, "{status}");
    assert_eq!(status["draining"][0]["pid"], old.pid(), "{status}");
    let rows = mesh.agents[1].connections();
    assert_eq!(rows["connections"].as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows["connections"][0]["draining"], true, "{rows}");
    mesh.bed.write_object(
        "deny.yaml",
        "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: deny}
spec:
  action: Deny
  rules: [{from: [{serviceAccounts: [client]}], to: [{ports: [8081]}]}]
",
    );
    mesh.bed.apply();
    held.wait(SOON);
    assert_eq!(held.result()["end"], "reset");
    assert!(old.wait(SOON).success(), "{}", old.log());
}

#[test]
fn plaintext_that_a_draining_agent_carries_is_left_to_it() {
    let mut mesh = Mesh::start("plain", "permissive", &["--drain-timeout", "5m"]);
    let outside = mesh.a.pod(PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let _echo = mesh.far.serve("echo", 8081);
    let mut held = hold(&outside, mesh.far.addr(8081));
    let mut old = mesh.agents[1].hand_over();
    let rows = mesh.agents[1].connections();
    assert_eq!(rows["connections"].as_array().unwrap().len(), 1, "listed once: {rows}");
    // A change that says nothing of this connection makes the new agent look at every socket of the pod.
    mesh.bed.label_namespace("other", "none");
    mesh.bed.apply();
    assert_eq!(drains(&mesh.agents[1]), 1);
    mesh.bed.label_namespace("shop", "strict");
    mesh.bed.apply();
    held.wait(SOON);
    assert_eq!(held.result()["end"], "reset", "strict refuses plaintext");
    assert!(old.wait(SOON).success(), "{}", old.log());
    assert!(old.log().contains("live connection closed"), "the one that carries it decides: {}", old.log());
}

#[test]
fn an_agent_that_dies_while_it_takes_over_leaves_the_old_one_in_charge() {
    let mut mesh = Mesh::start("half", "strict", &["--drain-timeout", "5m"]);
    let _hello = mesh.far.serve("hello", 8080);
    let _echo = mesh.far.serve("echo", 8081);
    let mut held = hold(&mesh.client, mesh.far.addr(8081));
    let (to, before) = (mesh.far_service.addr(), [links(&mesh.a), links(&mesh.b)]);
    for index in [0, 1, 0, 1] {
        let loops = [looping(&mesh.client, to), looping(&mesh.client, mesh.far.addr6(8080))];
        let said = |log: &str| log.matches("in charge again").count();
        let started = mesh.agents[index].log().matches("handing over").count();
        let resumed = said(&mesh.agents[index].log());
        let mut rival = mesh.agents[index].rival();
        wait_until("the hand-over to begin", SOON, || {
            mesh.agents[index].log().matches("handing over").count() > started
        });
        rival.kill();
        wait_until("the old one to take back", SOON, || said(&mesh.agents[index].log()) > resumed);
        loops.into_iter().for_each(|looping| assert!(assert_none_failed(looping) > 0));
    }
    assert_eq!([links(&mesh.a), links(&mesh.b)], before);
    mesh.wait_captured();
    assert_eq!(mesh.agents.each_ref().map(drains), [0, 0]);
    // It hands over to the next one as if nothing had been.
    let mut old = mesh.agents[1].hand_over();
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
    assert!(old.wait(SOON).success(), "{}", old.log());
    assert!(mesh.client.connect_with(to, &["--count", "20"]).all_ok());
}

#[test]
fn an_agent_that_dies_at_any_moment_of_taking_over_does_no_lasting_harm() {
    let mut mesh = Mesh::start("any", "strict", &["--drain-timeout", "5m"]);
    let _hello = mesh.far.serve("hello", 8080);
    let started = std::time::Instant::now();
    let mut old = mesh.agents[1].hand_over();
    let (whole, _) = (started.elapsed(), old.wait(SOON));
    for part in 1..=8 {
        let started = std::time::Instant::now();
        let mut rival = mesh.agents[1].rival();
        wait_until("the moment", SOON, || started.elapsed() > whole * part / 8);
        rival.kill();
        // One that has taken over in full dies in charge; then the old one ends, too.
        let to = mesh.far.addr(8080);
        wait_until("the old agent to serve or to end", SOON, || {
            let served = mesh.client.connect_with(to, &["--timeout", "5s"]).all_ok();
            served || !mesh.agents[1].process().is_running()
        });
        if !mesh.agents[1].process().is_running() {
            mesh.agents[1].restart();
        }
    }
    mesh.agents[1].restart();
    mesh.wait_captured();
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
}

#[test]
fn an_agent_hands_over_to_none_that_speaks_another_version_or_means_other_pins() {
    let mesh = Mesh::start("words", "strict", &[]);
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(mesh.agents[0].socket()).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    };
    let answer = ask(r#"{"hand-over":{"protocol":99,"pins":[1,2]}}"#);
    assert!(answer.contains("version 1 of the protocol") && answer.contains("99"), "{answer}");
    let answer = ask(r#"{"hand-over":{"protocol":1,"pins":[1,2]}}"#);
    assert!(answer.contains("its pins lie in"), "{answer}");
    assert_eq!(mesh.agents[0].status()["ready"], true);
    mesh.wait_captured();
}
