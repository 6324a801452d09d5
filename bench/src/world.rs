//! The world that is measured: two nodes with agents and strict pods, two nodes alike without ambit.

use std::fs;
use std::net::IpAddr;
use std::process::Output;
use std::time::{Duration, Instant, SystemTime};

use ambit_harness::{Agent, Node, Pod, PodSpec, Process, ServiceSpec, Testbed, binary};
use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cpu, objects};

/// The enrolled namespace.
pub(crate) const MESH: &str = "mesh";
/// The namespace that ambit does not touch.
pub(crate) const PLAIN: &str = "plain";

/// The file of the policies about the servers.
const POLICY_FILE: &str = "policy.yaml";
/// How long agents may take to put objects into force: 100,000 workloads take their time.
const APPLY: Duration = Duration::from_secs(120);

/// Nodes, pods and servers. What is dropped first ends first.
pub(crate) struct World {
    /// Those of the client's node and of the other one.
    pub(crate) agents: [Agent; 2],
    _servers: Vec<Process>,
    pub(crate) mesh: Side,
    pub(crate) plain: Side,
    pub(crate) bed: Testbed,
}

/// A client and two servers on two nodes.
pub(crate) struct Side {
    pub(crate) nodes: [Node; 2],
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
        let (mesh, plain) = (Side::build(nodes, MESH), Side::build(others, PLAIN));
        let _servers = [&mesh, &plain].into_iter().flat_map(Side::serve).collect();
        // A cluster has services: their rules make every node track connections, with a mesh and without.
        for namespace in [MESH, PLAIN] {
            bed.service(ServiceSpec::new(namespace, "near").port(80, 7000));
        }
        bed.write_object(POLICY_FILE, &usual_policy());
        bed.publish();
        let agents = [0, 1].map(|number| mesh.nodes[number].start_agent(&[]));
        bed.apply();
        Self { agents, _servers, mesh, plain, bed }
    }

    /// Puts these policies about the servers, and no others, into force; returns when their file was put in its place.
    ///
    /// # Errors
    /// When the file cannot be written, or an agent refuses the objects or takes too long.
    pub(crate) fn set_policies(&self, text: &str, wait: Wait) -> Result<SystemTime> {
        let file = self.bed.objects().join(POLICY_FILE);
        let count = |text: &str| text.matches("kind: AccessPolicy\n").count() as i64;
        let stood = fs::read_to_string(&file).unwrap_or_default();
        let before = self.agents.each_ref().map(Applied::of);
        // Beside the folder that agents read, on the same file system.
        let aside = self.bed.dir().join(POLICY_FILE);
        fs::write(&aside, text).with_context(|| format!("write {}", aside.display()))?;
        let renamed = SystemTime::now();
        fs::rename(&aside, &file).with_context(|| format!("put {} in its place", file.display()))?;
        if wait == Wait::Applied && stood != text {
            for (agent, before) in self.agents.iter().zip(before) {
                before.wait_for(agent, count(text) - count(&stood))?;
            }
        }
        Ok(renamed)
    }

    /// Returns the CPU seconds that the agents have used so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.agents.iter().map(|agent| cpu::used(agent.pid())).sum()
    }
}

/// Whether something is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until every agent has put it into force.
    Applied,
    /// Not at all.
    Nothing,
}

/// Returns the policy that is in force in everything that is measured, unless it is about policies.
pub(crate) fn usual_policy() -> String {
    objects::policy("servers", "client")
}

/// What an agent has put into force.
pub(crate) struct Applied {
    version: u64,
    objects: i64,
}

impl Applied {
    /// Asks an agent.
    pub(crate) fn of(agent: &Agent) -> Self {
        Self::read(&agent.status())
    }

    fn read(status: &Value) -> Self {
        let source = &status["source"];
        Self {
            version: source["version"].as_u64().unwrap_or_default(),
            objects: source["objects"].as_i64().unwrap_or_default(),
        }
    }

    /// Waits until the agent has put into force a later state with `more` objects.
    ///
    /// # Errors
    /// When it refuses the objects, or takes too long.
    pub(crate) fn wait_for(&self, agent: &Agent, more: i64) -> Result<()> {
        let deadline = Instant::now() + APPLY;
        loop {
            let status = agent.status();
            let errors: Vec<&str> = status["source"]["errors"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            if let Some(first) = errors.first() {
                bail!("an agent refuses the objects: {first} ({} such)", errors.len());
            }
            let now = Self::read(&status);
            let in_force = status["snapshot"].as_u64() >= Some(now.version);
            if in_force && now.version > self.version && now.objects == self.objects + more {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("an agent has {} objects in force after {APPLY:?}", now.objects);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Side {
    fn build(nodes: [Node; 2], namespace: &str) -> Self {
        let [client, near, far] = [
            nodes[0].pod(PodSpec::new(namespace, "client").service_account("client")),
            nodes[0].pod(server(namespace, "near")),
            nodes[1].pod(server(namespace, "far")),
        ];
        [&client, &near, &far].into_iter().for_each(set_up);
        Self { nodes, client, near, far }
    }

    fn serve(&self) -> [Process; 2] {
        [&self.near, &self.far].map(serve)
    }
}

/// Describes a server's pod.
pub(crate) fn server(namespace: &str, name: &str) -> PodSpec {
    PodSpec::new(namespace, name).service_account("server").label("role", "server")
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
