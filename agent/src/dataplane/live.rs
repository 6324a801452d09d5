//! The connections that the agent carries now: listed, counted, and closed when they are no longer allowed.

use super::counters::Counters;
use ambit_core::{
    identity::SpiffeId,
    model::WorkloadKey,
    policy::{Connection, Protocol, Source, Verdict},
    state::Snapshot,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::Notify;

/// Who opens a connection, as `core::policy::Source` but owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A verified identity.
    Identity(SpiffeId),
    /// A process of this node.
    Host,
    /// Anybody else.
    Unverified,
}

impl Caller {
    /// Returns the source that a policy is asked about.
    pub fn source(&self, address: IpAddr) -> Source<'_> {
        match self {
            Self::Identity(id) => Source::Identity { id, address },
            Self::Host => Source::Host { address },
            Self::Unverified => Source::Unverified { address },
        }
    }

    /// Returns the identity as text: `host`, `unverified`, or the SPIFFE ID.
    pub fn text(&self) -> String {
        match self {
            Self::Identity(id) => id.to_string(),
            Self::Host => "host".to_owned(),
            Self::Unverified => "unverified".to_owned(),
        }
    }
}

/// What is known of a connection when it begins.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `inbound` or `outbound`, seen from the pod of this node.
    pub direction: Direction,
    /// Who opens it.
    pub caller: Caller,
    /// The client's address.
    pub client: SocketAddr,
    /// The application's address.
    pub server: SocketAddr,
    /// The pod that it goes to, if it is in the mesh.
    pub destination: Option<WorkloadKey>,
    /// The service that was dialled, as namespace/name.
    pub service: Option<String>,
    /// How it is carried.
    pub path: Path,
    /// The protocol; the agent carries TCP alone.
    pub protocol: Protocol,
}

/// The side of a connection that a pod of this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The pod is called.
    Inbound,
    /// The pod calls.
    Outbound,
}

/// How a connection is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// By the agent, inside mutual TLS.
    Tunnel,
    /// By the kernel alone, within this node.
    Direct,
    /// By the agent, in plaintext: from or to something outside the mesh.
    Plaintext,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tunnel => "mTLS",
            Self::Direct => "direct",
            Self::Plaintext => "plaintext",
        })
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

/// A row of `ambit connections`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// Number of the connection, unique in the agent's life; for direct connections the inode of the server's socket.
    pub id: u64,
    /// `inbound` or `outbound`.
    pub direction: Direction,
    /// Identity of the caller: a SPIFFE ID, `host` or `unverified`.
    pub source: String,
    /// The client's address.
    pub client: SocketAddr,
    /// The pod that is called, as namespace/name.
    pub destination: Option<String>,
    /// Identity of that pod, a SPIFFE ID; unknown once its object is gone.
    #[serde(default)]
    pub destination_id: Option<String>,
    /// The application's address.
    pub server: SocketAddr,
    /// The service that was dialled, as namespace/name.
    pub service: Option<String>,
    /// How it is carried.
    pub path: Path,
    /// Bytes from the client to the server.
    pub sent_bytes: u64,
    /// Bytes from the server to the client.
    pub received_bytes: u64,
    /// Since when, in seconds of Unix time; unknown for direct connections.
    pub opened_at: Option<u64>,
    /// Whether an agent carries it that has handed over to another one, and ends when its drain time is over.
    #[serde(default)]
    pub draining: bool,
}

/// Whether a connection is to be closed.
#[derive(Default)]
struct Close {
    revoked: AtomicBool,
    notify: Arc<Notify>,
}

/// Waits until a connection is no longer allowed.
pub(crate) type Revoked = tokio::sync::futures::OwnedNotified;

struct Entry {
    facts: Facts,
    counters: Arc<Counters>,
    close: Arc<Close>,
    opened: SystemTime,
}

/// All live connections of the agent.
#[derive(Default)]
pub struct Live {
    entries: Mutex<BTreeMap<u64, Entry>>,
    next: AtomicU64,
}

/// A connection's place in the list, given up when dropped.
pub struct Permit {
    live: Arc<Live>,
    id: u64,
    /// Bytes of the connection.
    pub counters: Arc<Counters>,
    close: Arc<Close>,
}

