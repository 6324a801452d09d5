//! Throughput, latency and connection rate on each path, against the same load without a mesh in the same round.

use std::time::{Duration, Instant};

use ambit_harness::Pod;
use anyhow::{Result, ensure};

use crate::Plan;
use crate::series::{Round, Summary, bounds, calmest, is_noisy, median, median_of};
use crate::world::{Load, World, load};

/// A load, and how its results are read.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    what: &'static str,
    count: usize,
    pub(crate) unit: &'static str,
    /// What one second and one unit of the client are in `unit`.
    scale: f64,
    cpu_unit: &'static str,
    cpu_scale: f64,
}

const GBIT: f64 = 8.0 / 1e9;

/// Everything that is measured on every path.
pub(crate) const TESTS: [Test; 8] = [
    Test::bulk("bulk1", 1),
    Test::bulk("bulk4", 4),
    Test::each("pingpong1", "pingpong", 1, "round trips/s", "us/round trip"),
    Test::each("pingpong16", "pingpong", 16, "round trips/s", "us/round trip"),
    Test::each("conn1", "connects", 1, "connections/s", "us/connection"),
    Test::each("conn16", "connects", 16, "connections/s", "us/connection"),
    Test::each("http1", "http1", 16, "requests/s", "us/request"),
    Test::each("http2", "http2", 16, "requests/s", "us/request"),
];

impl Test {
    const fn bulk(name: &'static str, count: usize) -> Self {
        Self { name, what: "bulk", count, unit: "Gbit/s", scale: GBIT, cpu_unit: "s/GB", cpu_scale: 1e9 }
    }

    const fn each(
        name: &'static str,
        what: &'static str,
        count: usize,
        unit: &'static str,
        cpu_unit: &'static str,
    ) -> Self {
        Self { name, what, count, unit, scale: 1.0, cpu_unit, cpu_scale: 1e6 }
    }
}

/// Who calls whom, with a mesh and without.
pub(crate) struct Path<'a> {
    pub(crate) name: &'static str,
    mesh: (&'a Pod, &'a Pod),
    direct: (&'a Pod, &'a Pod),
}

/// The names of the paths.
pub(crate) const PATHS: [&str; 3] = ["same-node", "across", "to-plain"];

/// Returns the paths of `world`.
pub(crate) fn paths(world: &World) -> [Path<'_>; 3] {
    let (mesh, plain) = (&world.mesh, &world.plain);
    let across = (&plain.client, &plain.far);
    let [same_node, other_node, to_plain] = PATHS;
    [
        Path { name: same_node, mesh: (&mesh.client, &mesh.near), direct: (&plain.client, &plain.near) },
        Path { name: other_node, mesh: (&mesh.client, &mesh.far), direct: across },
        Path { name: to_plain, mesh: (&mesh.client, &plain.far), direct: across },
    ]
}

/// Runs every test on every path, round after round, and repeats those whose values without a mesh vary.
///
/// # Errors
/// When a load fails: a connection that breaks under load is a fault, not a figure.
pub(crate) fn run(world: &World, plan: &Plan) -> Result<Vec<Summary>> {
    let paths = paths(world);
    let chosen: Vec<(&Path, &Test)> = paths
        .iter()
        .flat_map(|path| TESTS.iter().map(move |test| (path, test)))
        .filter(|(path, test)| plan.wants_speed(path.name, test.name))
        .collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let mut series: Vec<Vec<Round>> = chosen.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        for ((path, test), rounds) in chosen.iter().zip(&mut series) {
            rounds.push(measure(world, path, test, plan.time, round % 2 == 1)?);
        }
        eprintln!("bench: round {} of {} done", round + 1, plan.rounds);
    }
    let noisy = |rounds: &[Round]| is_noisy(calmest(rounds, plan.rounds));
    let deadline = Instant::now() + plan.patience;
    for round in plan.rounds..plan.rounds * 2 {
        let again: Vec<usize> = (0..chosen.len()).filter(|at| noisy(&series[*at])).collect();
        if again.is_empty() || Instant::now() > deadline {
            break;
        }
        let names: Vec<String> =
            again.iter().map(|at| format!("{} {}", chosen[*at].0.name, chosen[*at].1.name)).collect();
        eprintln!("bench: something else kept the machine busy; measuring again: {}", names.join(", "));
        for at in again {
            let (path, test) = chosen[at];
            series[at].push(measure(world, path, test, plan.time, round % 2 == 1)?);
        }
    }
    let summary = |((path, test), rounds): (&(&Path, &Test), &Vec<Round>)| {
        summary(path, test, calmest(rounds, plan.rounds))
    };
    Ok(chosen.iter().zip(&series).map(summary).collect())
}

/// Measures one round; which of both comes first alternates.
fn measure(world: &World, path: &Path, test: &Test, time: Duration, mesh_first: bool) -> Result<Round> {
    let run = |(from, to): (&Pod, &Pod)| load(from, test.what, to.ips()[0], test.count, time);
    let meshed = || -> Result<(Load, f64)> {
        let before = world.cpu()?;
        let load = run(path.mesh)?;
        Ok((load, world.cpu()? - before))
    };
    let ((mesh, cpu), direct) = if mesh_first {
        let mesh = meshed()?;
        (mesh, run(path.direct)?)
    } else {
        let direct = run(path.direct)?;
        (meshed()?, direct)
    };
    ensure!(mesh.units > 0.0 && direct.units > 0.0, "{} {}: nothing was carried", path.name, test.name);
    Ok(Round {
        direct: direct.value * test.scale,
        mesh: mesh.value * test.scale,
        cpu: cpu / mesh.units * test.cpu_scale,
        direct_p50: direct.p50_us,
        direct_p99: direct.p99_us,
        mesh_p50: mesh.p50_us,
        mesh_p99: mesh.p99_us,
    })
}

fn summary(path: &Path, test: &Test, rounds: &[Round]) -> Summary {
    let ratio = |round: &Round| round.mesh / round.direct;
    let (min, max) = bounds(rounds.iter().map(ratio));
    Summary {
        path: path.name,
        test: test.name,
        unit: test.unit,
        direct: median(rounds.iter().map(|round| round.direct)),
        mesh: median(rounds.iter().map(|round| round.mesh)),
        ratio: median(rounds.iter().map(ratio)),
        min,
        max,
        cpu: median(rounds.iter().map(|round| round.cpu)),
        cpu_unit: test.cpu_unit,
        rounds: rounds.len(),
        noisy: is_noisy(rounds),
        direct_p50_us: median_of(rounds.iter().map(|round| round.direct_p50)),
        direct_p99_us: median_of(rounds.iter().map(|round| round.direct_p99)),
        mesh_p50_us: median_of(rounds.iter().map(|round| round.mesh_p50)),
        mesh_p99_us: median_of(rounds.iter().map(|round| round.mesh_p99)),
    }
}
