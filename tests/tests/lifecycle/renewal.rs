//! Certificates are renewed under traffic.

use std::collections::BTreeSet;
use std::time::Duration;

use ambit_harness::{Agent, Mesh, wait_until};

fn serials(agent: &Agent) -> BTreeSet<String> {
    let status = agent.status();
    let identities = status["identities"].as_array().unwrap();
    identities.iter().map(|identity| identity["serial"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn certificates_are_renewed_while_connections_go_on() {
    let mesh = Mesh::start("renewal", "strict", &["--cert-ttl", "3s"]);
    let _servers = [mesh.far.serve("hello", 8080), mesh.far.serve("echo", 8081)];
    let mut held = mesh.client.traffic_spawn(&["hold", &mesh.far.addr(8081).to_string()]);
    let mut looping = mesh.client.traffic_spawn(&["loop", &mesh.far_service.addr6().to_string()]);
    held.wait_log("holding");
    looping.wait_log("looping");
    let first = mesh.agents.each_ref().map(serials);
    let mut current = first.clone();
    // The fourth generation begins after the first one has expired.
    for _ in 0..3 {
        for (agent, before) in mesh.agents.iter().zip(&mut current) {
            wait_until("every certificate to be renewed", Duration::from_secs(10), || {
                serials(agent).is_disjoint(before)
            });
            *before = serials(agent);
        }
        assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
    }
    looping.stop();
    let looped = looping.result();
    assert_eq!(looped["failed"], 0, "{looped}");
    held.stop();
    let held = held.result();
    assert_eq!(held["end"], "stopped", "{held}");
    eprintln!("three renewals: {looped}, {held}");
    for (first, now) in first.iter().zip(&current) {
        assert!(first.is_disjoint(now));
    }
}
