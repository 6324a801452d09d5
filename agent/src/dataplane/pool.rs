//! The tunnels that stand, shared by connections with the same caller and the same destination.

use super::tunnel::{Lease, Tunnel, TunnelError};
use ambit_core::identity::SpiffeId;
use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a tunnel without streams is kept.
const IDLE: Duration = Duration::from_secs(300);
/// How often idle tunnels are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Who may share a tunnel: the caller's pod instance, with its source address and identity, and the destination's
/// address and identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// Slot of the calling pod.
    pub(crate) slot: u32,
    /// Identity of the calling pod.
    pub(crate) caller: SpiffeId,
    /// Address of the pod that is called.
    pub(crate) address: IpAddr,
    /// Identity that is expected of it.
    pub(crate) destination: SpiffeId,
}

#[derive(Default)]
struct Shelf {
    tunnels: tokio::sync::Mutex<Vec<Arc<Tunnel>>>,
    attempts: AtomicU64,
    /// Number and text of the last attempt that failed.
    failure: Mutex<(u64, String)>,
}

/// The tunnels of a node.
#[derive(Default)]
pub(crate) struct Pool {
    shelves: Mutex<HashMap<PoolKey, Arc<Shelf>>>,
}

impl Pool {
    fn shelves(&self) -> MutexGuard<'_, HashMap<PoolKey, Arc<Shelf>>> {
        // Entries are inserted and removed whole: a panic elsewhere leaves the map usable.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place in a tunnel that was opened with the certificate `serial`, opening one with `open` where there
    /// is none. Callers that come while one is being opened wait for it, and share its failure.
    pub(crate) async fn lease<F: Future<Output = Result<Tunnel, TunnelError>>>(
        &self,
        key: &PoolKey,
        serial: &str,
        open: impl FnOnce() -> F,
    ) -> Result<Lease, TunnelError> {
        let shelf = Arc::clone(self.shelves().entry(key.clone()).or_default());
        let seen = shelf.attempts.load(Ordering::Acquire);
        let mut tunnels = shelf.tunnels.lock().await;
        // A tunnel under an older certificate serves the streams it has, and ends with them.
        tunnels.retain(|tunnel| !tunnel.is_gone() && tunnel.serial == serial);
        if let Some(tunnel) = tunnels.iter().find(|tunnel| tunnel.has_room()) {
            return Ok(Lease::new(Arc::clone(tunnel)));
        }
        {
            let failure = shelf.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.0 > seen {
                return Err(TunnelError::Shared(failure.1.clone()));
            }
        }
        let attempt = shelf.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        match open().await {
            Ok(tunnel) => {
                let tunnel = Arc::new(tunnel);
                tunnels.push(Arc::clone(&tunnel));
                Ok(Lease::new(tunnel))
            }
            Err(error) => {
                *shelf.failure.lock().unwrap_or_else(PoisonError::into_inner) = (attempt, error.to_string());
                Err(error)
            }
        }
    }

    /// Forgets the tunnels of a pod that was released; their streams go on.
    pub(crate) fn forget(&self, slot: u32) {
        self.shelves().retain(|key, _| key.slot != slot);
    }

    /// Forgets every tunnel; their streams go on, and a tunnel ends with its last.
    pub(crate) fn clear(&self) {
        self.shelves().clear();
    }

    /// Returns how many tunnels stand.
    pub(crate) fn count(&self) -> usize {
        let shelves: Vec<Arc<Shelf>> = self.shelves().values().cloned().collect();
        // A shelf that is locked is opening a tunnel, and is counted when it stands.
        let count = |shelf: &Arc<Shelf>| {
            shelf
                .tunnels
                .try_lock()
                .map_or(0, |tunnels| tunnels.iter().filter(|tunnel| !tunnel.is_gone()).count())
        };
        shelves.iter().map(count).sum()
    }

    /// Closes tunnels that nobody uses, for as long as the agent runs.
    pub(crate) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let shelves: Vec<Arc<Shelf>> = self.shelves().values().cloned().collect();
            for shelf in shelves {
                shelf.tunnels.lock().await.retain(|tunnel| !tunnel.is_gone() && tunnel.idle() < IDLE);
            }
            // Only the map itself holds a shelf that nobody is using.
            self.shelves().retain(|_, shelf| {
                Arc::strong_count(shelf) > 1
                    || shelf.tunnels.try_lock().map_or(true, |tunnels| !tunnels.is_empty())
            });
        }
    }
}
