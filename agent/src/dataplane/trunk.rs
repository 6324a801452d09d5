//! Trunks: tunnels between two agents of ambit, spoken under the ALPN name `ambit/1` inside the same mutual TLS as
//! HBONE. Agents of other meshes do not know the name, and get HBONE.
//!
//! A trunk carries many connections, as an HTTP/2 tunnel does, with what HTTP/2 costs left out: one task serves the
//! network and all the applications, frames of many streams share a record and a write, bytes are sealed where they
//! were read and passed on from where they were opened, and the first ones do not wait for the answer.

mod driver;
mod frame;
#[cfg(feature = "bench")]
pub mod measured;
mod outbox;
mod stream;

#[cfg(test)]
mod tests;

pub(crate) use driver::Driver;

use super::{
    live::{Direction, Permit, Revoked},
    relay::Socket,
    tally::Tally,
};
use crate::identity::tls::Secured;
use driver::Role;
use std::{
    any::Any,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

/// Streams of one trunk at a time; more connections open another trunk.
pub(crate) const MAX_STREAMS: usize = super::tunnel::MAX_STREAMS as usize;
/// Bytes that a stream may have on its way: what a stalled reader can make the agent hold.
const WINDOW: u32 = 1 << 20;

/// An application's connection, with everything that lives as long as it is carried. Dropped, it is reset.
pub(crate) struct Carried {
    stream: Arc<TcpStream>,
    /// Bytes that were read from it already.
    early: Vec<u8>,
    direction: Direction,
    permit: Permit,
    revoked: Option<Pin<Box<Revoked>>>,
    _held: Box<dyn Any + Send>,
}

impl Carried {
    /// Hands over a connection; `held` is dropped with it.
    pub(crate) fn new(socket: Socket, permit: Permit, direction: Direction, held: impl Any + Send) -> Self {
        let (stream, early) = socket.into_parts();
        Self { stream: Arc::new(stream), early, direction, permit, revoked: None, _held: Box::new(held) }
    }

    /// Takes the connection back, to carry it elsewhere. What was held with it is dropped.
    pub(crate) fn into_socket(self) -> Option<Socket> {
        Arc::into_inner(self.stream).map(|stream| Socket::from_parts(stream, self.early))
    }

    /// Tells whether the connection is no longer allowed; whoever asked is woken when that changes.
    fn is_revoked(&mut self, context: &mut Context<'_>) -> bool {
        let permit = &self.permit;
        let revoked = match &mut self.revoked {
            Some(_) => return permit.is_revoked(),
            none => none.insert(Box::pin(permit.until_revoked())),
        };
        revoked.as_mut().poll(context).is_ready()
    }

    fn left(&self, bytes: usize) {
        match self.direction {
            Direction::Outbound => self.permit.counters.add_sent(bytes),
            Direction::Inbound => self.permit.counters.add_received(bytes),
        }
    }

    fn arrived(&self, bytes: usize) {
        match self.direction {
            Direction::Outbound => self.permit.counters.add_received(bytes),
            Direction::Inbound => self.permit.counters.add_sent(bytes),
        }
    }

    /// Closes it cleanly; both directions have ended.
    fn close(self) {
        // A failure means that the connection is gone, which is what a close is for.
        let _ = socket2::SockRef::from(&*self.stream).set_linger(None::<Duration>);
    }
}

/// What became of a stream that was opened.
pub(crate) enum Outcome {
    /// It is carried.
    Carried,
    /// The far side refused it, with an HTTP status.
    Refused(u16),
    /// It may be tried elsewhere: the far side did not look at it, or nothing of the application was on its way when
    /// the trunk ended; with the reason.
    NotProcessed(Carried, String),
    /// The trunk or the application broke before the far side answered.
    Lost(String),
}

/// What a trunk is told.
enum Command {
    Open { port: u16, client_port: u16, carried: Carried, report: oneshot::Sender<Outcome> },
    Accept { stream: u32, carried: Carried },
    Refuse { stream: u32, status: u16 },
    Leave,
}

/// What others see of a trunk.
#[derive(Default)]
struct Shared {
    streams: AtomicUsize,
    /// No more streams may be opened.
    closed: AtomicBool,
    gone: AtomicBool,
}

/// A trunk that stands. It ends in order when every handle is dropped and no stream is left.
#[derive(Clone)]
pub(crate) struct Trunk {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

impl Trunk {
    /// Serves the calling side of a connection in a task of its own.
    pub(crate) fn connect<S>(secured: Secured<S>, tally: &Tally) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (trunk, driver) = Self::new(secured, Role::Caller);
        let counted = tally.enter();
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(reason = %crate::observe::chain(&error), "trunk failed");
            }
            drop(counted);
        });
        trunk
    }

    /// Serves the called side: whoever polls the driver serves it. Each stream that the peer opens is given to `accept`.
    pub(crate) fn accept<S>(
        secured: Secured<S>,
        accept: impl FnMut(Asked, Reply) + Send + 'static,
    ) -> (Self, Driver<S>) {
        Self::new(secured, Role::Called(Box::new(accept)))
    }

    fn new<S>(secured: Secured<S>, role: Role) -> (Self, Driver<S>) {
        let (commands, orders) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let driver = Driver::new(secured, role, orders, commands.downgrade(), Arc::clone(&shared));
        (Self { commands, shared }, driver)
    }

    /// Tells whether another stream may be opened.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_gone() && !self.shared.closed.load(Ordering::Acquire) && self.streams() < MAX_STREAMS
    }

    /// Tells whether the trunk has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.shared.gone.load(Ordering::Acquire)
    }

    /// Returns how many streams there are.
    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Acquire)
    }

    /// Asks the far side to carry a connection to a port of its pod; says what it answered. The connection is carried
    /// by then.
    pub(crate) async fn open(&self, port: u16, client_port: u16, carried: Carried) -> Outcome {
        let (report, outcome) = oneshot::channel();
        let command = Command::Open { port, client_port, carried, report };
        if let Err(mpsc::error::SendError(Command::Open { carried, .. })) = self.commands.send(command) {
            return Outcome::NotProcessed(carried, "the trunk has ended".to_owned());
        }
        outcome.await.unwrap_or_else(|_| Outcome::Lost("the trunk has ended".to_owned()))
    }

    /// Tells the peer to open its next streams elsewhere; those that there are go on.
    pub(crate) fn leave(&self) {
        // A driver that has ended opens nothing any more.
        let _ = self.commands.send(Command::Leave);
    }
}

