//! Tunnels that the agent opens to a peer that is not ambit.

use ambit_harness::{Agent, Pod, PodSpec, Process, Testbed, binary};
use serde_json::Value;

use crate::world::last_json;

const PORT: u16 = 8080;
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";

/// A pod on a node with an agent, and one on a node where another mesh's proxy accepts the tunnels.
struct Outbound {
    client: Pod,
    server: Pod,
    agent: Agent,
    bed: Testbed,
}

impl Outbound {
    fn new(name: &str) -> Self {
        let bed = Testbed::new(name);
        let (a, b) = (bed.node("a"), bed.node("b"));
        let client = a.pod(PodSpec::new("shop", "client").service_account("client").label("version", "v7"));
        let server = b.pod(PodSpec::new("shop", "server").service_account("server"));
        bed.label_namespace("shop", "strict");
        bed.publish();
        let agent = a.start_agent(&[]);
        Self { client, server, agent, bed }
    }

    fn serve(&self, id: &str, more: &[&str]) -> Process {
        let ca = self.bed.dir().join("ca").display().to_string();
        let arguments = [&["serve", "--ca", &ca, "--id", id], more].concat();
        let mut process = self.server.spawn(binary("hbone-peer"), &arguments);
        process.wait_log("listening");
        process
    }
}

fn result(mut process: Process) -> Value {
    last_json(&process.stop()).unwrap_or_else(|| panic!("no result: {}", process.log()))
}

const ECHO: [&str; 2] = ["--expect", "echo"];

#[test]
fn a_pod_reaches_a_pod_behind_another_proxy() {
    let world = Outbound::new("hbone-out");
    let proxy = world.serve(SERVER, &[]);
    let capture = world.bed.capture();
    for to in [world.server.addr(PORT), world.server.addr6(PORT)] {
        let seen = world.client.connect_with(to, &[&ECHO[..], &["--payload", "secret-payload"]].concat());
        assert!(seen.all_ok(), "{seen:?} {}", world.agent.log());
        assert_eq!(seen.getpeername, Some(to));
    }
    let captured = capture.stop();
    assert!(!captured.contains("secret-payload") && captured.tls_seen(15008));
    let payload = "p".repeat(100_000);
    let many = ["--count", "300", "--concurrency", "150", "--payload", &payload];
    let seen = world.client.connect_with(world.server.addr(PORT), &[&ECHO[..], &many].concat());
    assert_eq!(seen.ok, 300, "{seen:?}");
    let told = result(proxy);
    assert_eq!(told["peers"], serde_json::json!(["spiffe://cluster.local/ns/shop/sa/client"]));
    assert_eq!(told["sni"], serde_json::json!([]), "no name is told to the wire");
    assert_eq!(told["failed"], serde_json::json!([]));
    let tunnels = told["tunnels"].as_u64().unwrap();
    assert!((2..=6).contains(&tunnels), "300 connections share tunnels of 100 streams: {tunnels}");
    let request = &told["requests"][0];
    assert_eq!(request["method"], "CONNECT");
    assert_eq!(request["authority"], world.server.addr(PORT).to_string());
    let baggage = request["baggage"].as_str().unwrap();
    for member in [
        "k8s.cluster.name=Kubernetes",
        "k8s.namespace.name=shop",
        "k8s.pod.name=client",
        "service.name=client",
        "service.version=v7",
    ] {
        assert!(baggage.split(',').any(|found| found == member), "{member} in {baggage}");
    }
    let forwarded = request["forwarded"].as_str().unwrap();
    assert!(forwarded.starts_with(&format!("for=\"{}:", world.client.ips()[0])), "{forwarded}");
}

#[test]
fn a_peer_with_few_streams_gets_more_tunnels() {
    let world = Outbound::new("hbone-few");
    let proxy = world.serve(SERVER, &["--max-streams", "3"]);
    let many = ["--count", "60", "--concurrency", "20"];
    let seen = world.client.connect_with(world.server.addr(PORT), &[&ECHO[..], &many].concat());
    assert_eq!(seen.ok, 60, "{seen:?} {}", world.agent.log());
    assert!(result(proxy)["tunnels"].as_u64().unwrap() > 1);
}

#[test]
fn a_peer_that_is_not_who_it_must_be_gets_nothing() {
    for (id, certificate) in [
        ("spiffe://cluster.local/ns/shop/sa/other", "valid"),
        (SERVER, "foreign"),
        (SERVER, "expired"),
        (SERVER, "two-uris"),
    ] {
        let mut world = Outbound::new("hbone-impostor");
        let proxy = world.serve(id, &["--cert", certificate]);
        let seen = world.client.connect_with(world.server.addr(PORT), &ECHO);
        assert!(seen.none_ok(), "{id} {certificate}: {seen:?}");
        assert_eq!(seen.errors.get("reset"), Some(&1), "{id} {certificate}: {seen:?}");
        world.agent.wait_log("connection failed");
        assert_eq!(result(proxy)["requests"], serde_json::json!([]), "{id} {certificate}");
    }
}

#[test]
fn an_answer_other_than_200_is_a_reset_and_is_explained() {
    for (answer, explained) in [("401", "refuses it by policy"), ("503", "does not reach the application")] {
        let mut world = Outbound::new("hbone-answer");
        let proxy = world.serve(SERVER, &["--answer", answer]);
        let seen = world.client.connect_with(world.server.addr(PORT), &ECHO);
        assert_eq!(seen.errors.get("reset"), Some(&1), "{answer}: {seen:?}");
        world.agent.wait_log(explained);
        assert!(!result(proxy)["requests"].as_array().unwrap().is_empty(), "{answer}");
    }
}
