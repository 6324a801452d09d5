//! A node in the charge of this agent: puts every snapshot in force, and answers questions about it.
//!
//! Decides nothing about connections. Once it is not in charge any more it writes nothing into the kernel, and still
//! follows the snapshots for the sake of the connections that it carries.

use super::{Parts, explaining};
use crate::{
    dataplane::{Dataplane, live::ConnectionRow},
    enrol::{Enrolment, WantedPod, wanted_pods},
    observe::{
        ConnectionCounts, DrainingStatus, Elder, PodStatus, Query, Reporting, Status, carried_by_elders,
        elders, report_refusals,
    },
};
use ambit_core::state::Snapshot;
use anyhow::Context;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// How often the pods' network namespaces are looked at again.
const REPAIR_EVERY: Duration = Duration::from_secs(1);

/// How many times, `REPAIR_EVERY` apart, older connections are looked for after a change.
const LATER_SWEEPS: u64 = 3;

/// The parts of a running agent that follow the snapshot.
pub(super) struct Node {
    pub(super) parts: Arc<Parts>,
    pub(super) plane: Arc<Dataplane>,
    enrolment: Mutex<Enrolment>,
    /// Whether the kernel's state is this agent's. Read and changed while `enrolment` is held.
    in_charge: AtomicBool,
    applied: AtomicU64,
    /// The snapshot that was last put in force, perhaps not whole.
    seen: AtomicU64,
    /// How many more times older connections are looked for.
    sweeps: AtomicU64,
    reporting: Mutex<Option<Reporting>>,
}

impl Node {
    /// Enrols the node's pods and attaches the hooks, in the place of those of an agent before this one.
    ///
    /// # Errors
    /// The kernel's state cannot be read, or the hooks cannot be attached.
    pub(super) fn take(parts: Arc<Parts>, plane: Arc<Dataplane>) -> anyhow::Result<Arc<Self>> {
        let node = Arc::new(Self {
            enrolment: Mutex::new(Enrolment::new(Arc::clone(&plane))?),
            parts,
            plane,
            in_charge: AtomicBool::new(true),
            applied: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            sweeps: AtomicU64::new(0),
            reporting: Mutex::default(),
        });
        node.apply();
        node.plane.open();
        node.plane.kernel.attach().context("attach the hooks at the cgroup root")?;
        if let Some(reader) = node.plane.kernel.take_events() {
            let reporting = report_refusals(reader, Arc::clone(&node.plane));
            *node.reporting() = Some(reporting.context("follow the kernel's refusals")?);
        }
        Ok(node)
    }

    fn enrolment(&self) -> MutexGuard<'_, Enrolment> {
        self.enrolment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reporting(&self) -> MutexGuard<'_, Option<Reporting>> {
        self.reporting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops writing the kernel's state and reading its reports; connections go on, and new ones are served.
    pub(super) fn let_go(&self) {
        let enrolment = self.enrolment();
        self.in_charge.store(false, Ordering::Release);
        drop(enrolment);
        *self.reporting() = None;
    }

    /// Stops accepting connections.
    pub(super) fn stop_listening(&self) {
        self.enrolment().stop_listening();
    }

    /// Puts the newest snapshot in force, and repairs what has changed underneath.
    fn apply(&self) {
        let snapshot = Arc::clone(&self.parts.source.snapshots.borrow());
        self.plane.state.store(Arc::clone(&snapshot));
        // A connection that nobody had accepted yet is found a moment later.
        let changed = self.seen.swap(snapshot.version(), Ordering::AcqRel) != snapshot.version();
        {
            let mut enrolment = self.enrolment();
            if self.in_charge.load(Ordering::Acquire) {
                self.enforce(&mut enrolment, &snapshot, changed);
            }
        }
        if changed {
            for (facts, verdict) in self.plane.live.reevaluate(&snapshot) {
                self.plane.decisions.revoked(&facts, verdict.as_ref());
            }
        }
    }

