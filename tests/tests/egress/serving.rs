//! A pod whose egress is `mesh` goes on serving those outside, as its mode and policies let it.

use std::time::Duration;

use ambit_harness::{Pod, wait_until};
use serde_json::Value;

use crate::world::{PORT, World, served};

fn observe(client: &Pod, to: std::net::SocketAddr, bytes: &str) -> Value {
    client.traffic(&["reset", &to.to_string(), "--observe", "--bytes", bytes])
}

fn dropped(world: &World) -> Value {
    let status = world.agents[0].status();
    let pods = status["pods"].as_array().unwrap();
    pods.iter().find(|pod| pod["name"] == "client").unwrap()["dropped"].clone()
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
    wait_until("the client's resets to arrive", Duration::from_secs(5), || {
        discard.process().log().matches("reset by peer").count() == 4
    });
    assert_eq!(dropped(&world), serde_json::json!({}), "nothing of it was dropped");
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
        assert_eq!(dropped(&world), serde_json::json!({}), "nothing of it was dropped");
    }
}
