//! Many connections and many bytes: nothing is lost, nothing changes, memory stays bounded.

use ambit_harness::Mesh;

/// What an agent may use at most, in bytes.
const MEMORY: u64 = 300 << 20;

#[track_caller]
fn assert_bounded(mesh: &Mesh) {
    for agent in &mesh.agents {
        let peak = agent.peak_memory();
        eprintln!("an agent used at most {} MiB", peak >> 20);
        assert!(peak < MEMORY, "an agent used {peak} bytes");
    }
}

#[test]
fn ten_thousand_sequential_connections_succeed() {
    let mesh = Mesh::start("sequence", "strict", &[]);
    let _server = mesh.far.serve("hello", 8080);
    let seen = mesh.client.connect_with(mesh.far_service.addr(), &["--count", "10000"]);
    eprintln!("far: median {:.2} ms, 99th percentile {:.2} ms", seen.p50_ms, seen.p99_ms);
    assert_eq!((seen.ok, seen.failed), (10_000, 0), "{seen:?}");
    assert!(mesh.allowed(1) >= 10_000, "all of them went through the mesh");
    assert_bounded(&mesh);
}

#[test]
fn five_hundred_connections_at_once_succeed() {
    let mesh = Mesh::start("at-once", "strict", &[]);
    let _servers = [mesh.near.serve("hello", 8080), mesh.far.serve("hello", 8080)];
    let all = ["--count", "500", "--concurrency", "500", "--together", "--timeout", "15s"];
    for to in [mesh.far_service.addr(), mesh.far.addr6(8080), mesh.near_service.addr6()] {
        let seen = mesh.client.connect_with(to, &all);
        eprintln!("{to}: median {:.2} ms, 99th percentile {:.2} ms", seen.p50_ms, seen.p99_ms);
        assert_eq!((seen.ok, seen.failed), (500, 0), "{to}: {seen:?}");
    }
    assert_bounded(&mesh);
}

#[test]
fn a_gibibyte_each_way_arrives_unchanged() {
    let mesh = Mesh::start("gibibyte", "strict", &[]);
    let _server = mesh.far.serve("transfer", 8080);
    let bytes = (1_u64 << 30).to_string();
    let moved = mesh.client.traffic(&["transfer", &mesh.far_service.addr().to_string(), "--bytes", &bytes]);
    eprintln!("1 GiB each way at once: {moved}");
    assert_eq!(moved["ok"], true, "{moved}");
    assert_bounded(&mesh);
}

#[test]
fn bytes_arrive_unchanged_in_both_families_near_and_far() {
    let mesh = Mesh::start("bytes", "strict", &[]);
    let _servers = [mesh.near.serve("transfer", 8080), mesh.far.serve("transfer", 8080)];
    for pod in [&mesh.near, &mesh.far] {
        for to in [pod.addr(8080), pod.addr6(8080)] {
            for direction in ["up", "down", "both"] {
                let to = to.to_string();
                let args = ["transfer", &to, "--bytes", "33000001", "--direction", direction];
                let moved = mesh.client.traffic(&args);
                assert_eq!(moved["ok"], true, "{to} {direction}: {moved}");
            }
        }
    }
}
