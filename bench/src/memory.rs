//! The memory of agents: with pods of the node, with idle connections, and with workloads of other nodes in the model.

use std::time::{Duration, Instant};

use ambit_harness::{Agent, Pod, PodSpec, Process, Testbed, binary};
use anyhow::Result;
use serde::Serialize;

use crate::cpu;
use crate::crowd::Crowd;
use crate::objects;
use crate::world::{Applied, MESH, World};

/// Enrolled pods of the node.
const PODS: [usize; 3] = [0, 10, 100];
/// Idle connections.
const CONNECTIONS: [usize; 3] = [0, 1000, 5000];
/// Workloads of other nodes.
const WORKLOADS: [u32; 3] = [0, 10_000, 100_000];
/// How long memory must stay equal to count.
const QUIET: Duration = Duration::from_secs(2);
/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// Resident memory of agents, in bytes.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) pods: Vec<Pods>,
    pub(crate) per_pod: f64,
    pub(crate) connections: Vec<Connections>,
    /// On the agent of the client's node.
    pub(crate) per_connection_client: f64,
    /// On the agent of the server's node.
    pub(crate) per_connection_server: f64,
    pub(crate) workloads: Vec<Workloads>,
    pub(crate) per_workload: f64,
}

/// An agent with this many enrolled pods on its node.
#[derive(Serialize)]
pub(crate) struct Pods {
    pub(crate) count: usize,
    pub(crate) rss: u64,
}

/// Two agents with this many idle connections between their nodes.
#[derive(Serialize)]
pub(crate) struct Connections {
    pub(crate) count: usize,
    pub(crate) client_rss: u64,
    pub(crate) server_rss: u64,
}

/// An agent that knows this many workloads of other nodes.
#[derive(Serialize)]
pub(crate) struct Workloads {
    pub(crate) count: u32,
    pub(crate) rss: u64,
    /// The most that it needed until it had them in force.
    pub(crate) peak_rss: u64,
    /// How long that took, from the last file in place.
    pub(crate) seconds: f64,
}

/// Measures all three, each on nodes and agents of its own.
///
/// # Errors
/// When an agent's memory cannot be read.
pub(crate) fn run() -> Result<Memory> {
    eprintln!("bench: memory with pods");
    let pods = with_pods()?;
    eprintln!("bench: memory with idle connections");
    let connections = with_connections()?;
    eprintln!("bench: memory with workloads of other nodes");
    let workloads = with_workloads()?;
    Ok(Memory {
        per_pod: slope(pods.iter().map(|at| (at.count as f64, at.rss))),
        per_connection_client: slope(connections.iter().map(|at| (at.count as f64, at.client_rss))),
        per_connection_server: slope(connections.iter().map(|at| (at.count as f64, at.server_rss))),
        per_workload: slope(workloads.iter().map(|at| (f64::from(at.count), at.rss))),
        pods,
        connections,
        workloads,
    })
}

/// Returns what each one adds, between the fewest and the most.
fn slope(points: impl Iterator<Item = (f64, u64)>) -> f64 {
    let points: Vec<(f64, u64)> = points.collect();
    let (Some((few, least)), Some((many, most))) = (points.first(), points.last()) else { return 0.0 };
    if many > few { (*most as f64 - *least as f64) / (many - few) } else { 0.0 }
}

/// Every count has an agent of its own, so that none shows what an earlier count left behind.
fn with_pods() -> Result<Vec<Pods>> {
    let crowd = Crowd::build();
    let measure = |count: usize| {
        crowd.choose(count);
        let agent = crowd.start_agent();
        crowd.wait_captured(&agent, count)?;
        Ok(Pods { count, rss: settled(&agent)? })
    };
    PODS.into_iter().map(measure).collect()
}

fn with_connections() -> Result<Vec<Connections>> {
    let world = World::build();
    let [client, server] = &world.agents;
    let mut held: Vec<Process> = Vec::new();
    let mut open = 0;
    let mut measured = Vec::new();
    for count in CONNECTIONS {
        if count > open {
            held.push(hold(&world.mesh.client, &world.mesh.far, count - open));
            open = count;
        }
        measured.push(Connections { count, client_rss: settled(client)?, server_rss: settled(server)? });
    }
    Ok(measured)
}

/// Opens connections that do nothing, and keeps them until what is returned is dropped.
fn hold(from: &Pod, to: &Pod, count: usize) -> Process {
    let (address, count) = (to.ips()[0].to_string(), count.to_string());
    let mut holding = from.spawn(binary("load"), &["hold", &address, "--count", &count]);
    holding.wait_log("open");
    holding
}

fn with_workloads() -> Result<Vec<Workloads>> {
    let bed = Testbed::new("bench-model");
    let node = bed.node("node-1");
    bed.label_namespace(MESH, "strict");
    let _pod = node.pod(PodSpec::new(MESH, "local").service_account("client"));
    bed.publish();
    let agent = node.start_agent(&[]);
    let mut known = 0;
    let mut measured = Vec::new();
    for count in WORKLOADS {
        let mut seconds = 0.0;
        if count > known {
            let before = Applied::of(&agent);
            for (name, text) in objects::workloads(known, count) {
                bed.write_object(&name, &text);
            }
            bed.publish();
            let start = Instant::now();
            before.wait_for(&agent, i64::from(count - known))?;
            seconds = start.elapsed().as_secs_f64();
            known = count;
        }
        measured.push(Workloads { count, rss: settled(&agent)?, peak_rss: agent.peak_memory(), seconds });
    }
    Ok(measured)
}

/// Returns an agent's resident memory once it stays equal, in bytes.
fn settled(agent: &Agent) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (cpu::resident(agent.pid())?, Instant::now());
    while since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(50));
        let now = cpu::resident(agent.pid())?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if Instant::now() > deadline {
            eprintln!("bench: the memory of an agent still changes after {PATIENCE:?}: it is taken as it is");
            break;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_adds_is_between_the_first_and_the_last() {
        assert_eq!(slope([(0.0, 1000), (10.0, 1900), (100.0, 3000)].into_iter()), 20.0);
        assert_eq!(slope([(0.0, 1000)].into_iter()), 0.0);
    }
}
