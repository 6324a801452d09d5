//! Bulk: every stream sends as fast as it goes. What counts is what arrived.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Client, Service, connects::join};

/// Bytes per write.
const PIECE: usize = 128 * 1024;

pub(crate) fn run(client: &Client) -> Result<Value> {
    let (target, time) = (client.target(Service::Sink), client.time);
    let start = Instant::now();
    let workers = (0..client.count).map(|_| std::thread::spawn(move || pour(target, start + time)));
    let bytes: u64 = join(workers.collect())?.into_iter().sum();
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({"value": bytes as f64 / seconds, "units": bytes}))
}

/// Sends until `end`; returns how many bytes the server had when it saw the end.
fn pour(target: SocketAddr, end: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(target).context("connect")?;
    let piece = vec![0x5a; PIECE];
    while Instant::now() < end {
        stream.write_all(&piece).context("send")?;
    }
    stream.shutdown(Shutdown::Write).context("end")?;
    let mut total = [0; 8];
    stream.read_exact(&mut total).context("read what arrived")?;
    Ok(u64::from_be_bytes(total))
}
