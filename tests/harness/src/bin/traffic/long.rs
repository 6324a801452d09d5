//! Traffic that goes on while something else happens: one long connection, or many short ones.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::exchange::{exchange, kind, open};
use crate::{Target, signals};

/// Keeps one connection to an echo server busy.
#[derive(clap::Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    target: Target,
    /// The pause between two numbers.
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    every: Duration,
}

impl Hold {
    pub(crate) fn run(&self) -> Result<Value> {
        signals::on_stop(|| ())?;
        let stream = open(&self.target).with_context(|| format!("connect to {}", self.target.to))?;
        let mut count = 0_u64;
        let end = loop {
            if signals::stopped() {
                break match finish(&stream) {
                    Ok(()) => "stopped".to_string(),
                    Err(error) => kind(&error),
                };
            }
            if let Err(error) = round_trip(&stream, count) {
                break kind(&error);
            }
            count += 1;
            if count == 1 {
                println!("holding");
            }
            std::thread::sleep(self.every);
        };
        Ok(json!({"end": end, "count": count}))
    }
}

fn round_trip(mut stream: &TcpStream, number: u64) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut back = [0; 8];
    stream.read_exact(&mut back)?;
    if back == number.to_be_bytes() {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "another number came back"))
    }
}

fn finish(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.read(&mut [0; 1]).map(drop)
}

/// Opens one connection after another to a hello server.
#[derive(clap::Args)]
pub(crate) struct Loop {
    #[command(flatten)]
    target: Target,
    /// The pause between two connections.
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration)]
    every: Duration,
}

impl Loop {
    pub(crate) fn run(&self) -> Result<Value> {
        signals::on_stop(|| ())?;
        let (mut ok, mut failed, mut errors) = (0_u64, 0_u64, BTreeMap::<String, u64>::new());
        // The longest time without a good connection tells an interruption from single failures.
        let (mut last_good, mut longest_gap) = (Instant::now(), Duration::ZERO);
        while !signals::stopped() {
            match exchange(&self.target, true, b"ambit-loop", || ()) {
                Ok(_) => {
                    ok += 1;
                    longest_gap = longest_gap.max(last_good.elapsed());
                    last_good = Instant::now();
                    if ok == 1 {
                        println!("looping");
                    }
                }
                // The signal that ends the loop may interrupt a connection on its way.
                Err(error) if error.kind() == ErrorKind::Interrupted && signals::stopped() => {}
                Err(error) => {
                    failed += 1;
                    *errors.entry(kind(&error)).or_default() += 1;
                }
            }
            std::thread::sleep(self.every);
        }
        let longest_gap = longest_gap.max(last_good.elapsed());
        Ok(json!({
            "ok": ok, "failed": failed, "errors": errors, "longest_gap_ms": longest_gap.as_secs_f64() * 1000.0,
        }))
    }
}
