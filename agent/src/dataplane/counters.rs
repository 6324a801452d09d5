//! Byte counts of one connection, shared between its relay and whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that went through a connection, as its client sees them.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    /// Adds to what the client sent.
    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds to what the client received.
    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the bytes that the client sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the bytes that the client received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
