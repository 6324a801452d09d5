//! Decisions on connections: one log line each denial, counts for all, and the latest denials for whoever asks.

use super::RefusedPacket;
use crate::dataplane::live::{Direction, Facts};
use ambit_core::{
    model::WorkloadKey,
    policy::{Connection, DryRun, Reason, Verdict},
    state::Snapshot,
};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How many denials are kept for `ambit status`.
const KEPT: usize = 100;
/// How many denials are logged in a second; more are counted, and their number is logged.
const LOGGED_PER_SECOND: u32 = 200;

/// A denied connection, as `ambit status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Denial {
    /// When, as RFC 3339.
    pub time: String,
    /// Who: a SPIFFE ID, `host` or `unverified`.
    pub source: String,
    /// `outbound` where a pod of this node is refused what it calls outside the mesh; else `inbound`.
    pub direction: Direction,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The client's address; port 0 where it has none yet.
    pub client: SocketAddr,
    /// The pod that has the client's address, as namespace/name; for an unverified caller not a proof.
    pub source_pod: Option<String>,
    /// The pod that was called, as namespace/name; `outside` where no pod has the address that a pod calls.
    pub destination: String,
    /// The address that was called.
    pub server: SocketAddr,
    /// Stable code of the reason.
    pub reason: String,
    /// The decision as a sentence, with policy and rule.
    pub summary: String,
}

#[derive(Default)]
struct Inner {
    allowed: BTreeMap<&'static str, u64>,
    denied: BTreeMap<&'static str, u64>,
    audited: BTreeMap<&'static str, u64>,
    /// By the policy's name, of `MAX_DRY_RUN` at most.
    dry_run: BTreeMap<String, Otherwise>,
    /// The snapshot whose own policies leave no room in it.
    dry_run_full: Option<u64>,
    handshakes_refused: u64,
    recent: VecDeque<Denial>,
    second: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

/// Counts of decisions by the code of their reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Connections that were allowed.
    pub allowed: BTreeMap<String, u64>,
    /// Connections that were refused.
    pub denied: BTreeMap<String, u64>,
    /// Connections that were allowed in audit mode, and that strict would refuse.
    pub would_deny: BTreeMap<String, u64>,
    /// What policies under `dryRun` would have turned, by their names.
    #[serde(default)]
    pub dry_run: BTreeMap<String, Otherwise>,
    /// Tunnels whose peer did not prove an identity.
    pub handshakes_refused: u64,
}

/// How many decisions a policy under `dryRun` would have turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otherwise {
    /// Those that it would have allowed.
    pub would_allow: u64,
    /// Those that it would have refused.
    pub would_deny: u64,
}

/// Policies under `dryRun` that are counted; with more, those that are gone make room.
const MAX_DRY_RUN: usize = 1024;

/// Where all decisions of a node are reported.
pub struct Decisions {
    state: Arc<ArcSwap<Snapshot>>,
    inner: Mutex<Inner>,
}

