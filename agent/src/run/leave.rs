//! The end of an agent: what it carries goes on for a while, and is then reset.

use super::{hand_over::Elderly, node::Node};
use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{timeout, timeout_at},
};

/// How long an agent that was succeeded serves its listeners at least: who waits in their queues was let in by the
/// kernel.
const QUEUES: Duration = Duration::from_secs(1);

/// Waits until the agent is to end at once. The first SIGTERM says in `leaving` until when it may stay.
///
/// # Errors
/// The signals cannot be waited for.
pub(super) async fn told_to_end(
    leaving: watch::Sender<Option<Instant>>,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => return Ok(()),
    }
    leaving.send_replace(Some(Instant::now() + drain_timeout));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits until the agent is told to leave, stays for what it carries, and ends without a successor: what comes in the
/// last moment is served, the callers' agents are told, and what is carried when the time is over is reset.
///
/// Another agent may take over at any moment of this: then it is no longer waited for.
pub(super) async fn leave(node: &Node, leaving: &mut watch::Receiver<Option<Instant>>) {
    let told = leaving.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    // Without anybody who could tell, the agent is ending already.
    let Some(deadline) = told else { return std::future::pending().await };
    if node.plane.carried() > 0 {
        tracing::info!(
            carried = node.plane.carried(), drain_timeout = %left(deadline),
            "told to stop: staying until no connection is carried, or another agent takes over"
        );
    }
    // A time that is over is as good as nothing carried.
    let _ = timeout_at(deadline.into(), node.plane.until_idle()).await;
    node.let_go();
    let last = async {
        node.stop_listening();
        node.plane.drain();
        node.plane.end_tunnels().await;
        node.plane.until_idle().await;
        node.plane.end_tunnels().await;
    };
    let _ = timeout_at(deadline.into(), last).await;
    report_reset(node);
}

/// Carries on what is carried until it has ended, or until `deadline`.
pub(super) async fn drain(elderly: &Elderly, deadline: Instant) {
    let node = &elderly.life.node;
    node.plane.drain();
    tracing::info!(
        carried = node.plane.carried(),
        drain_timeout = %left(deadline),
        "draining"
    );
    let last = async {
        // The kernel gives these listeners nothing any more; their queues become empty.
        let _ = timeout(QUEUES, std::future::pending::<()>()).await;
        node.stop_listening();
        node.plane.until_idle().await;
        node.plane.end_tunnels().await;
    };
    let _ = timeout_at(deadline.into(), last).await;
    report_reset(node);
}

/// Waits, with nothing to do, until the agent is told to stop.
pub(super) async fn stay(leaving: &mut watch::Receiver<Option<Instant>>) {
    tracing::info!("drained: staying until told to stop");
    // Without anybody who could tell, the agent is ending already.
    let _ = leaving.wait_for(Option::is_some).await;
}

fn report_reset(node: &Node) {
    let carried = node.plane.carried();
    if carried > 0 {
        tracing::warn!(carried, "the time to drain is over: connections are reset");
    }
}

/// Returns how much time is left, in whole seconds.
fn left(deadline: Instant) -> humantime::FormattedDuration {
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
    humantime::format_duration(Duration::from_secs(left.as_secs()))
}
