//! The world that is measured: two nodes with agents and strict pods, two nodes alike without ambit.

use std::net::IpAddr;
use std::process::Output;
use std::time::Duration;

use ambit_harness::{Agent, Node, Pod, PodSpec, Process, ServiceSpec, Testbed, binary};
use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cpu;

/// The enrolled namespace.
pub(crate) const MESH: &str = "mesh";
/// The namespace that ambit does not touch.
pub(crate) const PLAIN: &str = "plain";

/// Who may call the servers, as a user writes it: a policy is in force in everything that is measured.
const POLICY: &str = "\
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: mesh, name: servers}
spec:
  selector: {matchLabels: {role: server}}
  rules:
  - from:
    - serviceAccounts: [client]
";

/// Nodes, pods and servers. What is dropped first ends first.
pub(crate) struct World {
    pub(crate) agents: Vec<Agent>,
    _servers: Vec<Process>,
    pub(crate) mesh: Side,
    pub(crate) plain: Side,
    _bed: Testbed,
}

/// A client and two servers on two nodes.
pub(crate) struct Side {
    pub(crate) client: Pod,
    pub(crate) near: Pod,
    pub(crate) far: Pod,
}

impl World {
    /// Builds everything, starts the agents and the servers, and waits until policy is in force.
    pub(crate) fn build() -> Self {
        let bed = Testbed::new("bench");
        let nodes = [bed.node("node-1"), bed.node("node-2")];
        let others = [bed.node("node-3"), bed.node("node-4")];
        bed.label_namespace(MESH, "strict");
        bed.label_namespace(PLAIN, "none");
        let (mesh, plain) = (Side::build(&nodes, MESH), Side::build(&others, PLAIN));
        let _servers = [&mesh, &plain].into_iter().flat_map(Side::serve).collect();
        // A cluster has services: their rules make every node track connections, with a mesh and without.
        for namespace in [MESH, PLAIN] {
            bed.service(ServiceSpec::new(namespace, "near").port(80, 7000));
        }
        bed.write_object("policy.yaml", POLICY);
        bed.publish();
        let agents: Vec<Agent> = nodes.iter().map(|node| node.start_agent(&[])).collect();
        bed.apply();
        Self { agents, _servers, mesh, plain, _bed: bed }
    }

    /// Returns the CPU seconds that the agents have used so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.agents.iter().map(|agent| cpu::used(agent.pid())).sum()
    }
}

impl Side {
    fn build(nodes: &[Node; 2], namespace: &str) -> Self {
        let server =
            |name: &str| PodSpec::new(namespace, name).service_account("server").label("role", "server");
        let side = Self {
            client: nodes[0].pod(PodSpec::new(namespace, "client").service_account("client")),
            near: nodes[0].pod(server("near")),
            far: nodes[1].pod(server("far")),
        };
        [&side.client, &side.near, &side.far].into_iter().for_each(set_up);
        side
    }

    fn serve(&self) -> [Process; 2] {
        [&self.near, &self.far].map(serve)
    }
}

/// Makes a pod's kernel settings what the comparison asks for.
pub(crate) fn set_up(pod: &Pod) {
    // Thousands of short connections need more ports than the default, with a mesh or without.
    let settings = "echo reno > /proc/sys/net/ipv4/tcp_congestion_control
        echo 16384 65000 > /proc/sys/net/ipv4/ip_local_port_range
        echo 4096 > /proc/sys/net/core/somaxconn";
    let output = pod.run("sh", &["-ec", settings]);
    assert!(output.status.success(), "set up {}: {}", pod.name(), String::from_utf8_lossy(&output.stderr));
}

/// Starts a server in `pod`.
pub(crate) fn serve(pod: &Pod) -> Process {
    let mut process = pod.spawn(binary("load"), &["serve"]);
    process.wait_log("listening");
    process
}

/// What a client printed.
pub(crate) struct Load {
    /// Units per second, or seconds.
    pub(crate) value: f64,
    /// How many bytes, round trips, connections or requests.
    pub(crate) units: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

/// Runs a client in `pod` and returns what it measured.
///
/// # Errors
/// When it fails, with what it said.
pub(crate) fn load(pod: &Pod, what: &str, to: IpAddr, count: usize, time: Duration) -> Result<Load> {
    let program = binary("load").display().to_string();
    let (to, count, time) = (to.to_string(), count.to_string(), format!("{}ms", time.as_millis()));
    let output = pod.run(&program, &[what, &to, "--count", &count, "--time", &time]);
    read(&output).with_context(|| format!("{what} from {} to {to}", pod.name()))
}

fn read(output: &Output) -> Result<Load> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("read the result")?;
    let number = |name: &str| report[name].as_f64();
    Ok(Load {
        value: number("value").context("no value")?,
        units: number("units").context("no units")?,
        p50_us: number("p50_us"),
        p99_us: number("p99_us"),
    })
}
