//! The driver's turn: read, pass on, read from applications, write; again until nothing moves.

use super::{
    Control, Driver, Entry, Frame, MAX_CONTROL, PINGS, ROUNDS, Reading, Role, Secured, Stop, Stream,
    TrunkError,
};
use crate::{
    dataplane::trunk::{Ended, outbox::Outbox},
    identity::tls::Arrival,
};
use std::{
    future::Future,
    io, mem,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// What a stream did when it was looked at.
enum Look {
    /// It waits to be woken.
    Waits,
    /// It may have more, and is looked at again.
    More,
    /// It has something to send, and the network takes nothing now.
    Held,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Reads the network once; tells whether something came.
    fn poll_network(&mut self, context: &mut Context<'_>) -> Result<bool, TrunkError> {
        // A peer that does not read the answers is not listened to either.
        if self.control.len() > MAX_CONTROL {
            return Ok(false);
        }
        Arrival::with(|arrival| match self.secured.poll_records(context, arrival) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(Reading::End)) => {
                self.peer_gone();
                Ok(false)
            }
            Poll::Ready(Ok(Reading::More)) => {
                self.heard = true;
                self.take(arrival)?;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error.into()),
        })
    }

    /// The peer ended the connection in order: it serves nothing any more, and says no more.
    fn peer_gone(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.released = true;
        self.ended = true;
    }

    /// Follows what others asked for; tells whether that was anything.
    fn poll_orders(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while !self.released {
            match self.orders.poll_recv(context) {
                Poll::Pending => break,
                Poll::Ready(Some(command)) => {
                    any = true;
                    self.obey(command);
                }
                Poll::Ready(None) => self.released = true,
            }
        }
        any
    }

    /// Asks a silent peer whether it is there.
    fn poll_pings(&mut self, context: &mut Context<'_>) -> Result<(), TrunkError> {
        while self.pings.poll_tick(context).is_ready() {
            if self.is_idle_for_good() {
                self.lingered = true;
            }
            if mem::take(&mut self.heard) {
                self.unanswered = 0;
                continue;
            }
            if self.unanswered >= PINGS {
                return Err(TrunkError::Silent);
            }
            self.unanswered += 1;
            self.say(Frame::Ping);
        }
        Ok(())
    }

    /// Looks at every stream that was woken, and sends what there is; tells whether anything moved.
    fn serve(&mut self, context: &mut Context<'_>) -> Result<bool, TrunkError> {
        self.secured.prepare()?;
        let free = self.secured.poll_unsent(context)?.is_ready();
        if free {
            let held = mem::take(&mut self.held);
            held.into_iter().for_each(|id| self.enqueue(id));
        }
        let urgent = self.control.poll_urgent(context);
        if self.queue.is_empty() && !(free && urgent) {
            return Ok(false);
        }
        Outbox::with(|outbox| {
            for id in mem::take(&mut self.queue) {
                let Some(entry) = self.streams.get_mut(&id) else { continue };
                entry.waker.dequeue();
                if free && !outbox.has_room() {
                    let sealed = outbox.finish(&mut self.secured)?;
                    self.secured.send(context, sealed)?;
                }
                let free = free && !self.secured.is_congested();
                let Entry { stream, .. } = entry;
                let departing = free.then_some((&mut *outbox, &mut self.control));
                match look(stream, id, departing, &mut self.secured, context)? {
                    Ok(Look::Waits) => {}
                    Ok(Look::More) => self.enqueue(id),
                    Ok(Look::Held) if self.held.contains(&id) => {}
                    Ok(Look::Held) => self.held.push(id),
                    Err(stop) => {
                        self.stop(id, stop);
                        continue;
                    }
                }
                self.settle(id);
            }
            // What ended or was refused meanwhile is said with the rest.
            if free && self.control.poll_urgent(context) {
                self.control.flush(outbox, &mut self.secured, context)?;
            }
            let sealed = outbox.finish(&mut self.secured)?;
            self.secured.send(context, sealed)?;
            Ok(true)
        })
    }

    /// Gives credit that is due, and ends a stream that is over.
    fn settle(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if let Some(bytes) = entry.stream.due() {
            self.say(Frame::Credit { stream: id, bytes });
        }
        if self.streams.get(&id).is_some_and(|entry| entry.stream.is_over())
            && let Some((_, Some(carried))) = self.remove(id).map(Stream::detach)
        {
            carried.close();
        }
    }

    /// Tells whether nothing is left to do: nobody opens streams any more, and there are none.
    fn is_idle_for_good(&self) -> bool {
        let nobody = match self.role {
            Role::Caller => self.released || self.shared.closed.load(Ordering::Acquire),
            Role::Called(_) => self.released || self.leaving,
        };
        // A peer that is gone waits for no decision.
        nobody && self.streams.is_empty() && (self.deciding == 0 || self.ended)
    }

    /// Tells whether the connection is to be ended. The called side leaves that to the caller for a while: a stream
    /// that is on its way is answered.
    fn is_over(&self) -> bool {
        let waits = matches!(self.role, Role::Called(_)) && !self.ended && !self.lingered;
        self.is_idle_for_good() && !waits
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Ended {
        self.asked = 0;
        self.poll_pings(context)?;
        for _ in 0..ROUNDS {
            let mut moved = self.poll_orders(context);
            self.ready.collect(&mut self.queue, context.waker());
            if !self.ended {
                moved |= self.poll_network(context)?;
            }
            moved |= self.serve(context)?;
            if self.ended && !self.streams.is_empty() {
                return Poll::Ready(Err(TrunkError::Peer("it ended the trunk in the middle of streams")));
            }
            if self.is_over() && self.control.is_empty() && !self.secured.is_congested() {
                // Nothing is carried: a peer that is gone already need not hear of it.
                let _ = ready!(self.secured.poll_end(context));
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Passes on what waits for the application, and reads from it where there is room for it.
fn look<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream,
    id: u32,
    mut departing: Option<(&mut Outbox, &mut Control)>,
    secured: &mut Secured<S>,
    context: &mut Context<'_>,
) -> io::Result<Result<Look, Stop>> {
    if let Err(stop) = stream.pass_on() {
        return Ok(Err(stop));
    }
    // The second read finds the end, or that there is nothing more: both go with what the first one brought.
    for _ in 0..2 {
        let appetite = stream.appetite();
        if appetite == 0 {
            // What has no credit is woken by it; but its application may break meanwhile.
            return Ok(stream.watch().map(|()| Look::Waits));
        }
        match stream.poll_readable() {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Look::Waits)),
            Err(stop) => return Ok(Err(stop)),
        }
        let Some((outbox, control)) = departing.as_mut() else { return Ok(Ok(Look::Held)) };
        // An answer comes before what the application says.
        control.flush(outbox, secured, context)?;
        if !outbox.has_room() {
            break;
        }
        let mut outcome = Ok(None);
        outbox.fill(id, appetite, secured, |places| {
            outcome = stream.read(places);
            outcome.as_ref().map_or(0, |read| read.unwrap_or_default())
        })?;
        match outcome {
            Err(error) => return Ok(Err(Stop::Socket(error))),
            // The runtime was mistaken: asked again, it wakes the stream later.
            Ok(None) => {}
            Ok(Some(0)) => {
                stream.ended = true;
                let end = Frame::End { stream: id };
                if stream.peer_has_ended() {
                    // It is the last word, and nobody waits for it.
                    control.say_later(end);
                } else {
                    control.say(end);
                }
                return Ok(Ok(Look::Waits));
            }
            Ok(Some(bytes)) => stream.sent(outbox.last(bytes), bytes),
        }
    }
    Ok(Ok(Look::More))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = Result<(), TrunkError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Ended {
        let this = self.get_mut();
        crate::dataplane::workers::worked();
        let outcome = this.poll_turn(context);
        match &outcome {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => this.fail("the trunk has ended"),
            Poll::Ready(Err(error)) => this.fail(&crate::observe::chain(error)),
        }
        outcome
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.fail("the trunk was given up");
    }
}
