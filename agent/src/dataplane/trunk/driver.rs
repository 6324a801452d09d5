//! The one task that serves a trunk: it reads the network, passes bytes on to the applications, reads from those that
//! have something to send, and writes.

mod control;
mod ready;
mod turn;

use super::{
    Asked, Carried, Command, MAX_STREAMS, Outcome, Reply, Shared, TrunkError,
    frame::{Frame, Frames, NOT_PROCESSED},
    stream::{Next, Phase, Stop, Stream},
};
use crate::identity::tls::{Arrival, Reading, Secured};
use control::Control;
use ready::{Ready, StreamWaker};
use std::{
    collections::HashMap,
    io::IoSlice,
    mem,
    sync::{Arc, atomic::Ordering},
    task::Waker,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};

/// How often a peer that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(10);
/// So many times in vain, and it is gone.
const PINGS: u32 = 2;
/// Rounds before other tasks have their turn.
const ROUNDS: usize = 16;
/// Bytes of answers that may wait for a peer that does not read them.
const MAX_CONTROL: usize = 256 * 1024;
/// Pieces of one stream that are passed on with one write.
const PIECES: usize = 64;

/// Streams that are decided upon in one turn: the rest of a burst takes its turns with the node's other connections.
const AT_ONCE: usize = 64;

/// The side of a trunk.
pub(super) enum Role {
    /// It opens streams.
    Caller,
    /// It is asked for streams.
    Called(Box<dyn FnMut(Asked, Reply) + Send>),
}

/// A stream with its waker.
struct Entry {
    stream: Stream,
    waker: Arc<StreamWaker>,
}

/// Serves a trunk until it ends.
pub(crate) struct Driver<S> {
    secured: Secured<S>,
    role: Role,
    orders: mpsc::UnboundedReceiver<Command>,
    commands: mpsc::WeakUnboundedSender<Command>,
    shared: Arc<Shared>,
    streams: HashMap<u32, Entry>,
    ready: Arc<Ready>,
    /// Streams to look at in this round.
    queue: Vec<u32>,
    /// Streams that have something to send once the network takes it.
    held: Vec<u32>,
    /// Short frames to send.
    control: Control,
    /// The last stream that either side opened.
    last: u32,
    /// Streams that were asked for in this turn.
    asked: usize,
    /// Streams whose answer is being found.
    deciding: usize,
    /// This side has said that it leaves.
    leaving: bool,
    /// Nobody opens streams on this side any more.
    released: bool,
    /// The peer has ended the connection in order.
    ended: bool,
    /// A ping's time ago there was already nothing left to do.
    lingered: bool,
    pings: Interval,
    heard: bool,
    unanswered: u32,
}

impl<S> Driver<S> {
    pub(super) fn new(
        secured: Secured<S>,
        role: Role,
        orders: mpsc::UnboundedReceiver<Command>,
        commands: mpsc::WeakUnboundedSender<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        Self {
            secured,
            role,
            orders,
            commands,
            shared,
            streams: HashMap::new(),
            ready: Arc::default(),
            queue: Vec::new(),
            held: Vec::new(),
            control: Control::new(),
            last: 0,
            asked: 0,
            deciding: 0,
            leaving: false,
            released: false,
            ended: false,
            lingered: false,
            pings,
            heard: false,
            unanswered: 0,
        }
    }

    fn say(&mut self, frame: Frame<'_>) {
        self.control.say(frame);
    }

    fn insert(&mut self, id: u32, phase: Phase, carried: Option<Carried>) {
        let waker = StreamWaker::queued(id, &self.ready);
        let stream = Stream::new(phase, carried, Waker::from(Arc::clone(&waker)));
        self.streams.insert(id, Entry { stream, waker });
        self.queue.push(id);
        self.shared.streams.store(self.streams.len(), Ordering::Release);
    }

