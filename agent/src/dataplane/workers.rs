//! The threads that carry connections, one per core: what belongs together stays on one of them, so that its tasks never
//! wake another core.
//!
//! Never decides what runs where by load: pods and tunnels take turns.

use std::{
    io,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

/// Threads with a runtime each. They end, and what they carry with them, when this is dropped.
pub struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    /// Dropped, it ends the threads.
    _until: watch::Sender<()>,
}

impl Workers {
    /// Starts a thread per core that this process may use.
    ///
    /// # Errors
    /// When the system gives no thread or no epoll instance.
    pub fn start() -> io::Result<Self> {
        let (until, ended) = watch::channel(());
        let mut handles = Vec::new();
        for number in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let mut ended = ended.clone();
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Nothing is ever sent: the wait ends with the sender.
                let _ = runtime.block_on(ended.changed());
            })?;
        }
        Ok(Self { handles, next: AtomicUsize::new(0), _until: until })
    }

    /// Returns the thread whose turn it is.
    pub(super) fn next(&self) -> &Handle {
        &self.handles[self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len()]
    }
}