impl Permit {
    /// Waits until the connection is no longer allowed.
    pub async fn revoked(&self) {
        self.close.notify.notified().await;
    }

    /// As `revoked`, for whoever keeps the wait beside the permit.
    pub(crate) fn until_revoked(&self) -> Revoked {
        Arc::clone(&self.close.notify).notified_owned()
    }

    /// Tells whether the connection is no longer allowed.
    pub(crate) fn is_revoked(&self) -> bool {
        self.close.revoked.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.live.entries().remove(&self.id);
    }
}

impl Live {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        // Entries are inserted and removed whole: a panic elsewhere leaves the list usable.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a connection. It must be listed before it is decided upon, so that no change slips in between.
    pub fn enter(self: &Arc<Self>, facts: Facts) -> Permit {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (counters, close) = (Arc::new(Counters::default()), Arc::new(Close::default()));
        let entry = Entry {
            facts,
            counters: Arc::clone(&counters),
            close: Arc::clone(&close),
            opened: SystemTime::now(),
        };
        self.entries().insert(id, entry);
        Permit { live: Arc::clone(self), id, counters, close }
    }

    /// Decides anew on every connection that comes in, or goes out of the mesh, and closes those that are no longer allowed. Returns them.
    pub fn reevaluate(&self, snapshot: &Snapshot) -> Vec<(Facts, Option<Verdict>)> {
        let mut closed = Vec::new();
        for entry in self.entries().values() {
            let facts = &entry.facts;
            let verdict = match (facts.direction, &facts.destination) {
                (Direction::Inbound, Some(key)) => inbound_verdict(facts, key, snapshot),
                // What a pod calls in the mesh is for the other side to refuse.
                (Direction::Outbound, None) => egress_verdict(facts, snapshot),
                _ => continue,
            };
            // A pod that is gone, or is another one under the same name, has no connections.
            if verdict.as_ref().is_none_or(|verdict| !verdict.allowed) {
                entry.close.revoked.store(true, Ordering::Release);
                entry.close.notify.notify_one();
                closed.push((facts.clone(), verdict));
            }
        }
        closed
    }

    /// Returns how many connections there are.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// Returns every connection, oldest first; `snapshot` tells who the pods are.
    pub fn rows(&self, snapshot: &Snapshot) -> Vec<ConnectionRow> {
        let identity = |key: &WorkloadKey| {
            Some(snapshot.workload_named(&key.namespace, &key.name)?.identity.to_string())
        };
        let row = |(id, entry): (&u64, &Entry)| ConnectionRow {
            id: *id,
            direction: entry.facts.direction,
            source: entry.facts.caller.text(),
            client: entry.facts.client,
            destination: entry.facts.destination.as_ref().map(ToString::to_string),
            destination_id: entry.facts.destination.as_ref().and_then(identity),
            server: entry.facts.server,
            service: entry.facts.service.clone(),
            path: entry.facts.path,
            sent_bytes: entry.counters.sent(),
            received_bytes: entry.counters.received(),
            opened_at: entry.opened.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs()),
            draining: false,
        };
        self.entries().iter().map(row).collect()
    }
}

/// Decides about a connection to a pod of this node; `None` where the pod is gone.
fn inbound_verdict(facts: &Facts, destination: &WorkloadKey, snapshot: &Snapshot) -> Option<Verdict> {
    let destination = snapshot
        .workload_named(&destination.namespace, &destination.name)
        .filter(|destination| destination.addresses.contains(&facts.server.ip()))?;
    let source = facts.caller.source(facts.client.ip());
    let (protocol, port) = (facts.protocol, facts.server.port());
    Some(snapshot.evaluate(&Connection { source, destination, protocol, port }))
}

/// Decides about a connection of a pod of this node to something outside the mesh; `None` where the pod is gone.
pub(crate) fn egress_verdict(facts: &Facts, snapshot: &Snapshot) -> Option<Verdict> {
    let source = snapshot.workload(facts.client.ip())?;
    Some(snapshot.evaluate_egress(source, facts.server, facts.protocol))
}
