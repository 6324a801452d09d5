//! The frames of a trunk: what two agents say to each other inside TLS, under the ALPN name `ambit/1`.
//!
//! A frame stands in one TLS record, whole; a record holds any number of frames.
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | kind |
//! | 1 | 0 |
//! | 2 | length of what follows the header, big endian |
//! | 4 | stream, big endian; 0: the trunk itself |
//!
//! A kind that is not known is skipped: a later version may have more to say.

use crate::identity::tls::record::MAX_DATA;

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 8;
/// The most bytes that a frame carries.
pub(super) const MAX_PAYLOAD: usize = MAX_DATA - HEADER;

const OPEN: u8 = 1;
const ANSWER: u8 = 2;
const DATA: u8 = 3;
const END: u8 = 4;
const RESET: u8 = 5;
const CREDIT: u8 = 6;
const PING: u8 = 7;
const PONG: u8 = 8;
const LEAVE: u8 = 9;

/// The answer to a stream that was not looked at: it may be opened elsewhere.
pub(super) const NOT_PROCESSED: u16 = 0;

/// What one agent says to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// The caller's agent opens a stream to a port of the pod; with the port of the application that calls.
    Open { stream: u32, port: u16, client_port: u16 },
    /// The answer: an HTTP status as in HBONE, or `NOT_PROCESSED`.
    Answer { stream: u32, status: u16 },
    /// Bytes of an application.
    Data { stream: u32, bytes: &'a [u8] },
    /// The sender's application has ended its direction.
    End { stream: u32 },
    /// The stream is broken.
    Reset { stream: u32 },
    /// So many more bytes may be sent.
    Credit { stream: u32, bytes: u32 },
    /// Asks whether the peer is there.
    Ping,
    /// It is.
    Pong,
    /// No stream above this one is served any more.
    Leave { last: u32 },
    /// A kind of a later version.
    Unknown,
}

/// Why a record is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of kind {kind} is cut short, or has a length that it cannot have")]
pub(crate) struct FrameError {
    kind: u8,
}

impl Frame<'_> {
    /// Appends the frame to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (kind, stream, payload): (u8, u32, &[u8]) = match self {
            Self::Open { stream, port, client_port } => {
                let ([a, b], [c, d]) = (port.to_be_bytes(), client_port.to_be_bytes());
                (OPEN, *stream, &[a, b, c, d])
            }
            Self::Answer { stream, status } => (ANSWER, *stream, &status.to_be_bytes()),
            Self::Data { stream, bytes } => (DATA, *stream, bytes),
            Self::End { stream } => (END, *stream, &[]),
            Self::Reset { stream } => (RESET, *stream, &[]),
            Self::Credit { stream, bytes } => (CREDIT, *stream, &bytes.to_be_bytes()),
            Self::Ping => (PING, 0, &[]),
            Self::Pong => (PONG, 0, &[]),
            Self::Leave { last } => (LEAVE, 0, &last.to_be_bytes()),
            Self::Unknown => return,
        };
        out.extend_from_slice(&header(kind, stream, payload.len()));
        out.extend_from_slice(payload);
    }
}

/// Returns the header of a data frame whose `bytes` stand behind it already.
pub(super) fn data_header(stream: u32, bytes: usize) -> [u8; HEADER] {
    header(DATA, stream, bytes)
}

fn header(kind: u8, stream: u32, length: usize) -> [u8; HEADER] {
    // No frame is longer than a record.
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    [kind, 0, high, low, a, b, c, d]
}

/// The frames of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// Reads the data of one record.
    pub(crate) fn of(record: &'a [u8]) -> Self {
        Self(record)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.0.first()?;
        let read = read(self.0);
        // What follows a bad frame means nothing.
        self.0 = read.map_or(&[], |(_, rest)| rest);
        Some(read.map(|(frame, _)| frame).ok_or(FrameError { kind }))
    }
}

fn read(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let ([kind, _, high, low, a, b, c, d], rest) = bytes.split_first_chunk::<HEADER>()?;
    let stream = u32::from_be_bytes([*a, *b, *c, *d]);
    let (payload, rest) = rest.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
    let frame = match (*kind, payload) {
        // A later version may say more about a stream.
        (OPEN, [a, b, c, d, ..]) => Frame::Open {
            stream,
            port: u16::from_be_bytes([*a, *b]),
            client_port: u16::from_be_bytes([*c, *d]),
        },
        (ANSWER, [a, b, ..]) => Frame::Answer { stream, status: u16::from_be_bytes([*a, *b]) },
        (DATA, bytes) => Frame::Data { stream, bytes },
        (END, _) => Frame::End { stream },
        (RESET, _) => Frame::Reset { stream },
        (CREDIT, [a, b, c, d]) => Frame::Credit { stream, bytes: u32::from_be_bytes([*a, *b, *c, *d]) },
        (PING, _) => Frame::Ping,
        (PONG, _) => Frame::Pong,
        (LEAVE, [a, b, c, d]) => Frame::Leave { last: u32::from_be_bytes([*a, *b, *c, *d]) },
        (OPEN | ANSWER | CREDIT | LEAVE, _) => return None,
        _ => Frame::Unknown,
    };
    Some((frame, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Frame<'static>; 9] = [
        Frame::Open { stream: 1, port: 8080, client_port: 40_000 },
        Frame::Answer { stream: 1, status: 200 },
        Frame::Data { stream: u32::MAX, bytes: b"hello" },
        Frame::End { stream: 3 },
        Frame::Reset { stream: 4 },
        Frame::Credit { stream: 5, bytes: 1 << 20 },
        Frame::Ping,
        Frame::Pong,
        Frame::Leave { last: 7 },
    ];

    #[test]
    fn what_is_written_is_read() {
        let mut record = Vec::new();
        ALL.iter().for_each(|frame| frame.write(&mut record));
        let read: Result<Vec<_>, _> = Frames::of(&record).collect();
        assert_eq!(read.unwrap(), ALL);
    }

    #[test]
    fn a_frame_that_is_cut_short_is_an_error_and_the_last() {
        for frame in ALL {
            let mut record = Vec::new();
            frame.write(&mut record);
            for length in 1..record.len() {
                let read: Vec<_> = Frames::of(&record[..length]).collect();
                assert!(matches!(read[..], [Err(_)]), "{frame:?} of {length} bytes: {read:?}");
            }
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_skipped() {
        let mut record = vec![200, 0, 0, 3, 0, 0, 0, 1, 1, 2, 3];
        Frame::Ping.write(&mut record);
        let read: Result<Vec<_>, _> = Frames::of(&record).collect();
        assert_eq!(read.unwrap(), [Frame::Unknown, Frame::Ping]);
    }

    #[test]
    fn a_length_that_a_kind_cannot_have_is_an_error() {
        for record in
            [[CREDIT, 0, 0, 0, 0, 0, 0, 1], [OPEN, 0, 0, 0, 0, 0, 0, 1], [LEAVE, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(Frames::of(&record).next().unwrap().is_err());
        }
    }
}
