//! Serves a role over HTTP/1.1 until the process ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::role::{Fault, Role};

/// How long a client may take to send its request's head.
const HEAD: Duration = Duration::from_secs(10);

/// Listens, prints `listening`, and serves.
pub(crate) async fn run(listen: SocketAddr, role: Role, every: Duration) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    println!("listening on {listen} as {}", role.name);
    if role.name == "mathfanboy" {
        let fan = role.clone();
        tokio::spawn(async move { fan.enjoy_maths(every).await });
    }
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let role = role.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(role.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own affair.
            drop(connection.await);
        });
    }
}

async fn respond(role: Role, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let (status, body) = if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, json!({"error": "GET is all there is"}))
    } else {
        match role.answer(path, query).await {
            Some(Ok(body)) => (StatusCode::OK, body),
            Some(Err(Fault::Request(error))) => (StatusCode::BAD_REQUEST, failure(&error)),
            Some(Err(Fault::Service(error))) => (StatusCode::BAD_GATEWAY, failure(&error)),
            None => (StatusCode::NOT_FOUND, json!({"error": format!("{} has no {path}", role.name)})),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string() + "\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn failure(error: &anyhow::Error) -> Value {
    json!({"error": format!("{error:#}")})
}
