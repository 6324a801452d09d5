//! The short frames of a trunk that wait to be sent: those that cannot wait, and those that go with others or after a
//! moment. An answer goes with what the application says first, the second end of a stream with what comes next.

use crate::{
    dataplane::trunk::{
        frame::{Frame, HEADER},
        outbox::Outbox,
    },
    identity::tls::Secured,
};
use std::{io, pin::Pin, task::Context, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep},
};

/// How long a frame waits that can. Whoever waits for an answer may send 4 KiB meanwhile.
const PATIENCE: Duration = Duration::from_millis(1);

/// Frames that wait, in order.
pub(super) struct Control {
    frames: Vec<u8>,
    urgent: bool,
    /// When frames that are not urgent become so, where there are some.
    due: Pin<Box<Sleep>>,
    waits: bool,
}

impl Control {
    pub(super) fn new() -> Self {
        Self { frames: Vec::new(), urgent: false, due: Box::pin(sleep(PATIENCE)), waits: false }
    }

    /// Adds a frame that is sent in this turn.
    pub(super) fn say(&mut self, frame: Frame<'_>) {
        frame.write(&mut self.frames);
        self.urgent = true;
    }

    /// Adds a frame that goes with the next one, or after a moment.
    pub(super) fn say_later(&mut self, frame: Frame<'_>) {
        frame.write(&mut self.frames);
        if !self.waits {
            self.waits = true;
            self.due.as_mut().reset(Instant::now() + PATIENCE);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Tells whether something has to be sent now; the task is woken when that changes with time.
    pub(super) fn poll_urgent(&mut self, context: &mut Context<'_>) -> bool {
        if self.waits && !self.urgent {
            self.urgent = self.due.as_mut().poll(context).is_ready();
        }
        self.urgent
    }

    /// Moves everything into the outbox.
    pub(super) fn flush<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        outbox: &mut Outbox,
        secured: &mut Secured<S>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        let mut rest = &self.frames[..];
        while let Some(&[_, _, high, low]) = rest.first_chunk::<4>() {
            let Some((frame, after)) =
                rest.split_at_checked(HEADER + usize::from(u16::from_be_bytes([high, low])))
            else {
                break;
            };
            if !outbox.has_room() {
                let sealed = outbox.finish(secured)?;
                secured.send(context, sealed)?;
            }
            outbox.push(frame, secured)?;
            rest = after;
        }
        self.frames.clear();
        // A burst is not kept for good.
        self.frames.shrink_to(HEADER * 64);
        (self.urgent, self.waits) = (false, false);
        Ok(())
    }
}