/// What the peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The application's port.
    pub(crate) port: u16,
    /// The port of the application that calls.
    pub(crate) client_port: u16,
}

/// The answer that a stream waits for. Dropped, it is refused as unavailable.
pub(crate) struct Reply {
    commands: mpsc::WeakUnboundedSender<Command>,
    stream: u32,
    at_once: bool,
    answered: bool,
}

impl Reply {
    /// Tells whether the answer may be found where it is asked for; else it is left to a task.
    pub(crate) fn may_be_at_once(&self) -> bool {
        self.at_once
    }

    /// Carries the stream.
    pub(crate) fn accept(mut self, carried: Carried) {
        self.send(Command::Accept { stream: self.stream, carried });
    }

    /// Refuses it with an HTTP status.
    pub(crate) fn refuse(mut self, status: u16) {
        self.send(Command::Refuse { stream: self.stream, status });
    }

    /// Says that it was not looked at, so that the peer may ask elsewhere.
    pub(crate) fn pass(self) {
        self.refuse(frame::NOT_PROCESSED);
    }

    fn send(&mut self, command: Command) {
        self.answered = true;
        // A trunk that is gone needs no answer.
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(command);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        const UNAVAILABLE: u16 = 503;
        if !self.answered {
            self.send(Command::Refuse { stream: self.stream, status: UNAVAILABLE });
        }
    }
}

/// Why a trunk ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrunkError {
    /// The transport or TLS failed.
    #[error("the connection between the agents failed")]
    Transport(#[from] io::Error),
    /// A frame is malformed.
    #[error("the peer does not speak as agreed")]
    Frame(#[from] frame::FrameError),
    /// The peer broke a rule.
    #[error("the peer does not keep to the protocol: {0}")]
    Peer(&'static str),
    /// The peer no longer answers.
    #[error("the peer does not answer any more")]
    Silent,
}

/// The end of a trunk, as its driver gives it.
type Ended = Poll<Result<(), TrunkError>>;
