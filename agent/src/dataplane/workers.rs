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
                runtime.spawn(stay_awake());
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

thread_local! {
    static BUSY: std::cell::Cell<Option<std::time::Instant>> = const { std::cell::Cell::new(None) };
    static SLEEPER: std::cell::RefCell<Option<std::task::Waker>> = const { std::cell::RefCell::new(None) };
}

/// Notes that there was something to do.
pub(super) fn busy() {
    BUSY.set(Some(std::time::Instant::now()));
    if let Some(waker) = SLEEPER.take() {
        waker.wake();
    }
}

async fn stay_awake() {
    let spin = std::time::Duration::from_micros(
        std::env::var("AMBIT_SPIN").ok().and_then(|text| text.parse().ok()).unwrap_or(50),
    );
    loop {
        let Some(last) = BUSY.get() else {
            std::future::poll_fn(|context| {
                if BUSY.get().is_some() {
                    return std::task::Poll::Ready(());
                }
                SLEEPER.replace(Some(context.waker().clone()));
                std::task::Poll::Pending
            })
            .await;
            continue;
        };
        if last.elapsed() > spin {
            BUSY.set(None);
            continue;
        }
        thread::yield_now();
        tokio::task::yield_now().await;
    }
}