impl Decisions {
    /// Returns an empty record; `state` names the pods behind addresses.
    pub fn new(state: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { state, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Counts are never half-updated.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports the decision on a new connection.
    pub fn record(&self, facts: &Facts, verdict: &Verdict) {
        for other in &verdict.dry_run {
            let would = if other.allowed { "allow" } else { "deny" };
            self.count_dry_run(other);
            self.limited(|| {
                tracing::info!(
                    src.id = %facts.caller.text(), src.addr = %facts.client, dst.addr = %facts.server,
                    dst.pod = %pod_text(facts), policy = %other.policy, rule = other.rule, reason = other.reason.code(),
                    verdict = would, "policy under dryRun would decide otherwise"
                );
            });
        }
        if !verdict.allowed {
            return self.deny(facts, verdict.reason.code(), &verdict.summary(), "connection denied");
        }
        *self.inner().allowed.entry(verdict.reason.code()).or_default() += 1;
        if let Some(refusal) = &verdict.would_refuse {
            *self.inner().audited.entry(refusal.reason.code()).or_default() += 1;
            if self.may_log() {
                tracing::info!(
                    src.id = %facts.caller.text(), src.addr = %facts.client, dst.addr = %facts.server,
                    dst.pod = %pod_text(facts), policy = refusal.policy.as_ref().map(tracing::field::display),
                    rule = refusal.rule, reason = refusal.reason.code(), why = %refusal.summary(),
                    verdict = "audit", "connection would be denied"
                );
            }
        }
    }

    fn count_dry_run(&self, other: &DryRun) {
        let mut inner = self.inner();
        let policy = other.policy.to_string();
        if inner.dry_run.len() >= MAX_DRY_RUN && !inner.dry_run.contains_key(&policy) {
            let snapshot = self.state.load();
            // Looked through once, not for every connection.
            if inner.dry_run_full == Some(snapshot.version()) {
                return;
            }
            let known: HashSet<String> =
                snapshot.policies().iter().map(|policy| policy.id.to_string()).collect();
            inner.dry_run.retain(|policy, _| known.contains(policy));
            if inner.dry_run.len() >= MAX_DRY_RUN {
                inner.dry_run_full = Some(snapshot.version());
                tracing::warn!(
                    limit = MAX_DRY_RUN,
                    "too many policies under dryRun: the decisions of further ones are not counted; enforce or remove some"
                );
                return;
            }
        }
        let counts = inner.dry_run.entry(policy).or_default();
        let count = if other.allowed { &mut counts.would_allow } else { &mut counts.would_deny };
        *count += 1;
    }

    /// Reports a live connection that a change closes.
    pub fn revoked(&self, facts: &Facts, verdict: Option<&Verdict>) {
        match verdict {
            Some(verdict) => {
                self.deny(facts, verdict.reason.code(), &verdict.summary(), "live connection closed")
            }
            None => self.deny(facts, "destination-gone", "the pod is gone", "live connection closed"),
        }
    }

    /// Reports a connection to a pod that the snapshot no longer has.
    pub fn unknown_destination(&self, facts: &Facts) {
        self.deny(facts, "unknown-destination", "no pod with this address is known", "connection denied");
    }

    /// Reports a connection that the kernel refused because the caller has no identity and the pod is strict.
    pub fn refused_by_kernel(&self, facts: &Facts) {
        let reason = Reason::PlaintextInStrict;
        self.deny(facts, reason.code(), &format!("refused: {reason}"), "connection denied");
    }

    /// Reports what the kernel refused by its compiled verdicts, or let through and reports: a connection or a datagram
    /// from a pod of this node, a datagram from elsewhere; `snapshot` gives the words.
    pub fn decided_by_kernel(&self, facts: &Facts, snapshot: &Snapshot) {
        let verdict = snapshot.workload(facts.server.ip()).map(|destination| {
            let source = facts.caller.source(facts.client.ip());
            let (protocol, port) = (facts.protocol, facts.server.port());
            snapshot.evaluate(&Connection { source, destination, protocol, port })
        });
        match verdict {
            Some(verdict) if has_remarks(&verdict) => self.record(facts, &verdict),
            _ => self.changed_since(facts),
        }
    }

    /// Reports what the kernel refused a pod to call, or let it in audit mode; `verdict` gives the words.
    pub fn egress_decided_by_kernel(&self, facts: &Facts, verdict: &Verdict) {
        if has_remarks(verdict) { self.record(facts, verdict) } else { self.changed_since(facts) }
    }

    /// Reports a refusal by policies that are no longer the same.
    fn changed_since(&self, facts: &Facts) {
        self.deny(facts, "policy", "refused by a policy that has changed since", "connection denied");
    }

    /// Reports a packet that the guard dropped, or, where the pod is not `enforced`, would have dropped.
    pub fn refused_packet(&self, facts: &Facts, refused: RefusedPacket, protocol: u32, enforced: bool) {
        let why = format!("IP protocol {protocol}: {}", refused.why);
        if enforced {
            return self.deny(facts, refused.code, &format!("refused: {why}"), "packet dropped");
        }
        *self.inner().audited.entry(refused.code).or_default() += 1;
        if self.may_log() {
            tracing::info!(
                src.id = %facts.caller.text(), src.addr = %facts.client, dst.addr = %facts.server,
                dst.pod = %pod_text(facts), reason = refused.code, why, verdict = "audit", "packet would be dropped"
            );
        }
    }

    /// Reports a tunnel whose peer did not prove an identity.
    pub fn refused_handshake(&self, pod: &WorkloadKey, client: SocketAddr, why: &str) {
        self.inner().handshakes_refused += 1;
        if self.may_log() {
            tracing::info!(src.addr = %client, dst.pod = %pod, reason = why, verdict = "deny", "tunnel refused");
        }
    }

    fn deny(&self, facts: &Facts, reason: &'static str, summary: &str, message: &str) {
        let source_pod = self.state.load().workload(facts.client.ip()).map(|pod| pod.key().to_string());
        let denial = Denial {
            time: rfc3339(SystemTime::now()),
            source: facts.caller.text(),
            direction: facts.direction,
            protocol: facts.protocol.to_string(),
            client: facts.client,
            source_pod,
            destination: pod_text(facts),
            server: facts.server,
            reason: reason.to_owned(),
            summary: summary.to_owned(),
        };
        if self.may_log() {
            tracing::info!(
                src.id = %denial.source, src.addr = %denial.client, src.pod = denial.source_pod.as_deref(),
                dst.addr = %denial.server, dst.pod = %denial.destination, protocol = %denial.protocol, reason,
                why = summary, verdict = "deny", "{message}"
            );
        }
        let mut inner = self.inner();
        *inner.denied.entry(reason).or_default() += 1;
        if inner.recent.len() == KEPT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(denial);
    }

    /// Logs with `log`, unless too much was logged in this second: for what a pod or a peer can cause at will.
    pub fn limited(&self, log: impl FnOnce()) {
        if self.may_log() {
            log();
        }
    }

    /// Tells whether another line may be logged in this second, and logs how many were not in the last one.
    fn may_log(&self) -> bool {
        let mut inner = self.inner();
        let now = Instant::now();
        if inner.second.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1)) {
            let suppressed = std::mem::take(&mut inner.suppressed);
            inner.second = Some(now);
            inner.logged = 0;
            if suppressed > 0 {
                tracing::warn!(suppressed, "decisions were not logged one by one: too many in a second");
            }
        }
        if inner.logged == LOGGED_PER_SECOND {
            inner.suppressed += 1;
            return false;
        }
        inner.logged += 1;
        true
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        let inner = self.inner();
        let owned = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
        };
        Counts {
            allowed: owned(&inner.allowed),
            denied: owned(&inner.denied),
            would_deny: owned(&inner.audited),
            dry_run: inner.dry_run.clone(),
            handshakes_refused: inner.handshakes_refused,
        }
    }

    /// Returns the latest denials, oldest first.
    pub fn recent(&self) -> Vec<Denial> {
        self.inner().recent.iter().cloned().collect()
    }
}

