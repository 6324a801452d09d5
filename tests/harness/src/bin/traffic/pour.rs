//! `pour`: as many bytes as the path takes for a while, and a connection that stays open afterwards.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::exchange::open;
use crate::pattern::Pattern;
use crate::{Target, signals, transfer};

/// How many bytes go between two looks at the clock.
const PIECE: u64 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Sends to a discard server, says `poured`, and keeps the connection until SIGTERM; prints how much that was.
#[derive(clap::Args)]
pub(crate) struct Pour {
    #[command(flatten)]
    target: Target,
    /// How long to send.
    #[arg(long, value_parser = humantime::parse_duration)]
    lasting: Duration,
}

impl Pour {
    pub(crate) fn run(&self) -> Result<Value> {
        signals::on_stop(|| ())?;
        let stream = open(&self.target).with_context(|| format!("connect to {}", self.target.to))?;
        let (start, mut pattern, mut bytes) = (Instant::now(), Pattern::new(0), 0_u64);
        println!("pouring");
        while start.elapsed() < self.lasting {
            transfer::send(&mut &stream, &mut pattern, PIECE).context("send")?;
            bytes += PIECE;
        }
        println!("poured {bytes}");
        while !signals::stopped() {
            std::thread::sleep(PAUSE);
        }
        stream.shutdown(Shutdown::Write).context("end the connection")?;
        Ok(json!({"bytes": bytes, "seconds": start.elapsed().as_secs_f64()}))
    }
}
