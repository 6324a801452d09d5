//! How connections end: half-closed, reset, or never read from.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::Target;
use crate::exchange::{kind, open};
use crate::pattern::Pattern;
use crate::signals;

/// Makes the connection end with a reset as soon as its last handle is closed.
///
/// Shutting down reading and writing first would send a FIN: the linger time of zero alone gives the RST.
pub(crate) fn abort(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Sends, shuts down writing, and reads the answer that a sum server gives only then.
#[derive(clap::Args)]
pub(crate) struct HalfClose {
    #[command(flatten)]
    target: Target,
    /// How many bytes are sent before writing is shut down.
    #[arg(long, default_value_t = 1000)]
    bytes: u64,
}

impl HalfClose {
    pub(crate) fn run(&self) -> Result<Value> {
        let mut stream = open(&self.target).with_context(|| format!("connect to {}", self.target.to))?;
        let mut answer = String::new();
        let result = crate::transfer::send(&mut stream, &mut Pattern::new(0), self.bytes)
            .and_then(|()| stream.shutdown(Shutdown::Write))
            .and_then(|()| stream.read_to_string(&mut answer));
        let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
        Ok(json!({
            "ok": result.is_ok() && answer["bytes"] == self.bytes,
            "answer": answer,
            "error": result.err().map(|error| kind(&error)),
        }))
    }
}

/// Sends a payload, then resets, or waits to see how the server ends the connection.
#[derive(clap::Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    target: Target,
    /// How many bytes are sent first.
    #[arg(long, default_value_t = 4)]
    bytes: u64,
    /// Do not reset; wait for the server's end and say what it was.
    #[arg(long)]
    observe: bool,
}

impl Reset {
    pub(crate) fn run(&self) -> Result<Value> {
        let mut stream = match open(&self.target) {
            Ok(stream) => stream,
            Err(error) => return Ok(json!({"sent": 0, "received": 0, "end": kind(&error)})),
        };
        if let Err(error) = crate::transfer::send(&mut stream, &mut Pattern::new(0), self.bytes) {
            return Ok(json!({"sent": 0, "received": 0, "end": kind(&error)}));
        }
        if !self.observe {
            abort(&stream)?;
            return Ok(json!({"sent": self.bytes, "received": 0, "end": "sent-reset"}));
        }
        let (mut received, mut buffer) = (0, [0; 4096]);
        let end = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break "eof".to_string(),
                Ok(count) => received += count,
                Err(error) => break kind(&error),
            }
        };
        Ok(json!({"sent": self.bytes, "received": received, "end": end}))
    }
}

/// Sends without ever reading until the path takes no more.
#[derive(clap::Args)]
pub(crate) struct Stall {
    #[command(flatten)]
    target: Target,
    /// Give up after this many bytes: something takes them without an end.
    #[arg(long, default_value_t = 4 << 30)]
    limit: u64,
    /// How many connections at once.
    #[arg(long, default_value_t = 1)]
    connections: u64,
    /// Say `stalled` once the paths are full, and keep them so until SIGTERM.
    #[arg(long)]
    keep: bool,
}

impl Stall {
    pub(crate) fn run(&self) -> Result<Value> {
        signals::on_stop(|| ())?;
        let filled = std::thread::scope(|scope| {
            let fills: Vec<_> = (0..self.connections).map(|_| scope.spawn(|| self.fill())).collect();
            let filled =
                fills.into_iter().map(|fill| fill.join().map_err(|_| anyhow!("a filler panicked"))?);
            filled.collect::<Result<Vec<_>>>()
        })?;
        if self.keep {
            println!("stalled");
            while !signals::stopped() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let end = filled.iter().map(|full| full.end.as_str()).find(|end| *end != "full").unwrap_or("full");
        let most = filled.iter().map(|full| full.bytes).max();
        Ok(json!({"bytes": filled.iter().map(|full| full.bytes).sum::<u64>(), "most": most, "end": end}))
    }

    fn fill(&self) -> Result<Filled> {
        let mut stream = open(&self.target).with_context(|| format!("connect to {}", self.target.to))?;
        let mut pattern = Pattern::new(0);
        let mut sent = 0;
        // The write time-out of the target is what tells that the path is full.
        let end = loop {
            if sent >= self.limit {
                break "limit".to_string();
            }
            match stream.write(pattern.peek(self.limit - sent)) {
                Ok(count) => {
                    pattern.advance(count);
                    sent += count as u64;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break "full".to_string();
                }
                Err(error) => break kind(&error),
            }
        };
        Ok(Filled { _stream: stream, bytes: sent, end })
    }
}

/// A connection that took what it could.
struct Filled {
    _stream: TcpStream,
    bytes: u64,
    end: String,
}
