//! Packets in wrappings and pieces: tunnels, other protocols, options, extension headers, fragments.

use std::net::SocketAddr;

use crate::world::{World, address, attack, send};

/// Each way to wrap or cut a packet, and whether its own pod's guard counts it when a SYN is in it.
const FORMS: [&str; 7] = ["tiny", "split", "overlap", "reversed", "route", "options", "nested"];

#[test]
fn protocols_that_carry_no_identity_do_not_arrive() {
    let mut world = World::new("protocols", "direct");
    let mut port = 30_000;
    for to in world.targets() {
        for kind in ["sctp", "ipip", "gre"] {
            for via in ["raw", "frame"] {
                let more = ["--kind", kind, "--via", via];
                for name in ["mallory", "outside", "far"] {
                    let pod = world.attacker(name).clone();
                    // Its own guard counts it, or that of db where it has none.
                    let guard = if name == "mallory" { "mallory" } else { "db" };
                    port += 1;
                    let before = world.dropped(guard);
                    send(&pod, address(&pod, to, port), to, &more);
                    if name != "far" {
                        world.wait_dropped(guard, before);
                    }
                }
            }
        }
    }
    let others = world.arrived(|packet| packet["protocol"] != 6 && packet["protocol"] != 17);
    assert!(others.is_empty(), "{others:?}");
    world.assert_untouched("other protocols");
    world.end();
}

#[test]
fn a_syn_in_pieces_or_wrappings_does_not_connect() {
    let mut world = World::new("pieces", "direct");
    let mut port = 31_000;
    for to in world.targets() {
        for form in FORMS {
            for via in ["raw", "frame"] {
                for kind in ["syn", "syn-data"] {
                    port += 1;
                    let what = format!("{kind} as {form} via {via} to {to}");
                    let more = ["--kind", kind, "--form", form, "--via", via];
                    let before = world.dropped("mallory");
                    let own = address(&world.mallory, to, port);
                    let sent = send(&world.mallory, own, to, &more);
                    // No first fragment asks for anything where the second makes it do so: the kernel that puts them
                    // together drops what overlaps.
                    if sent["errors"].as_array().unwrap().is_empty() && form != "overlap" {
                        world.wait_dropped("mallory", before);
                    }
                    let asked = world.arrived(|packet| {
                        packet["from"] == own.to_string() && packet["flags"].as_u64().unwrap() & 0x12 == 2
                    });
                    assert!(asked.is_empty(), "{what}: {asked:?}");
                    let sent = send(&world.outside, address(&world.outside, to, port), to, &more);
                    let accepted =
                        sent["answers"].as_array().unwrap().iter().any(|answer| answer == "accepted");
                    assert!(!accepted, "{what}: {sent}");
                }
            }
        }
        world.assert_untouched(&format!("pieces to {to}"));
    }
    world.end();
}

/// What opens a connection without a socket must be able to, or its failure says nothing: it does to a pod outside.
#[test]
fn a_handshake_without_a_socket_gets_nothing() {
    let mut world = World::new("handshake", "direct");
    let server = world.add_pod(ambit_harness::PodSpec::new("elsewhere", "server"));
    let greeter = server.serve("hello", 8080);
    let shake = |pod: &ambit_harness::Pod, from: SocketAddr, to: SocketAddr| {
        attack(pod, &["handshake", &to.to_string(), "--from", &from.to_string()])
    };
    // The kernels of the attackers would reset what they do not know: they lose their addresses.
    for pod in [&world.mallory, &world.outside] {
        let flushed = pod.run("ip", &["addr", "flush", "dev", "eth0"]);
        assert!(flushed.status.success(), "{flushed:?}");
    }
    for (at, to) in world.targets().into_iter().enumerate() {
        let plain = SocketAddr::new(server.ips()[at], 8080);
        let served = shake(&world.outside, address(&world.outside, to, 32_000), plain);
        assert_eq!(served["accepted"], true, "to a pod outside: {served}");
        assert!(served["bytes"].as_u64().unwrap() > 0, "{served}");
        let sources = [
            (&world.mallory, address(&world.mallory, to, 32_001)),
            (&world.mallory, address(&world.web, to, 32_002)),
            (&world.outside, address(&world.outside, to, 32_003)),
            (&world.outside, address(&world.web, to, 32_004)),
        ];
        for (pod, source) in sources {
            let refused = shake(pod, source, to);
            assert_eq!(
                refused,
                serde_json::json!({"accepted": false, "bytes": 0}),
                "{} as {source}",
                pod.name()
            );
        }
    }
    world.assert_untouched("handshakes by hand");
    assert_eq!(greeter.stop()["connections"], 2);
    world.end();
}
