//! `connect`: a tunnel as a ztunnel opens it, streams in it, and how each was answered.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pattern;
use crate::tls::Target;

/// What a ztunnel allows the far side: a stream's and a connection's window, and the largest frame, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;
pub(crate) const FRAME: u32 = 1 << 20;

/// Bytes that are offered to a stream at once.
const PIECE: usize = 256 << 10;

/// Opens a tunnel and streams in it.
#[derive(clap::Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    target: Target,
    /// The authority that is asked for; may be given more than once, and each is asked for in turn.
    #[arg(long, required = true)]
    authority: Vec<String>,
    /// The method of the request.
    #[arg(long, default_value = "CONNECT")]
    method: Method,
    /// How many streams are opened to each authority, at once.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// How many bytes each stream sends, and must get back.
    #[arg(long, default_value_t = 13)]
    bytes: u64,
    /// The server greets with a line of JSON first.
    #[arg(long)]
    hello: bool,
    /// Adds a header of so many bytes.
    #[arg(long)]
    header_bytes: Option<usize>,
    /// Adds a header, NAME=VALUE; replaces one of the same name.
    #[arg(long)]
    header: Vec<String>,
    /// Keeps the streams open after the exchange, until the far side ends them or SIGTERM; prints `holding` first.
    #[arg(long)]
    hold: bool,
    /// Never reads the streams that it opens, until SIGTERM; prints `holding` once all are answered.
    #[arg(long)]
    never_read: bool,
}

/// How one stream went.
struct Outcome {
    status: u16,
    moved: u64,
    hello: Option<Value>,
    end: &'static str,
}

