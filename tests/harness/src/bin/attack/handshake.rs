//! `handshake`: TCP's handshake by hand, without a socket: SYN, the answer's numbers, ACK and data.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::packet::{self, ACK, Header, PSH, RST, SYN, Segment};
use crate::read;
use crate::wire::{Via, Wire};

const START: u32 = 77_000;
const PAYLOAD: &[u8] = b"ambit-attack\n";

/// Prints whether the destination accepted, and how many bytes it sent. The address `--from` must not be one that the
/// pod's kernel holds, which would reset what it does not know.
#[derive(clap::Args)]
pub(crate) struct Handshake {
    /// The server, ADDRESS:PORT.
    to: SocketAddr,
    #[arg(long)]
    from: SocketAddr,
    #[arg(long, value_enum, default_value_t = Via::Frame)]
    via: Via,
    /// How long each answer may take.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Handshake {
    pub(crate) fn run(&self) -> Result<Value> {
        let wire = Wire::open(self.via)?;
        self.send(&wire, Segment { sequence: START, flags: SYN, ..Segment::default() })?;
        let answer = wire.hear(self.timeout, |bytes| {
            let seen = read::packet(bytes)?;
            let ours = (seen.from, seen.to) == (self.to, self.from) && seen.flags & (RST | SYN) != 0;
            ours.then_some((seen.flags, seen.sequence))
        })?;
        let (accepted, number) = match answer {
            Some((flags, number)) if flags & RST == 0 => (true, number.wrapping_add(1)),
            // Blind, as one who hopes for a SYN cookie.
            _ => (false, 1),
        };
        let go = Segment {
            sequence: START.wrapping_add(1),
            acknowledged: number,
            flags: PSH | ACK,
            payload: PAYLOAD.to_vec(),
        };
        self.send(&wire, go)?;
        let bytes = wire.hear(self.timeout, |bytes| {
            let seen = read::packet(bytes)?;
            let ours = (seen.from, seen.to) == (self.to, self.from);
            (ours && !seen.payload.is_empty()).then_some(seen.payload.len())
        })?;
        Ok(json!({ "accepted": accepted, "bytes": bytes.unwrap_or(0) }))
    }

    fn send(&self, wire: &Wire, segment: Segment) -> Result<()> {
        let body = packet::tcp(self.from, self.to, &segment);
        let packet = packet::ip(self.from.ip(), self.to.ip(), &Header::default(), &body)?;
        wire.send(self.to.ip(), &packet)
    }
}
