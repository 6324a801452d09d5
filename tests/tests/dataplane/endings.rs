//! How connections end: each end comes through the mesh as what it is.

use std::net::SocketAddr;

use ambit_harness::{Mesh, Pod, wait_until};
use serde_json::Value;
use std::time::Duration;

fn ways(mesh: &Mesh) -> [(&Pod, [SocketAddr; 2]); 2] {
    [&mesh.near, &mesh.far].map(|pod| (pod, [pod.addr(8080), pod.addr6(8080)]))
}

fn observe(client: &Pod, to: SocketAddr, bytes: &str) -> Value {
    client.traffic(&["reset", &to.to_string(), "--observe", "--bytes", bytes])
}

#[test]
fn a_half_close_stays_a_half_close() {
    let mesh = Mesh::start("half", "strict", &[]);
    for (pod, addresses) in ways(&mesh) {
        let _server = pod.serve("sum", 8080);
        for to in addresses {
            let sent = mesh.client.traffic(&["half-close", &to.to_string(), "--bytes", "3000000"]);
            assert_eq!(sent["ok"], true, "{to}: {sent}");
        }
    }
}

#[test]
fn a_reset_of_the_client_reaches_the_server_as_a_reset() {
    let mesh = Mesh::start("creset", "strict", &[]);
    for (pod, addresses) in ways(&mesh) {
        for to in addresses {
            let mut server = pod.serve("discard", 8080);
            assert_eq!(mesh.client.traffic(&["reset", &to.to_string()])["end"], "sent-reset");
            server.process().wait_log("Connection reset by peer");
            let counted = server.stop();
            assert_eq!((&counted["connections"], &counted["aborted"]), (&1.into(), &1.into()), "{to}");
        }
    }
}

#[test]
fn a_reset_of_the_server_reaches_the_client_as_a_reset_and_a_clean_end_as_a_clean_end() {
    let mesh = Mesh::start("sreset", "strict", &[]);
    for (pod, addresses) in ways(&mesh) {
        let _reset = pod.serve_on("reset", "[::]:8080", &["--bytes", "4"]);
        let _close = pod.serve_on("close", "[::]:8081", &["--bytes", "4"]);
        for to in addresses {
            assert_eq!(observe(&mesh.client, to, "4")["end"], "reset", "{to}");
            let clean = SocketAddr::new(to.ip(), 8081);
            assert_eq!(observe(&mesh.client, clean, "4")["end"], "eof", "{clean}");
        }
    }
}

#[test]
fn a_closed_port_ends_in_a_reset() {
    let mesh = Mesh::start("closed", "strict", &[]);
    for (_, addresses) in ways(&mesh) {
        for to in addresses {
            let end = observe(&mesh.client, to, "0");
            assert!(["reset", "refused"].contains(&end["end"].as_str().unwrap()), "{to}: {end}");
        }
    }
}

#[test]
fn a_connection_leaves_nothing_behind_in_the_agents() {
    let mesh = Mesh::start("ended", "strict", &[]);
    let _hello = mesh.far.serve("hello", 8080);
    let _reset = mesh.far.serve_on("reset", "[::]:8081", &["--bytes", "4"]);
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "50"]).all_ok());
    for _ in 0..10 {
        observe(&mesh.client, mesh.far.addr(8081), "4");
        mesh.client.traffic(&["reset", &mesh.far.addr(8080).to_string()]);
    }
    for index in [0, 1] {
        wait_until("no connection to be carried", Duration::from_secs(5), || mesh.carried(index) == 0);
    }
}
