//! Bytes on the tunnel port that never become a tunnel.

use std::time::Duration;

use ambit_harness::wait_until;

use crate::world::{PORT, World, undisturbed};

/// How long a peer may take for its handshake, and some more for a busy machine.
const HANDSHAKE: f64 = 10.0 + 3.0;

#[test]
fn bytes_that_are_no_tls_are_closed_at_once() {
    let world = World::new("hbone-garbage", "hello");
    let traffic = world.traffic();
    for kind in ["garbage", "plain-http2", "plain-http1"] {
        let seen = world.hostile(kind, &["--connections", "50", "--patience", "8s"]);
        assert!(seen["longest_s"].as_f64().unwrap() < 4.0, "{kind}: {seen}");
        assert!(seen["ends"]["still open"].is_null(), "{kind}: {seen}");
    }
    let refused = world.agent.status()["connections"]["decisions"]["handshakes_refused"].clone();
    assert_eq!(refused, 150, "each is counted");
    undisturbed(traffic);
}

#[test]
fn slow_peers_are_closed_in_time_while_others_open_tunnels() {
    let world = World::new("hbone-slow", "hello");
    let (before, memory) = (world.descriptors(), world.memory("VmHWM"));
    let to = format!("{}:15008", world.server.ips()[0]);
    let mut strangers = ["slow", "half", "silence"].map(|kind| {
        let arguments = ["hostile", &to, "--send", kind, "--connections", "200"];
        world.peer.spawn(ambit_harness::binary("hbone-peer"), &arguments)
    });
    let mut preface =
        world.spawn_peer("raw", world.server.ips()[0], &["--send", "slow-preface", "--patience", "20s"]);
    wait_until("600 strangers to be connected", Duration::from_secs(8), || {
        world.descriptors() > before + 600
    });
    // Each run of the peer is a new tunnel; the mesh's own traffic opens one too.
    let traffic = world.traffic();
    for _ in 0..3 {
        let seen = world.connect(&["--timeout", "3s"]);
        assert_eq!(seen["ok"], 1, "{seen}");
    }
    for process in &mut strangers {
        process.wait(Duration::from_secs(25));
        let seen = crate::world::last_json(&process.stdout()).unwrap();
        assert!(seen["ends"]["still open"].is_null(), "{seen}");
        assert!(seen["longest_s"].as_f64().unwrap() < HANDSHAKE, "{seen}");
    }
    preface.wait(Duration::from_secs(25));
    let seen = crate::world::last_json(&preface.stdout()).unwrap();
    assert!(seen["end"].as_str().unwrap().starts_with("closed"), "{seen}");
    undisturbed(traffic);
    wait_until("the descriptors to be given back", Duration::from_secs(5), || {
        world.descriptors() < before + 20
    });
    let grown = world.memory("VmHWM") - memory;
    assert!(grown < 64 << 10, "600 strangers cost {grown} KiB");
}

#[test]
fn more_strangers_than_the_limit_do_not_exhaust_the_agent() {
    let world = World::new("hbone-crowd", "hello");
    let before = world.descriptors();
    let to = format!("{}:15008", world.server.ips()[0]);
    let arguments = ["hostile", &to, "--send", "silence", "--connections", "3000", "--patience", "4s"];
    let mut crowd = world.peer.spawn(ambit_harness::binary("hbone-peer"), &arguments);
    wait_until("the limit to be reached", Duration::from_secs(15), || {
        world.agent.log().contains("too many tunnels are being opened")
    });
    assert!(world.descriptors() < before + 1200, "{} descriptors", world.descriptors());
    crowd.wait(Duration::from_secs(30));
    let served = world.client.wait_connect(world.server.addr(PORT), true, Duration::from_secs(15));
    assert!(served.all_ok(), "{served:?}");
}
