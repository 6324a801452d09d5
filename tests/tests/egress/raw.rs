//! What root in a pod whose egress is `mesh` can send past its sockets: nothing of it gets outside.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_harness::{Pod, Process, binary, wait_for, wait_until};
use serde_json::Value;

use crate::world::{PORT, World, lines, send, served, watch};

const SEGMENTS: [&str; 8] = ["data", "ack", "syn-ack", "fin", "rst", "rst-data", "rst-ack", "syn-data"];
const MESSAGES: [&str; 2] = ["echo-reply", "unreachable"];

#[test]
fn segments_without_a_connection_do_not_leave() {
    let world = World::new("egress-raw", "strict", "mesh", "hello", &[]);
    for accomplice in &world.outside {
        let watch = watch(accomplice);
        for (from, to) in pairs(&world, accomplice, 20_000) {
            for kind in SEGMENTS {
                for via in ["raw", "frame"] {
                    is_dropped(&world, from, to, &["--kind", kind, "--via", via]);
                }
            }
            // Whatever does not show its header whole is no less.
            is_dropped(&world, from, to, &["--kind", "data", "--form", "split"]);
        }
        assert_nothing(&world, &watch);
    }
}

#[test]
fn icmp_does_not_leave() {
    let world = World::new("egress-icmp", "strict", "mesh", "hello", &[]);
    for accomplice in &world.outside {
        let watch = watch(accomplice);
        for (from, to) in pairs(&world, accomplice, 0) {
            let special: &[&str] = if to.is_ipv4() { &["membership"] } else { &["solicitation"] };
            for kind in MESSAGES.iter().chain(special) {
                is_dropped(&world, from, to, &["--kind", kind]);
            }
        }
        assert_nothing(&world, &watch);
    }
    // Without `--blind` an echo follows, and whether it is answered.
    let is_answered = |from: &Pod, at: usize| {
        let [to, own] = [&world.client, from].map(|pod| SocketAddr::new(pod.ips()[at], 0).to_string());
        let arguments = ["send", &to, "--from", &own, "--kind", "echo-reply"];
        let output = from.run(binary("attack").to_str().unwrap(), &arguments);
        let silent = String::from_utf8_lossy(&output.stderr).contains("did not answer the echo");
        assert_ne!(output.status.success(), silent, "{output:?}");
        !silent
    };
    for at in [0, 1] {
        assert!(!is_answered(&world.outside[0], at), "one outside is answered");
        for peer in &world.peers {
            assert!(is_answered(peer, at), "{} is not answered", peer.name());
        }
    }
}

#[test]
fn a_connection_that_stands_lends_its_tuple_to_nobody() {
    let world = World::new("egress-lent", "permissive", "mesh", "hello", &[]);
    let _server = world.client.serve("echo", PORT);
    for at in [0, 1] {
        let accomplice = &world.outside[1];
        let watch = watch(accomplice);
        let to = [world.client.addr(PORT), world.client.addr6(PORT)][at];
        let mut held = accomplice.traffic_spawn(&["hold", &to.to_string()]);
        held.wait_log("holding");
        let heard = |line: &Value| line["flags"].as_u64() == Some(18) && line["from"] == to.to_string();
        let opened =
            wait_for("the SYN|ACK", Duration::from_secs(5), || lines(&watch).into_iter().find(heard));
        let peer: SocketAddr = opened["to"].as_str().unwrap().parse().unwrap();
        for kind in ["data", "syn-ack", "fin", "rst", "rst-data", "rst-ack"] {
            is_dropped(&world, to, peer, &["--kind", kind, "--sequence", "424242"]);
        }
        let forged: Vec<_> = lines(&watch).into_iter().filter(|line| line["sequence"] == 424_242).collect();
        assert!(forged.is_empty(), "{forged:?}");
        assert!(held.is_running(), "the connection goes on");
        held.stop();
        assert_eq!(held.result()["end"], "stopped");
    }
}

#[test]
fn a_pod_that_calls_itself_in_the_name_of_an_outsider_sends_them_nothing() {
    let world = World::new("egress-forged", "permissive", "mesh", "hello", &[]);
    let _server = world.client.serve("hello", PORT);
    let accomplice = &world.outside[1];
    let watch = watch(accomplice);
    for (from, to) in [
        (accomplice.addr(31_000), world.client.addr(PORT)),
        (accomplice.addr6(31_000), world.client.addr6(PORT)),
        (accomplice.addr(31_000), world.client.addr(15008)),
    ] {
        let before = dropped(&world);
        let (from, to) = (from.to_string(), to.to_string());
        let arguments = ["handshake", &to, "--from", &from, "--via", "raw"];
        let output = world.client.run(binary("attack").to_str().unwrap(), &arguments);
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(seen["accepted"], true, "the pod's own kernel takes it for a peer: {seen}");
        wait_dropped(&world, before);
    }
    assert_nothing(&world, &watch);
    // The real one is served.
    served(accomplice, &[world.client.addr(PORT), world.client.addr6(PORT)]);
}

#[test]
fn a_kernel_that_resets_who_never_called_tells_them_nothing() {
    let world = World::new("egress-reset", "strict", "mesh", "hello", &[]);
    let accomplice = &world.outside[1];
    let watch = watch(accomplice);
    for (to, from) in pairs(&world, accomplice, 9) {
        // The RST bears the number that the pod has chosen.
        for kind in ["data", "syn"] {
            let before = dropped(&world);
            send(&world.client, from, to, &["--via", "raw", "--kind", kind]);
            wait_dropped(&world, before);
        }
    }
    assert_nothing(&world, &watch);
}

/// From the client to `accomplice`, in both families.
fn pairs(world: &World, accomplice: &Pod, port: u16) -> [(SocketAddr, SocketAddr); 2] {
    [(world.client.addr(port), accomplice.addr(PORT)), (world.client.addr6(port), accomplice.addr6(PORT))]
}

/// How many packets of the client's the guard has dropped.
fn dropped(world: &World) -> u64 {
    world.dropped().as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

#[track_caller]
fn wait_dropped(world: &World, before: u64) {
    wait_until("the guard to drop it", Duration::from_secs(5), || dropped(world) > before);
}

/// Sends it from the client's link, and asserts that the guard drops it.
#[track_caller]
fn is_dropped(world: &World, from: SocketAddr, to: SocketAddr, more: &[&str]) {
    let before = dropped(world);
    send(&world.client, from, to, more);
    wait_dropped(world, before);
}

/// Asserts that nothing of the client's came to where `watch` watches.
#[track_caller]
fn assert_nothing(world: &World, watch: &Process) {
    let own = world.client.ips().map(|ip| ip.to_string());
    let seen: Vec<_> = watch
        .stdout()
        .lines()
        .filter(|line| own.iter().any(|ip| line.contains(ip)))
        .map(str::to_owned)
        .collect();
    assert!(seen.is_empty(), "{seen:?}");
}
