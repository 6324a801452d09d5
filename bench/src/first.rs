//! The first connection to a pod that has just come, to which no tunnel stands yet.

use std::time::Duration;

use ambit_harness::{Pod, Process, wait_until};
use anyhow::Result;
use serde::Serialize;

use crate::series::{Spread, spread};
use crate::world::{MESH, PLAIN, Side, World, load, serve, server, set_up};

/// How long the agents may take to capture the pods that have come.
const CAPTURE: Duration = Duration::from_secs(30);

/// First connections on one path, in milliseconds from `connect()` to the end, one byte exchanged.
#[derive(Serialize)]
pub(crate) struct First {
    pub(crate) path: &'static str,
    pub(crate) direct: Spread,
    pub(crate) mesh: Spread,
    /// How many times as long it takes with ambit.
    pub(crate) ratio: Spread,
    pub(crate) connections: usize,
}

/// A server that nobody has called yet.
struct Fresh {
    pod: Pod,
    _server: Process,
}

/// Starts `count` servers a node, calls each of them once, and ends them.
///
/// # Errors
/// When a connection fails.
pub(crate) fn run(world: &World, count: usize) -> Result<Vec<First>> {
    eprintln!("bench: first connections");
    let mesh = [0, 1].map(|node| servers(&world.mesh, MESH, node, count));
    let plain = [0, 1].map(|node| servers(&world.plain, PLAIN, node, count));
    world.bed.apply();
    await_captured(world, &mesh);
    let (called, calls) = (&world.mesh.client, &world.plain.client);
    let paths = [
        ("same-node", &mesh[0], &plain[0]),
        ("across", &mesh[1], &plain[1]),
        ("to-plain", &plain[1], &plain[1]),
    ];
    let mut all = Vec::new();
    for (path, meshed, direct) in paths {
        let mut pairs = Vec::new();
        for (meshed, direct) in meshed.iter().zip(direct) {
            pairs.push((once(calls, &direct.pod)?, once(called, &meshed.pod)?));
        }
        all.push(First {
            path,
            direct: spread(pairs.iter().map(|(direct, _)| *direct)),
            mesh: spread(pairs.iter().map(|(_, mesh)| *mesh)),
            ratio: spread(pairs.iter().map(|(direct, mesh)| mesh / direct)),
            connections: pairs.len(),
        });
    }
    for fresh in mesh.into_iter().chain(plain).flatten() {
        fresh.pod.delete();
    }
    world.bed.apply();
    Ok(all)
}

fn servers(side: &Side, namespace: &str, node: usize, count: usize) -> Vec<Fresh> {
    let fresh = |number: usize| {
        let pod = side.nodes[node].pod(server(namespace, &format!("fresh-{node}-{number}")));
        set_up(&pod);
        Fresh { _server: serve(&pod), pod }
    };
    (0..count).map(fresh).collect()
}

/// Waits until each agent has captured its pods: what is measured is a connection, not an enrolment.
fn await_captured(world: &World, fresh: &[Vec<Fresh>; 2]) {
    for (agent, fresh) in world.agents.iter().zip(fresh) {
        wait_until("the pods that have come to be captured", CAPTURE, || {
            let status = agent.status();
            let captured = status["pods"].as_array().into_iter().flatten();
            let names: Vec<String> = captured
                .filter(|pod| pod["captured"] == true)
                .map(|pod| format!("{MESH}/{}", pod["name"].as_str().unwrap_or_default()))
                .collect();
            fresh.iter().all(|fresh| names.iter().any(|name| name == fresh.pod.name()))
        });
    }
}

/// Connects once; milliseconds.
fn once(from: &Pod, to: &Pod) -> Result<f64> {
    Ok(load(from, "first", to.ips()[0], 1, Duration::ZERO)?.value * 1e3)
}
