//! `ambit agent`: puts the parts together and keeps them going.

mod options;

pub use options::{AgentOptions, DEFAULT_BPFFS, DEFAULT_SOCKET, SameNode, SourceOption};

use crate::{
    control::file::{self, FileSource},
    dataplane::{Dataplane, Home},
    enrol::{Enrolment, WantedPod, wanted_pods},
    identity::{ca::CertificateAuthority, store::IdentityStore},
    observe::{ConnectionCounts, Decisions, Query, Status, bind, report_refusals, serve},
};
use ambit_bpf::{Kernel, KernelOptions, find_cgroup2, join_cgroup, lock_pins, prepare_pins};
use ambit_core::state::Snapshot;
use anyhow::Context;
use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// How often the pods' network namespaces are looked at again.
const REPAIR_EVERY: Duration = Duration::from_secs(1);

/// How many times, `REPAIR_EVERY` apart, older connections are looked for after a change.
const LATER_SWEEPS: u64 = 3;

/// Runs an agent until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting; nothing is attached then, and what an earlier agent attached stays.
pub async fn run(options: AgentOptions) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let SourceOption::Directory(directory) = &options.source;
    let source = file::watch(directory, &options.trust_domain)?;
    let ca = CertificateAuthority::open_or_create(&options.ca_dir(), &options.trust_domain)
        .context("open the certificate authority")?;
    let identities =
        IdentityStore::new(Arc::new(ca), options.cert_ttl, options.trust_aliases.iter().cloned())
            .context("prepare the pods' certificates")?;
    let home = Home::open().context("open the node's network namespace")?;
    let cgroup_root = match options.cgroup_root {
        Some(root) => root,
        None => find_cgroup2()?,
    };
    if let Some(moved) = join_cgroup(&cgroup_root)? {
        tracing::info!(cgroup = %moved.display(), "the agent moved below the cgroup root, so that its sockets meet its hooks");
    }
    prepare_pins(&options.bpffs)?;
    // From here on the kernel's state is this agent's, and no other's.
    let _lock = lock_pins(&options.bpffs)?;
    let listener = bind(&options.socket).await?;
    let kernel = Arc::new(Kernel::load(KernelOptions {
        pins: options.bpffs.clone(),
        cgroup_root: cgroup_root.clone(),
        node_netns_cookie: home.cookie(),
        host_cgroups: options.host_cgroups.clone(),
        direct_lane: options.same_node == SameNode::Direct,
    })?);
    let state = Arc::new(ArcSwap::new(Arc::clone(&source.snapshots.borrow())));
    let decisions = Arc::new(Decisions::new(Arc::clone(&state)));
    let plane = Dataplane::new(
        Arc::clone(&kernel),
        Arc::clone(&identities),
        Arc::clone(&state),
        Arc::clone(&decisions),
        home,
        options.cluster.clone(),
    );
    let node = Node {
        name: options.node.clone(),
        plane: Arc::clone(&plane),
        source,
        enrolment: Mutex::new(Enrolment::new(Arc::clone(&plane))?),
        applied: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        sweeps: AtomicU64::new(0),
    };
    let node = Arc::new(node);
    node.apply();
    kernel.attach().context("attach the hooks at the cgroup root")?;
    let answering = Arc::clone(&node);
    tokio::spawn(serve(listener, move |query| answering.answer(query)));
    if let Some(reader) = kernel.take_events() {
        report_refusals(reader, Arc::clone(&plane)).context("follow the kernel's refusals")?;
    }
    tokio::spawn(Arc::clone(&identities).run_renewal(std::future::pending()));
    tokio::spawn(async move { plane.sweep().await });
    tracing::info!(
        node = %options.node, cgroup = %cgroup_root.display(), pins = %options.bpffs.display(),
        socket = %options.socket.display(), "agent is ready"
    );
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        () = node.follow() => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let _ = std::fs::remove_file(&options.socket);
    tracing::info!(
        "agent stopped; its hooks stay and refuse new connections of enrolled pods: start it again, or let go of the \
         pods with `ambit cleanup`"
    );
    Ok(())
}

/// Every connection takes two descriptors: as many as the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit on descriptors stays as it is");
    }
}

/// The parts of a running agent that follow the snapshot.
struct Node {
    name: String,
    plane: Arc<Dataplane>,
    source: FileSource,
    enrolment: Mutex<Enrolment>,
    applied: AtomicU64,
    /// The snapshot that was last put in force, perhaps not whole.
    seen: AtomicU64,
    /// How many more times older connections are looked for.
    sweeps: AtomicU64,
}

impl Node {
    /// Puts the newest snapshot in force, and repairs what has changed underneath.
    fn apply(&self) {
        let snapshot = Arc::clone(&self.source.snapshots.borrow());
        self.plane.state.store(Arc::clone(&snapshot));
        let mut enrolment = self.enrolment.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = enrolment.apply(&snapshot, self.wanted(&snapshot)) {
            tracing::error!(reason = %crate::observe::chain(&error), "the kernel does not take the whole snapshot: trying again");
        } else {
            self.applied.store(snapshot.version(), Ordering::Release);
        }
        // A connection that nobody had accepted yet is found a moment later.
        let changed = self.seen.swap(snapshot.version(), Ordering::AcqRel) != snapshot.version();
        if changed {
            self.sweeps.store(LATER_SWEEPS, Ordering::Release);
        }
        let sweeps = changed
            || self
                .sweeps
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
                .is_ok();
        if sweeps {
            let plane = Arc::clone(&self.plane);
            tokio::spawn(plane.sweep_direct(enrolment.enforced(), Arc::clone(&snapshot)));
        }
        if changed {
            for (facts, verdict) in self.plane.live.reevaluate(&snapshot) {
                self.plane.decisions.revoked(&facts, verdict.as_ref());
            }
        }
    }

    fn wanted(&self, snapshot: &Snapshot) -> Vec<WantedPod> {
        wanted_pods(snapshot, &self.name)
    }

    /// Follows the source of objects until it ends.
    async fn follow(&self) {
        let mut snapshots = self.source.snapshots.clone();
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

    fn answer(&self, query: Query) -> Value {
        let answer = match query {
            Query::Status => serde_json::to_value(self.status()),
            Query::Connections => {
                let mut rows = self.plane.live.rows();
                rows.extend(self.plane.direct_connections());
                serde_json::to_value(json!({ "connections": rows }))
            }
        };
        answer.unwrap_or_else(|error| json!({ "error": error.to_string() }))
    }

    fn status(&self) -> Status {
        let snapshot = Arc::clone(&self.source.snapshots.borrow());
        let applied = self.applied.load(Ordering::Acquire);
        let wanted = self.wanted(&snapshot);
        let enrolment = self.enrolment.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            node: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: applied > 0,
            snapshot: applied,
            source: serde_json::to_value(&**self.source.status.borrow()).unwrap_or_default(),
            pods: enrolment.status(&wanted),
            identities: serde_json::to_value(self.plane.identities.status()).unwrap_or_default(),
            connections: ConnectionCounts {
                open: self.plane.live.count(),
                tunnels: self.plane.tunnels(),
                decisions: self.plane.decisions.counts(),
                unreported: self.plane.kernel.events_lost().unwrap_or_default(),
            },
            recent_denials: self.plane.decisions.recent(),
        }
    }
}