    fn enforce(&self, enrolment: &mut Enrolment, snapshot: &Arc<Snapshot>, changed: bool) {
        if let Err(error) = enrolment.apply(snapshot, self.wanted(snapshot)) {
            tracing::error!(reason = %crate::observe::chain(&error), "the kernel does not take the whole snapshot: trying again");
        } else {
            self.applied.store(snapshot.version(), Ordering::Release);
        }
        if changed {
            self.sweeps.store(LATER_SWEEPS, Ordering::Release);
        }
        let sweeps = changed
            || self
                .sweeps
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
                .is_ok();
        if sweeps {
            let (plane, parts) = (Arc::clone(&self.plane), Arc::clone(&self.parts));
            let elsewhere = async move || carried_by_elders(&parts.options.socket).await;
            tokio::spawn(plane.sweep_direct(enrolment.enforced(), Arc::clone(snapshot), elsewhere));
        }
    }

    fn wanted(&self, snapshot: &Snapshot) -> Vec<WantedPod> {
        wanted_pods(snapshot, &self.parts.options.node)
    }

    /// Follows the source of objects until it ends.
    pub(super) async fn follow(&self) {
        let mut snapshots = self.parts.source.snapshots.clone();
        let mut repair = tokio::time::interval(REPAIR_EVERY);
        loop {
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() {
                    tracing::error!("the source of objects has ended");
                    return;
                },
                _ = repair.tick() => {}
            }
            self.apply();
        }
    }

    /// Answers a question at the main socket.
    pub(super) async fn answer(self: &Arc<Self>, query: Query) -> Value {
        if let Query::Explain(question) = query {
            return explaining::answer(self, question).await;
        }
        let elders = elders(&self.parts.options.socket).await;
        let answer = match query {
            Query::Status => serde_json::to_value(self.status(elders)),
            Query::Connections => Ok(json!({ "connections": self.connections(elders) })),
            Query::Explain(_) | Query::Drain | Query::HandOver(_) => {
                Ok(json!({ "error": "this agent does not drain" }))
            }
        };
        answer.unwrap_or_else(|error| json!({ "error": error.to_string() }))
    }

    fn connections(&self, elders: Vec<Elder>) -> Vec<ConnectionRow> {
        let mut rows = self.plane.live.rows(&self.plane.state.load());
        let elsewhere = elders.iter().flat_map(|elder| elder.accepted.iter().copied()).collect();
        rows.extend(self.plane.direct_connections(&elsewhere));
        rows.extend(elders.into_iter().flat_map(|elder| elder.connections));
        rows
    }

    /// Says what is still carried, to the agent that has taken over.
    pub(super) fn as_elder(&self, until: SystemTime) -> Elder {
        let mut connections = self.plane.live.rows(&self.plane.state.load());
        connections.iter_mut().for_each(|row| row.draining = true);
        Elder {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            until: crate::observe::rfc3339(until),
            carried: self.plane.carried(),
            accepted: self.plane.accepted(),
            connections,
        }
    }

    /// Returns the enrolled pods of the node.
    pub(super) fn pods(&self, snapshot: &Snapshot) -> Vec<PodStatus> {
        self.enrolment().status(&self.wanted(snapshot))
    }

    fn status(&self, elders: Vec<Elder>) -> Status {
        let snapshot = Arc::clone(&self.parts.source.snapshots.borrow());
        let applied = self.applied.load(Ordering::Acquire);
        Status {
            node: self.parts.options.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            ready: applied > 0,
            snapshot: applied,
            source: serde_json::to_value(&**self.parts.source.status.borrow()).unwrap_or_default(),
            pods: self.pods(&snapshot),
            identities: serde_json::to_value(self.plane.identities.status()).unwrap_or_default(),
            connections: ConnectionCounts {
                open: self.plane.live.count(),
                tunnels: self.plane.tunnels(),
                decisions: self.plane.decisions.counts(),
                unreported: self.plane.kernel.events_lost().unwrap_or_default(),
            },
            draining: elders.into_iter().map(DrainingStatus::from).collect(),
            recent_denials: self.plane.decisions.recent(),
        }
    }
}
