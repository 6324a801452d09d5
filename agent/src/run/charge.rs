//! The charge of a node: the lock on its pins and the main socket, which one agent at a time holds. Taken when free, or
//! from the agent that holds it, which is asked to hand over.

use crate::observe::{HandOverRequest, Query, bind, read_line, write_line};
use ambit_bpf::{KernelError, lock_pins, pins_id};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::net::{UnixListener, UnixStream};

/// Version of what two agents say to each other when one hands over.
pub(super) const PROTOCOL: u32 = 1;
/// The longest line of that, in bytes.
pub(super) const LONGEST: u64 = 4096;

/// How long one agent waits for another that holds the pins and answers at no socket: it starts, ends or hands over.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);
/// How long the other agent may take to let go.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What only one agent of a node holds.
pub(super) struct Charge {
    _lock: File,
    socket: PathBuf,
    /// The main socket, until it is served.
    listener: Option<UnixListener>,
}

/// The agent that has handed over. When this is dropped before it was told that its successor is ready, it takes the
/// charge back.
pub(super) struct Predecessor(UnixStream);

impl Predecessor {
    /// Tells it that it is no longer needed.
    ///
    /// # Errors
    /// It is gone.
    pub(super) async fn dismiss(mut self) -> anyhow::Result<()> {
        write_line(&mut self.0, &json!({ "ready": true })).await
    }
}

impl Charge {
    /// Takes what nobody else holds.
    ///
    /// # Errors
    /// `KernelError::Taken` when another agent holds the pins; anything else that is in the way.
    pub(super) async fn try_take(pins: &Path, socket: &Path) -> anyhow::Result<Self> {
        let lock = lock_pins(pins)?;
        let listener = bind(socket).await?;
        Ok(Self { _lock: lock, socket: socket.to_owned(), listener: Some(listener) })
    }

    /// Takes the charge, asking the agent that has it to hand over.
    ///
    /// # Errors
    /// The other agent refuses, or none answers at `socket` while the pins are taken.
    pub(super) async fn take(pins: &Path, socket: &Path) -> anyhow::Result<(Self, Option<Predecessor>)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let taken = match Self::try_take(pins, socket).await {
                Ok(charge) => return Ok((charge, None)),
                Err(error) if is_taken(&error) => error,
                Err(error) => return Err(error),
            };
            if let Ok(stream) = UnixStream::connect(socket).await {
                tracing::info!(socket = %socket.display(), "another agent is in charge: asking it to hand over");
                let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(stream, pins)).await;
                if let Some(stream) = asked.context("wait for the other agent to hand over")?? {
                    let charge = Self::try_take(pins, socket).await;
                    let charge = charge.context("take over from an agent that handed over")?;
                    return Ok((charge, Some(Predecessor(stream))));
                }
            }
            if Instant::now() > deadline {
                return Err(taken);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns the main socket, once.
    pub(super) fn listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // The lock goes after this: nobody else has made a socket here yet.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Tells whether another agent holds the pins.
pub(super) fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(KernelError::Taken(_)))
}

/// Asks for the charge. `None`: the other agent ended before it answered.
async fn ask(mut stream: UnixStream, pins: &Path) -> anyhow::Result<Option<UnixStream>> {
    let request = HandOverRequest { protocol: PROTOCOL, pins: pins_id(pins)? };
    let query = serde_json::to_value(Query::HandOver(request)).context("write the question")?;
    let answer = async {
        write_line(&mut stream, &query).await?;
        read_line(&mut stream, LONGEST).await
    };
    let Ok(line) = answer.await else { return Ok(None) };
    if line.is_empty() {
        return Ok(None);
    }
    let answer: Value = serde_json::from_str(&line).context("read the other agent's answer")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("another agent is in charge and does not hand over: {error}; stop it, then start this one");
    }
    if answer.get("granted").is_none() {
        bail!("another agent is in charge and answers what this one does not understand: stop it first");
    }
    Ok(Some(stream))
}
