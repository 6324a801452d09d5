//! `hostile`: connections to the tunnel port that never become tunnels, many at once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::frames;

/// Opens connections and misbehaves on each.
#[derive(clap::Args)]
pub(crate) struct Hostile {
    /// The address, with a port.
    to: SocketAddr,
    /// What each connection does.
    #[arg(long, value_enum)]
    send: Send,
    /// How many connections at once.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How long a connection is watched at most.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    patience: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Send {
    /// Bytes that are no TLS.
    Garbage,
    /// Nothing.
    Silence,
    /// The beginning of a TLS handshake, one byte a second.
    Slow,
    /// Half a TLS handshake, then nothing.
    Half,
    /// HTTP/2 without TLS.
    PlainHttp2,
    /// HTTP/1.1 without TLS.
    PlainHttp1,
}

impl Hostile {
    pub(crate) async fn run(self) -> Result<Value> {
        let mut tasks = JoinSet::new();
        for number in 0..self.connections {
            let (to, send, patience) = (self.to, self.send, self.patience);
            tasks.spawn(async move { misbehave(to, send, patience, number).await });
        }
        let (mut ends, mut longest, mut shortest) = (BTreeMap::<String, u64>::new(), 0.0_f64, f64::MAX);
        while let Some(done) = tasks.join_next().await {
            let (end, took) = done.context("a connection's task panicked")?;
            *ends.entry(end).or_default() += 1;
            longest = longest.max(took.as_secs_f64());
            shortest = shortest.min(took.as_secs_f64());
        }
        Ok(json!({"ends": ends, "longest_s": longest, "shortest_s": shortest}))
    }
}

/// Returns how the connection ended and after how long.
async fn misbehave(to: SocketAddr, send: Send, patience: Duration, number: usize) -> (String, Duration) {
    let start = Instant::now();
    let end = match tokio::time::timeout(patience, one(to, send, number)).await {
        Ok(Ok(())) => "eof".to_owned(),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => "reset".to_owned(),
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => "reset".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "still open".to_owned(),
    };
    (end, start.elapsed())
}

async fn one(to: SocketAddr, send: Send, number: usize) -> io::Result<()> {
    let stream = TcpStream::connect(to).await?;
    println!("connected");
    let (mut reader, mut writer) = stream.into_split();
    let writing = async move {
        match send {
            Send::Garbage => {
                let noise: Vec<u8> = (0..4096).map(|at: usize| (at * 31 + number * 7) as u8).collect();
                writer.write_all(&noise).await?;
            }
            Send::Silence => {}
            Send::Half => writer.write_all(&HELLO[..HELLO.len() / 2]).await?,
            Send::Slow => {
                for byte in HELLO.iter().cycle() {
                    writer.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Send::PlainHttp2 => writer.write_all(&[frames::PREFACE, &frames::settings()].concat()).await?,
            Send::PlainHttp1 => writer.write_all(b"GET / HTTP/1.1\r\nhost: pod\r\n\r\n").await?,
        }
        // The connection stays open for writing until the far side ends it.
        std::future::pending::<io::Result<()>>().await
    };
    let reading = async move {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        written = writing => written,
        read = reading => read,
    }
}

/// A record that announces a ClientHello of 512 bytes, and its first bytes.
const HELLO: [u8; 64] = {
    let mut bytes = [0; 64];
    let head = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut at = 0;
    while at < head.len() {
        bytes[at] = head[at];
        at += 1;
    }
    bytes
};
