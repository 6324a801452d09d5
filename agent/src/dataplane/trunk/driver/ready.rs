//! Which streams of a trunk were woken. A stream is noted once, however often it is woken.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

/// The streams that were woken.
#[derive(Default)]
pub(super) struct Ready {
    woken: Mutex<(Vec<u32>, Option<Waker>)>,
}

/// Wakes a stream: notes it, and wakes the driver.
pub(super) struct StreamWaker {
    stream: u32,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Ready {
    /// Moves the streams that were woken to `queue`, and has `waker` woken for the next ones.
    pub(super) fn collect(&self, queue: &mut Vec<u32>, waker: &Waker) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        queue.append(&mut woken.0);
        if !woken.1.as_ref().is_some_and(|known| known.will_wake(waker)) {
            woken.1 = Some(waker.clone());
        }
    }
}

impl StreamWaker {
    /// Makes the waker of a stream that is in the queue already.
    pub(super) fn queued(stream: u32, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self { stream, queued: AtomicBool::new(true), ready: Arc::clone(ready) })
    }

    /// Notes that the stream is in the queue; tells whether it was not.
    pub(super) fn enqueue(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Notes that the stream was taken from the queue.
    pub(super) fn dequeue(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.enqueue() {
            return;
        }
        let waker = {
            let mut woken = self.ready.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.0.push(self.stream);
            woken.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
