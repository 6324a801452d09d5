//! What clients share: connecting, one checked exchange with a server, and one word for each kind of failure.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde::{Deserialize, Serialize};

use crate::Target;

/// What a hello server tells of a connection: the addresses that its system calls returned.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Hello(pub(crate) BTreeMap<String, SocketAddr>);

/// What a good exchange showed.
pub(crate) struct Seen {
    pub(crate) getpeername: SocketAddr,
    pub(crate) getsockname: SocketAddr,
    pub(crate) hello: Option<Hello>,
}

/// Connects, with a time-out on this and on every later step.
pub(crate) fn open(target: &Target) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.to, target.timeout)?;
    stream.set_read_timeout(Some(target.timeout))?;
    stream.set_write_timeout(Some(target.timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads the server's greeting (if it gives one), calls `meet`, sends the payload, reads it back, and ends in order.
pub(crate) fn exchange(
    target: &Target,
    greeted: bool,
    payload: &[u8],
    meet: impl FnOnce(),
) -> io::Result<Seen> {
    let stream = open(target)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let hello = greeted.then(|| read_hello(&mut reader)).transpose()?;
    meet();
    (&stream).write_all(payload)?;
    let mut back = vec![0; payload.len()];
    reader.read_exact(&mut back)?;
    if back != payload {
        return Err(io::Error::new(ErrorKind::InvalidData, "the payload came back changed"));
    }
    // Asked late on purpose: a proxy must keep the addresses for as long as the connection lives.
    let seen = Seen { getpeername: stream.peer_addr()?, getsockname: stream.local_addr()?, hello };
    stream.shutdown(Shutdown::Write)?;
    // `bytes` goes on after a signal, which a bare `read` reports as an error.
    match reader.bytes().next().transpose()? {
        None => Ok(seen),
        Some(_) => Err(io::Error::new(ErrorKind::InvalidData, "more came back than was sent")),
    }
}

fn read_hello(reader: &mut impl BufRead) -> io::Result<Hello> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Names how something failed, in one word where there is one.
pub(crate) fn kind(error: &io::Error) -> String {
    let word = match error.kind() {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::ConnectionAborted => "aborted",
        ErrorKind::BrokenPipe => "broken-pipe",
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timeout",
        ErrorKind::UnexpectedEof => "eof",
        ErrorKind::InvalidData => "mismatch",
        ErrorKind::PermissionDenied => "permission",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable",
        _ => return error.to_string(),
    };
    word.into()
}
