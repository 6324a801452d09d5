//! A namespace's label is changed under traffic.

use std::net::SocketAddr;

use ambit_harness::{Mesh, PodSpec, Process};

fn spawn(mesh: &Mesh, what: &str, to: SocketAddr, ready: &str) -> Process {
    let mut process = mesh.client.traffic_spawn(&[what, &to.to_string(), "--every", "2ms"]);
    process.wait_log(ready);
    process
}

#[test]
fn a_label_that_is_switched_under_traffic_fails_no_connection() {
    let mesh = Mesh::start("label", "none", &[]);
    let outside = mesh.b.pod(PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let _hello = [mesh.near.serve("hello", 8080), mesh.far.serve("hello", 8080)];
    let _echo = mesh.far.serve("echo", 8081);
    let loops = [mesh.far_service.addr(), mesh.far.addr6(8080), mesh.near_service.addr()];
    let mut loops = loops.map(|to| (to, spawn(&mesh, "loop", to, "looping")));
    let mut enrolled_later = spawn(&mesh, "hold", mesh.far.addr(8081), "holding");
    let mut carried = None;
    for (mode, meshed, outsider) in [
        ("permissive", true, true),
        ("strict", true, false),
        ("permissive", true, true),
        ("audit", true, true),
        ("none", false, true),
    ] {
        if mode == "strict" {
            carried = Some(spawn(&mesh, "hold", mesh.far.addr6(8081), "holding"));
        }
        mesh.bed.label_namespace("shop", mode);
        mesh.bed.apply();
        let before = mesh.allowed(1);
        let seen = mesh.client.connect_with(mesh.far.addr(8080), &["--count", "10"]);
        assert_eq!(seen.ok, 10, "{mode}: {seen:?}");
        assert_eq!(mesh.allowed(1) > before, meshed, "{mode}: whether an agent decides");
        assert_eq!(
            outside.connect(mesh.far.addr(8080)).all_ok(),
            outsider,
            "{mode}: a peer outside the mesh"
        );
    }
    for (to, looping) in &mut loops {
        looping.stop();
        let result = looping.result();
        eprintln!("{to}: {result}");
        if result["failed"] != 0 {
            eprintln!("a: {}\nb: {}", mesh.agents[0].log(), mesh.agents[1].log());
        }
        assert_eq!(result["failed"], 0, "{to}: {result}");
    }
    let mut carried = carried.unwrap();
    carried.stop();
    assert_eq!(carried.result()["end"], "stopped", "what an agent carries outlives every mode");
    enrolled_later.stop();
    assert_eq!(enrolled_later.result()["end"], "reset", "plaintext from before is closed by strict");
}

#[test]
fn plaintext_from_before_the_enrolment_lives_on_where_plaintext_is_allowed() {
    let mesh = Mesh::start("older", "none", &[]);
    let _echo = mesh.far.serve("echo", 8081);
    let mut held = spawn(&mesh, "hold", mesh.far.addr(8081), "holding");
    for mode in ["permissive", "audit", "none"] {
        mesh.bed.label_namespace("shop", mode);
        mesh.bed.apply();
    }
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
}
