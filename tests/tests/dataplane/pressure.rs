//! A reader that does not read stops its writer, and nobody else.

use ambit_harness::Mesh;

const MIB: u64 = 1 << 20;
/// What the path of one connection may take in: the buffers of four sockets, and the window of one stream.
const PATH: u64 = 16 * MIB;
/// What an agent may use at most, in bytes.
const MEMORY: u64 = 300 * MIB;

#[test]
fn a_server_that_never_reads_stops_its_writer() {
    let mesh = Mesh::start("stall", "strict", &[]);
    for pod in [&mesh.near, &mesh.far] {
        let _server = pod.serve("stall", 8080);
        let stalled = mesh.client.traffic(&["stall", &pod.addr(8080).to_string(), "--timeout", "1s"]);
        eprintln!("{}: the path took in {stalled}", pod.name());
        assert_eq!(stalled["end"], "full", "{stalled}");
        assert!(stalled["bytes"].as_u64().unwrap() < PATH, "{stalled}");
    }
}

#[test]
fn stalled_streams_do_not_stop_the_others_of_their_tunnel() {
    let mesh = Mesh::start("stalled", "strict", &[]);
    let _servers = [mesh.far.serve("stall", 8080), mesh.far.serve("hello", 8081)];
    let _transfer = mesh.far.serve("transfer", 8082);
    let to = mesh.far.addr(8080).to_string();
    // Each fills its own window of 1 MiB: together more than a tunnel of 16 MiB would bear.
    let args = ["stall", &to, "--connections", "24", "--keep", "--timeout", "300ms"];
    let mut stalled = mesh.client.traffic_spawn(&args);
    stalled.wait_log("stalled");
    assert_eq!(mesh.agents[0].status()["connections"]["tunnels"], 1, "all of them share a tunnel");
    assert_eq!(mesh.carried(0), 24);
    let others = mesh.client.connect_with(mesh.far.addr(8081), &["--count", "200", "--concurrency", "20"]);
    assert_eq!(others.ok, 200, "{others:?}");
    let large = mesh.client.traffic(&["transfer", &mesh.far.addr(8082).to_string(), "--bytes", "67108864"]);
    assert_eq!(large["ok"], true, "{large}");
    assert_eq!(mesh.agents[0].status()["connections"]["tunnels"], 1);
    stalled.stop();
    let stalled = stalled.result();
    assert_eq!(stalled["end"], "full", "{stalled}");
    assert!(stalled["bytes"].as_u64().unwrap() > 16 * MIB, "{stalled}");
    assert!(stalled["most"].as_u64().unwrap() < PATH, "{stalled}");
    for agent in &mesh.agents {
        let peak = agent.peak_memory();
        eprintln!("24 stalled streams {stalled}: an agent used at most {} MiB", peak / MIB);
        assert!(peak < MEMORY, "an agent used {peak} bytes");
    }
}
