//! The agent's listeners in the pods: made, offered to the kernel, and served. What is accepted goes to `outbound` or
//! `inbound`; nothing is decided here.

use super::{Dataplane, LocalPod, MAX_CONNECTIONS, canonical, inbound, outbound};
use ambit_abi::{TUNNEL_PORT, listener_kind};
use ambit_bpf::KernelError;
use std::{
    io,
    sync::{Arc, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Connections that wait to be accepted, per listener.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener in a pod.
pub(super) struct Listening {
    slot: u32,
    kind: u32,
    families: &'static [u32],
    listener: Weak<TcpListener>,
}

/// An error of making a pod's listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The sockets cannot be made in the pod's network namespace.
    #[error("listen in the pod's network namespace")]
    Socket(#[source] io::Error),
    /// The kernel does not take them.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Dataplane {
    /// Makes the listeners of `pod` and accepts until the returned set is dropped; connections that were accepted go
    /// on.
    ///
    /// # Errors
    /// `Socket` or `Kernel`; nothing is accepted then.
    pub fn listen(self: &Arc<Self>, pod: &Arc<LocalPod>) -> Result<JoinSet<()>, ListenError> {
        let mut accepting = JoinSet::new();
        let worker = self.workers.next();
        let _on_it = worker.enter();
        for kind in [listener_kind::OUTBOUND, listener_kind::INBOUND] {
            let (listener, families) = pod.netns.listener(BACKLOG).map_err(ListenError::Socket)?;
            self.kernel.listen(pod.slot, kind, families, &listener)?;
            let listener = Arc::new(listener);
            let mut listening = self.listening();
            listening.retain(|other| other.listener.strong_count() > 0);
            let slot = pod.slot;
            listening.push(Listening { slot, kind, families, listener: Arc::downgrade(&listener) });
            drop(listening);
            accepting.spawn_on(accept(Arc::clone(self), Arc::clone(pod), listener, kind), worker);
        }
        Ok(accepting)
    }

    /// Offers the listeners that are served to the kernel once more, after another agent has offered its own.
    ///
    /// # Errors
    /// `Map`; the others were offered all the same.
    pub fn listen_again(&self) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        for listening in self.listening().iter() {
            let Some(listener) = listening.listener.upgrade() else { continue };
            let offered = self.kernel.listen(listening.slot, listening.kind, listening.families, &*listener);
            outcome = outcome.and(offered);
        }
        outcome
    }

    fn listening(&self) -> MutexGuard<'_, Vec<Listening>> {
        // Entries are added and removed whole: a panic elsewhere leaves the list usable.
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(plane: Arc<Dataplane>, pod: Arc<LocalPod>, listener: Arc<TcpListener>, kind: u32) {
    // The sender lives in `plane`: waiting cannot fail.
    let _ = plane.open.subscribe().wait_for(|open| *open).await;
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(pod = %pod.key, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (plane, pod, client) = (Arc::clone(&plane), Arc::clone(&pod), canonical(client));
        let Some(place) = pod.place() else {
            plane.decisions.limited(|| {
                tracing::warn!(pod = %pod.key, src.addr = %client, limit = MAX_CONNECTIONS, "too many connections of one pod: connection reset");
            });
            continue;
        };
        if kind == listener_kind::OUTBOUND {
            let carried = plane.carried.enter();
            tokio::spawn(outbound::serve(plane, pod, stream, client, Arc::new((place, carried))));
        } else {
            let Ok(local) = stream.local_addr().map(canonical) else { continue };
            let entry = plane.accepted.enter(client, local);
            if local.port() != TUNNEL_PORT {
                tokio::spawn(async move {
                    inbound::serve_plaintext(plane, pod, stream, client, local).await;
                    drop((entry, place));
                });
                continue;
            }
            // A tunnel lives long and carries much: one pod's tunnels keep all workers busy.
            let Ok(stream) = stream.into_std() else { continue };
            let worker = plane.workers.next().clone();
            worker.spawn(async move {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    inbound::serve_tunnel(plane, pod, stream, client, local).await;
                }
                drop((entry, place));
            });
        }
    }
}
