//! One application's connection in a trunk: what it may send, what waits for it, and how far it has ended.
//!
//! It reads and writes the application's socket and says what became of it; frames are the driver's business.

use super::{Carried, Outcome, WINDOW};
use bytes::{Buf, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::{
    future::Future,
    io::{self, IoSlice, IoSliceMut},
    net::Shutdown,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::{io::Interest, net::TcpStream, sync::oneshot};

/// The most bytes that are sent before the far side has answered, and kept to be sent again elsewhere.
pub(super) const EARLY: usize = 4096;

/// What is read at once from an application that has said little so far, in bytes: each place to read to costs the kernel
/// something, also when it stays empty.
const SIP: usize = 64 * 1024;

/// How far a stream has come.
pub(super) enum Phase {
    /// The far side was asked.
    Asked {
        /// Whoever waits for the answer.
        report: oneshot::Sender<Outcome>,
        /// What was sent already.
        early: Vec<u8>,
    },
    /// This side was asked, and is deciding.
    Deciding,
    /// Bytes go both ways.
    Open,
}

/// What is known to follow on some bytes of the peer.
#[derive(Clone, Copy)]
pub(super) enum Next {
    Unknown,
    End,
}

/// Why a stream goes no further.
pub(super) enum Stop {
    /// The application's connection is broken.
    Socket(io::Error),
    /// The connection is no longer allowed.
    Revoked,
    /// Nobody waits for it any more.
    Abandoned,
}

/// What a stream has to do with its application.
pub(super) struct Stream {
    pub(super) phase: Phase,
    carried: Option<Carried>,
    waker: Waker,
    /// Bytes that may be sent to the peer.
    pub(super) credit: u32,
    /// Bytes that the peer may send.
    window: u32,
    /// Bytes that the application has taken since the peer was last given credit.
    taken: u32,
    /// What the application has not taken yet.
    backlog: BytesMut,
    /// The application had more to say than a sip when it was last read.
    talkative: bool,
    /// The application has ended its direction.
    pub(super) ended: bool,
    /// The peer has ended its direction.
    peer_ended: bool,
    /// The application has been told.
    told: bool,
    /// Waits for the application's connection to break while nothing is read from it.
    broken: Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
}

impl Stream {
    pub(super) fn new(phase: Phase, carried: Option<Carried>, waker: Waker) -> Self {
        Self {
            phase,
            carried,
            waker,
            credit: WINDOW,
            window: WINDOW,
            taken: 0,
            backlog: BytesMut::new(),
            talkative: false,
            ended: false,
            peer_ended: false,
            told: false,
            broken: None,
        }
    }

    /// Gives the stream its application.
    pub(super) fn attach(&mut self, carried: Carried) {
        self.phase = Phase::Open;
        self.carried = Some(carried);
    }

    /// Takes the application from a stream that ends.
    pub(super) fn detach(self) -> (Phase, Option<Carried>) {
        (self.phase, self.carried)
    }

    /// Tells whether bytes of the application are on their way to a far side that has not answered.
    pub(super) fn has_sent(&self) -> bool {
        matches!(&self.phase, Phase::Asked { early, .. } if !early.is_empty())
    }

    /// Tells whether both directions have ended, and the application has all that there was.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.told
    }

    /// Takes what the peer sent: passes on what the application takes, and keeps the rest. Where the peer's end is next,
    /// the application gets both with one segment.
    ///
    /// # Errors
    /// More than the peer may send, or after its end: `None`. A broken application otherwise.
    pub(super) fn take(&mut self, pieces: &[IoSlice<'_>], next: Next) -> Result<(), Option<Stop>> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.window.checked_sub(bytes));
        self.window = left.filter(|_| !self.peer_ended).ok_or(None)?;
        let mut skip = 0;
        if self.backlog.is_empty()
            && let (Some(carried), Phase::Open) = (&self.carried, &self.phase)
        {
            skip = write_at_once(&carried.stream, pieces, next).map_err(|error| Some(Stop::Socket(error)))?;
            self.count(skip);
        }
        for piece in pieces {
            let known = skip.min(piece.len());
            skip -= known;
            self.backlog.extend_from_slice(piece.get(known..).unwrap_or_default());
        }
        Ok(())
    }

    /// Tells whether the peer has ended its direction.
    pub(super) fn peer_has_ended(&self) -> bool {
        self.peer_ended
    }

    /// Takes the peer's end, and tells the application when it has everything.
    ///
    /// # Errors
    /// `None` after an earlier one. A broken application otherwise.
    pub(super) fn take_end(&mut self) -> Result<(), Option<Stop>> {
        if std::mem::replace(&mut self.peer_ended, true) {
            return Err(None);
        }
        self.tell().map_err(Some)
    }

    /// Passes on the peer's end, once the application has what came before it.
    fn tell(&mut self) -> Result<(), Stop> {
        let (Some(carried), Phase::Open) = (&self.carried, &self.phase) else { return Ok(()) };
        if !self.peer_ended || self.told || !self.backlog.is_empty() {
            return Ok(());
        }
        self.told = true;
        if self.ended {
            // The connection is closed at once, which tells the application too.
            return Ok(());
        }
        match socket2::SockRef::from(&*carried.stream).shutdown(Shutdown::Write) {
            // The application is gone already; how it went is for the reading side to see.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(Stop::Socket(error)),
            _ => Ok(()),
        }
    }

    /// Takes credit; `None` for more than there can be.
    pub(super) fn take_credit(&mut self, bytes: u32) -> Option<()> {
        self.credit = self.credit.checked_add(bytes).filter(|credit| *credit <= WINDOW)?;
        Some(())
    }

    /// Returns the credit that is due to the peer.
    pub(super) fn due(&mut self) -> Option<u32> {
        // Half a window at a time: the peer never waits for it, and is not told of every byte.
        (self.taken >= WINDOW / 2).then(|| {
            self.window += self.taken;
            std::mem::take(&mut self.taken)
        })
    }

    fn count(&mut self, bytes: usize) {
        self.taken += u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(carried) = &self.carried {
            carried.arrived(bytes);
        }
    }

    /// Passes on what waits for the application, and the peer's end after it.
    pub(super) fn pass_on(&mut self) -> Result<(), Stop> {
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        if let Phase::Asked { report, .. } = &mut self.phase
            && report.poll_closed(&mut context).is_ready()
        {
            return Err(Stop::Abandoned);
        }
        let Some(carried) = &mut self.carried else { return Ok(()) };
        if carried.is_revoked(&mut context) {
            return Err(Stop::Revoked);
        }
        if !matches!(self.phase, Phase::Open) {
            return Ok(());
        }
        let stream = Arc::clone(&carried.stream);
        while !self.backlog.is_empty() {
            match stream.poll_write_ready(&mut context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready.map_err(Stop::Socket)?,
            }
            let written = write(&stream, self.backlog.len(), &[IoSlice::new(&self.backlog)]);
            let bytes = written.map_err(Stop::Socket)?;
            // What was taken makes room: the backlog of a slow reader never grows beyond its window.
            self.backlog.advance(bytes);
            self.count(bytes);
        }
        // A stream that is idle holds no buffer.
        self.backlog = BytesMut::new();
        self.tell()
    }

    /// Says how many bytes may be read from the application now; 0 when it is not to be read.
    pub(super) fn appetite(&self) -> usize {
        if self.ended || self.carried.is_none() {
            return 0;
        }
        let most = match &self.phase {
            Phase::Asked { early, .. } => EARLY.saturating_sub(early.len()),
            Phase::Deciding => 0,
            Phase::Open if self.talkative => usize::MAX,
            Phase::Open => SIP,
        };
        most.min(self.credit as usize)
    }

    /// Tells whether the application has something to read, or else sees to it that the stream is woken.
    pub(super) fn poll_readable(&mut self) -> Result<bool, Stop> {
        let Some(carried) = &self.carried else { return Ok(false) };
        self.broken = None;
        match carried.stream.poll_read_ready(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Ok(false),
            Poll::Ready(ready) => ready.map(|()| true).map_err(Stop::Socket),
        }
    }

    /// Reads from the application once: `Some(0)` at its end, `None` when there was nothing after all.
    pub(super) fn read(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        let Some(carried) = &self.carried else { return Ok(None) };
        let room = places.iter().map(|place| place.len()).sum::<usize>();
        let mut read = None;
        let outcome = carried.stream.try_io(Interest::READABLE, || {
            let bytes = rustix::io::readv(&carried.stream, places)?;
            read = Some(bytes);
            // Less than there was room for is all that there was: the runtime need not try again to find out.
            if 0 < bytes && bytes < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(read),
        }
    }

    /// Accounts for what was read.
    pub(super) fn sent(&mut self, bytes: &[u8], count: usize) {
        self.talkative = count >= SIP / 2;
        self.credit -= u32::try_from(count).unwrap_or(u32::MAX).min(self.credit);
        if let Some(carried) = &self.carried {
            carried.left(count);
        }
        if let Phase::Asked { early, .. } = &mut self.phase {
            early.extend_from_slice(bytes);
        }
    }

    /// Sees to it that the stream is woken when its application breaks while nothing is read from it.
    pub(super) fn watch(&mut self) -> Result<(), Stop> {
        // Before the answer it is not worth the while.
        let (Some(carried), Phase::Open, false) = (&self.carried, &self.phase, self.ended) else {
            return Ok(());
        };
        let stream = Arc::clone(&carried.stream);
        let broken = self.broken.get_or_insert_with(|| Box::pin(broken(stream)));
        match pin!(broken).poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Ok(()),
            Poll::Ready(error) => Err(Stop::Socket(error)),
        }
    }
}

async fn broken(stream: Arc<TcpStream>) -> io::Error {
    if let Err(error) = stream.ready(Interest::ERROR).await {
        return error;
    }
    stream.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

/// As `write`, without asking the runtime, which may not yet know that the application takes something. What is the last
/// waits in the kernel for the end.
fn write_at_once(stream: &TcpStream, pieces: &[IoSlice<'_>], next: Next) -> io::Result<usize> {
    let flags = match next {
        Next::Unknown => SendFlags::NOSIGNAL,
        Next::End => SendFlags::NOSIGNAL | SendFlags::MORE,
    };
    match rustix::net::sendmsg(stream, pieces, &mut SendAncillaryBuffer::default(), flags) {
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        outcome => Ok(outcome?),
    }
}

/// Writes what the application takes now; returns how many bytes that was.
fn write(stream: &TcpStream, bytes: usize, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut written = 0;
    let outcome = stream.try_io(Interest::WRITABLE, || {
        written = rustix::io::writev(stream, pieces)?;
        if written < bytes { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::{live::Direction, trunk::tests::application};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_comes_right_before_the_end_arrives_with_it() {
        let (mut reader, carried) = application(Direction::Inbound).await;
        let mut stream = Stream::new(Phase::Open, Some(carried), Waker::noop().clone());
        assert!(stream.take(&[IoSlice::new(b"the "), IoSlice::new(b"last")], Next::End).is_ok());
        assert!(stream.take_end().is_ok());
        let mut read = String::new();
        reader.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "the last");
        assert!(matches!(stream.take_end(), Err(None)), "a stream ends once");
    }

    #[tokio::test]
    async fn a_slow_reader_gets_everything_before_the_end() {
        let (mut reader, carried) = application(Direction::Inbound).await;
        let mut stream = Stream::new(Phase::Open, Some(carried), Waker::noop().clone());
        let (piece, mut sent) = (vec![7; 64 * 1024], 0);
        while stream.backlog.is_empty() {
            assert!(stream.take(&[IoSlice::new(&piece)], Next::End).is_ok());
            stream.due();
            sent += piece.len();
        }
        assert!(stream.take_end().is_ok() && !stream.told);
        let (mut read, mut some) = (0, piece);
        while read < sent {
            read += reader.read(&mut some).await.unwrap();
            assert!(stream.pass_on().is_ok());
        }
        assert_eq!((read, reader.read(&mut some).await.unwrap()), (sent, 0));
    }

    #[tokio::test]
    async fn what_waits_for_a_slow_reader_stays_within_its_window() {
        let (reader, carried) = application(Direction::Inbound).await;
        let mut stream = Stream::new(Phase::Open, Some(carried), Waker::noop().clone());
        let piece = vec![0; 64 * 1024];
        let mut read = vec![0; 64 * 1024];
        let mut waited = 0;
        for _ in 0..1_000 {
            // The peer sends all that it may; the reader takes some, and never all.
            while stream.window as usize >= piece.len() {
                assert!(stream.take(&[IoSlice::new(&piece)], Next::Unknown).is_ok());
            }
            while reader.try_read(&mut read).is_err() {
                assert!(stream.pass_on().is_ok());
                tokio::task::yield_now().await;
            }
            assert!(stream.pass_on().is_ok());
            stream.due();
            waited += usize::from(!stream.backlog.is_empty());
            assert!(stream.backlog.capacity() <= 3 * WINDOW as usize, "{}", stream.backlog.capacity());
        }
        assert!(waited > 500, "the reader was not slow: {waited}");
    }
}
