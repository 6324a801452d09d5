//! Connections to a pod that the agent does not carry: from before its enrolment, or let through by the kernel. They
//! are decided upon anew with every change, like all others, and destroyed when they are no longer allowed.

mod diag;

use super::{
    Dataplane, LocalPod,
    live::{Caller, Direction, Facts},
};
use ambit_abi::flow_kind;
use ambit_core::{
    policy::{Connection, Verdict},
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
    tuples: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
}

/// A connection's place among the accepted ones, given up when dropped.
pub(crate) struct AcceptedEntry {
    accepted: Arc<Accepted>,
    tuple: (SocketAddr, SocketAddr),
}

impl Accepted {
    fn tuples(&self) -> MutexGuard<'_, HashSet<(SocketAddr, SocketAddr)>> {
        // Entries are inserted and removed whole: a panic elsewhere leaves the set usable.
        self.tuples.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Closes the connections to `pods` that the agent does not carry and that `snapshot` does not allow.
pub(crate) async fn sweep(plane: Arc<Dataplane>, pods: Vec<Arc<LocalPod>>, snapshot: Arc<Snapshot>) {
    let mut refused = Vec::new();
    for pod in &pods {
        match refused_of(&plane, pod, &snapshot) {
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
    for Refused { pod, socket, facts, verdict } in refused {
        if plane.accepted.tuples().contains(&(socket.remote, socket.local)) {
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

fn refused_of<'a>(
    plane: &Dataplane,
    pod: &'a LocalPod,
    snapshot: &Snapshot,
) -> std::io::Result<Vec<Refused<'a>>> {
    let Some(destination) = snapshot.workload_named(&pod.key.namespace, &pod.key.name) else {
        return Ok(Vec::new());
    };
    let sockets = diag::list(&pod.netns)?;
    let served: BTreeSet<u16> =
        sockets.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local.port()).collect();
    let own = |address: SocketAddr| destination.addresses.contains(&address.ip());
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
    let mut refused = Vec::new();
    for socket in inbound {
        let host = plane
            .kernel
            .flow(socket.remote, socket.local)
            .map_err(std::io::Error::other)?
            .is_some_and(|flow| flow.kind == flow_kind::HOST);
        let caller = if host { Caller::Host } else { Caller::Unverified };
        let verdict = snapshot.evaluate(&Connection {
            source: caller.source(socket.remote.ip()),
            destination,
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
                encrypted: false,
            };
            refused.push(Refused { pod, socket, facts, verdict });
        }
    }
    Ok(refused)
}
