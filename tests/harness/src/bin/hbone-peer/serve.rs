//! `serve`: the accepting side of tunnels, as a ztunnel has it, with an echo behind it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::connect::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW};
use crate::identity::Credentials;
use crate::tls;

/// Accepts tunnels.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Where tunnels are accepted.
    #[arg(long, default_value = "[::]:15008")]
    listen: SocketAddr,
    #[command(flatten)]
    credentials: Credentials,
    /// The status of every answer; the streams of 200 are echoed.
    #[arg(long, default_value = "200")]
    answer: StatusCode,
    /// Streams of one tunnel at a time.
    #[arg(long, default_value_t = 100)]
    max_streams: u32,
}

/// What the callers sent.
#[derive(Default)]
struct Seen {
    tunnels: u64,
    failed: Vec<String>,
    peers: BTreeSet<String>,
    sni: BTreeSet<String>,
    requests: Vec<Value>,
    bytes: u64,
}

type Shared = Arc<Mutex<Seen>>;

fn note(seen: &Shared, change: impl FnOnce(&mut Seen)) {
    change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

impl Serve {
    pub(crate) async fn run(self) -> Result<Value> {
        let acceptor = TlsAcceptor::from(tls::server(&self.credentials)?);
        let listener = TcpListener::bind(self.listen).await.context("listen")?;
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let seen = Shared::default();
        println!("listening");
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.context("accept")?.0,
                _ = terminate.recv() => break,
            };
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            let (answer, max_streams) = (self.answer, self.max_streams);
            tokio::spawn(async move {
                if let Err(error) = tunnel(acceptor, stream, &seen, answer, max_streams).await {
                    note(&seen, |seen| seen.failed.push(format!("{error:#}")));
                }
            });
        }
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(json!({
            "tunnels": seen.tunnels, "failed": seen.failed, "peers": seen.peers, "sni": seen.sni,
            "requests": seen.requests, "bytes": seen.bytes,
        }))
    }
}

async fn tunnel(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    seen: &Shared,
    answer: StatusCode,
    max_streams: u32,
) -> Result<()> {
    stream.set_nodelay(true).context("tcp")?;
    let tls = acceptor.accept(stream).await.context("tls")?;
    let session = tls.get_ref().1;
    let peer = session.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
    let uris = tls::uris(peer)?;
    let sni = session.server_name().map(str::to_owned);
    note(seen, |seen| {
        seen.tunnels += 1;
        seen.peers.extend(uris);
        seen.sni.extend(sni);
    });
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(max_streams)
        .handshake::<_, Bytes>(tls)
        .await
        .context("http2")?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.context("http2")?;
        let seen = Arc::clone(seen);
        tokio::spawn(async move {
            // A stream that the caller ends in its own way is no fault of the server.
            let _ = serve(request, respond, answer, &seen).await;
        });
    }
    Ok(())
}

async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: StatusCode,
    seen: &Shared,
) -> Result<()> {
    let text =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let facts = json!({
        "method": request.method().as_str(),
        "authority": request.uri().authority().map(ToString::to_string),
        "baggage": text("baggage"), "forwarded": text("forwarded"), "traceparent": text("traceparent"),
    });
    note(seen, |seen| seen.requests.push(facts));
    let mut response = Response::new(());
    *response.status_mut() = answer;
    let over = answer != StatusCode::OK;
    let send = respond.send_response(response, over).context("answer")?;
    if over {
        return Ok(());
    }
    echo(request.into_body(), send, seen).await
}

async fn echo(mut body: RecvStream, mut send: SendStream<Bytes>, seen: &Shared) -> Result<()> {
    while let Some(data) = body.data().await {
        let mut data = data.context("read")?;
        body.flow_control().release_capacity(data.len()).context("read")?;
        note(seen, |seen| seen.bytes += data.len() as u64);
        while !data.is_empty() {
            send.reserve_capacity(data.len());
            let room = std::future::poll_fn(|context| send.poll_capacity(context)).await;
            let room = room.context("the stream ended")?.context("write")?.min(data.len());
            send.send_data(data.split_to(room), false).context("write")?;
        }
    }
    send.send_data(Bytes::new(), true).context("end the stream")
}
