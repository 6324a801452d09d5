//! Ping-pong: 64 bytes there and back, one exchange at a time on every connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Client, Service, connects::join, latency::Latencies};

/// Exchanges before it counts.
const WARM_UP: usize = 50;

pub(crate) fn run(client: &Client) -> Result<Value> {
    let (target, time) = (client.target(Service::Echo), client.time);
    let all_open = Arc::new(Barrier::new(client.count));
    let workers = (0..client.count).map(|_| {
        let all_open = Arc::clone(&all_open);
        std::thread::spawn(move || bounce(target, time, &all_open))
    });
    Ok(Latencies::report(join(workers.collect())?, time))
}

fn bounce(target: SocketAddr, time: Duration, all_open: &Barrier) -> Result<Latencies> {
    let opened = open(target);
    // Also after a failure: the others must not wait for ever.
    all_open.wait();
    let mut stream = opened?;
    let mut latencies = Latencies::default();
    let end = Instant::now() + time;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latencies);
        }
        exchange(&mut stream)?;
        latencies.add(start);
    }
}

fn open(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target).context("connect")?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    for _ in 0..WARM_UP {
        exchange(&mut stream)?;
    }
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut message = [0x5a; 64];
    stream.write_all(&message).context("send")?;
    stream.read_exact(&mut message).context("receive")
}
