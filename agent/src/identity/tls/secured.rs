//! A connection after its handshake: what arrives is opened where it was read, what is sent is sealed where it was
//! written. An idle connection holds no buffer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Protocol;
use super::handshake::invalid;
use super::record::{self, HEADER, MAX_DATA, Opened, Records, TRAILER};

/// Bytes that are read at once.
const READ: usize = 512 * 1024;
/// Sealed bytes that may wait for the network before no more are taken.
const MAX_UNSENT: usize = 256 * 1024;

thread_local! {
    static ARRIVAL: RefCell<Arrival> = RefCell::new(Arrival { buffer: vec![0; READ], data: Vec::new() });
}

/// What one read brought: the records, opened in place. One per thread, for whichever connection is read.
pub(crate) struct Arrival {
    buffer: Vec<u8>,
    data: Vec<Range<usize>>,
}

impl Arrival {
    /// Calls `work` with this thread's.
    pub(crate) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        ARRIVAL.with_borrow_mut(work)
    }

    /// Returns the data of each record, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.data.iter().filter_map(|range| self.buffer.get(range.clone()))
    }
}

/// What a read said of the peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Records have arrived, or parts of one.
    More,
    /// The peer ended its direction in order.
    End,
}

/// A connection that is encrypted, and whose peer has proved who it is.
pub struct Secured<S> {
    io: S,
    records: Records,
    protocol: Protocol,
    /// The beginning of the next record.
    partial: Vec<u8>,
    /// Data that has been opened, and not yet read as a stream.
    opened: Vec<u8>,
    taken: usize,
    /// Sealed bytes that wait for the network.
    unsent: BytesMut,
    peer_ended: bool,
    ended: bool,
    #[cfg(test)]
    pub(crate) negotiated: super::Negotiated,
}

impl<S> Secured<S> {
    pub(super) fn new(
        io: S,
        records: Records,
        protocol: Protocol,
        arrived: Vec<u8>,
        #[cfg(test)] negotiated: super::Negotiated,
    ) -> Self {
        Self {
            io,
            records,
            protocol,
            partial: arrived,
            opened: Vec::new(),
            taken: 0,
            unsent: BytesMut::new(),
            peer_ended: false,
            ended: false,
            #[cfg(test)]
            negotiated,
        }
    }

    /// Returns what both sides agreed to speak.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Tells whether sealed bytes wait for the network.
    pub(crate) fn is_congested(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Seals a record in place: its data stands behind the place of the header (`record::HEADER` bytes), and
    /// `record::TRAILER` bytes are left behind it. Records must be sent in the order in which they were sealed.
    pub(crate) fn seal(&mut self, record: &mut [u8]) -> io::Result<()> {
        self.records.seal(record).map_err(invalid)
    }

    /// Makes room for a new key, where one is due. Nothing that was sealed before may be sent after.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        self.records.update(&mut self.unsent).map_err(invalid)
    }

    /// Opens the records at the front of `arrival`'s first `end` bytes; keeps what is left of them.
    fn open(&mut self, arrival: &mut Arrival, end: usize) -> io::Result<()> {
        let mut at = 0;
        while !self.peer_ended {
            let rest = arrival.buffer.get_mut(at..end).unwrap_or_default();
            let Some(record) = record::length(rest)?.and_then(|length| rest.get_mut(..length)) else { break };
            let length = record.len();
            match self.records.open(record).map_err(invalid)? {
                Opened::Data(0) | Opened::Nothing => {}
                Opened::Data(bytes) => arrival.data.push(at + HEADER..at + HEADER + bytes),
                Opened::End => self.peer_ended = true,
            }
            at += length;
        }
        self.partial.clear();
        match arrival.buffer.get(at..end) {
            Some(rest) if !rest.is_empty() && !self.peer_ended => self.partial.extend_from_slice(rest),
            _ => self.partial = Vec::new(),
        }
        Ok(())
    }

    fn has_whole_record(&self) -> io::Result<bool> {
        Ok(record::length(&self.partial)?.is_some_and(|length| self.partial.len() >= length))
    }
}

impl<S: AsyncRead + Unpin> Secured<S> {
    /// Reads what is there into `arrival`, once.
    ///
    /// # Errors
    /// What the transport says; `InvalidData` with a `rustls::Error` for what is no good record; `UnexpectedEof` when
    /// the peer goes away without ending its direction.
    pub(crate) fn poll_records(
        &mut self,
        context: &mut Context<'_>,
        arrival: &mut Arrival,
    ) -> Poll<io::Result<Reading>> {
        arrival.data.clear();
        if self.peer_ended {
            return Poll::Ready(Ok(Reading::End));
        }
        let start = self.partial.len();
        if arrival.buffer.len() < start + record::MAX_RECORD {
            arrival.buffer.resize(start + record::MAX_RECORD, 0);
        }
        if let Some(front) = arrival.buffer.get_mut(..start) {
            front.copy_from_slice(&self.partial);
        }
        let mut end = start;
        if !self.has_whole_record()? {
            let mut room = ReadBuf::new(arrival.buffer.get_mut(start..).unwrap_or_default());
            ready!(Pin::new(&mut self.io).poll_read(context, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the peer closed the connection without ending it",
                )));
            }
            end += room.filled().len();
        }
        self.open(arrival, end)?;
        Poll::Ready(Ok(if self.peer_ended && arrival.data.is_empty() { Reading::End } else { Reading::More }))
    }
}

