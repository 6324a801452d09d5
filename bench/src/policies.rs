//! The rate of new connections to a pod that many policies select.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::objects;
use crate::series::{Spread, spread};
use crate::world::{Wait, World, load, usual_policy};

/// Policies that select the servers, each for one caller, and one of them for the client.
const COUNTS: [usize; 3] = [0, 1000, 10_000];
/// Clients that connect at a time, as in `conn16`.
const WORKERS: usize = 16;

/// A path under so many policies.
#[derive(Serialize)]
pub(crate) struct Rate {
    pub(crate) path: &'static str,
    pub(crate) policies: usize,
    /// Connections per second.
    pub(crate) rate: Spread,
    /// The rate against that without policies, in the same round.
    pub(crate) ratio: Spread,
}

/// Measures every count in each round, and puts the usual policy back.
///
/// # Errors
/// When a connection fails, or an agent refuses the policies.
pub(crate) fn run(world: &World, rounds: usize, time: Duration) -> Result<Vec<Rate>> {
    let paths = [("same-node", world.mesh.near.ips()[0]), ("across", world.mesh.far.ips()[0])];
    // By path, by count: the rates of the rounds.
    let mut rates = paths.map(|_| COUNTS.map(|_| Vec::new()));
    for round in 0..rounds {
        for (at, count) in COUNTS.into_iter().enumerate() {
            world.set_policies(&objects::policies(count), Wait::Applied)?;
            for ((_, to), rates) in paths.iter().zip(&mut rates) {
                rates[at].push(load(&world.mesh.client, "connects", *to, WORKERS, time)?.value);
            }
        }
        eprintln!("bench: policies: round {} of {rounds} done", round + 1);
    }
    world.set_policies(&usual_policy(), Wait::Applied)?;
    let mut all = Vec::new();
    for ((path, _), rates) in paths.into_iter().zip(&rates) {
        for (policies, values) in COUNTS.into_iter().zip(rates) {
            let ratios = values.iter().zip(&rates[0]).map(|(value, none)| value / none);
            all.push(Rate { path, policies, rate: spread(values.iter().copied()), ratio: spread(ratios) });
        }
    }
    Ok(all)
}
