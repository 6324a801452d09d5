//! How long changes take: from a changed policy to the first refused connection, and to enrol a node full of pods.

use std::time::{Duration, SystemTime};

use ambit_harness::{Pod, binary};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::crowd::{Crowd, PODS};
use crate::objects;
use crate::series::{Spread, spread};
use crate::world::{Wait, World, usual_policy};

/// How long a change of policy may take to refuse.
const LIMIT: &str = "15s";
/// How often the crowd is enrolled.
const ENROLMENTS: usize = 3;

/// What was measured of changes.
#[derive(Serialize)]
pub(crate) struct Changes {
    pub(crate) refusals: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enrolment: Option<Enrolment>,
}

/// From the rename of a changed policy file to the first connection that is refused.
#[derive(Serialize)]
pub(crate) struct Refusal {
    pub(crate) path: &'static str,
    pub(crate) milliseconds: Spread,
    pub(crate) times: usize,
}

/// From the label on a namespace until every pod of it is captured, on one node.
#[derive(Serialize)]
pub(crate) struct Enrolment {
    pub(crate) pods: usize,
    pub(crate) seconds: Spread,
    pub(crate) times: usize,
}

/// Changes the policy `times` times on each path.
///
/// # Errors
/// When no connection is refused, or one before the change.
pub(crate) fn refusals(world: &World, times: usize) -> Result<Vec<Refusal>> {
    let paths = [("same-node", &world.mesh.near), ("across", &world.mesh.far)];
    let mut taken = paths.map(|_| Vec::new());
    for _ in 0..times {
        for ((path, server), taken) in paths.into_iter().zip(&mut taken) {
            taken.push(refuse(world, server).with_context(|| format!("change a policy, {path}"))?);
        }
    }
    let refusal = |((path, _), taken): ((&'static str, _), Vec<f64>)| {
        let milliseconds = spread(taken.iter().map(|seconds| seconds * 1e3));
        Refusal { path, milliseconds, times }
    };
    Ok(paths.into_iter().zip(taken).map(refusal).collect())
}

/// Returns the seconds from the change to the beginning of the first connection that was refused.
fn refuse(world: &World, server: &Pod) -> Result<f64> {
    let to = server.ips()[0].to_string();
    let mut client = world.mesh.client.spawn(binary("load"), &["until-refused", &to, "--time", LIMIT]);
    client.wait_log("passed");
    let changed = world.set_policies(&objects::policy("servers", "nobody"), Wait::Nothing)?;
    let ended = client.wait(Duration::from_secs(30));
    ensure!(ended.success(), "{}", client.log().trim());
    let printed = client.stdout();
    let report = printed.lines().next_back().unwrap_or_default();
    let report: Value = serde_json::from_str(report).with_context(|| format!("read {report:?}"))?;
    let refused = report["value"].as_f64().context("no time")?;
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    ensure!(refused >= changed, "a connection failed before the change: {}", report["error"]);
    world.set_policies(&usual_policy(), Wait::Applied)?;
    Ok(refused - changed)
}

/// Enrols a hundred pods of one node, and releases them, several times.
///
/// # Errors
/// When the agent does not capture all of them.
pub(crate) fn enrolment() -> Result<Enrolment> {
    eprintln!("bench: enrolling {PODS} pods");
    let crowd = Crowd::build();
    let agent = crowd.start_agent();
    let mut taken = Vec::new();
    for _ in 0..ENROLMENTS {
        let labelled = crowd.label("strict")?;
        crowd.wait_captured(&agent, PODS)?;
        taken.push(labelled.elapsed().context("the clock went back")?.as_secs_f64());
        crowd.label("none")?;
        crowd.wait_captured(&agent, 0)?;
    }
    Ok(Enrolment { pods: PODS, seconds: spread(taken.iter().copied()), times: ENROLMENTS })
}
