//! The threads that carry connections, one per core: what belongs together stays on one of them, so that its tasks never
//! wake another core.
//!
//! Never decides what runs where by load: pods and tunnels take turns.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
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
    /// Starts a thread per core that this process may use. One that has just carried something looks for more for
    /// `busy_poll` before it sleeps.
    ///
    /// # Errors
    /// When the system gives no thread or no epoll instance.
    pub fn start(busy_poll: Duration) -> io::Result<Self> {
        let (until, ended) = watch::channel(());
        let mut handles = Vec::new();
        for number in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let mut ended = ended.clone();
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                runtime.spawn(linger(busy_poll));
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

/// After lingering in vain, so many times as often work is let pass without it, doubled each time.
const MOST_PASSED: u32 = 256;

thread_local! {
    static WORK: Work = const { Work { done: Cell::new(false), lingerer: RefCell::new(None) } };
}

/// What this thread has done since it was last asked.
struct Work {
    done: Cell<bool>,
    lingerer: RefCell<Option<Waker>>,
}

/// Notes that this thread has carried something.
pub(super) fn worked() {
    WORK.with(|work| {
        work.done.set(true);
        if let Some(waker) = work.lingerer.take() {
            waker.wake();
        }
    });
}

/// Keeps this thread's core awake for `time` after each piece of work, as long as that proves useful: waking one that sleeps
/// costs a short exchange more time than all that the agent does for it. Whoever else wants the core has it first.
async fn linger(time: Duration) {
    if time.is_zero() {
        return;
    }
    let mut vain: u32 = 0;
    loop {
        for _ in 0..=vain {
            poll_fn(work_done).await;
        }
        vain = match look_for_work(time).await {
            true => 0,
            false => (2 * vain + 1).min(MOST_PASSED),
        };
    }
}

/// Waits until this thread has carried something, and forgets that.
fn work_done(context: &mut Context<'_>) -> Poll<()> {
    WORK.with(|work| {
        if work.done.take() {
            return Poll::Ready(());
        }
        *work.lingerer.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    })
}

/// Looks for work without sleeping; tells whether there was some before time was up.
async fn look_for_work(time: Duration) -> bool {
    let (mut found, mut since) = (false, Instant::now());
    loop {
        if WORK.with(|work| work.done.take()) {
            (found, since) = (true, Instant::now());
        } else if since.elapsed() > time {
            return found;
        } else {
            thread::yield_now();
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, future::pending};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn every_thread_has_its_turn_and_ends_with_the_workers() {
        let workers = Workers::start(Duration::ZERO).unwrap();
        let mut threads = HashSet::new();
        let mut carried = Vec::new();
        for _ in 0..workers.handles.len() {
            let worker = workers.next();
            threads.insert(worker.spawn(async { thread::current().id() }).await.unwrap());
            let (held, dropped) = oneshot::channel::<()>();
            worker.spawn(async move {
                pending::<()>().await;
                drop(held);
            });
            carried.push(dropped);
        }
        assert_eq!(threads.len(), workers.handles.len());
        drop(workers);
        for dropped in carried {
            assert!(dropped.await.is_err(), "nothing was sent");
        }
    }

    #[tokio::test]
    async fn lingering_ends_when_nothing_is_carried() {
        let time = Duration::from_micros(200);
        worked();
        poll_fn(work_done).await;
        assert!(!look_for_work(time).await, "nobody carried anything");
        // What is carried meanwhile is noticed, and is not waited for.
        worked();
        assert!(look_for_work(time).await);
    }
}
