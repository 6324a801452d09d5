//! The kernel's decisions are those of `ambit_core`, for random policies on real pods.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ambit_agent::control::file;
use ambit_core::Snapshot;
use ambit_core::policy::{Connection, Protocol, Source};
use ambit_harness::{Agent, Place, Pod, PodSpec, Testbed};
use serde_json::Value;

use crate::random::{Dice, Names};

/// How many sets of policies and modes are tried.
const SETS: u64 = 48;
/// The seed, unless AMBIT_SEED names another.
const SEED: u64 = 20_260;
/// Ports that every pod serves: the lowest and the highest, neighbours, and ends of blocks.
const PORTS: [u16; 7] = [1, 1023, 1024, 8080, 8081, 32768, 65535];
const NAMES: Names<'static> = Names {
    namespaces: &["north", "south"],
    accounts: &["web", "api"],
    apps: &["p0", "p1", "p2", "p3"],
    networks: &[
        "10.1.0.0/16",
        "10.0.0.0/8",
        "fd00::/8",
        "10.1.0.201/32",
        "10.1.0.202/31",
        "172.30.0.0/24",
        "0.0.0.0/0",
        "::/0",
    ],
    ports: &PORTS,
};

/// Who calls.
enum Caller {
    Pod(Pod),
    /// A pod outside the mesh.
    Stranger(Pod),
    /// A process of the node.
    Host(Place, [IpAddr; 2]),
}

impl Caller {
    fn place(&self) -> &Place {
        match self {
            Self::Pod(pod) | Self::Stranger(pod) => pod,
            Self::Host(place, _) => place,
        }
    }

    /// What `ambit_core` says to a connection or a datagram of this caller.
    fn may_reach(&self, snapshot: &Snapshot, protocol: Protocol, to: SocketAddr) -> bool {
        let destination = snapshot.workload(to.ip()).unwrap();
        let of_family = |ips: [IpAddr; 2]| ips.into_iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).unwrap();
        let source = match self {
            Self::Pod(pod) => {
                let address = of_family(pod.ips());
                Source::Identity { id: &snapshot.workload(address).unwrap().identity, address }
            }
            Self::Stranger(pod) => Source::Unverified { address: of_family(pod.ips()) },
            Self::Host(_, ips) => Source::Host { address: of_family(*ips) },
        };
        let connection = Connection { source, destination, protocol, port: to.port() };
        snapshot.evaluate(&connection).allowed
    }
}

struct World {
    pods: Vec<Pod>,
    callers: Vec<Caller>,
    agent: Agent,
    bed: Testbed,
}

impl World {
    fn start(name: &str) -> Self {
        let bed = Testbed::new(name);
        let node = bed.node("a");
        let pod = |number: u8| {
            let namespace = NAMES.namespaces[usize::from(number / 2)];
            let account = NAMES.accounts[usize::from(number % 2)];
            let name = NAMES.apps[usize::from(number)];
            node.pod(PodSpec::new(namespace, name).service_account(account).host_number(200 + number))
        };
        let pods: Vec<Pod> = (0..4).map(pod).collect();
        let stranger = node.pod(PodSpec::new("outside", "stranger"));
        for namespace in NAMES.namespaces {
            bed.label_namespace(namespace, "strict");
        }
        bed.publish();
        let agent = node.start_agent(&[]);
        let mut callers: Vec<Caller> = pods.iter().cloned().map(Caller::Pod).collect();
        callers.extend([Caller::Stranger(stranger), Caller::Host(node.host("system"), node.ips())]);
        Self { pods, callers, agent, bed }
    }

    /// Puts policies and the pods' modes in force, and returns the same as `ambit_core` has it.
    fn enforce(&self, policies: &str, modes: &[&str]) -> Snapshot {
        for (pod, mode) in self.pods.iter().zip(modes) {
            pod.update(|spec| drop(spec.labels.insert("ambit.dev/mode".into(), (*mode).into())));
        }
        self.bed.write_object("random.yaml", policies);
        self.bed.apply();
        file::load(self.bed.objects(), "cluster.local", 1).unwrap().snapshot
    }

    /// Where a caller goes: every port of every other pod, over both families.
    fn ways(&self, caller: &Caller) -> Vec<SocketAddr> {
        let others = self.pods.iter().filter(|pod| pod.name() != caller.place().name());
        let ips: Vec<IpAddr> = others.flat_map(|pod| pod.ips()).collect();
        ips.iter().flat_map(|ip| PORTS.map(|port| SocketAddr::new(*ip, port))).collect()
    }