    /// Looks at a stream again in this round.
    fn enqueue(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|entry| entry.waker.enqueue()) {
            self.queue.push(id);
        }
    }

    fn remove(&mut self, id: u32) -> Option<Stream> {
        let entry = self.streams.remove(&id)?;
        self.shared.streams.store(self.streams.len(), Ordering::Release);
        Some(entry.stream)
    }

    /// Gives a stream back that the far side did not look at.
    fn pass_back(&mut self, id: u32, reason: &str) {
        let Some((phase, Some(mut carried))) = self.remove(id).map(Stream::detach) else { return };
        if let Phase::Asked { report, early, .. } = phase {
            carried.early = early;
            // Whoever opened it may no longer wait: then the application sees a reset.
            let _ = report.send(Outcome::NotProcessed(carried, reason.to_owned()));
        }
    }

    /// Tells those who wait for answers that none will come.
    fn fail(&mut self, reason: &str) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.gone.store(true, Ordering::Release);
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            // What may have reached the application is not sent twice.
            let sent = self.streams.get(&id).is_some_and(|entry| entry.stream.has_sent());
            if !sent {
                self.pass_back(id, reason);
            } else if let Some((Phase::Asked { report, .. }, _)) = self.remove(id).map(Stream::detach) {
                let _ = report.send(Outcome::Lost(reason.to_owned()));
            }
        }
        self.orders.close();
        while let Ok(command) = self.orders.try_recv() {
            if let Command::Open { carried, report, .. } = command {
                let _ = report.send(Outcome::NotProcessed(carried, reason.to_owned()));
            }
        }
    }

    /// Ends a stream whose application broke, or is no longer to be carried.
    fn stop(&mut self, id: u32, stop: Stop) {
        let Some((phase, carried)) = self.remove(id).map(Stream::detach) else { return };
        self.say(Frame::Reset { stream: id });
        let reason = match stop {
            Stop::Socket(error) => format!("the application's connection broke: {error}"),
            Stop::Revoked => "the connection is no longer allowed".to_owned(),
            Stop::Abandoned => "nobody waits for it any more".to_owned(),
        };
        tracing::debug!(%reason, "connection broke");
        if let Phase::Asked { report, .. } = phase {
            let _ = report.send(Outcome::Lost(reason));
        }
        drop(carried);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { carried, report, .. } if self.shared.closed.load(Ordering::Acquire) => {
                let _ = report.send(Outcome::NotProcessed(carried, "it is leaving".to_owned()));
            }
            Command::Open { port, client_port, mut carried, report } => {
                self.last += 1;
                // Numbers are not used twice: after the last one the next connections open another trunk.
                if self.last == u32::MAX {
                    self.shared.closed.store(true, Ordering::Release);
                }
                let (stream, early) = (self.last, mem::take(&mut carried.early));
                self.say(Frame::Open { stream, port, client_port });
                if !early.is_empty() {
                    self.say(Frame::Data { stream, bytes: &early });
                }
                let sent = u32::try_from(early.len()).unwrap_or_default();
                self.insert(stream, Phase::Asked { report, early }, Some(carried));
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.stream.credit -= sent;
                }
            }
            Command::Accept { stream, carried } => {
                self.deciding = self.deciding.saturating_sub(1);
                // A stream that was reset meanwhile is gone: its application sees a reset too.
                let Some(entry) = self.streams.get_mut(&stream) else { return };
                entry.stream.attach(carried);
                self.control.say_later(Frame::Answer { stream, status: 200 });
                self.enqueue(stream);
            }
            Command::Refuse { stream, status } => {
                self.deciding = self.deciding.saturating_sub(1);
                if self.remove(stream).is_some() {
                    self.say(Frame::Answer { stream, status });
                }
            }
            Command::Leave if !self.leaving => {
                self.leaving = true;
                let last = self.last;
                self.say(Frame::Leave { last });
            }
            Command::Leave => {}
        }
    }

    /// Takes what one read brought.
    fn take(&mut self, arrival: &Arrival) -> Result<(), TrunkError> {
        let mut pieces: Vec<IoSlice<'_>> = Vec::new();
        let mut of = 0;
        for record in arrival.records() {
            for frame in Frames::of(record) {
                match frame? {
                    Frame::Data { stream, bytes } => {
                        if (stream != of || pieces.len() == PIECES) && !pieces.is_empty() {
                            self.take_data(of, &pieces, Next::Unknown)?;
                            pieces.clear();
                        }
                        of = stream;
                        if !bytes.is_empty() {
                            pieces.push(IoSlice::new(bytes));
                        }
                    }
                    frame => {
                        if !pieces.is_empty() {
                            let ends = frame == Frame::End { stream: of };
                            self.take_data(of, &pieces, if ends { Next::End } else { Next::Unknown })?;
                            pieces.clear();
                        }
                        self.take_frame(frame)?;
                    }
                }
            }
        }
        if !pieces.is_empty() {
            self.take_data(of, &pieces, Next::Unknown)?;
        }
        Ok(())
    }

    fn take_data(&mut self, id: u32, pieces: &[IoSlice<'_>], next: Next) -> Result<(), TrunkError> {
        // What was on its way to a stream that is gone is dropped.
        let Some(entry) = self.streams.get_mut(&id) else { return self.known(id) };
        match entry.stream.take(pieces, next) {
            Ok(()) => {}
            Err(None) => return Err(TrunkError::Peer("it sent more than it may")),
            Err(Some(stop)) => {
                self.stop(id, stop);
                return Ok(());
            }
        }
        if let Some(bytes) = entry.stream.due() {
            self.say(Frame::Credit { stream: id, bytes });
        }
        self.enqueue(id);
        Ok(())
    }

    /// Checks that there has been such a stream.
    fn known(&self, id: u32) -> Result<(), TrunkError> {
        if id == 0 || id > self.last {
            Err(TrunkError::Peer("it speaks of a stream that never was"))
        } else {
            Ok(())
        }
    }

    fn take_frame(&mut self, frame: Frame<'_>) -> Result<(), TrunkError> {
        match frame {
            Frame::Open { stream, port, client_port } => {
                return self.asked(stream, Asked { port, client_port });
            }
            Frame::Answer { stream, status } => return self.answered(stream, status),
            Frame::End { stream } => {
                let Some(entry) = self.streams.get_mut(&stream) else { return self.known(stream) };
                match entry.stream.take_end() {
                    Ok(()) => self.enqueue(stream),
                    Err(None) => return Err(TrunkError::Peer("it ended a stream twice")),
                    Err(Some(stop)) => self.stop(stream, stop),
                }
            }
            Frame::Reset { stream } => {
                self.known(stream)?;
                match self.remove(stream).map(Stream::detach) {
                    Some((Phase::Asked { report, .. }, _)) => {
                        let _ = report.send(Outcome::Lost("the far side reset it".to_owned()));
                    }
                    Some(_) => tracing::debug!(reason = "the far side reset it", "connection broke"),
                    None => {}
                }
            }
            Frame::Credit { stream, bytes } => {
                let Some(entry) = self.streams.get_mut(&stream) else { return self.known(stream) };
                entry
                    .stream
                    .take_credit(bytes)
                    .ok_or(TrunkError::Peer("it gave more credit than there is"))?;
                self.enqueue(stream);
            }
            Frame::Ping => self.say(Frame::Pong),
            Frame::Leave { last } => {
                self.shared.closed.store(true, Ordering::Release);
                let later: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
                later.into_iter().for_each(|id| self.pass_back(id, "it is leaving"));
            }
            Frame::Pong | Frame::Unknown | Frame::Data { .. } => {}
        }
        Ok(())
    }

    /// The peer opens a stream.
    fn asked(&mut self, id: u32, asked: Asked) -> Result<(), TrunkError> {
        let Role::Called(accept) = &mut self.role else {
            return Err(TrunkError::Peer("the called side opens no streams"));
        };
        if id <= self.last {
            return Err(TrunkError::Peer("it opened a stream out of order"));
        }
        self.last = id;
        if self.leaving || self.streams.len().max(self.deciding) >= MAX_STREAMS {
            self.say(Frame::Answer { stream: id, status: NOT_PROCESSED });
            return Ok(());
        }
        self.deciding += 1;
        self.asked += 1;
        let (commands, at_once) = (self.commands.clone(), self.asked <= AT_ONCE);
        accept(asked, Reply { commands, stream: id, at_once, answered: false });
        self.insert(id, Phase::Deciding, None);
        // Mostly it is decided already: the application has the bytes before the next stream is looked at.
        while let Ok(command) = self.orders.try_recv() {
            self.obey(command);
        }
        Ok(())
    }

    /// The peer answers a stream that this side opened.
    fn answered(&mut self, id: u32, status: u16) -> Result<(), TrunkError> {
        let Some(entry) = self.streams.get_mut(&id) else { return self.known(id) };
        match (status, mem::replace(&mut entry.stream.phase, Phase::Open)) {
            (200, Phase::Asked { report, .. }) => {
                // Whoever opened it may be gone: the connection is carried all the same.
                let _ = report.send(Outcome::Carried);
                self.enqueue(id);
            }
            (NOT_PROCESSED, phase @ Phase::Asked { .. }) => {
                entry.stream.phase = phase;
                self.pass_back(id, "it has no place for it");
            }
            (status, Phase::Asked { report, .. }) => {
                self.remove(id);
                let _ = report.send(Outcome::Refused(status));
            }
            _ => return Err(TrunkError::Peer("it answered what was not asked")),
        }
        Ok(())
    }
}
