//! A stream of a tunnel as an end of a relay.

use super::{Broken, End, Sink, Source};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use std::future::poll_fn;

/// One CONNECT stream, seen from either side.
pub(crate) struct TunnelEnd {
    send: SendStream<Bytes>,
    receive: RecvStream,
    ended: bool,
}

impl TunnelEnd {
    pub(crate) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send, receive, ended: false }
    }
}

impl Drop for TunnelEnd {
    fn drop(&mut self) {
        if !self.ended {
            self.send.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

pub(crate) struct TunnelSource<'a>(&'a mut RecvStream);
pub(crate) struct TunnelSink<'a>(&'a mut SendStream<Bytes>);

impl Source for TunnelSource<'_> {
    async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            match self.0.data().await {
                // An empty DATA frame carries nothing, and may stand anywhere.
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => return Ok(Some(piece)),
                Some(Err(error)) => return Err(broken_by(error)),
                None if self.0.is_end_stream() => return Ok(None),
                None => return Err(Broken::Cut),
            }
        }
    }

    fn passed_on(&mut self, bytes: usize) -> Result<(), Broken> {
        self.0.flow_control().release_capacity(bytes).map_err(broken_by)
    }
}

impl Sink for TunnelSink<'_> {
    async fn write(&mut self, mut piece: Bytes) -> Result<(), Broken> {
        while !piece.is_empty() {
            self.0.reserve_capacity(piece.len());
            let granted = match poll_fn(|context| self.0.poll_capacity(context)).await {
                Some(granted) => granted.map_err(broken_by)?,
                None => return Err(Broken::Cut),
            };
            let part = piece.split_to(granted.min(piece.len()));
            self.0.send_data(part, false).map_err(broken_by)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Broken> {
        self.0.send_data(Bytes::new(), true).map_err(broken_by)
    }

    async fn broken(&mut self) -> Broken {
        match poll_fn(|context| self.0.poll_reset(context)).await {
            Ok(reason) => Broken::Reset(reason),
            Err(error) => broken_by(error),
        }
    }
}

impl End for TunnelEnd {
    type Source<'a> = TunnelSource<'a>;
    type Sink<'a> = TunnelSink<'a>;

    fn split(&mut self) -> (TunnelSource<'_>, TunnelSink<'_>) {
        (TunnelSource(&mut self.receive), TunnelSink(&mut self.send))
    }

    fn close(mut self) {
        self.ended = true;
    }
}

fn broken_by(error: h2::Error) -> Broken {
    match error.reason() {
        Some(reason) if error.is_reset() => Broken::Reset(reason),
        _ => Broken::Tunnel(error),
    }
}
