//! HTTP/2 frames written by hand (RFC 9113), so that a peer may break the rules that a library keeps.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Settings: an initial window of 2 GiB, no push.
pub(crate) fn settings() -> Vec<u8> {
    let mut payload = vec![0, 2, 0, 0, 0, 0, 0, 4];
    payload.extend(0x7fff_ffff_u32.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

/// A window of nearly 2 GiB for the connection.
pub(crate) fn wide_window() -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes())
}

/// A request; its headers are literals without an index, so that each block stands alone.
pub(crate) fn headers(stream: u32, list: &[(&str, &str)], end: bool) -> Vec<u8> {
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(list))
}

/// A request whose headers go on.
pub(crate) fn open_headers(stream: u32, list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, 0, stream, &block(list))
}

/// More headers of the same request, which still go on.
pub(crate) fn continuation(stream: u32, list: &[(&str, &str)]) -> Vec<u8> {
    frame(CONTINUATION, 0, stream, &block(list))
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

pub(crate) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"flooding")
}

/// A frame of more bytes than any receiver allows; only its head is written.
pub(crate) fn head_of_a_giant() -> Vec<u8> {
    vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]
}

fn block(list: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in list {
        bytes.push(0);
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    bytes
}

/// A string without Huffman coding: its length as an integer with a prefix of seven bits, then its bytes.
fn text(bytes: &mut Vec<u8>, value: &str) {
    let mut length = value.len();
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push((length % 128) as u8 | 128);
            length /= 128;
        }
        bytes.push(length as u8);
    }
    bytes.extend(value.as_bytes());
}

/// Reads the frames that come until the connection ends, or nothing comes for `patience`.
pub(crate) async fn read_all(
    from: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> (Vec<Value>, String) {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        match timeout(patience, from.read_exact(&mut head)).await {
            Err(_) => return (frames, "open".to_owned()),
            Ok(Err(error)) => return (frames, format!("closed: {:?}", error.kind())),
            Ok(Ok(_)) => {}
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if let Err(error) = from.read_exact(&mut payload).await {
            return (frames, format!("closed: {:?}", error.kind()));
        }
        if frames.len() < 200 {
            frames.push(describe(head, &payload));
        }
    }
}

fn describe(head: [u8; 9], payload: &[u8]) -> Value {
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let code = |at: usize| payload.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    match head[3] {
        DATA => json!({"frame": "DATA", "stream": stream, "bytes": payload.len()}),
        HEADERS => json!({"frame": "HEADERS", "stream": stream, "status": status(payload)}),
        RST_STREAM => json!({"frame": "RST_STREAM", "stream": stream, "code": code(0)}),
        SETTINGS => json!({"frame": "SETTINGS"}),
        PING => json!({"frame": "PING"}),
        GOAWAY => json!({"frame": "GOAWAY", "code": code(4)}),
        WINDOW_UPDATE => json!({"frame": "WINDOW_UPDATE", "stream": stream}),
        other => json!({"frame": other, "stream": stream}),
    }
}

/// Reads a status that HPACK's static table knows; the others come Huffman-coded and are 0 here.
fn status(block: &[u8]) -> u16 {
    match block.first() {
        Some(0x88) => 200,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_has_a_length_of_several_bytes() {
        let mut bytes = Vec::new();
        text(&mut bytes, &"x".repeat(1337));
        // RFC 7541, C.1.2 has 1337 in a prefix of five bits; in seven it is 127, 1210 % 128 + 128, 9.
        assert_eq!(bytes[..3], [127, 0xba, 9]);
        assert_eq!(bytes.len(), 3 + 1337);
    }

    #[test]
    fn a_frame_has_nine_bytes_of_head() {
        assert_eq!(ping().len(), 17);
        assert_eq!(reset(5), [0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 8]);
    }
}
