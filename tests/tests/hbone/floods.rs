//! Peers with a good certificate that ask too much.

use std::time::Duration;

use ambit_harness::wait_until;
use serde_json::json;

use crate::world::{PORT, World, last_json, undisturbed};

/// What a peer may make the agent hold, in KiB, above what it held before.
const BOUND: u64 = 96 << 10;

#[test]
fn a_peer_that_never_reads_its_streams_costs_little() {
    let world = World::new("hbone-unread", "hello");
    let source = world.server.serve_on("source", "[::]:9090", &["--bytes", "10000000000"]);
    let (traffic, memory) = (world.traffic(), world.memory("VmHWM"));
    let to = world.server.addr(9090);
    let arguments = ["--authority", &to.to_string(), "--streams", "100", "--never-read"];
    let mut unread = world.spawn_peer("connect", to.ip(), &arguments);
    wait_until("100 streams to be open", Duration::from_secs(10), || {
        unread.stdout().matches("holding").count() == 100
    });
    steady(&world);
    let grown = world.memory("VmHWM") - memory;
    assert!(grown < BOUND, "{grown} KiB for 100 streams that nobody reads");
    undisturbed(traffic);
    unread.stop();
    drop(source);
}

#[test]
fn a_peer_that_never_reads_its_connection_costs_little_and_is_dropped() {
    let world = World::new("hbone-deaf", "hello");
    let source = world.server.serve_on("source", "[::]:9090", &["--bytes", "10000000000"]);
    let (traffic, memory) = (world.traffic(), world.memory("VmHWM"));
    let to = world.server.addr(9090);
    let arguments = ["--send", "deaf", "--authority", &to.to_string(), "--count", "100", "--patience", "45s"];
    let mut deaf = world.spawn_peer("raw", to.ip(), &arguments);
    deaf.wait_log("holding");
    steady(&world);
    let grown = world.memory("VmHWM") - memory;
    assert!(grown < BOUND, "{grown} KiB for a connection that nobody reads");
    // It answers no PING either: after 10 s to the first one and 20 s of patience it is gone.
    deaf.wait(Duration::from_secs(50));
    let seen = last_json(&deaf.stdout()).unwrap();
    assert!(seen["end"] != "open", "{seen}");
    undisturbed(traffic);
    drop(source);
}

/// Waits until the agent's memory no longer grows.
fn steady(world: &World) {
    let (mut last, mut same) = (0, 0);
    wait_until("the memory to be steady", Duration::from_secs(15), || {
        let now = world.memory("VmRSS");
        same = if now.abs_diff(last) < 256 { same + 1 } else { 0 };
        last = now;
        same == 100
    });
}

#[test]
fn a_flood_of_resets_is_cut_off() {
    let world = World::new("hbone-rapid", "hello");
    let (traffic, memory, before) = (world.traffic(), world.memory("VmHWM"), world.descriptors());
    let seen = world.raw("rapid-reset", &["--count", "200000", "--patience", "3s"]);
    let grown = world.memory("VmHWM") - memory;
    assert!(grown < BOUND, "{grown} KiB: {seen}");
    assert!(seen["end"].as_str().unwrap().starts_with("closed"), "the tunnel is cut off: {seen}");
    assert!(seen["frames"].as_array().unwrap().iter().any(|frame| frame["frame"] == "GOAWAY"), "{seen}");
    wait_until("the descriptors to be given back", Duration::from_secs(15), || {
        world.descriptors() < before + 20
    });
    undisturbed(traffic);
}

#[test]
fn frames_that_break_the_rules_end_their_tunnel_alone() {
    let world = World::new("hbone-frames", "hello");
    let (traffic, memory) = (world.traffic(), world.memory("VmHWM"));
    for send in ["giant", "garbage", "continuations"] {
        let seen = world.raw(send, &["--count", "100000", "--patience", "5s"]);
        assert!(seen["end"].as_str().unwrap().starts_with("closed"), "{send}: {seen}");
    }
    let seen = world.raw("pings", &["--count", "100000", "--patience", "2s"]);
    let grown = world.memory("VmHWM") - memory;
    assert!(grown < BOUND, "{grown} KiB; {seen}");
    assert_eq!(world.connect(&[])["answers"], json!({"200": 1}));
    assert!(world.client.connect(world.server.addr(PORT)).all_ok());
    undisturbed(traffic);
}
