//! A TCP connection of an application as an end of a relay.

use super::{Broken, CHUNK, End, Sink, Source};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// A connection of an application. Until it has ended cleanly it is closed with a reset, also when the agent is
/// killed: a cut stream never looks like a complete one.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// Bytes that were read from it already, for another way that did not work out.
    early: Vec<u8>,
}

impl Socket {
    /// Takes over a connection of a pod's listener, or one that was dialled in the pod: it ends in a reset already.
    pub(crate) fn of_pod(stream: TcpStream) -> Self {
        Self { stream, early: Vec::new() }
    }

    /// Returns the connection, which still ends in a reset, and what was read from it already.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.early)
    }

    /// Takes back what `into_parts` gave away.
    pub(crate) fn from_parts(stream: TcpStream, early: Vec<u8>) -> Self {
        Self { stream, early }
    }
}

pub(crate) struct SocketSource<'a>(ReadHalf<'a>, &'a mut Vec<u8>);
pub(crate) struct SocketSink<'a>(WriteHalf<'a>);

impl Source for SocketSource<'_> {
    async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        if !self.1.is_empty() {
            return Ok(Some(std::mem::take(self.1).into()));
        }
        // An idle connection holds no buffer.
        self.0.readable().await.map_err(Broken::Socket)?;
        let mut piece = BytesMut::with_capacity(CHUNK);
        let bytes = self.0.read_buf(&mut piece).await.map_err(Broken::Socket)?;
        if bytes == 0 {
            return Ok(None);
        }
        Ok(Some(piece.freeze()))
    }

    fn passed_on(&mut self, _bytes: usize) -> Result<(), Broken> {
        Ok(())
    }
}

impl Sink for SocketSink<'_> {
    async fn write(&mut self, piece: Bytes) -> Result<(), Broken> {
        self.0.write_all(&piece).await.map_err(Broken::Socket)
    }

    async fn finish(&mut self) -> Result<(), Broken> {
        match self.0.shutdown().await {
            // The peer is gone already; how it went is for the reading side to see.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome.map_err(Broken::Socket),
        }
    }

    async fn broken(&mut self) -> Broken {
        let stream: &TcpStream = self.0.as_ref();
        if let Err(error) = stream.ready(Interest::ERROR).await {
            return Broken::Socket(error);
        }
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => Broken::Socket(error),
            Ok(None) => Broken::Socket(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl End for Socket {
    type Source<'a> = SocketSource<'a>;
    type Sink<'a> = SocketSink<'a>;

    fn split(&mut self) -> (SocketSource<'_>, SocketSink<'_>) {
        let (source, sink) = self.stream.split();
        (SocketSource(source, &mut self.early), SocketSink(sink))
    }

    fn close(self) {
        // A failure means that the connection is gone, which is what a close is for.
        let _ = socket2::SockRef::from(&self.stream).set_linger(None);
    }
}