impl<S: AsyncWrite + Unpin> Secured<S> {
    /// Sends records that were sealed; what the network does not take waits.
    pub(crate) fn send(&mut self, context: &mut Context<'_>, sealed: &[u8]) -> io::Result<()> {
        let mut sealed = sealed;
        // What waits goes first.
        while !self.is_congested() && !sealed.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, sealed)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(bytes) => sealed = sealed.get(bytes..).unwrap_or_default(),
                Poll::Pending => break,
            }
        }
        self.unsent.extend_from_slice(sealed);
        Ok(())
    }

    /// Sends what waits.
    pub(crate) fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(context, &self.unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                // What was sent makes room, also where something always waits.
                bytes => self.unsent.advance(bytes),
            }
        }
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Ends this direction in order, after everything that waits.
    pub(crate) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.records.end(&mut self.unsent).map_err(invalid)?;
            self.ended = true;
        }
        ready!(self.poll_unsent(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    /// Seals `data` behind what waits.
    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.prepare()?;
        for piece in data.chunks(MAX_DATA) {
            let start = self.unsent.len();
            self.unsent.reserve(HEADER + piece.len() + TRAILER);
            self.unsent.extend_from_slice(&[0; HEADER]);
            self.unsent.extend_from_slice(piece);
            self.unsent.extend_from_slice(&[0; TRAILER]);
            self.records.seal(self.unsent.get_mut(start..).unwrap_or_default()).map_err(invalid)?;
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let waiting = this.opened.get(this.taken..).unwrap_or_default();
            if !waiting.is_empty() {
                let bytes = waiting.len().min(buffer.remaining());
                buffer.put_slice(waiting.get(..bytes).unwrap_or_default());
                this.taken += bytes;
                if this.taken == this.opened.len() {
                    (this.opened, this.taken) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            let reading = Arrival::with(|arrival| {
                let reading = ready!(this.poll_records(context, arrival))?;
                for data in arrival.records() {
                    this.opened.extend_from_slice(data);
                }
                Poll::Ready(io::Result::Ok(reading))
            });
            if ready!(reading)? == Reading::End {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.len() >= MAX_UNSENT {
            ready!(this.poll_unsent(context))?;
        }
        let mut bytes = 0;
        for piece in pieces {
            this.append(piece)?;
            bytes += piece.len();
            if this.unsent.len() >= MAX_UNSENT {
                break;
            }
        }
        // What does not go now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = this.poll_unsent(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_end(context)
    }
}

#[cfg(test)]
mod tests {
    use crate::identity::testing;
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    #[tokio::test]
    async fn an_old_key_is_replaced_and_the_bytes_go_on() {
        let (mut client, mut server) = testing::secured().await;
        client.records.age();
        server.records.age();
        for _ in 0..2 {
            let mut got = [0; 4];
            client.write_all(b"ping").await.unwrap();
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"ping");
            server.write_all(b"pong").await.unwrap();
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"pong");
        }
    }

    #[tokio::test]
    async fn many_records_arrive_whole_and_in_order() {
        let (mut client, mut server) = testing::secured().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let sender = tokio::spawn(async move {
            for piece in sent.chunks(70_001) {
                client.write_all(piece).await.unwrap();
            }
            client.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_for_a_slow_network_is_bounded() {
        let (mut client, mut server) = testing::secured().await;
        let mut piece = vec![0; 40_000];
        for _ in 0..1_000 {
            // The network takes some each time, and never all.
            while timeout(Duration::ZERO, client.write(&piece)).await.is_ok() {}
            server.io.read_exact(&mut piece[..30_000]).await.unwrap();
            let held = client.unsent.capacity();
            // Thirty megabytes go through it; what is held is what waits, and the room that growing leaves.
            assert!(held <= 8 * super::MAX_UNSENT, "{held} bytes are held");
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_does_not_look_ended() {
        let (client, mut server) = testing::secured().await;
        drop(client);
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("without ending it"), "{error}");
    }

    #[tokio::test]
    async fn a_byte_that_was_changed_ends_the_connection() {
        let (mut client, mut server) = testing::secured().await;
        let mut record = vec![0; super::HEADER];
        record.extend_from_slice(b"data");
        record.extend_from_slice(&[0; super::TRAILER]);
        client.seal(&mut record).unwrap();
        record[super::HEADER] ^= 1;
        client.io.write_all(&record).await.unwrap();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
}
