//! Dialling what belongs to the agent: its listeners in the pods, the tunnel's port, the ports of the redirect.
//!
//! Forged, expired and foreign certificates and wrong authorities on the tunnel's port are held by the theme `hbone`
//! (`certificates`, `refusals`, `exchange`).

use ambit_harness::Pod;
use serde_json::Value;

use crate::world::{World, attack};

/// The port of the tunnels.
const TUNNEL: u64 = 15008;

#[test]
fn the_agents_listeners_give_nothing_to_those_who_dial_them() {
    let mut world = World::new("listeners", "direct");
    let mallory = world.mallory.clone();
    let listeners = listening(&mallory);
    assert!(!listeners.is_empty(), "the agent's listeners of the pod are in its namespace");
    let before = world.agents[0].status()["connections"]["decisions"]["allowed"].clone();
    let [ip4, ip6] = mallory.ips().map(|ip| ip.to_string());
    for address in ["127.0.0.1", "::1", &ip4, &ip6] {
        let open = open(&mallory, &["scan", address]);
        for found in &open {
            assert_eq!(found["bytes"], 0, "{address}: {open:?}");
        }
        if address == "127.0.0.1" {
            let found: Vec<u64> = open.iter().map(|open| open["port"].as_u64().unwrap()).collect();
            let all = listeners.iter().all(|port| found.contains(&u64::from(*port)));
            assert!(all, "the scan sees what listens: {found:?} of {listeners:?}");
        }
    }
    assert_eq!(world.agents[0].status()["connections"]["decisions"]["allowed"], before);
    world.assert_untouched("scans of mallory's own addresses");
    world.end();
}

#[test]
fn nothing_but_the_tunnel_accepts_others_at_a_strict_pod() {
    let mut world = World::new("ports", "direct");
    for at in [0, 1] {
        let address = world.db.ips()[at].to_string();
        for pod in world.attackers() {
            for [first, last] in [["8000", "8100"], ["15000", "16130"]] {
                let open = open(pod, &["scan", &address, "--first", first, "--last", last]);
                // The tunnel's port takes in whoever comes, and ends with an alert of TLS.
                let given = |open: &Value| (open["port"].as_u64().unwrap(), open["bytes"].as_u64().unwrap());
                let wrong =
                    open.iter().map(given).find(|(port, bytes)| *bytes > if *port == TUNNEL { 7 } else { 0 });
                assert_eq!(wrong, None, "{}: {open:?}", pod.name());
            }
            for port in listening(&world.db) {
                let port = port.to_string();
                let open = open(pod, &["scan", &address, "--first", &port, "--last", &port]);
                assert!(open.iter().all(|open| open["bytes"] == 0), "{}: {open:?}", pod.name());
            }
        }
    }
    world.assert_untouched("scans of db");
    world.end();
}

fn open(pod: &Pod, arguments: &[&str]) -> Vec<Value> {
    attack(pod, &[arguments, &["--timeout", "300ms"]].concat())["open"].as_array().unwrap().clone()
}

/// Ports of listeners in the pod's network namespace that are bound to the loopback address.
fn listening(pod: &Pod) -> Vec<u16> {
    let output = pod.run("cat", &["/proc/net/tcp", "/proc/net/tcp6"]);
    let table = String::from_utf8(output.stdout).unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| row.get(3) == Some(&"0A") && row[1].contains("0100007F:"));
    listening.map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap()).collect()
}
