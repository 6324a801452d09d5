//! One HTTP/1.1 GET on a connection of its own.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is read of an answer at most.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Requests a URL within `limit` and returns the JSON of its answer, whatever its status.
pub(crate) async fn get(url: &str, limit: Duration) -> Result<(StatusCode, Value)> {
    let late = || io::Error::from(ErrorKind::TimedOut);
    timeout(limit, exchange(url)).await.map_err(|_| late()).with_context(|| format!("GET {url}"))?
}

/// As [`get`], and anything but a 200 is an error.
pub(crate) async fn get_ok(url: &str, limit: Duration) -> Result<Value> {
    match get(url, limit).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, body) => bail!("GET {url}: {status}: {body}"),
    }
}

async fn exchange(url: &str) -> Result<(StatusCode, Value)> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
    let authority = uri.authority().with_context(|| format!("{url:?} names no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .with_context(|| format!("connect to {authority}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The exchange fails with the connection; its own error would say the same twice.
    let driver = tokio::spawn(async move { drop(connection.await) });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(HOST, authority.as_str()).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).context("build the request")?;
    let response = sender.send_request(request).await.with_context(|| format!("ask {authority}"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error)).context("read the answer")?.to_bytes();
    driver.abort();
    let body = serde_json::from_slice(&body).with_context(|| format!("{url} answered no JSON"))?;
    Ok((status, body))
}

/// Names how a request failed, in one word where there is one.
pub(crate) fn kind(error: &anyhow::Error) -> String {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    let word = match io.map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "refused",
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => "reset",
        Some(ErrorKind::TimedOut) => "timeout",
        Some(ErrorKind::PermissionDenied) => "permission",
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => "unreachable",
        Some(_) => return format!("{error:#}"),
        None if error.chain().any(incomplete) => "eof",
        None => return format!("{error:#}"),
    };
    word.into()
}

fn incomplete(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
}
