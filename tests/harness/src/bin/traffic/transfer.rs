//! `transfer`: moves a pattern up, down or both ways at once; each side checks every byte that it gets.
//!
//! The client opens with a line of JSON (what goes which way), the server closes with one (what it got).

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::exchange::{kind, open};
use crate::pattern::Pattern;
use crate::{Direction, Target};

const BUFFER: usize = 64 * 1024;
const UP: u64 = 0x0075_7000_0000_0000;
const DOWN: u64 = 0x646f_776e_0000_0000;

/// Moves bytes to or from a transfer server.
#[derive(clap::Args)]
pub(crate) struct Transfer {
    #[command(flatten)]
    target: Target,
    /// How many bytes go each way.
    #[arg(long)]
    bytes: u64,
    /// Which way they go.
    #[arg(long, value_enum, default_value = "both")]
    direction: Direction,
}

/// What the client announces, and what the server answers.
#[derive(Debug, Deserialize, Serialize)]
struct Amounts {
    up: u64,
    down: u64,
}

impl Transfer {
    pub(crate) fn run(&self) -> Result<Value> {
        let start = Instant::now();
        let up = if self.direction == Direction::Down { 0 } else { self.bytes };
        let down = if self.direction == Direction::Up { 0 } else { self.bytes };
        let stream = open(&self.target).with_context(|| format!("connect to {}", self.target.to))?;
        let result = move_both(&stream, up, down);
        let seconds = start.elapsed().as_secs_f64();
        Ok(match result {
            Ok(()) => json!({"ok": true, "up": up, "down": down, "seconds": seconds}),
            Err(error) => {
                json!({"ok": false, "up": up, "down": down, "seconds": seconds,
                       "error": kind(&error), "detail": error.to_string()})
            }
        })
    }
}

fn move_both(stream: &TcpStream, up: u64, down: u64) -> io::Result<()> {
    (&*stream).write_all(format!("{}\n", json!(Amounts { up, down })).as_bytes())?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> io::Result<()> {
            send(&mut &*stream, &mut Pattern::new(UP), up)?;
            stream.shutdown(Shutdown::Write)
        });
        let received = receive(&mut &*stream, &mut Pattern::new(DOWN), down);
        let sent = sender.join().map_err(|_| io::Error::other("the sender panicked"))?;
        received.and(sent)
    })?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    let got: Amounts = serde_json::from_str(&answer).map_err(|e| {
        io::Error::new(ErrorKind::UnexpectedEof, format!("the server's answer {answer:?}: {e}"))
    })?;
    if got.up != up {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("sent {up}, the server got {}", got.up)));
    }
    Ok(())
}

/// The server's side: sends and receives what the client announces, then answers what it got.
pub(crate) fn answer(stream: &TcpStream) -> io::Result<u64> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let wanted: Amounts =
        serde_json::from_str(&line).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    let down = wanted.down;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || send(&mut &*stream, &mut Pattern::new(DOWN), down));
        let received = receive(&mut reader, &mut Pattern::new(UP), wanted.up);
        let sent = sender.join().map_err(|_| io::Error::other("the sender panicked"))?;
        received.and(sent)
    })?;
    if reader.read(&mut [0; 1])? != 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "more came than was announced"));
    }
    (&*stream).write_all(format!("{}\n", json!(wanted)).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    Ok(wanted.up)
}

/// Sends the next `bytes` of the pattern.
pub(crate) fn send(to: &mut impl Write, pattern: &mut Pattern, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let count = to.write(pattern.peek(left))?;
        if count == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        pattern.advance(count);
        left -= count as u64;
    }
    Ok(())
}

/// Receives `bytes` and compares every one with the pattern.
fn receive(from: &mut impl Read, pattern: &mut Pattern, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let count = from.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{left} of {bytes} bytes missing")));
        }
        if !pattern.matches(&buffer[..count]) {
            let at = bytes - left;
            return Err(io::Error::new(ErrorKind::InvalidData, format!("bytes differ after offset {at}")));
        }
        left -= count as u64;
    }
    Ok(())
}
