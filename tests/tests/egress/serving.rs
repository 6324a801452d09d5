//! A pod whose egress is `mesh` goes on serving those outside, as its mode and policies let it.

use std::time::Duration;

use ambit_harness::{Pod, wait_for, wait_until};
use serde_json::Value;

use crate::world::{PORT, World, lines, send, served, watch};

const SOON: Duration = Duration::from_secs(5);
const RST: u64 = 4;
const ACK: u64 = 16;
const FIN: u64 = 1;

fn observe(client: &Pod, to: std::net::SocketAddr, bytes: &str) -> Value {
    client.traffic(&["reset", &to.to_string(), "--observe", "--bytes", bytes])
}

#[track_caller]
fn nothing_was_dropped(world: &World) {
    assert_eq!(world.dropped(), serde_json::json!({}), "it was no attack");
}

#[test]
fn outsiders_are_served_to_the_end_whoever_ends() {
    let world = World::new("egress-serves", "permissive", "mesh", "hello", &[]);
    let pod = &world.client;
    let (_hello, _sum) = (pod.serve("hello", 8080), pod.serve("sum", 8081));
    let _reset = pod.serve_on("reset", "[::]:8082", &["--bytes", "4"]);
    let _close = pod.serve_on("close", "[::]:8083", &["--bytes", "4"]);
    let _source = pod.serve_on("source", "[::]:8084", &["--bytes", "3000000"]);
    let mut discard = pod.serve("discard", 8085);
    for outside in &world.outside {
        for at in [|pod: &Pod, port| pod.addr(port), |pod: &Pod, port| pod.addr6(port)] {
            served(outside, &[at(pod, 8080)]);
            let sent = outside.traffic(&["half-close", &at(pod, 8081).to_string(), "--bytes", "3000000"]);
            assert_eq!(sent["ok"], true, "{sent}");
            assert_eq!(observe(outside, at(pod, 8082), "4")["end"], "reset");
            assert_eq!(observe(outside, at(pod, 8083), "4")["end"], "eof");
            assert_eq!(outside.traffic(&["reset", &at(pod, 8085).to_string()])["end"], "sent-reset");
        }
    }
    wait_until("the client's resets to arrive", SOON, || {
        discard.process().log().matches("reset by peer").count() == 4
    });
    nothing_was_dropped(&world);
}

#[test]
fn a_closed_port_refuses_at_once() {
    for mode in ["permissive", "strict"] {
        let world = World::new(&format!("egress-closed-{mode}"), mode, "mesh", "hello", &[]);
        let _open = world.client.serve("hello", PORT);
        for outside in &world.outside {
            for port in [PORT, 9] {
                for to in [world.client.addr(port), world.client.addr6(port)] {
                    if (mode, port) == ("permissive", PORT) {
                        served(outside, &[to]);
                        continue;
                    }
                    let seen = outside.connect_with(to, &["--timeout", "3s"]);
                    // Where strangers may be served the agent has taken the connection before it finds the port closed.
                    let ends: &[&str] = if mode == "strict" { &["refused"] } else { &["refused", "reset"] };
                    let at_once = seen.errors.keys().all(|kind| ends.contains(&kind.as_str()));
                    assert!(seen.none_ok() && at_once, "{mode} {to}: {seen:?}");
                }
            }
        }
        nothing_was_dropped(&world);
    }
}

#[test]
fn a_pod_in_a_flood_of_syns_still_serves() {
    let world = World::new("egress-cookies", "permissive", "mesh", "hello", &[]);
    // Cookies for everybody, as if the queue was full: the SYN|ACK is no socket's.
    let set = world.client.run("sh", &["-c", "echo 2 > /proc/sys/net/ipv4/tcp_syncookies"]);
    assert!(set.status.success(), "{set:?}");
    let _server = world.client.serve("hello", PORT);
    for outside in &world.outside {
        served(outside, &[world.client.addr(PORT), world.client.addr6(PORT)]);
    }
    nothing_was_dropped(&world);
}

#[test]
fn the_label_leaves_those_who_called_the_pod_alone() {
    let world = World::new("egress-callers", "permissive", "any", "hello", &[]);
    let _server = world.client.serve("echo", PORT);
    let mut held: Vec<_> = world
        .outside
        .iter()
        .flat_map(|outside| [world.client.addr(PORT), world.client.addr6(PORT)].map(|to| (outside, to)))
        .map(|(outside, to)| outside.traffic_spawn(&["hold", &to.to_string()]))
        .collect();
    held.iter_mut().for_each(|held| held.wait_log("holding"));
    world.egress("mesh");
    served(&world.peers[0], &[world.peers[1].addr(PORT)]);
    for held in &mut held {
        assert!(held.is_running());
        held.stop();
        assert_eq!(held.result()["end"], "stopped");
    }
    nothing_was_dropped(&world);
}

#[test]
fn the_kernel_answers_where_no_socket_is() {
    let world = World::new("egress-answers", "permissive", "mesh", "hello", &[]);
    let _close = world.client.serve_on("close", "[::]:8083", &["--bytes", "4"]);
    let outside = &world.outside[1];
    let watch = watch(outside);
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap();
    for (at, port) in [(world.client.addr(8083), 0), (world.client.addr6(8083), 1)] {
        // The pod ends first, and waits for what may still be on its way.
        assert_eq!(observe(outside, at, "4")["end"], "eof");
        let from_pod = |line: &Value| line["from"] == at.to_string();
        let last = wait_for("the last ACK", SOON, || {
            let all: Vec<_> = lines(&watch).into_iter().filter(from_pod).collect();
            let ended = all.iter().any(|line| number(line, "flags") & FIN != 0);
            all.last().filter(|line| ended && number(line, "flags") == ACK).cloned()
        });
        let before = lines(&watch).len();
        let (sequence, acknowledged) = (number(&last, "sequence"), number(&last, "acknowledged"));
        let again = [(acknowledged - 1).to_string(), sequence.to_string()];
        let peer = last["to"].as_str().unwrap().parse().unwrap();
        let fin = ["--kind", "fin", "--sequence", &again[0], "--acknowledged", &again[1]];
        send(outside, peer, at, &fin);
        let answer = wait_for("the ACK to be said again", SOON, || {
            lines(&watch).into_iter().skip(before).find(from_pod)
        });
        assert_eq!(number(&answer, "flags"), ACK, "{answer}");
        assert_eq!(number(&answer, "acknowledged"), acknowledged, "{answer}");
        // What belongs to no connection at all is reset.
        let stray = std::net::SocketAddr::new(outside.ips()[port], 40_000);
        send(outside, stray, at, &["--kind", "data", "--acknowledged", "777"]);
        let reset = wait_for("the RST", SOON, || {
            lines(&watch).into_iter().find(|line| from_pod(line) && line["to"] == stray.to_string())
        });
        assert_eq!((number(&reset, "flags"), number(&reset, "sequence")), (RST, 777), "{reset}");
    }
    nothing_was_dropped(&world);
}

#[test]
fn the_node_reaches_the_pod() {
    let world = World::new("egress-node", "strict", "mesh", "hello", &[]);
    let kubelet = world.nodes[0].host("kubelet");
    let _open = world.client.serve("hello", PORT);
    served(&kubelet, &[world.client.addr(PORT), world.client.addr6(PORT)]);
    for to in [world.client.addr(9), world.client.addr6(9)] {
        let seen = kubelet.connect_with(to, &["--timeout", "3s"]);
        assert!(seen.none_ok() && seen.errors.contains_key("refused"), "{to}: {seen:?}");
    }
    nothing_was_dropped(&world);
}
