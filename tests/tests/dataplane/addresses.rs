//! What the two sides of a connection see of each other, in both families, near and far.

use std::net::SocketAddr;

use ambit_harness::{Connects, Mesh, Pod};

/// Fails unless the client saw what it dialled and the server saw the client itself.
#[track_caller]
fn assert_addresses(seen: &Connects, client: &Pod, dialled: SocketAddr, served: SocketAddr) {
    assert!(seen.all_ok(), "{dialled}: {seen:?}");
    assert_eq!(seen.getpeername, Some(dialled), "the client sees the address that it dialled");
    let own = seen.getsockname.unwrap();
    assert!(client.ips().contains(&own.ip()), "the client's own address is its pod's: {own}");
    let hello = seen.hello.clone().unwrap();
    assert_eq!(hello["accept"], own, "accept shows the real client of {dialled}");
    assert_eq!(hello["getpeername"], own, "getpeername shows the real client of {dialled}");
    assert_eq!(hello["getsockname"], served, "the server's own address is its pod's");
}

#[test]
fn both_sides_see_real_addresses_by_service_and_pod_ip_in_both_families() {
    let mesh = Mesh::start("addresses", "strict", &["--same-node", "encrypt"]);
    for (pod, service, agent) in [(&mesh.near, &mesh.near_service, 0), (&mesh.far, &mesh.far_service, 1)] {
        // The listener takes both families: an IPv4 client comes to it as a mapped address.
        let _server = pod.serve("hello", 8080);
        let before = mesh.allowed(agent);
        for (dialled, served) in [
            (pod.addr(8080), pod.addr(8080)),
            (pod.addr6(8080), pod.addr6(8080)),
            (service.addr(), pod.addr(8080)),
            (service.addr6(), pod.addr6(8080)),
        ] {
            let seen = mesh.client.connect(dialled);
            assert_addresses(&seen, &mesh.client, dialled, served);
        }
        assert_eq!(mesh.allowed(agent) - before, 4, "each was decided on by the agent of the server's node");
    }
}

#[test]
fn a_listener_of_one_family_sees_the_real_client() {
    let mesh = Mesh::start("families", "strict", &[]);
    for pod in [&mesh.near, &mesh.far] {
        let (four, six) = (pod.addr(8081), pod.addr6(8082));
        let _four = pod.serve_on("hello", "0.0.0.0:8081", &[]);
        let _six = pod.serve_on("hello", &six.to_string(), &[]);
        for dialled in [four, six] {
            assert_addresses(&mesh.client.connect(dialled), &mesh.client, dialled, dialled);
        }
    }
}

#[test]
fn what_crosses_the_link_between_nodes_is_tls_only() {
    let mesh = Mesh::start("wire", "strict", &[]);
    let _server = mesh.far.serve("hello", 8080);
    let capture = mesh.bed.capture();
    for to in [mesh.far.addr(8080), mesh.far.addr6(8080), mesh.far_service.addr(), mesh.far_service.addr6()] {
        assert!(mesh.client.connect_with(to, &["--payload", "nobody-else-reads-this"]).all_ok());
    }
    let captured = capture.stop();
    assert!(captured.tls_seen(15008));
    assert!(!captured.contains("nobody-else-reads-this"));
    assert!(captured.report().only_tls(), "{:?}", captured.report());
}

#[test]
fn pods_of_one_node_talk_through_the_mesh_without_leaving_the_node() {
    let mesh = Mesh::start("near", "strict", &["--same-node", "encrypt"]);
    let _server = mesh.near.serve("echo", 8080);
    let capture = mesh.bed.capture();
    let mut held = mesh.client.traffic_spawn(&["hold", &mesh.near_service.addr().to_string()]);
    held.wait_log("holding");
    // Both sides of it are on this node.
    let rows = mesh.agents[0].connections();
    let rows = rows["connections"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["path"] == "tunnel"), "{rows:?}");
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
    assert!(!capture.stop().tls_seen(15008));
}
