//! What a peer with a good certificate is refused, and how it is told.

use std::time::Duration;

use ambit_harness::wait_until;
use serde_json::json;

use crate::world::{PORT, World, last_json};

const POLICY: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: only-client}
spec:
  selector: {matchLabels: {app: server}}
  rules:
  - from: [{serviceAccounts: [client]}]
";

#[test]
fn a_peer_that_no_policy_admits_is_answered_401() {
    let mut world = World::new("hbone-401", "hello");
    world.bed.write_object("policy.yaml", POLICY);
    world.bed.apply();
    let seen = world.connect(&["--streams", "3"]);
    assert_eq!(seen["answers"], json!({"401": 3}), "{seen}");
    world.agent.wait_log("connection denied");
    let log = world.agent.log();
    let line = log.lines().find(|line| line.contains("connection denied")).unwrap();
    for fact in
        ["spiffe://cluster.local/ns/elsewhere/sa/peer", "shop/server", "AccessPolicy shop/only-client"]
    {
        assert!(line.contains(fact), "{fact} in {line}");
    }
    assert!(world.client.connect(world.server.addr(PORT)).all_ok());
    let as_client = ["--id", "spiffe://cluster.local/ns/shop/sa/client"];
    assert_eq!(world.connect(&as_client)["answers"], json!({"200": 1}), "the identity decides");
}

#[test]
fn a_stream_that_a_change_of_policy_forbids_is_reset() {
    let world = World::new("hbone-revoke", "echo");
    let to = world.server.addr(PORT);
    let mut held =
        world.spawn_peer("connect", to.ip(), &["--authority", &to.to_string(), "--streams", "2", "--hold"]);
    held.wait_log("holding\nholding");
    world.bed.write_object("policy.yaml", POLICY);
    world.bed.apply();
    held.wait(Duration::from_secs(5));
    let seen = last_json(&held.stdout()).unwrap();
    assert_eq!(seen["ends"], json!({"reset": 2}), "{seen}");
    let counters = world.application.stop();
    assert_eq!(counters["aborted"], 2, "the application sees a reset too: {counters}");
}

#[test]
fn an_authority_that_is_not_the_pod_is_answered_400() {
    let world = World::new("hbone-400", "hello");
    let other_pod = world.client.addr(PORT).to_string();
    let other_family = world.server.addr6(PORT).to_string();
    let own_port = world.server.addr(15008).to_string();
    let no_port = world.server.ips()[0].to_string();
    let zero = world.server.addr(0).to_string();
    let vip = world.service.addr().to_string();
    assert_eq!(world.other_service.addr().port(), 80);
    let wrong = [
        other_pod.as_str(),
        &other_family,
        "127.0.0.1:8080",
        "[::1]:8080",
        "localhost:8080",
        &own_port,
        &no_port,
        &zero,
        &vip,
        "client.shop.svc.cluster.local:80",
        "server.shop.svc.cluster.local:8080",
        "server.shop.svc.cluster.local",
        "nobody.at-all.example:80",
        "10.1.0.10.:8080",
        "garbage",
    ];
    for authority in wrong {
        let seen = world.peer("connect", world.server.ips()[0], &["--authority", authority]);
        assert_eq!(seen["answers"], json!({"400": 1}), "{authority}: {seen}");
    }
    let log = world.agent.log();
    for said in ["asks for 10.2.0.10, but", "the agent's own", "does not stand behind"] {
        assert!(log.contains(said), "{said:?} in {log}");
    }
    // The tunnel is judged request by request: a good one after a bad one is served.
    let to = world.server.addr(PORT).to_string();
    let seen = world.peer(
        "connect",
        world.server.ips()[0],
        &["--hello", "--authority", "garbage", "--authority", &to],
    );
    assert_eq!(seen["answers"], json!({"200": 1, "400": 1}), "{seen}");
}

#[test]
fn a_request_that_is_no_connect_is_answered_400() {
    let mut world = World::new("hbone-method", "hello");
    for method in ["GET", "POST", "OPTIONS"] {
        let seen = world.connect(&["--method", method]);
        assert_eq!(seen["answers"], json!({"400": 1}), "{method}: {seen}");
    }
    world.agent.wait_log("only CONNECT");
}

#[test]
fn a_malformed_connect_ends_the_stream_alone() {
    let world = World::new("hbone-malformed", "hello");
    let (to, ip) = (world.server.addr(PORT).to_string(), world.server.ips()[0]);
    for authority in ["", "a b c:80", "\u{1}\u{2}:8080", "user:secret@10.0.0.1:80", "[::1:80"] {
        let arguments = ["--send", "connect", "--authority", authority, "--patience", "1s"];
        let seen = world.peer("raw", ip, &arguments);
        assert_eq!(seen["end"], "open", "{authority:?}: {seen}");
        let frames = seen["frames"].as_array().unwrap();
        let refused = |frame: &serde_json::Value| {
            frame["frame"] == "RST_STREAM" || frame["frame"] == "HEADERS" && frame["status"] == 400
        };
        assert!(frames.iter().any(refused), "{authority:?}: {seen}");
        assert!(!frames.iter().any(|frame| frame["status"] == 200), "{authority:?}: {seen}");
    }
    let with_path = ["--send", "connect-with-path", "--authority", &to, "--patience", "1s"];
    let seen = world.peer("raw", ip, &with_path);
    let frames = seen["frames"].as_array().unwrap();
    assert!(!frames.iter().any(|frame| frame["status"] == 200), "RFC 9113, 8.5 forbids a path: {seen}");
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    let world = World::new("hbone-headers", "hello");
    let large = world.connect(&["--header-bytes", "12000"]);
    assert_eq!(large["answers"], json!({"200": 1}), "{large}");
    let oversized = world.connect(&["--header-bytes", "100000"]);
    assert_eq!(oversized["ok"], 0, "{oversized}");
    let answers = oversized["answers"].as_object().unwrap();
    assert!(answers.keys().all(|status| status == "431"), "{oversized}");
}

#[test]
fn a_dead_application_is_answered_503() {
    let mut world = World::new("hbone-503", "hello");
    let ip = world.server.ips()[0];
    let dead = world.server.addr(9999).to_string();
    let alive = world.server.addr(PORT).to_string();
    let seen = world.peer("connect", ip, &["--hello", "--authority", &dead, "--authority", &alive]);
    assert_eq!(seen["answers"], json!({"200": 1, "503": 1}), "{seen}");
    world.agent.wait_log("application not reached");
    wait_until("no connection to be listed any more", Duration::from_secs(5), || {
        world.agent.connections()["connections"].as_array().is_some_and(Vec::is_empty)
    });
}
