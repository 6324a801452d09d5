//! The agent's unix socket: one line of JSON asks, one line answers.

use crate::explain::Question;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

/// What an agent can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// `ambit status`.
    Status,
    /// `ambit connections`.
    Connections,
    /// `ambit explain`.
    Explain(Question),
    /// What an agent that has handed over still carries; asked at the socket that it keeps for that.
    Drain,
    /// Another agent wants to take over. The connection stays open until it has, or one of both is gone.
    HandOver(HandOverRequest),
}

/// What an agent says that wants to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOverRequest {
    /// Version of what is said from here on.
    pub protocol: u32,
    /// The folder for pins that it means, as `ambit_bpf::pins_id` has it.
    pub pins: (u64, u64),
}

/// An agent that wants to take over, and waits for the answer.
#[derive(Debug)]
pub struct Asking {
    /// What it said.
    pub request: HandOverRequest,
    /// Where it waits.
    pub stream: UnixStream,
}

/// Longest question, in bytes.
const LONGEST: u64 = 4096;
/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the socket at `path`, mode 0600, in the place of one that no agent serves any more.
///
/// # Errors
/// Another agent answers at `path`, or the socket cannot be made.
pub async fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        bail!("another agent answers at {}: stop it, or choose another --socket", path.display());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    if path.exists() {
        std::fs::remove_file(path).with_context(|| format!("remove the stale socket {}", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect {}", path.display()))?;
    Ok(listener)
}

/// Answers questions for as long as the agent runs. Whoever wants to take over is handed on to `asking`.
pub async fn serve<F: Future<Output = Value> + Send>(
    listener: UnixListener,
    answer: impl Fn(Query) -> F + Send + Sync + 'static,
    asking: mpsc::Sender<Asking>,
) {
    let answer = Arc::new(answer);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a question");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (answer, asking) = (Arc::clone(&answer), asking.clone());
        tokio::spawn(async move {
            let exchange = exchange(stream, answer.as_ref(), asking);
            if let Ok(Err(error)) = tokio::time::timeout(ASK_TIMEOUT, exchange).await {
                tracing::debug!(%error, "question not answered");
            }
        });
    }
}

async fn exchange<F: Future<Output = Value>>(
    mut stream: UnixStream,
    answer: &impl Fn(Query) -> F,
    asking: mpsc::Sender<Asking>,
) -> anyhow::Result<()> {
    let line = read_line(&mut stream, LONGEST).await?;
    let reply = match serde_json::from_str::<Query>(line.trim()) {
        // When nobody takes it any more, the stream is closed: it may ask again.
        Ok(Query::HandOver(request)) => return Ok(asking.try_send(Asking { request, stream })?),
        Ok(query) => answer(query).await,
        Err(error) => json!({ "error": format!("unknown question: {error}") }),
    };
    write_line(&mut stream, &reply).await
}

/// Reads one line of at most `longest` bytes; empty when the other side has closed.
///
/// # Errors
/// What the kernel says.
pub async fn read_line(stream: &mut UnixStream, longest: u64) -> anyhow::Result<String> {
    let mut line = String::new();
    tokio::io::BufReader::new(stream.take(longest)).read_line(&mut line).await?;
    Ok(line)
}

/// Writes `value` as one line.
///
/// # Errors
/// What the kernel says.
pub async fn write_line(stream: &mut UnixStream, value: &Value) -> anyhow::Result<()> {
    Ok(stream.write_all(format!("{value}\n").as_bytes()).await?)
}

/// Asks the agent at `path`.
///
/// # Errors
/// No agent answers there, or it does not know the question.
pub fn ask(path: &Path, query: Query) -> anyhow::Result<Value> {
    let mut stream = std::os::unix::net::UnixStream::connect(path).with_context(|| {
        format!("no agent answers at {}: is it running, and is this its --socket?", path.display())
    })?;
    stream.set_read_timeout(Some(ASK_TIMEOUT)).context("set a time-out")?;
    writeln!(stream, "{}", serde_json::to_string(&query)?).context("ask the agent")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("read the agent's answer")?;
    let answer: Value = serde_json::from_str(&line).context("read the agent's answer")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("the agent answered: {error}");
    }
    Ok(answer)
}
