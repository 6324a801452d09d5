//! Handing over to another agent: lets go of the charge, waits until the other one is ready, and takes the charge back
//! when it is gone before that.

use super::{
    Life, Parts,
    charge::{Charge, LONGEST, PROTOCOL, is_taken},
};
use crate::observe::{Asking, bind_elder, read_line, serve, write_line};
use ambit_bpf::pins_id;
use anyhow::Context;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{net::UnixStream, sync::mpsc, task::JoinSet};

/// How often the charge is asked for again, when the other agent is gone and somebody still holds it.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an agent that takes over usually needs at most.
const LONG: Duration = Duration::from_secs(15);
/// How long the listeners from before are served, after the kernel was given new ones.
const QUEUES: Duration = Duration::from_secs(1);

/// How a hand-over went.
pub(super) enum Outcome {
    /// The other agent is in charge.
    Succeeded(Elderly),
    /// This one is, or still is.
    InCharge(Life),
}

/// An agent that is no longer in charge.
pub(super) struct Elderly {
    pub(super) life: Life,
    _socket: ElderSocket,
}

/// Hands over to `asking`, and takes the charge back where that fails.
///
/// # Errors
/// The charge cannot be taken back.
pub(super) async fn hand_over(
    parts: &Arc<Parts>,
    mut life: Life,
    mut asking: Asking,
    deadline: Option<Instant>,
) -> anyhow::Result<Outcome> {
    let socket = match refusal(parts, &asking) {
        Some(reason) => Err(reason),
        None => ElderSocket::open(parts, &life, deadline).map_err(|error| format!("{error:#}")),
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(reason) => {
            tracing::warn!(reason, "another agent asked to take over, and was refused");
            // One that does not wait for the answer does not need it.
            let _ = write_line(&mut asking.stream, &json!({ "error": reason })).await;
            return Ok(Outcome::InCharge(life));
        }
    };
    tracing::info!("handing over: another agent starts, and this one goes on serving until it is ready");
    life.node.let_go();
    life.give_up_charge().await;
    if succeeded(&mut asking.stream).await {
        tracing::info!("another agent has taken over");
        return Ok(Outcome::Succeeded(Elderly { life, _socket: socket }));
    }
    tracing::warn!("the agent that was to take over is gone: this one takes the node back");
    take_back(parts, life, socket).await
}

/// Says why `asking` gets nothing, if it does not.
fn refusal(parts: &Parts, asking: &Asking) -> Option<String> {
    let request = asking.request;
    if request.protocol != PROTOCOL {
        return Some(format!(
            "ambit {} hands over by version {PROTOCOL} of the protocol, and was asked for version {}",
            env!("CARGO_PKG_VERSION"),
            request.protocol
        ));
    }
    match pins_id(&parts.options.bpffs) {
        Ok(pins) if pins == request.pins => None,
        Ok(_) => Some(format!("its pins lie in {}", parts.options.bpffs.display())),
        Err(error) => Some(crate::observe::chain(&error)),
    }
}

/// Says that the charge is free, and waits for the other agent to be ready; `false` when it is gone.
async fn succeeded(stream: &mut UnixStream) -> bool {
    let granted = json!({ "granted": { "version": env!("CARGO_PKG_VERSION") } });
    if write_line(stream, &granted).await.is_err() {
        return false;
    }
    let mut word = std::pin::pin!(read_line(stream, LONGEST));
    loop {
        tokio::select! {
            line = &mut word => {
                let line = line.unwrap_or_default();
                return serde_json::from_str::<Value>(&line).is_ok_and(|said| said["ready"] == true);
            }
            () = tokio::time::sleep(LONG) => tracing::error!(
                "the agent that takes over is not ready yet: changes of pods and policies wait for it; end it, and this \
                 one takes the node back"
            ),
        }
    }
}

async fn take_back(parts: &Arc<Parts>, life: Life, socket: ElderSocket) -> anyhow::Result<Outcome> {
    let options = &parts.options;
    let charge = loop {
        match Charge::try_take(&options.bpffs, &options.socket).await {
            Ok(charge) => break charge,
            // It is about to end, or a third agent was faster.
            Err(error) if is_taken(&error) => {
                if UnixStream::connect(&options.socket).await.is_ok() {
                    tracing::info!("a third agent has taken over");
                    return Ok(Outcome::Succeeded(Elderly { life, _socket: socket }));
                }
            }
            Err(error) => return Err(error.context("take the node back")),
        }
        tokio::time::sleep(PAUSE).await;
    };
    // At once, for whoever connects now. What else the other agent has changed is put right by starting anew beside it.
    if let Err(error) = life.node.plane.listen_again() {
        tracing::warn!(reason = %crate::observe::chain(&error), "some pods refuse connections for a moment");
    }
    let plane = life.node.plane.renewed(Arc::new(parts.load_kernel(true)?));
    let before = Arc::clone(&life.node);
    drop(life);
    let life = Life::begin(parts, plane, charge).context("take the node back")?;
    tokio::spawn(async move {
        tokio::time::sleep(QUEUES).await;
        before.stop_listening();
    });
    tracing::info!("this agent is in charge again");
    Ok(Outcome::InCharge(life))
}

/// The socket of an agent that is not in charge.
struct ElderSocket {
    path: PathBuf,
    _serving: JoinSet<()>,
}

impl ElderSocket {
    fn open(parts: &Parts, life: &Life, deadline: Option<Instant>) -> anyhow::Result<Self> {
        let (listener, path) = bind_elder(&parts.options.socket)?;
        let left = deadline.map_or(parts.options.drain_timeout, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let (node, until) = (Arc::clone(&life.node), SystemTime::now() + left);
        let answer = move |_| {
            let elder = serde_json::to_value(node.as_elder(until));
            std::future::ready(elder.unwrap_or_else(|error| json!({ "error": error.to_string() })))
        };
        // Nobody takes over from an agent that is not in charge.
        let (nobody, _) = mpsc::channel(1);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, answer, nobody));
        Ok(Self { path, _serving: serving })
    }
}

impl Drop for ElderSocket {
    fn drop(&mut self) {
        // Whoever finds a socket that is left removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}
