//! What the kernel decides between pods of one node is what the policies say: random policies, real connections.
#![allow(clippy::unwrap_used)]

mod verdicts {
    pub(crate) mod generate;
}

use std::net::SocketAddr;

use ambit_agent::control::file::load;
use ambit_core::{
    policy::{Connection, Protocol, Source},
    state::Snapshot,
};
use ambit_harness::{Agent, Pod, PodSpec, Server, Testbed};
use verdicts::generate::Generator;

/// Ports that every pod serves, TCP and UDP.
const PORTS: [u16; 3] = [8080, 8081, 9000];
/// Sets of policies that are tried.
const SETS: u64 = 40;

/// One node with four pods of two namespaces, which go directly to each other.
struct World {
    bed: Testbed,
    pods: Vec<Pod>,
    agent: Agent,
    _servers: Vec<Server>,
    _reflectors: Vec<ambit_harness::Process>,
}

impl World {
    fn start() -> Self {
        let bed = Testbed::new("verdicts");
        let node = bed.node("a");
        let pods = [("shop", "web"), ("shop", "db"), ("ops", "api"), ("ops", "job")]
            .map(|(namespace, name)| node.pod(PodSpec::new(namespace, name).service_account(name)));
        for namespace in ["shop", "ops"] {
            bed.label_namespace(namespace, "strict");
        }
        bed.publish();
        let served = || pods.iter().flat_map(|pod| PORTS.map(|port| (pod, port)));
        let servers = served().map(|(pod, port)| pod.serve("hello", port)).collect();
        let reflectors = served().map(|(pod, port)| pod.reflect(port)).collect();
        let agent = node.start_agent(&["--same-node", "direct"]);
        Self { bed, pods: pods.into(), agent, _servers: servers, _reflectors: reflectors }
    }

    /// Connects from `client` to `to`, and compares with what the snapshot says.
    fn compare(&self, snapshot: &Snapshot, client: &Pod, server: &Pod, way: Way) -> Result<bool, String> {
        let to = if way.v6 { server.addr6(way.port) } else { server.addr(way.port) };
        let expected = allowed(snapshot, client, to, way.protocol);
        let observed = match way.protocol {
            Protocol::Tcp => client.connect_with(to, &["--timeout", "5s"]).all_ok(),
            Protocol::Udp => client.datagram(to, &[]) == "answered",
        };
        if observed == expected {
            return Ok(expected);
        }
        Err(format!(
            "{} to {} at {to} by {:?}: the policies say {expected}, the node {observed}",
            client.name(),
            server.name(),
            way.protocol
        ))
    }
}

/// How one pod calls another.
#[derive(Clone, Copy)]
struct Way {
    protocol: Protocol,
    port: u16,
    v6: bool,
}

/// Returns what `evaluate` says.
fn allowed(snapshot: &Snapshot, client: &Pod, to: SocketAddr, protocol: Protocol) -> bool {
    let address = client.ips().into_iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).unwrap();
    let id = &snapshot.workload(address).unwrap().identity;
    let destination = snapshot.workload(to.ip()).unwrap();
    let source = Source::Identity { id, address };
    snapshot.evaluate(&Connection { source, destination, protocol, port: to.port() }).allowed
}

#[test]
fn the_node_decides_as_the_policies_say() {
    let world = World::start();
    let (mut admitted, mut refused) = (0, 0);
    for seed in 1..=SETS {
        let mut generator = Generator::new(seed);
        let addresses: Vec<String> = world.pods.iter().flat_map(Pod::ips).map(|ip| ip.to_string()).collect();
        let policies = generator.policies(&addresses);
        let modes = ["shop", "ops"].map(|namespace| (namespace, generator.mode()));
        for (namespace, mode) in modes {
            world.bed.label_namespace(namespace, mode);
        }
        world.bed.write_object("policies.yaml", &policies);
        world.bed.apply();
        let snapshot = load(world.bed.objects(), "cluster.local", 1).unwrap().snapshot;
        for client in &world.pods {
            for server in world.pods.iter().filter(|server| server.name() != client.name()) {
                let way = Way {
                    // A refused datagram costs a time-out.
                    protocol: if generator.one_in(12) { Protocol::Udp } else { Protocol::Tcp },
                    port: generator.pick(&PORTS),
                    v6: generator.one_in(2),
                };
                match world.compare(&snapshot, client, server, way) {
                    Ok(true) => admitted += 1,
                    Ok(false) => refused += 1,
                    Err(problem) => {
                        panic!("seed {seed}, modes {modes:?}: {problem}\n{policies}\n{}", world.agent.log())
                    }
                }
            }
        }
    }
    assert!(admitted > 50 && refused > 50, "{admitted} admitted, {refused} refused: too much alike to tell");
}
