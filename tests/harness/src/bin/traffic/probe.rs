//! `probe`: one connection to each of many servers, all at once, and what became of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::Target;
use crate::exchange::{exchange, kind};

/// Makes one exchange with each hello server; prints `ok` or the kind of failure by address.
#[derive(clap::Args)]
pub(crate) struct Probe {
    /// The servers, ADDRESS:PORT.
    #[arg(required = true)]
    to: Vec<SocketAddr>,
    /// How long each step may take.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Probe {
    pub(crate) fn run(&self) -> Result<Value> {
        let seen = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for to in &self.to {
                let (seen, target) = (&seen, Target { to: *to, timeout: self.timeout });
                scope.spawn(move || {
                    let word = match exchange(&target, true, b"probe", || ()) {
                        Ok(_) => "ok".to_owned(),
                        Err(error) => kind(&error),
                    };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).insert(to.to_string(), word);
                });
            }
        });
        Ok(json!(seen.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}
