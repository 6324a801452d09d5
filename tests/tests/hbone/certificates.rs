//! Peers that do not prove who they are.

use std::time::Duration;

use ambit_harness::wait_until;
use serde_json::json;

use crate::world::{World, undisturbed};

#[test]
fn a_peer_without_a_good_certificate_is_refused_and_logged() {
    let world = World::new("hbone-certificates", "hello");
    let traffic = world.traffic();
    let wrong: [(&[&str], &str); 9] = [
        (&["--cert", "expired"], "expired"),
        (&["--cert", "future"], "not valid yet"),
        (&["--cert", "foreign"], "BadSignature"),
        (&["--cert", "two-uris"], "2 URI names"),
        (&["--cert", "no-uri"], "no SPIFFE identity"),
        (&["--cert", "none"], "no certificates"),
        (&["--id", "spiffe://elsewhere.example/ns/shop/sa/client"], "trust domain"),
        (&["--id", "https://cluster.local/ns/shop/sa/client"], "is no SPIFFE identity"),
        (&["--tls12"], "TLS"),
    ];
    let mut missing = Vec::new();
    for (index, (arguments, reason)) in wrong.iter().enumerate() {
        let seen = world.connect(arguments);
        assert_eq!(seen["tunnel"], "refused", "{arguments:?}: {seen}");
        assert!(seen["ok"].is_null() || seen["ok"] == 0, "{arguments:?}: {seen}");
        let refused = || world.agent.status()["connections"]["decisions"]["handshakes_refused"].as_u64();
        wait_until("the refusal to be counted", Duration::from_secs(5), || {
            refused() == Some(index as u64 + 1)
        });
        let log = world.agent.log();
        let line = log.lines().rfind(|line| line.contains("tunnel refused")).unwrap_or_default();
        let who = world.peer.ips()[0].to_string();
        if !(line.contains(reason) && line.contains(&who) && line.contains("shop/server")) {
            missing.push(format!("{arguments:?}: {reason:?} and {who} in {line}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert_eq!(world.connect(&[])["answers"], json!({"200": 1}), "the same peer with a good certificate");
    undisturbed(traffic);
}
