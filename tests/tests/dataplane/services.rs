//! Where services lead: to the caller itself, to pods in and outside the mesh; and what is outside stays untouched.

use ambit_harness::{Mesh, PodSpec, ServiceSpec};

const NOT_ENROLLED: (&str, &str) = ("ambit.dev/mode", "none");

#[test]
fn a_service_whose_only_endpoint_is_the_caller_leads_back_to_it() {
    let mesh = Mesh::start("hairpin", "strict", &[]);
    let own = mesh.bed.service(ServiceSpec::new("shop", "client").port(80, 8080));
    mesh.bed.apply();
    let _server = mesh.client.serve("hello", 8080);
    for (dialled, served) in [(own.addr(), mesh.client.addr(8080)), (own.addr6(), mesh.client.addr6(8080))] {
        let seen = mesh.client.connect_with(dialled, &["--count", "20"]);
        assert_eq!(seen.ok, 20, "{dialled}: {seen:?}");
        assert_eq!(seen.getpeername, Some(dialled));
        let hello = seen.hello.unwrap();
        assert_eq!(hello["accept"], seen.getsockname.unwrap());
        assert_eq!(hello["getsockname"], served);
    }
    for direct in [mesh.client.addr(8080), mesh.client.addr6(8080)] {
        let seen = mesh.client.connect(direct);
        assert!(seen.all_ok(), "the pod's own address {direct}: {seen:?}");
        assert_eq!(seen.getpeername, Some(direct));
    }
}

#[test]
fn a_service_leads_to_endpoints_in_and_outside_the_mesh() {
    let mesh = Mesh::start("mixed", "strict", &[]);
    let label = |spec: PodSpec| spec.label("set", "mixed");
    let inside = mesh.b.pod(label(PodSpec::new("shop", "inside")));
    let outside = mesh.b.pod(label(PodSpec::new("shop", "outside")).label(NOT_ENROLLED.0, NOT_ENROLLED.1));
    let service = mesh.bed.service(ServiceSpec::new("shop", "mixed").select("set", "mixed").port(80, 8080));
    mesh.bed.apply();
    mesh.wait_captured();
    let servers = [inside.serve("hello", 8080), outside.serve("hello", 8080)];
    for dialled in [service.addr(), service.addr6()] {
        let seen = mesh.client.connect_with(dialled, &["--count", "40"]);
        assert_eq!(seen.ok, 40, "{dialled}: {seen:?}");
        assert_eq!(seen.getpeername, Some(dialled));
        let hello = seen.hello.unwrap();
        assert!(mesh.client.ips().contains(&hello["accept"].ip()), "{hello:?}");
    }
    for server in servers {
        let count = server.stop()["connections"].as_u64().unwrap();
        // Of 80 draws at random, fewer than 15 are one in a hundred million.
        assert!((15..=65).contains(&count), "each endpoint gets its share: {count}");
    }
}

#[test]
fn what_is_outside_the_mesh_is_left_untouched() {
    let mesh = Mesh::start("outside", "strict", &[]);
    let outside = mesh.b.pod(PodSpec::new("other", "outside"));
    let host = mesh.b.host("system");
    mesh.bed.apply();
    let _servers = [outside.serve("hello", 8080), host.serve("hello", 8080)];
    let _echo = outside.serve("echo", 8081);
    let capture = mesh.bed.capture();
    let [host4, host6] = mesh.b.ips().map(|ip| (ip, 8080).into());
    for to in [outside.addr(8080), outside.addr6(8080), host4, host6] {
        let seen = mesh.client.connect_with(to, &["--payload", "as-it-always-was"]);
        assert!(seen.all_ok(), "{to}: {seen:?}");
        assert_eq!(seen.getpeername, Some(to));
        assert_eq!(seen.hello.unwrap()["accept"], seen.getsockname.unwrap(), "the client's own port");
    }
    let mut held = mesh.client.traffic_spawn(&["hold", &outside.addr(8081).to_string()]);
    held.wait_log("holding");
    assert_eq!((mesh.carried(0), mesh.carried(1)), (0, 0), "no agent carries it");
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
    let captured = capture.stop();
    assert!(captured.contains("as-it-always-was"));
    assert!(!captured.tls_seen(15008));
}
