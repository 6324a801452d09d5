//! Tunnels between agents: HTTP/2 connections, their settings, and that they notice when the far side is gone; or
//! trunks, where both agents are ambit's.
//!
//! Knows no identities: whoever opens or accepts a tunnel has verified its peer already.

use super::{relay::TunnelEnd, tally::Tally, trunk::Trunk};
use crate::identity::tls::{Protocol, Secured};
use bytes::Bytes;
use h2::{Ping, PingPong, client::SendRequest};
use http::{HeaderMap, Method, Request, StatusCode, Uri, uri::Authority};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// Streams of one tunnel at a time; more connections open another tunnel.
pub(crate) const MAX_STREAMS: u32 = 100;
/// Bytes that a stream may have on its way: what a stalled reader can make the agent hold.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that a tunnel may have on its way: room for every stream, so that stalled ones never stop the others.
const TUNNEL_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// The largest frame that a peer may send, in bytes.
const MAX_FRAME: u32 = 256 * 1024;
/// The largest set of headers that a peer may send, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;
/// Bytes of one stream that wait for the network.
const SEND_BUFFER: usize = 256 * 1024;
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the far side may take to connect to its application, above what it allows itself.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The agent of the destination is not reached.
    #[error("connect to the destination's agent")]
    Dial(#[source] io::Error),
    /// The handshake failed.
    #[error("authenticate the destination")]
    Tls(#[source] crate::identity::tls::TlsError),
    /// HTTP/2 failed.
    #[error("open a stream to the destination")]
    Http(#[source] h2::Error),
    /// The calling pod has no valid certificate.
    #[error("the calling pod has no valid certificate")]
    NoIdentity,
    /// Another connection to the same destination has just failed.
    #[error("connect to the destination's agent, as another connection just found: {0}")]
    Shared(String),
    /// The far side took too long.
    #[error("the destination's agent did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The far side did not look at it.
    #[error("the destination's agent did not take it: {0}")]
    NotProcessed(String),
    /// The tunnel broke when bytes were on their way, which may have arrived.
    #[error("the tunnel broke before the destination's agent answered: {0}")]
    Lost(String),
    /// The far side answered, and not with 200.
    #[error("the destination's agent {}", explain(*.0))]
    Refused(StatusCode),
}

impl TunnelError {
    /// Tells whether another attempt may end otherwise, as after a restart of the far side.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Timeout(_) | Self::Lost(_))
    }
}

/// Says what an answer of the far side means.
fn explain(status: StatusCode) -> String {
    match status {
        StatusCode::UNAUTHORIZED => {
            "refuses it by policy (401); its log and `ambit status` on the destination's node name the policy"
                .to_owned()
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            "does not reach the application (503): does it listen on that port?".to_owned()
        }
        other => format!("answers {other}"),
    }
}

/// The client's side of a tunnel.
pub(crate) struct Tunnel {
    kind: Kind,
    streams: AtomicUsize,
    /// Serial of the certificate with which it was opened.
    pub(crate) serial: String,
    idle_since: Mutex<Instant>,
}

enum Kind {
    Http2 { send: SendRequest<Bytes>, gone: Arc<AtomicBool> },
    Trunk(Trunk),
}

impl Tunnel {
    /// Begins what both sides agreed to speak, and keeps the connection going until it fails or nobody uses it.
    pub(crate) async fn open(
        secured: Secured<TcpStream>,
        serial: String,
        tally: &Tally,
    ) -> Result<Self, h2::Error> {
        let kind = match secured.protocol() {
            Protocol::Trunk => Kind::Trunk(Trunk::connect(secured, tally)),
            Protocol::Http2 => open_http2(secured, tally).await?,
        };
        Ok(Self { kind, streams: AtomicUsize::new(0), serial, idle_since: Mutex::new(Instant::now()) })
    }

    /// Tells whether another stream may be opened: there is room, and the far side has not said that it goes away.
    pub(crate) fn has_room(&self) -> bool {
        let streams = self.streams.load(Ordering::Acquire);
        match &self.kind {
            Kind::Trunk(trunk) => streams < MAX_STREAMS as usize && trunk.has_room(),
            Kind::Http2 { send, gone } => {
                let limit = send.current_max_send_streams().min(MAX_STREAMS as usize);
                // A handle of its own has no stream that waits to be opened: the answer is there at once.
                let ready = send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
                !gone.load(Ordering::Acquire) && matches!(ready, Poll::Ready(Ok(()))) && streams < limit
            }
        }
    }

    /// Tells whether the connection has ended.
    pub(crate) fn is_gone(&self) -> bool {
        match &self.kind {
            Kind::Trunk(trunk) => trunk.is_gone(),
            Kind::Http2 { gone, .. } => gone.load(Ordering::Acquire),
        }
    }

    /// Returns for how long no stream was open.
    pub(crate) fn idle(&self) -> Duration {
        if self.streams.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        self.idle_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Lets a connection of a pod, which would end in a reset, deliver what was sent last: the tunnel's own records tell a cut
/// from an end.
pub(crate) fn end_in_order(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(None)
}

async fn open_http2(secured: Secured<TcpStream>, tally: &Tally) -> Result<Kind, h2::Error> {
    let (send, mut connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        .handshake(secured)
        .await?;
    let gone = Arc::new(AtomicBool::new(false));
    let ping = connection.ping_pong();
    let (ended, counted) = (Arc::clone(&gone), tally.enter());
    tokio::spawn(async move {
        tokio::select! {
            outcome = connection => if let Err(error) = outcome {
                tracing::debug!(%error, "tunnel failed");
            },
            () = dead(ping) => tracing::warn!("tunnel's far side does not answer any more"),
        }
        ended.store(true, Ordering::Release);
        drop(counted);
    });
    Ok(Kind::Http2 { send, gone })
}

/// A stream's place in a tunnel.
pub(crate) struct Lease(Arc<Tunnel>);

impl Lease {
    pub(crate) fn new(tunnel: Arc<Tunnel>) -> Self {
        tunnel.streams.fetch_add(1, Ordering::AcqRel);
        Self(tunnel)
    }

    /// Returns the trunk, if that is what the tunnel is.
    pub(crate) fn trunk(&self) -> Option<Trunk> {
        match &self.0.kind {
            Kind::Trunk(trunk) => Some(trunk.clone()),
            Kind::Http2 { .. } => None,
        }
    }

    /// Opens a stream to `authority` in a tunnel that is no trunk.
    pub(crate) async fn connect(
        &self,
        authority: Authority,
        headers: HeaderMap,
    ) -> Result<TunnelEnd, TunnelError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from(authority);
        *request.headers_mut() = headers;
        let Kind::Http2 { send, .. } = &self.0.kind else {
            return Err(TunnelError::NotProcessed("the tunnel is a trunk".to_owned()));
        };
        let exchange = async {
            let mut send = send.clone().ready().await?;
            let (response, stream) = send.send_request(request, false)?;
            Ok((response.await?, stream))
        };
        let (response, stream) = tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| TunnelError::Timeout(ANSWER_TIMEOUT))?
            .map_err(TunnelError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(TunnelError::Refused(response.status()));
        }
        Ok(TunnelEnd::new(stream, response.into_body()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns the settings of the accepting side.
pub(crate) fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// Waits until the far side no longer answers.
pub(crate) async fn dead(ping: Option<PingPong>) {
    let Some(mut ping) = ping else { return std::future::pending().await };
    loop {
        tokio::time::sleep(PING_EVERY).await;
        match tokio::time::timeout(PING_TIMEOUT, ping.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection itself says how it ended.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
