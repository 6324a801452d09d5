//! Connections of a pod that the agent does not carry: from before its enrolment, or let through by the kernel. They
//! are decided upon anew with every change, like all others, and destroyed when they are no longer allowed.

mod diag;
mod outgoing;

use super::{
    Dataplane, ListenError, LocalPod, Tuple,
    live::{Caller, ConnectionRow, Direction, Facts, Path},
};
use ambit_core::{
    policy::{Connection, Protocol, Verdict},
    state::Snapshot,
};
use diag::{DiagSocket, LISTEN};
use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long a connection that the agent has just accepted may take to be known as its own.
const SETTLE: Duration = Duration::from_millis(100);

/// The connections that the agent itself has accepted inside pods, by client and local address.
#[derive(Default)]
pub(crate) struct Accepted {
    tuples: Mutex<HashSet<Tuple>>,
}

/// A connection's place among the accepted ones, given up when dropped.
pub(crate) struct AcceptedEntry {
    accepted: Arc<Accepted>,
    tuple: Tuple,
}

impl Accepted {
    fn tuples(&self) -> MutexGuard<'_, HashSet<Tuple>> {
        // Entries are inserted and removed whole: a panic elsewhere leaves the set usable.
        self.tuples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Tuple> {
        self.tuples().iter().copied().collect()
    }

    pub(crate) fn enter(self: &Arc<Self>, client: SocketAddr, local: SocketAddr) -> AcceptedEntry {
        self.tuples().insert((client, local));
        AcceptedEntry { accepted: Arc::clone(self), tuple: (client, local) }
    }
}

impl Drop for AcceptedEntry {
    fn drop(&mut self) {
        self.accepted.tuples().remove(&self.tuple);
    }
}

/// Closes the connections of `pods`, in either direction, that no agent carries and that `snapshot` does not allow.
/// `carried_elsewhere` is asked after the sockets were listed, so that it knows of each that an agent before this one
/// has accepted.
pub(crate) async fn sweep<F: Future<Output = HashSet<Tuple>>>(
    plane: Arc<Dataplane>,
    pods: Vec<Arc<LocalPod>>,
    snapshot: Arc<Snapshot>,
    carried_elsewhere: impl FnOnce() -> F,
) {
    let mut refused = Vec::new();
    for pod in &pods {
        let found = refused_of(&plane, pod, &snapshot).and_then(|mut sockets| {
            sockets.extend(outgoing::refused_of(&plane, pod, &snapshot)?);
            Ok(sockets)
        });
        match found {
            Ok(sockets) => refused.extend(sockets),
            Err(error) => {
                tracing::error!(pod = %pod.key, %error, "cannot look for the pod's older connections")
            }
        }
    }
    if refused.is_empty() {
        return;
    }
    tokio::time::sleep(SETTLE).await;
    let elsewhere = carried_elsewhere().await;
    for Refused { pod, socket, facts, verdict } in refused {
        let tuple = (socket.remote, socket.local);
        if plane.accepted.tuples().contains(&tuple) || elsewhere.contains(&tuple) {
            continue;
        }
        match diag::destroy(&pod.netns, &socket) {
            Ok(true) => plane.decisions.revoked(&facts, Some(&verdict)),
            Ok(false) => {}
            Err(error) => tracing::error!(
                pod = %pod.key, src.addr = %facts.client, dst.addr = %facts.server, %error,
                "a connection that is no longer allowed cannot be closed"
            ),
        }
    }
}

struct Refused<'a> {
    pod: &'a LocalPod,
    socket: DiagSocket,
    facts: Facts,
    verdict: Verdict,
}

/// Returns the connections that processes of the pod have accepted, and that the agent does not carry.
fn inbound_of(plane: &Dataplane, pod: &LocalPod) -> std::io::Result<Vec<DiagSocket>> {
    let sockets = diag::list(&pod.netns)?;
    let served: BTreeSet<u16> =
        sockets.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local.port()).collect();
    let own = |address: SocketAddr| pod.addresses.contains(&address.ip());
    let accepted = plane.accepted.tuples().clone();
    let inbound = sockets.into_iter().filter(|socket| {
        socket.state != LISTEN
            && own(socket.local)
            && !own(socket.remote)
            && served.contains(&socket.local.port())
            // Nobody has accepted it yet: it is looked at again a moment later.
            && socket.inode != 0
            && !accepted.contains(&(socket.remote, socket.local))
    });
    Ok(inbound.collect())
}

/// Announces the connections of the pod that do not stand yet, each from an address of its own, so that what they try
/// next is known for the pod's.
pub(crate) fn announce_older(plane: &Dataplane, pod: &LocalPod) -> Result<(), ListenError> {
    let sockets = diag::list_in(&pod.netns, &[diag::SYN_SENT]).map_err(ListenError::Socket)?;
    let own = |socket: &DiagSocket| pod.addresses.contains(&socket.local.ip());
    for socket in sockets.into_iter().filter(own) {
        plane.kernel.announce_older((pod.slot, pod.netns.cookie()), socket.local, socket.remote)?;
    }
    Ok(())
}

/// Returns the connections between pods of this node that go directly, and those of the node's own processes.
pub(crate) fn rows(plane: &Dataplane, carried_elsewhere: &HashSet<Tuple>) -> Vec<ConnectionRow> {
    let mut rows = Vec::new();
    for pod in plane.local.load().values() {
        let sockets = match inbound_of(plane, pod) {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::warn!(pod = %pod.key, %error, "cannot list the pod's direct connections");
                continue;
            }
        };
        let unknown = |socket: &DiagSocket| !carried_elsewhere.contains(&(socket.remote, socket.local));
        for socket in sockets.into_iter().filter(unknown) {
            let caller = plane.attested(socket.remote, socket.local).unwrap_or(Caller::Unverified);
            rows.push(ConnectionRow {
                id: u64::from(socket.inode),
                direction: Direction::Inbound,
                source: caller.text(),
                client: socket.remote,
                destination: Some(pod.key.to_string()),
                destination_id: Some(pod.identity.to_string()),
                server: socket.local,
                service: None,
                path: Path::Direct,
                sent_bytes: socket.received,
                received_bytes: socket.acknowledged,
                opened_at: None,
                draining: false,
            });
        }
    }
    rows
}

fn refused_of<'a>(
    plane: &Dataplane,
    pod: &'a LocalPod,
    snapshot: &Snapshot,
) -> std::io::Result<Vec<Refused<'a>>> {
    let Some(destination) = snapshot.workload_named(&pod.key.namespace, &pod.key.name) else {
        return Ok(Vec::new());
    };
    let inbound = inbound_of(plane, pod)?;
    let mut refused = Vec::new();
    for socket in inbound {
        let caller = plane.attested(socket.remote, socket.local).map_err(std::io::Error::other)?;
        let verdict = snapshot.evaluate(&Connection {
            source: caller.source(socket.remote.ip()),
            destination,
            protocol: Protocol::Tcp,
            port: socket.local.port(),
        });
        if !verdict.allowed {
            let facts = Facts {
                direction: Direction::Inbound,
                caller,
                client: socket.remote,
                server: socket.local,
                destination: Some(pod.key.clone()),
                service: None,
                path: Path::Direct,
                protocol: Protocol::Tcp,
            };
            refused.push(Refused { pod, socket, facts, verdict });
        }
    }
    Ok(refused)
}
