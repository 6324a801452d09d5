//! `raw`: frames of the caller's choice inside a tunnel whose peer is known, and what the far side makes of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::frames;
use crate::tls::Target;

/// Opens a tunnel and writes frames into it.
#[derive(clap::Args)]
pub(crate) struct Raw {
    #[command(flatten)]
    target: Target,
    /// What is written.
    #[arg(long, value_enum)]
    send: Send,
    /// The authority of the requests.
    #[arg(long, default_value = "")]
    authority: String,
    /// How many of what is repeated.
    #[arg(long, default_value_t = 100)]
    count: u32,
    /// How long nothing may come back before the connection counts as open.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    patience: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Send {
    /// CONNECT to the authority, whatever is in it; without one when it is empty.
    Connect,
    /// CONNECT to the authority with a path and a scheme, as no CONNECT has.
    ConnectWithPath,
    /// CONNECT and RST_STREAM at once, again and again.
    RapidReset,
    /// PING after PING, reading no answer.
    Pings,
    /// Headers that never end.
    Continuations,
    /// The head of a frame of 16 MiB.
    Giant,
    /// Bytes that are no HTTP/2.
    Garbage,
    /// The HTTP/2 preface, one byte a second.
    SlowPreface,
    /// CONNECT, and then never reads from the connection, not even PINGs.
    Deaf,
}

impl Raw {
    pub(crate) async fn run(self) -> Result<Value> {
        let (tls, _) = match timeout(self.target.timeout, self.target.open()).await {
            Ok(opened) => opened?,
            Err(_) => anyhow::bail!("the handshake took too long"),
        };
        let start = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(tls);
        if let Send::Deaf = self.send {
            let sent = self.write(&mut writer).await;
            println!("holding");
            // Written to, the connection tells when the far side has let go of it.
            let end = loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if let Err(error) = writer.write_all(&frames::ping()).await {
                    break error.to_string();
                }
                if start.elapsed() > self.patience {
                    break "open".to_owned();
                }
            };
            return Ok(json!({"sent": sent.is_ok(), "end": end}));
        }
        let reading = tokio::spawn(async move { frames::read_all(&mut reader, self.patience).await });
        let written = self.write(&mut writer).await;
        let (frames, end) = reading.await.context("the reader panicked")?;
        let (written, error) = match written {
            Ok(count) => (Some(count), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(json!({
            "written": written, "error": error, "frames": frames, "end": end,
            "seconds": start.elapsed().as_secs_f64(),
        }))
    }

    /// Writes what was asked for; returns how many of it went out.
    async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<u32> {
        let connect = [(":method", "CONNECT"), (":authority", &self.authority)];
        match self.send {
            Send::Garbage => {
                to.write_all(&[b'\x16'; 4096]).await?;
                to.flush().await?;
                return Ok(1);
            }
            Send::SlowPreface => {
                for byte in frames::PREFACE {
                    to.write_all(&[*byte]).await?;
                    to.flush().await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                return Ok(1);
            }
            _ => to.write_all(&[frames::PREFACE, &frames::settings()].concat()).await?,
        }
        let mut written = 1;
        match self.send {
            Send::Connect if self.authority.is_empty() => {
                to.write_all(&frames::headers(1, &connect[..1], false)).await?;
            }
            Send::Connect => to.write_all(&frames::headers(1, &connect, false)).await?,
            Send::ConnectWithPath => {
                let list = [&connect[..], &[(":path", "/"), (":scheme", "https")]].concat();
                to.write_all(&frames::headers(1, &list, false)).await?;
            }
            Send::Giant => to.write_all(&frames::head_of_a_giant()).await?,
            Send::RapidReset => {
                for number in 0..self.count {
                    let stream = 2 * number + 1;
                    to.write_all(&[frames::headers(stream, &connect, false), frames::reset(stream)].concat())
                        .await?;
                    written = number + 1;
                }
            }
            Send::Pings => {
                for number in 0..self.count {
                    to.write_all(&frames::ping()).await?;
                    written = number + 1;
                }
            }
            Send::Continuations => {
                to.write_all(&frames::open_headers(1, &connect)).await?;
                for number in 0..self.count {
                    let value = "x".repeat(1000);
                    to.write_all(&frames::continuation(1, &[(&format!("x-{number}"), &value)])).await?;
                    written = number + 1;
                }
            }
            Send::Deaf => {
                to.write_all(&frames::wide_window()).await?;
                for number in 0..self.count {
                    to.write_all(&frames::headers(2 * number + 1, &connect, false)).await?;
                    written = number + 1;
                }
            }
            Send::Garbage | Send::SlowPreface => {}
        }
        to.flush().await?;
        Ok(written)
    }
}
