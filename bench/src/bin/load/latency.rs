//! Collects how long things took, and says what was usual and what was slow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The durations of one worker, in nanoseconds.
#[derive(Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Adds one that began at `start` and ends now.
    pub(crate) fn add(&mut self, start: Instant) {
        self.0.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    /// Reports all workers' work in `time`: how many per second, median and 99th percentile in microseconds.
    pub(crate) fn report(workers: Vec<Self>, time: Duration) -> Value {
        let mut all: Vec<u64> = workers.into_iter().flat_map(|worker| worker.0).collect();
        all.sort_unstable();
        let micros = |share: usize| {
            let at = (all.len() * share / 100).min(all.len().saturating_sub(1));
            all.get(at).map(|nanos| *nanos as f64 / 1e3)
        };
        json!({
            "value": all.len() as f64 / time.as_secs_f64(),
            "units": all.len(),
            "p50_us": micros(50),
            "p99_us": micros(99),
        })
    }
}
