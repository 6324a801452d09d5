//! The agent's unix socket: one line of JSON asks, one line answers.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
};

/// What an agent can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// `ambit status`.
    Status,
    /// `ambit connections`.
    Connections,
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

/// Answers questions for as long as the agent runs.
pub async fn serve(listener: UnixListener, answer: impl Fn(Query) -> Value + Send + Sync + 'static) {
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
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let exchange = exchange(stream, answer.as_ref());
            if let Ok(Err(error)) = tokio::time::timeout(ASK_TIMEOUT, exchange).await {
                tracing::debug!(%error, "question not answered");
            }
        });
    }
}

async fn exchange(mut stream: UnixStream, answer: &impl Fn(Query) -> Value) -> anyhow::Result<()> {
    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    tokio::io::BufReader::new(reader.take(LONGEST)).read_line(&mut line).await?;
    let reply = match serde_json::from_str::<Query>(line.trim()) {
        Ok(query) => answer(query),
        Err(error) => serde_json::json!({ "error": format!("unknown question: {error}") }),
    };
    writer.write_all(format!("{reply}\n").as_bytes()).await?;
    Ok(())
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
