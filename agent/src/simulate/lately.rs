//! What a change would do to connections that an agent sees now, or refused lately.
//!
//! Takes the agent's own answers as they are. Never asks it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ambit_core::{Connection, Protocol, Snapshot, SpiffeId, Verdict, Workload};
use serde::Serialize;

use super::Decision;
use crate::dataplane::live::{Caller, ConnectionRow};
use crate::observe::Denial;

/// Connections of one caller to one port that a change would turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// `open` or `refused`.
    pub now: &'static str,
    /// How many.
    pub count: usize,
    /// Who calls.
    pub from: String,
    /// What is called: a pod, or an address.
    pub to: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The port.
    pub port: u16,
    /// What would come of them.
    pub then: Decision,
}

/// Returns what `after` would turn of the connections that are open and those that were refused lately.
pub fn seen(after: &Snapshot, open: &[ConnectionRow], refused: &[Denial]) -> Vec<Seen> {
    let mut found: BTreeMap<(&'static str, String, String, String, u16), Seen> = BTreeMap::new();
    let mut add = |now: &'static str, call: Call<'_>| {
        let Some(verdict) = call.verdict(after).filter(|verdict| verdict.allowed != (now == "open")) else {
            return;
        };
        let to = call.pod.map_or_else(|| call.server.ip().to_string(), str::to_owned);
        let (from, protocol, port) = (call.source.to_owned(), call.protocol.to_string(), call.server.port());
        let key = (now, from.clone(), to.clone(), protocol.clone(), port);
        let then = Decision::of(&verdict);
        found.entry(key).or_insert(Seen { now, count: 0, from, to, protocol, port, then }).count += 1;
    };
    for row in open {
        add(
            "open",
            Call {
                source: &row.source,
                client: row.client,
                pod: row.destination.as_deref(),
                server: row.server,
                protocol: Protocol::Tcp,
            },
        );
    }
    for denial in refused {
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == denial.protocol);
        let pod = Some(denial.destination.as_str()).filter(|name| name.contains('/'));
        let Some(protocol) = protocol else { continue };
        add(
            "refused",
            Call { source: &denial.source, client: denial.client, pod, server: denial.server, protocol },
        );
    }
    found.into_values().collect()
}

/// A call that an agent has seen.
struct Call<'a> {
    source: &'a str,
    client: SocketAddr,
    pod: Option<&'a str>,
    server: SocketAddr,
    protocol: Protocol,
}

impl Call<'_> {
    /// Decides anew; `None` where the objects do not know whom it is about.
    fn verdict(&self, after: &Snapshot) -> Option<Verdict> {
        let named = |name: &str| -> Option<&Workload> {
            let (namespace, name) = name.split_once('/')?;
            after.workload_named(namespace, name).map(AsRef::as_ref)
        };
        let Some(pod) = self.pod else {
            let source = after.workload(self.client.ip())?;
            return Some(after.evaluate_egress(source, self.server, self.protocol));
        };
        let caller = match self.source {
            "host" => Caller::Host,
            "unverified" => Caller::Unverified,
            id => Caller::Identity(SpiffeId::parse(id).ok()?),
        };
        let (source, port) = (caller.source(self.client.ip()), self.server.port());
        let destination = named(pod)?;
        Some(after.evaluate(&Connection { source, destination, protocol: self.protocol, port }))
    }
}
