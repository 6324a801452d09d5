//! Puts captured segments together as streams and judges whether they are TLS. A stream that cannot be shown
//! to be TLS counts as plaintext.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::capture::packet::Packet;

/// The port of the tunnels between agents.
const HBONE: u16 = 15008;
/// A TLS record's payload at most, with what encryption may add (RFC 8446, 5.2; RFC 5246, 6.2.3).
const LONGEST_RECORD: usize = 16384 + 2048;
const RECORD_HEADER: usize = 5;

/// One direction of a TCP connection to or from a pod that carried bytes.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The sender.
    pub src: SocketAddr,
    /// The receiver.
    pub dst: SocketAddr,
    /// How many bytes were seen.
    pub bytes: usize,
    /// Whether all of them are TLS records.
    pub tls: bool,
    /// The first bytes, as text.
    pub sample: String,
}

impl Stream {
    /// Returns whether the stream is TLS to or from the tunnels' port.
    pub fn is_tunnel(&self) -> bool {
        self.tls && (self.src.port() == HBONE || self.dst.port() == HBONE)
    }
}

/// What the wire carried to and from pods.
#[derive(Clone, Debug)]
pub struct WireReport {
    /// Every stream with at least one byte.
    pub streams: Vec<Stream>,
}

impl WireReport {
    pub(crate) fn of(packets: &[Packet]) -> Self {
        let streams = streams(packets).into_iter().filter(|s| is_pod(s.src.ip()) || is_pod(s.dst.ip()));
        let streams = streams.filter_map(|assembled| {
            let first = &assembled.runs.first()?.bytes;
            Some(Stream {
                src: assembled.src,
                dst: assembled.dst,
                bytes: assembled.runs.iter().map(|run| run.bytes.len()).sum(),
                tls: assembled.runs.iter().all(|run| is_tls(&run.bytes, run.from_start)),
                sample: String::from_utf8_lossy(&first[..first.len().min(80)]).into_owned(),
            })
        });
        Self { streams: streams.collect() }
    }

    /// Returns the streams that are anything else than TLS on the tunnels' port.
    pub fn outside_tunnels(&self) -> Vec<&Stream> {
        self.streams.iter().filter(|stream| !stream.is_tunnel()).collect()
    }

    /// Returns whether pods' bytes crossed the wire, and every one of them inside a tunnel.
    pub fn only_tls(&self) -> bool {
        !self.streams.is_empty() && self.outside_tunnels().is_empty()
    }
}

/// One direction of a connection, as far as it was captured.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) runs: Vec<Run>,
}

/// Bytes without a gap.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) bytes: Vec<u8>,
    /// Whether they start where the connection did.
    pub(crate) from_start: bool,
}

/// Where a direction's sequence numbers start, and its segments by their distance from there.
struct Pieces<'a> {
    base: u32,
    syn_seen: bool,
    segments: BTreeMap<u32, &'a [u8]>,
}

/// Puts the segments of each connection in order; a new SYN on the same addresses starts a new one.
pub(crate) fn streams(packets: &[Packet]) -> Vec<Assembled> {
    let mut open: HashMap<(SocketAddr, SocketAddr), Vec<Pieces<'_>>> = HashMap::new();
    for segment in packets.iter().filter_map(Packet::segment) {
        let connections = open.entry((segment.src, segment.dst)).or_default();
        let base = segment.seq.wrapping_add(segment.syn.into());
        let known = connections.last().is_some_and(|c| !segment.syn || c.base == base);
        if !known {
            connections.push(Pieces { base, syn_seen: segment.syn, segments: BTreeMap::new() });
        }
        if let Some(current) = connections.last_mut().filter(|_| !segment.payload.is_empty()) {
            let distance = base.wrapping_sub(current.base);
            // What lies before the first byte seen is a retransmission from before the capture.
            if distance < 1 << 31 {
                let longest = current.segments.entry(distance).or_default();
                if longest.len() < segment.payload.len() {
                    *longest = segment.payload;
                }
            }
        }
    }
    let mut all: Vec<Assembled> = Vec::new();
    for ((src, dst), connections) in open {
        all.extend(connections.into_iter().map(|pieces| Assembled { src, dst, runs: join(&pieces) }));
    }
    all.sort_by_key(|assembled| (assembled.src, assembled.dst));
    all
}

fn join(pieces: &Pieces<'_>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for (&distance, &payload) in &pieces.segments {
        let start = distance as usize;
        match runs.last_mut().filter(|_| start <= end) {
            Some(run) => run.bytes.extend(payload.get(end - start..).unwrap_or_default()),
            None => {
                let from_start = pieces.syn_seen && start == 0;
                runs.push(Run { bytes: payload.to_vec(), from_start });
            }
        }
        end = end.max(start + payload.len());
    }
    runs
}

/// Returns whether the bytes are a chain of TLS records; one that starts in the middle may begin inside a record.
fn is_tls(bytes: &[u8], from_start: bool) -> bool {
    if from_start {
        return records_to_the_end(bytes);
    }
    let latest = bytes.len().saturating_sub(RECORD_HEADER).min(LONGEST_RECORD);
    bytes.len() > RECORD_HEADER && (0..=latest).any(|start| records_to_the_end(&bytes[start..]))
}

fn records_to_the_end(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(length) = record_length(bytes) else { return false };
        bytes = bytes.get(RECORD_HEADER + length..).unwrap_or_default();
    }
    true
}

/// Returns the length that a record header announces; a header cut by the end of the capture is taken as far as it goes.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let kind = (20..=24).contains(&bytes[0]);
    let version =
        bytes.get(1).is_none_or(|major| *major == 3) && bytes.get(2).is_none_or(|minor| *minor <= 4);
    let length = match (bytes.get(3), bytes.get(4)) {
        (Some(high), Some(low)) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 1,
    };
    (kind && version && (1..=LONGEST_RECORD).contains(&length)).then_some(length)
}

/// Returns whether an address is one that the harness gives to pods.
fn is_pod(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10 && (1..=64).contains(&ip.octets()[1]),
        IpAddr::V6(ip) => ip.segments()[0] == 0xfd10,
    }
}

#[cfg(test)]
mod tests;
