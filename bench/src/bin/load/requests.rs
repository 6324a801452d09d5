//! HTTP requests, one after the other on each kept connection: GET, and 128 bytes as the answer.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::{Client, Service, latency::Latencies};

const BODY: &[u8] = &[b'x'; 128];

#[derive(Clone, Copy)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Serves `listener` on a thread of its own.
pub(crate) fn serve(listener: TcpListener, version: Version) {
    std::thread::spawn(move || {
        if let Err(error) = runtime().and_then(|runtime| runtime.block_on(accept(listener, version))) {
            eprintln!("load: HTTP server: {error:#}");
        }
    });
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("make a runtime")
}

async fn accept(listener: TcpListener, version: Version) -> Result<()> {
    listener.set_nonblocking(true).context("make the listener wait without blocking")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("take the listener over")?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let io = TokioIo::new(stream);
        let answer = hyper::service::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(BODY))))
        });
        tokio::spawn(async move {
            // How a connection ended is the client's to tell.
            let _ = match version {
                Version::Http1 => {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await
                }
                Version::Http2 => {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, answer)
                        .await
                }
            };
        });
    }
}

pub(crate) fn run(client: &Client, version: Version) -> Result<Value> {
    let target = client.target(match version {
        Version::Http1 => Service::Http1,
        Version::Http2 => Service::Http2,
    });
    let (count, time) = (client.count, client.time);
    runtime()?.block_on(async move {
        let workers: Vec<_> = (0..count).map(|_| tokio::spawn(ask(target, version, time))).collect();
        let mut latencies = Vec::with_capacity(count);
        for worker in workers {
            latencies.push(worker.await.context("a worker panicked")??);
        }
        Ok(Latencies::report(latencies, time))
    })
}

/// A kept connection that takes requests.
enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn open(target: SocketAddr, version: Version) -> Result<Self> {
        let stream = TcpStream::connect(target).await.context("connect")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let io = TokioIo::new(stream);
        match version {
            Version::Http1 => {
                let (send, connection) = http1::handshake(io).await.context("begin HTTP/1.1")?;
                tokio::spawn(connection);
                Ok(Self::Http1(send))
            }
            Version::Http2 => {
                let (send, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.context("begin HTTP/2")?;
                tokio::spawn(connection);
                Ok(Self::Http2(send))
            }
        }
    }

    async fn ask(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<()> {
        let answer = match self {
            Self::Http1(send) => {
                send.ready().await?;
                send.send_request(request).await?
            }
            Self::Http2(send) => {
                send.ready().await?;
                send.send_request(request).await?
            }
        };
        answer.into_body().collect().await.map(drop)
    }
}

/// Sends requests for `time` on a connection of its own.
async fn ask(target: SocketAddr, version: Version, time: Duration) -> Result<Latencies> {
    let mut sender = Sender::open(target, version).await?;
    let mut latencies = Latencies::default();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        let request = Request::get(format!("http://{target}/")).header("host", "bench");
        sender.ask(request.body(Empty::new()).context("build a request")?).await.context("ask")?;
        latencies.add(start);
    }
    Ok(latencies)
}
