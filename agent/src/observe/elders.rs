//! Agents that have handed over and still carry connections: what each says of itself, at a socket of its own.
//!
//! Their sockets lie beside the main one. One that nobody serves any more is removed by whoever finds it.

use super::query::{Query, read_line, write_line};
use crate::dataplane::{Tuple, live::ConnectionRow};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::{UnixListener, UnixStream};

/// How long such an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer, in bytes: every connection that an agent may carry.
const LONGEST: u64 = 64 << 20;
/// What stands between the name of the main socket and a number that no other agent has.
const INFIX: &str = ".draining-";
/// The same for one that does not listen yet.
const UNREADY: &str = ".draining.new-";

/// What an agent that has handed over says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Elder {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it ends at the latest, as RFC 3339.
    pub until: String,
    /// How many connections it carries.
    pub carried: usize,
    /// The connections that it has accepted inside pods.
    pub accepted: Vec<Tuple>,
    /// The connections that it carries.
    pub connections: Vec<ConnectionRow>,
}

/// An agent that still drains, as `ambit status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainingStatus {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// How many connections it carries.
    pub connections: usize,
    /// When it ends at the latest, as RFC 3339.
    pub until: String,
}

impl From<Elder> for DrainingStatus {
    fn from(elder: Elder) -> Self {
        let Elder { pid, version, carried: connections, until, .. } = elder;
        Self { pid, version, connections, until }
    }
}

/// Opens a socket of its own for an agent that hands over, mode 0600, beside its main socket `socket`. Returns it with
/// its path.
///
/// # Errors
/// The socket cannot be made.
pub fn bind_elder(socket: &Path) -> anyhow::Result<(UnixListener, PathBuf)> {
    // A process id is not enough: agents in containers share them.
    let number = RandomState::new().hash_one(std::process::id());
    let named = |infix: &str| socket.with_file_name(format!("{}{number:016x}", prefix(socket, infix)));
    let (unready, path) = (named(UNREADY), named(INFIX));
    let failed = || format!("listen at {}", path.display());
    // It gets its name when it listens: one that refuses is taken for left behind.
    let listener = UnixListener::bind(&unready).with_context(failed)?;
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o600)).with_context(failed)?;
    std::fs::rename(&unready, &path).with_context(failed)?;
    Ok((listener, path))
}

/// Returns every socket that agents with the main socket `socket` may have left beside it.
///
/// # Errors
/// The folder cannot be read.
pub fn left_sockets(socket: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left = beside(socket, INFIX)?;
    left.extend(beside(socket, UNREADY)?);
    Ok(left)
}

fn beside(socket: &Path, infix: &str) -> io::Result<Vec<PathBuf>> {
    let folder = socket.parent().unwrap_or(Path::new("."));
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let prefix = prefix(socket, infix);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn prefix(socket: &Path, infix: &str) -> String {
    format!("{}{infix}", socket.file_name().unwrap_or_default().to_string_lossy())
}

/// Asks every agent that has handed over the main socket `socket`. One that does not answer is not among them: its
/// connections are gone, or nobody forwards them.
pub async fn elders(socket: &Path) -> Vec<Elder> {
    let mut elders = Vec::new();
    for path in beside(socket, INFIX).unwrap_or_default() {
        match tokio::time::timeout(PATIENCE, ask(&path)).await {
            Ok(Ok(elder)) => elders.push(elder),
            Ok(Err(error)) => {
                tracing::debug!(%error, "an agent that drains did not answer: it has just ended")
            }
            Err(_) => tracing::warn!(
                path = %path.display(), "an agent that drains does not answer: its connections are taken for nobody's"
            ),
        }
    }
    elders
}

async fn ask(path: &Path) -> anyhow::Result<Elder> {
    let mut stream = match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // Nobody will ever serve it again; that somebody else has just removed it is as good.
            let _ = std::fs::remove_file(path);
            return Err(error.into());
        }
        connected => connected?,
    };
    write_line(&mut stream, &serde_json::to_value(Query::Drain)?).await?;
    let line = read_line(&mut stream, LONGEST).await?;
    let answer: Value = serde_json::from_str(&line).context("read the answer")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("it answered: {error}");
    }
    serde_json::from_value(answer).context("read the answer")
}

/// Returns what agents that have handed over the main socket `socket` have accepted inside pods.
pub async fn carried_by_elders(socket: &Path) -> HashSet<Tuple> {
    elders(socket).await.into_iter().flat_map(|elder| elder.accepted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_an_elder_is_found_beside_the_main_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("agent.sock");
        let (_listener, own) = bind_elder(&main).unwrap();
        for path in [&main, &folder.path().join("other.sock.draining-1")] {
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(left_sockets(&main).unwrap(), [own]);
        assert!(left_sockets(&folder.path().join("none/agent.sock")).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("agent.sock");
        drop(bind_elder(&main).unwrap());
        assert!(elders(&main).await.is_empty());
        assert!(left_sockets(&main).unwrap().is_empty());
    }
}