impl Connect {
    pub(crate) async fn run(self) -> Result<Value> {
        let (tls, facts) = match timeout(self.target.timeout, self.target.open()).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Ok(json!({"tunnel": "refused", "error": format!("{error:#}")})),
            Err(_) => return Ok(json!({"tunnel": "refused", "error": "timeout"})),
        };
        let handshake = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .enable_push(false)
            .handshake::<_, Bytes>(tls)
            .await;
        let (send, connection) = match handshake {
            Ok(opened) => opened,
            Err(error) => return Ok(json!({"tunnel": "refused", "error": error.to_string()})),
        };
        let driver = tokio::spawn(connection);
        let (mut answers, mut errors) = (BTreeMap::<u16, u64>::new(), BTreeMap::<String, u64>::new());
        let (mut ok, mut moved, mut hello, mut ends) = (0, 0, None, BTreeMap::<&str, u64>::new());
        for authority in &self.authority {
            let mut streams = JoinSet::new();
            for _ in 0..self.streams {
                let request = self.request(authority, facts["local"].as_str().unwrap_or_default())?;
                streams.spawn(stream(send.clone(), request, self.plan()));
            }
            while let Some(done) = streams.join_next().await {
                match done.context("a stream's task panicked")? {
                    Ok(outcome) => {
                        *answers.entry(outcome.status).or_default() += 1;
                        ok += u64::from(outcome.status == 200);
                        moved += outcome.moved;
                        hello = outcome.hello.or(hello);
                        *ends.entry(outcome.end).or_default() += 1;
                    }
                    Err(error) => *errors.entry(format!("{error:#}")).or_default() += 1,
                }
            }
        }
        drop(send);
        let tunnel = if answers.is_empty() && driver.is_finished() { "refused" } else { "open" };
        Ok(json!({
            "tunnel": tunnel, "tls": facts, "answers": answers, "ok": ok, "bytes": moved, "hello": hello,
            "ends": ends, "errors": errors, "error": errors.keys().next(),
        }))
    }

    fn plan(&self) -> Plan {
        Plan {
            bytes: self.bytes,
            hello: self.hello,
            hold: self.hold,
            never_read: self.never_read,
            timeout: self.target.timeout,
        }
    }

    /// The request as a ztunnel builds it.
    fn request(&self, authority: &str, local: &str) -> Result<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = if self.method == Method::CONNECT {
            let parsed = authority.parse::<Authority>();
            Uri::from(parsed.with_context(|| format!("{authority:?} is no authority"))?)
        } else {
            format!("https://{authority}/")
                .parse()
                .with_context(|| format!("{authority:?} is no authority"))?
        };
        let baggage = "k8s.cluster.name=Kubernetes,k8s.namespace.name=elsewhere,k8s.deployment.name=peer,\
                       service.name=peer,service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1";
        let mut headers = vec![
            ("baggage".to_owned(), baggage.to_owned()),
            ("forwarded".to_owned(), format!("for=\"{local}\";host={authority}")),
            ("traceparent".to_owned(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ];
        if let Some(length) = self.header_bytes {
            headers.push(("x-large".to_owned(), "x".repeat(length)));
        }
        for header in &self.header {
            let (name, value) = header.split_once('=').context("write --header NAME=VALUE")?;
            headers.push((name.to_owned(), value.to_owned()));
        }
        for (name, value) in headers {
            request.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(request)
    }
}

/// What one stream does.
struct Plan {
    bytes: u64,
    hello: bool,
    hold: bool,
    never_read: bool,
    timeout: Duration,
}

async fn stream(send: SendRequest<Bytes>, request: Request<()>, plan: Plan) -> Result<Outcome> {
    let mut send = send.ready().await.context("open a stream")?;
    let (response, mut body) = send.send_request(request, false).context("send a request")?;
    let response = timeout(plan.timeout, response).await.context("wait for the answer")?.context("answer")?;
    let status = response.status().as_u16();
    if status != 200 {
        return Ok(Outcome { status, moved: 0, hello: None, end: "answered" });
    }
    let mut back = Incoming { stream: response.into_body(), rest: Bytes::new() };
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    if plan.never_read {
        println!("holding");
        terminate.recv().await;
        return Ok(Outcome { status, moved: 0, hello: None, end: "stopped" });
    }
    let exchange = async {
        let hello = if plan.hello { Some(back.line().await?) } else { None };
        let sending = send_pattern(&mut body, plan.bytes);
        let receiving = back.check_pattern(plan.bytes);
        tokio::try_join!(sending, receiving)?;
        anyhow::Ok(hello)
    };
    let hello = timeout(plan.timeout * 4, exchange).await.context("exchange bytes")??;
    let mut end = "eof";
    if plan.hold {
        println!("holding");
        tokio::select! {
            ended = back.next() => end = match ended {
                Ok(_) => "eof",
                Err(_) => "reset",
            },
            _ = terminate.recv() => end = "stopped",
        }
    }
    if end != "reset" {
        body.send_data(Bytes::new(), true).context("end the stream")?;
        let rest = timeout(plan.timeout, back.next()).await.context("wait for the end")??;
        ensure!(rest.is_none(), "more came back than was sent");
    }
    Ok(Outcome { status, moved: plan.bytes, hello, end })
}

async fn send_pattern(body: &mut SendStream<Bytes>, bytes: u64) -> Result<()> {
    let mut sent = 0;
    while sent < bytes {
        let wanted = PIECE.min(usize::try_from(bytes - sent).unwrap_or(PIECE));
        body.reserve_capacity(wanted);
        let room = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let room = room.context("the stream ended while it was written")?.context("write")?.min(wanted);
        body.send_data(pattern::piece(sent, room), false).context("write")?;
        sent += room as u64;
    }
    Ok(())
}

/// What comes back on a stream.
struct Incoming {
    stream: RecvStream,
    rest: Bytes,
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        // The end of a stream may come as a frame without bytes.
        while let Some(data) = self.stream.data().await.transpose().context("read")? {
            self.stream.flow_control().release_capacity(data.len()).context("read")?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads a line of JSON, and leaves what follows.
    async fn line(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        loop {
            let Some(mut data) = self.next().await? else { bail!("the stream ended before the greeting") };
            if let Some(end) = data.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&data.split_to(end + 1));
                self.rest = data;
                return serde_json::from_slice(&line).context("read the greeting");
            }
            line.extend_from_slice(&data);
        }
    }

    async fn check_pattern(&mut self, bytes: u64) -> Result<()> {
        let mut seen = 0;
        while seen < bytes {
            let Some(data) = self.next().await? else { bail!("{} of {bytes} bytes missing", bytes - seen) };
            ensure!(pattern::matches(seen, &data), "bytes differ after offset {seen}");
            seen += data.len() as u64;
        }
        ensure!(seen == bytes, "more came back than was sent");
        Ok(())
    }
}
