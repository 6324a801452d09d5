//! The answers of a running agent, as JSON has them.

use super::{Denial, DrainingStatus, decisions::Counts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Answer to `ambit status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whether a snapshot has been applied and the hooks are attached.
    pub ready: bool,
    /// Number of the snapshot that is in force.
    pub snapshot: u64,
    /// Where the objects come from, and what is wrong with them.
    pub source: Value,
    /// The enrolled pods of this node.
    pub pods: Vec<PodStatus>,
    /// The certificates that the agent holds.
    pub identities: Value,
    /// Connections now, and decisions so far.
    pub connections: ConnectionCounts,
    /// Agents that have handed over, and still carry connections.
    #[serde(default)]
    pub draining: Vec<DrainingStatus>,
    /// The latest denials, oldest first.
    pub recent_denials: Vec<Denial>,
}

/// An enrolled pod of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodStatus {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Its mode, from the label.
    pub mode: String,
    /// What it may call, from the label: `any` or `mesh`.
    pub egress: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// How many policies select it.
    pub policies: usize,
    /// Whether every hook is attached, and the last test has shown that they take what the pod does.
    pub captured: bool,
    /// When it was last tested, as RFC 3339.
    pub tested_at: Option<String>,
    /// The devices on the node's side of its links, on which the guard stands.
    pub guard: Vec<String>,
    /// Packets that the guard dropped (in audit mode: would drop), by the code of the reason.
    pub dropped: BTreeMap<String, u64>,
    /// What is wrong with it, and what to do.
    pub problem: Option<String>,
}

/// Connections of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// Carried now.
    pub open: usize,
    /// Tunnels to other pods.
    pub tunnels: usize,
    /// Decisions since the agent started.
    pub decisions: Counts,
    /// Refusals by the kernel that found the agent's buffer full, and are missing in the counts.
    pub unreported: u64,
}