/// Tells whether a verdict is worth a report when the connection is not the agent's.
fn has_remarks(verdict: &Verdict) -> bool {
    !verdict.allowed || verdict.would_refuse.is_some() || !verdict.dry_run.is_empty()
}

fn pod_text(facts: &Facts) -> String {
    match (&facts.destination, facts.direction) {
        (Some(pod), _) => pod.to_string(),
        (None, Direction::Inbound) => "unknown".to_owned(),
        (None, Direction::Outbound) => "outside".to_owned(),
    }
}

/// Returns `time` as RFC 3339, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_core::policy::PolicyId;

    #[test]
    fn policies_that_come_and_go_under_dry_run_take_bounded_room() {
        let decisions = Decisions::new(Arc::new(ArcSwap::from_pointee(Snapshot::empty())));
        let turned = |number: usize| DryRun {
            allowed: false,
            reason: Reason::DenyMatch,
            policy: PolicyId { namespace: None, name: format!("p{number}") },
            rule: None,
        };
        for number in 0..3 * MAX_DRY_RUN {
            decisions.count_dry_run(&turned(number));
            decisions.count_dry_run(&turned(number));
        }
        let counts = decisions.counts().dry_run;
        assert!(counts.len() <= MAX_DRY_RUN, "{}", counts.len());
        let last = counts.get(&turned(3 * MAX_DRY_RUN - 1).policy.to_string());
        assert_eq!(last.map(|counts| counts.would_deny), Some(2), "those of now are counted");
    }
}
