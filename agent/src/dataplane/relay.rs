//! Carries bytes between two ends, both ways, and ends as they end: a half-close stays a half-close, a reset stays a
//! reset, a slow reader slows the writer.
//!
//! Knows nothing of identities or policies. Whoever drops a relay before it has ended resets both ends.

mod socket;
mod tunnel;

pub(crate) use socket::Socket;
pub(crate) use tunnel::TunnelEnd;

use super::counters::Counters;
use bytes::Bytes;
use std::future::Future;

/// The largest piece that is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// One end broke: reset, cut or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection of an application.
    #[error("the application's connection broke")]
    Socket(#[source] std::io::Error),
    /// The stream of a tunnel.
    #[error("the tunnel's stream broke")]
    Tunnel(#[source] h2::Error),
    /// The far side reset the stream: its application's connection broke, or it was refused.
    #[error("the far side reset the stream ({0})")]
    Reset(h2::Reason),
    /// The tunnel ended without ending the stream.
    #[error("the tunnel ended in the middle of the stream")]
    Cut,
}

/// The reading half of an end.
pub(crate) trait Source: Send {
    /// Returns the next piece; `None` after a clean end.
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>, Broken>> + Send;
    /// Says that `bytes` were passed on, so that the peer may send more.
    fn passed_on(&mut self, bytes: usize) -> Result<(), Broken>;
}

/// The writing half of an end.
pub(crate) trait Sink: Send {
    /// Writes all of `piece`, waiting for the reader at the far side.
    fn write(&mut self, piece: Bytes) -> impl Future<Output = Result<(), Broken>> + Send;
    /// Ends this direction cleanly.
    fn finish(&mut self) -> impl Future<Output = Result<(), Broken>> + Send;
    /// Waits until the end breaks while there is nothing to write.
    fn broken(&mut self) -> impl Future<Output = Broken> + Send;
}

/// An end of a relay. Dropped, it breaks: its peer sees a reset.
pub(crate) trait End: Send {
    /// Its reading half.
    type Source<'a>: Source
    where
        Self: 'a;
    /// Its writing half.
    type Sink<'a>: Sink
    where
        Self: 'a;
    /// Returns both halves.
    fn split(&mut self) -> (Self::Source<'_>, Self::Sink<'_>);
    /// Closes it cleanly; both directions have ended.
    fn close(self);
}

/// Carries bytes between `client` and `server` until both directions have ended.
///
/// # Errors
/// The first break of either end; both ends are reset.
pub(crate) async fn relay<C: End, S: End>(
    mut client: C,
    mut server: S,
    counters: &Counters,
) -> Result<(), Broken> {
    {
        let (client_source, client_sink) = client.split();
        let (server_source, server_sink) = server.split();
        let up = pump(client_source, server_sink, |bytes| counters.add_sent(bytes));
        let down = pump(server_source, client_sink, |bytes| counters.add_received(bytes));
        tokio::try_join!(up, down)?;
    }
    client.close();
    server.close();
    Ok(())
}

async fn pump(
    mut source: impl Source,
    mut sink: impl Sink,
    count: impl Fn(usize) + Send,
) -> Result<(), Broken> {
    loop {
        let piece = tokio::select! {
            biased;
            piece = source.read() => piece?,
            broken = sink.broken() => return Err(broken),
        };
        let Some(piece) = piece else { return sink.finish().await };
        let bytes = piece.len();
        sink.write(piece).await?;
        source.passed_on(bytes)?;
        count(bytes);
    }
}