    /// Makes every connection that there is to make, and returns how many were served and refused, and what differs.
    fn try_all(&self, snapshot: &Snapshot) -> ([u64; 2], Vec<String>) {
        let probe = |caller: &Caller| {
            let ways: Vec<String> = self.ways(caller).iter().map(ToString::to_string).collect();
            let args: Vec<&str> = ["probe"].into_iter().chain(ways.iter().map(String::as_str)).collect();
            caller.place().traffic(&args)
        };
        let seen: Vec<Value> = std::thread::scope(|scope| {
            let probes: Vec<_> =
                self.callers.iter().map(|caller| scope.spawn(move || probe(caller))).collect();
            probes.into_iter().map(|probe| probe.join().unwrap()).collect()
        });
        let (mut counts, mut differences) = ([0, 0], Vec::new());
        for (caller, seen) in self.callers.iter().zip(seen) {
            for to in self.ways(caller) {
                let (allowed, word) =
                    (caller.may_reach(snapshot, Protocol::Tcp, to), seen[to.to_string()].as_str().unwrap());
                counts[usize::from(!allowed)] += 1;
                let agrees = if allowed { word == "ok" } else { ["refused", "reset"].contains(&word) };
                if !agrees {
                    let from = caller.place().name();
                    let said = if allowed { "allows" } else { "refuses" };
                    differences.push(format!("{from} to {to}: ambit_core {said} it, the pod saw {word:?}"));
                }
            }
        }
        (counts, differences)
    }
}

#[test]
fn a_real_connection_is_served_exactly_when_the_policies_allow_it() {
    let seed = env::var("AMBIT_SEED").map_or(SEED, |text| text.parse().unwrap());
    let world = World::start("agreement");
    let listen: Vec<String> = PORTS.iter().map(|port| format!("[::]:{port}")).collect();
    let more: Vec<&str> = listen[1..].iter().flat_map(|address| ["--listen", address.as_str()]).collect();
    let _servers: Vec<_> = world.pods.iter().map(|pod| pod.serve_on("hello", &listen[0], &more)).collect();
    let (start, mut dice, mut totals) = (Instant::now(), Dice::new(seed), [0, 0]);
    for set in 0..SETS {
        let policies = NAMES.policies(&mut dice);
        let modes: Vec<&str> =
            world.pods.iter().map(|_| dice.pick(&["strict", "strict", "permissive", "audit"])).collect();
        let snapshot = world.enforce(&policies, &modes);
        let (counts, differences) = world.try_all(&snapshot);
        assert!(
            differences.is_empty(),
            "set {set} of seed {seed}: {} differences\n{}\nmodes of p0 to p3: {modes:?}\n{policies}\nthe agent said:\n{}",
            differences.len(),
            differences[..differences.len().min(20)].join("\n"),
            world.agent.log().lines().rev().take(30).collect::<Vec<_>>().join("\n"),
        );
        totals = [totals[0] + counts[0], totals[1] + counts[1]];
    }
    eprintln!("{SETS} sets: {} served, {} refused, in {:?}", totals[0], totals[1], start.elapsed());
    // Policies that allow or refuse everything would prove little.
    assert!(totals.iter().all(|count| *count > 2000), "{totals:?}");
}

/// How many sets are tried with datagrams, which are refused in silence: each refusal costs a second.
const DATAGRAM_SETS: u64 = 8;

#[test]
fn a_datagram_is_delivered_exactly_when_the_policies_allow_it() {
    let seed = env::var("AMBIT_SEED").map_or(SEED, |text| text.parse().unwrap());
    let world = World::start("agreement-udp");
    let _servers: Vec<_> = world.pods.iter().flat_map(|pod| PORTS.map(|port| pod.reflect(port))).collect();
    let (mut dice, mut totals) = (Dice::new(seed), [0, 0]);
    for set in 0..DATAGRAM_SETS {
        let policies = NAMES.policies(&mut dice);
        let modes: Vec<&str> =
            world.pods.iter().map(|_| dice.pick(&["strict", "permissive", "audit"])).collect();
        let snapshot = world.enforce(&policies, &modes);
        let plans: Vec<(&Caller, Vec<SocketAddr>)> = world
            .callers
            .iter()
            .map(|caller| {
                let ways = world.ways(caller);
                let last = ways.len() as u64 - 1;
                let chosen = (0..3).map(|_| ways[usize::try_from(dice.number(0..=last)).unwrap()]);
                (caller, chosen.collect())
            })
            .collect();
        let differences: Vec<String> = std::thread::scope(|scope| {
            let send = |caller: &Caller, to: SocketAddr| caller.place().datagram(to, &[]) == "answered";
            let running: Vec<_> = plans
                .iter()
                .flat_map(|(caller, ways)| ways.iter().map(move |to| (*caller, *to)))
                .map(|(caller, to)| (caller, to, scope.spawn(move || send(caller, to))))
                .collect();
            let compare =
                |(caller, to, sent): (&Caller, SocketAddr, std::thread::ScopedJoinHandle<'_, bool>)| {
                    let allowed = caller.may_reach(&snapshot, Protocol::Udp, to);
                    totals[usize::from(!allowed)] += 1;
                    let (from, answered) = (caller.place().name(), sent.join().unwrap());
                    (answered != allowed)
                        .then(|| format!("{from} to {to}: allowed {allowed}, answered {answered}"))
                };
            running.into_iter().filter_map(compare).collect()
        });
        assert!(
            differences.is_empty(),
            "set {set} of seed {seed}: {}\nmodes of p0 to p3: {modes:?}\n{policies}",
            differences.join("\n")
        );
    }
    // Policies that allow or refuse everything would prove little.
    assert!(totals.iter().all(|count| *count > 20), "{totals:?}");
}
