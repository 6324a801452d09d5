//! `connect`: many connections, in sequence or at once, and what became of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::Target;
use crate::exchange::{Seen, exchange, kind};

/// Opens connections and checks an exchange on each.
#[derive(clap::Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    target: Target,
    /// How many connections in all.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// How many at a time.
    #[arg(long, default_value_t = 1)]
    concurrency: u64,
    /// Exchange nothing before `--concurrency` connections stand at the same time.
    #[arg(long)]
    together: bool,
    /// What is sent and must come back.
    #[arg(long, default_value = "ambit-traffic")]
    payload: String,
    /// What the server does first.
    #[arg(long, value_enum, default_value_t = Expect::Hello)]
    expect: Expect,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Expect {
    /// It sends a line that says what addresses it sees, then echoes.
    Hello,
    /// It echoes.
    Echo,
}

/// Holds connections until the first `wanted` stand; later ones pass.
struct Meeting {
    missing: Mutex<u64>,
    complete: Condvar,
}

impl Meeting {
    fn new(wanted: u64) -> Self {
        Self { missing: Mutex::new(wanted), complete: Condvar::new() }
    }

    fn arrive(&self) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing = missing.saturating_sub(1);
        self.complete.notify_all();
        // Whoever waits is woken by the last one, or by one that gives up.
        let met = self.complete.wait_while(missing, |missing| *missing > 0);
        drop(met);
    }

    fn give_up(&self, failed: bool) {
        if failed {
            *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = 0;
            self.complete.notify_all();
        }
    }
}

#[derive(Default)]
struct Outcome {
    errors: BTreeMap<String, u64>,
    last: Option<Seen>,
    times: Vec<Duration>,
}

impl Outcome {
    fn note(&mut self, result: io::Result<Seen>, took: Duration) {
        match result {
            Ok(seen) => {
                self.last = Some(seen);
                self.times.push(took);
            }
            Err(error) => *self.errors.entry(kind(&error)).or_default() += 1,
        }
    }

    fn report(mut self) -> Value {
        self.times.sort_unstable();
        let percentile = |percent: usize| {
            let index = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
            self.times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        json!({
            "ok": self.times.len(),
            "failed": self.errors.values().sum::<u64>(),
            "errors": self.errors,
            "getpeername": self.last.as_ref().map(|seen| seen.getpeername),
            "getsockname": self.last.as_ref().map(|seen| seen.getsockname),
            "hello": self.last.as_ref().and_then(|seen| seen.hello.as_ref()),
            "p50_ms": percentile(50),
            "p99_ms": percentile(99),
        })
    }
}

impl Connect {
    pub(crate) fn run(&self) -> Result<Value> {
        let outcome = Mutex::new(Outcome::default());
        let taken = AtomicU64::new(0);
        let workers = self.concurrency.min(self.count);
        let meeting = Meeting::new(if self.together { workers } else { 0 });
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while taken.fetch_add(1, Ordering::Relaxed) < self.count {
                        let start = Instant::now();
                        let greeted = self.expect == Expect::Hello;
                        let (payload, meet) = (self.payload.as_bytes(), || meeting.arrive());
                        let result = exchange(&self.target, greeted, payload, meet);
                        // One that failed before it stood must not keep the others waiting.
                        meeting.give_up(result.is_err());
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        outcome.note(result, start.elapsed());
                    }
                });
            }
        });
        Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner).report())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind() {
        let mut outcome = Outcome::default();
        outcome.note(Err(io::ErrorKind::ConnectionRefused.into()), Duration::ZERO);
        outcome.note(Err(io::ErrorKind::ConnectionRefused.into()), Duration::ZERO);
        outcome.note(Err(io::ErrorKind::UnexpectedEof.into()), Duration::ZERO);
        let report = outcome.report();
        assert_eq!(report["failed"], 3);
        assert_eq!(report["errors"], json!({"refused": 2, "eof": 1}));
        assert_eq!(report["p99_ms"], 0.0);
    }
}
