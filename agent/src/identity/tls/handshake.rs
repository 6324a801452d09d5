//! Drives rustls through a handshake, and takes the connection's keys over when it is done.
//!
//! rustls is never given a byte behind the handshake: what follows is opened with the keys that it hands out.

use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::record::{self, Schedule};

/// Bytes of a handshake that may wait: certificates are a few kilobytes.
const MAX_WAITING: usize = 128 * 1024;
/// Bytes that are read at once.
const PIECE: usize = 4096;

/// One side of a handshake, as both have it.
pub(super) trait Side {
    /// What rustls keeps of this side.
    type Data;
    /// Goes on with what has arrived.
    fn process<'c, 'i>(&'c mut self, arrived: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// Returns what is known of the connection.
    fn common(&self) -> &CommonState;
    /// Returns the keys.
    fn into_keys(self) -> Result<(ExtractedSecrets, Schedule), Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, arrived: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(arrived)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Schedule), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, next)| (secrets, Schedule::Client(next)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, arrived: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(arrived)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Schedule), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, next)| (secrets, Schedule::Server(next)))
    }
}

/// What is to be done next.
enum Step {
    /// Go on at once.
    Again,
    /// Send what was written.
    Send,
    /// Wait for more.
    Receive,
    /// Nothing more: the handshake is complete.
    Done,
    /// Tell the peer why there will be none.
    Fail(Error),
}

/// Completes the handshake; returns what arrived behind it.
///
/// # Errors
/// What the transport says, or a `rustls::Error` inside `InvalidData`; the peer has been told by an alert where TLS
/// has one.
pub(super) async fn complete<C: Side>(
    side: &mut C,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Vec<u8>> {
    let (mut arrived, mut out) = (Vec::new(), Vec::new());
    // Bytes of whole records that rustls may see.
    let mut shown = 0;
    let mut unsent: Option<io::Error> = None;
    loop {
        let status = side.process(arrived.get_mut(..shown).unwrap_or_default());
        let discard = status.discard;
        let step = match status.state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, &mut out)?;
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Step::Send
            }
            Ok(ConnectionState::BlockedHandshake) => Step::Receive,
            Ok(ConnectionState::WriteTraffic(_)) => Step::Done,
            Ok(_) => return Err(invalid(Error::General("the peer closed during the handshake".to_owned()))),
            Err(error) => Step::Fail(error),
        };
        arrived.drain(..discard);
        shown -= discard;
        match step {
            Step::Again => {}
            Step::Send => {
                let sent = match io.write_all(&out).await {
                    Ok(()) => io.flush().await,
                    failed => failed,
                };
                // A peer that hung up may have said why: that is read before this is told.
                unsent = unsent.or(sent.err());
                out.clear();
            }
            Step::Done => return unsent.map_or(Ok(arrived), Err),
            Step::Fail(error) => {
                tell(side, arrived.get_mut(..shown).unwrap_or_default(), &mut out)?;
                // A peer that does not read the alert is told nothing more.
                let _ = io.write_all(&out).await;
                let _ = io.flush().await;
                return Err(invalid(error));
            }
            Step::Receive => {
                shown =
                    another(&mut arrived, shown, io).await.map_err(|error| unsent.take().unwrap_or(error))?;
            }
        }
    }
}

/// Waits until another whole record stands behind the first `shown` bytes; returns where it ends.
async fn another(
    arrived: &mut Vec<u8>,
    shown: usize,
    io: &mut (impl AsyncRead + Unpin),
) -> io::Result<usize> {
    loop {
        let rest = arrived.get(shown..).unwrap_or_default();
        if let Some(length) = record::length(rest)?
            && rest.len() >= length
        {
            return Ok(shown + length);
        }
        if arrived.len() > MAX_WAITING {
            return Err(invalid(Error::General("the peer's handshake is too long".to_owned())));
        }
        arrived.reserve(PIECE);
        if io.read_buf(arrived).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed during the handshake"));
        }
    }
}

/// Writes the alert that rustls has for the peer.
fn tell<C: Side>(side: &mut C, arrived: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
    while let Ok(ConnectionState::EncodeTlsData(data)) = side.process(arrived).state {
        encode(data, out)?;
    }
    Ok(())
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error) => return Err(io::Error::other(error)),
    };
    out.resize(start + needed, 0);
    data.encode(out.get_mut(start..).unwrap_or_default()).map(drop).map_err(io::Error::other)
}

pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
