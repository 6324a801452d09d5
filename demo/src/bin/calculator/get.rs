//! `get`: the demo's probe. Many requests, one connection each, and a summary.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::client::{get_ok, kind};
use crate::duration;

/// Requests a URL and prints one line of JSON: how many succeeded, who answered, what the failures were.
#[derive(clap::Args)]
pub(crate) struct Get {
    /// The URL, http://ADDRESS:PORT/PATH?QUERY.
    url: String,
    /// How many requests.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// How many different pods must have answered; more requests are made until then, up to ten times the count.
    #[arg(long, default_value_t = 1)]
    pods: usize,
    /// How long each may take.
    #[arg(long, default_value = "3s", value_parser = duration)]
    timeout: Duration,
}

impl Get {
    pub(crate) async fn run(self) -> Result<()> {
        let mut pods = BTreeMap::<String, u32>::new();
        let mut errors = BTreeMap::<String, u32>::new();
        let (mut last, mut ok) = (serde_json::Value::Null, 0_u32);
        for number in 0..self.count * 10 {
            // A failure ends the search for other pods: the rest would fail the same way.
            let enough = pods.len() >= self.pods || !errors.is_empty();
            if number >= self.count && enough {
                break;
            }
            match get_ok(&self.url, self.timeout).await {
                Ok(body) => {
                    ok += 1;
                    *pods.entry(body["pod"].as_str().unwrap_or("unnamed").into()).or_default() += 1;
                    last = body;
                }
                Err(error) => *errors.entry(kind(&error)).or_default() += 1,
            }
        }
        let failed = errors.values().sum::<u32>();
        println!("{}", json!({"ok": ok, "failed": failed, "pods": pods, "errors": errors, "last": last}));
        Ok(())
    }
}
