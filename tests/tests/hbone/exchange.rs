//! What a peer of the mesh can do.

use serde_json::json;

use crate::world::{PORT, World, undisturbed};

#[test]
fn a_peer_reaches_a_pod_over_both_families() {
    let world = World::new("hbone-reach", "hello");
    for to in [world.server.addr(PORT), world.server.addr6(PORT)] {
        let server = "spiffe://cluster.local/ns/shop/sa/server";
        let arguments = ["--authority", &to.to_string(), "--hello", "--expect", server];
        let seen = world.peer("connect", to.ip(), &arguments);
        assert_eq!(seen["answers"], json!({"200": 1}), "{seen}");
        assert_eq!(seen["bytes"], 13);
        assert_eq!(seen["ends"], json!({"eof": 1}), "{seen}");
        let tls = &seen["tls"];
        assert_eq!(tls["version"], "TLSv1_3");
        assert_eq!(tls["group"], "X25519MLKEM768");
        assert_eq!(tls["alpn"], "h2");
        let suite = tls["suite"].as_str().unwrap();
        assert!(["TLS13_AES_256_GCM_SHA384", "TLS13_AES_128_GCM_SHA256"].contains(&suite), "{suite}");
        let hello = &seen["hello"];
        assert_eq!(hello["accept"], tls["local"], "the application sees the client that `forwarded` names");
        assert_eq!(hello["getpeername"], tls["local"]);
        assert_eq!(hello["getsockname"], to.to_string());
    }
}

#[test]
fn a_peer_cannot_speak_for_another_address() {
    let world = World::new("hbone-forwarded", "hello");
    let client = world.client.ips()[0];
    let forged = format!("forwarded=for=\"{client}:4242\";host=shop");
    let seen = world.connect(&["--header", &forged]);
    assert_eq!(seen["ok"], 1, "{seen}");
    let shown = seen["hello"]["accept"].as_str().unwrap();
    assert!(shown.starts_with(&world.peer.ips()[0].to_string()), "{shown}");
}

#[test]
fn sixteen_mebibytes_come_back_unchanged_beside_other_traffic() {
    let world = World::new("hbone-bytes", "hello");
    let traffic = world.traffic();
    let bytes = 16_u64 << 20;
    let seen = world.connect(&["--bytes", &bytes.to_string()]);
    assert_eq!((&seen["ok"], &seen["bytes"]), (&json!(1), &json!(bytes)), "{seen}");
    undisturbed(traffic);
}

#[test]
fn a_hundred_streams_share_a_tunnel() {
    let world = World::new("hbone-streams", "hello");
    let seen = world.connect(&["--streams", "100", "--bytes", "100000"]);
    assert_eq!(seen["answers"], json!({"200": 100}), "{seen}");
    assert_eq!(seen["bytes"], 100 * 100_000);
    let counters = world.application.stop();
    assert_eq!(counters["connections"], 100, "{counters}");
}

#[test]
fn a_service_name_leads_to_the_port_behind_it() {
    let world = World::new("hbone-name", "hello");
    let authority = "server.shop.svc.cluster.local:80";
    assert!(world.service.addr().port() == 80 && PORT != 80);
    let seen = world.peer("connect", world.server.ips()[0], &["--authority", authority, "--hello"]);
    assert_eq!(seen["answers"], json!({"200": 1}), "{seen}");
    assert_eq!(seen["hello"]["getsockname"], world.server.addr(PORT).to_string());
}

#[test]
fn a_short_exchange_waits_for_no_delayed_acknowledgement() {
    let world = World::new("hbone-delay", "hello");
    let seen = world.client.connect_with(world.server.addr(PORT), &["--count", "200"]);
    assert_eq!(seen.ok, 200, "{seen:?}");
    // The kernel holds an acknowledgement back for 40 ms; an exchange takes about one.
    assert!(seen.p50_ms < 20.0, "{seen:?}");
}
