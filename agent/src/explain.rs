//! What would happen to a call, and why: `ambit explain`, answered from a snapshot by an agent or from files.
//!
//! The verdict is that of `core::policy`, the words are those of the log; a trace made beside it gives the steps. Never
//! touches a connection, a map or a file.

mod advice;
mod party;
mod steps;
mod yaml;

use ambit_core::{
    Snapshot, Verdict,
    reach::{Attempt, Called, Caller, Decider, Outcome, decider, reach},
};
use serde::{Deserialize, Serialize};

use crate::run::SameNode;

pub use advice::Change;
pub use steps::Step;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who calls: namespace/pod, a SPIFFE identity, an address, or `host`.
    pub from: String,
    /// What is called: namespace/pod, namespace/service, or an address.
    pub to: String,
    /// The port of the pod, or of the service.
    pub port: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
}

/// Why a question cannot be answered: what was asked, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} {asked}: {problem}")]
pub struct Unanswerable {
    /// The option that is wrong.
    pub option: &'static str,
    /// What it said.
    pub asked: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who calls: a pod as namespace/name, an identity, an address, or `host`.
    pub caller: String,
    /// What is called, past a service: a pod as namespace/name, or an address.
    pub called: String,
    /// Whether the call comes about.
    pub verdict: Answer,
    /// Stable code of the reason.
    pub reason: String,
    /// The decision as a sentence, with policy and rule, as in the log.
    pub summary: String,
    /// The policy that decided.
    pub policy: Option<String>,
    /// Its rule, counted from 0.
    pub rule: Option<usize>,
    /// Who decides.
    pub decided_by: DecidedBy,
    /// The node on which it is decided, where one decides.
    pub decided_on: Option<String>,
    /// In audit mode: the code of the reason for which strict would refuse.
    pub strict_would_refuse: Option<String>,
    /// Of a service: each endpoint that a connection may go to.
    pub endpoints: Vec<EndpointAnswer>,
    /// How it comes about, in order.
    pub steps: Vec<Step>,
    /// What to change for the other answer: all of these.
    pub changes: Vec<Change>,
    /// What keeps the answer from being the whole truth.
    pub notes: Vec<String>,
    /// Who answered, and from which objects.
    pub answered_by: String,
}

/// Whether a call comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It does.
    Allow,
    /// It does not.
    Refuse,
}

impl Answer {
    fn of(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Refuse }
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecidedBy {
    /// The kernel.
    Kernel,
    /// The agent.
    Agent,
    /// Nobody: ambit does not touch the call.
    Nobody,
}

/// What comes of a call to one endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointAnswer {
    /// The address and the port.
    pub address: String,
    /// The pod that has it, as namespace/name; absent for something outside.
    pub pod: Option<String>,
    /// Whether the call comes about.
    pub verdict: Answer,
    /// The decision as a sentence.
    pub summary: String,
}

/// What comes of a call to one place that it may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// Whether the pod calls itself.
    pub is_itself: bool,
    /// The verdict.
    pub verdict: Verdict,
}

/// Answers a question; `same_node` is how pods of one node reach each other, `answered_by` says from which objects.
///
/// # Errors
/// The question names something that is not there, or that cannot call or be called.
pub fn explain(
    snapshot: &Snapshot,
    question: &Question,
    same_node: SameNode,
    answered_by: &str,
) -> Result<Explanation, Unanswerable> {
    let protocol = party::protocol(&question.protocol)?;
    let (from, mut notes) = party::from(snapshot, &question.from)?;
    let target = party::target(snapshot, question, protocol)?;
    let foreseen = foresee(snapshot, question, &from, &target)?;
    let refused = foreseen.iter().filter(|(_, outcome)| !allowed(outcome)).count();
    // Of several endpoints the first that refuses is explained.
    let first = foreseen.iter().position(|(_, outcome)| !allowed(outcome)).unwrap_or(0);
    let (attempt, outcome) = foreseen.get(first).ok_or_else(|| party::both_outside(question))?;
    let verdict = outcome.verdict().ok_or_else(|| party::both_outside(question))?;
    let lane = same_node == SameNode::Direct;
    let decider = decider(snapshot, attempt, outcome, lane);
    let summary = match foreseen.len() {
        all if refused > 0 && refused < all => {
            format!("refused by {refused} of {all} endpoints: {}", verdict.summary())
        }
        _ => verdict.summary(),
    };
    notes.extend(from.doubts(snapshot, attempt));
    Ok(Explanation {
        caller: from.name(),
        called: match attempt.called {
            Called::Pod { pod, .. } => pod.key().to_string(),
            Called::Address(address) => address.to_string(),
        },
        verdict: Answer::of(verdict.allowed),
        reason: verdict.reason.code().to_owned(),
        summary,
        policy: verdict.policy.as_ref().map(ToString::to_string),
        rule: verdict.rule,
        decided_by: match decider {
            Decider::Nobody => DecidedBy::Nobody,
            Decider::Kernel | Decider::CallersKernel => DecidedBy::Kernel,
            Decider::Agent => DecidedBy::Agent,
        },
        decided_on: steps::node(attempt, decider),
        strict_would_refuse: verdict.would_refuse.as_ref().map(|refusal| refusal.reason.code().to_owned()),
        endpoints: target.service.map_or_else(Vec::new, |_| foreseen.iter().map(endpoint).collect()),
        steps: steps::steps(snapshot, &from, &target, (attempt, outcome), (decider, lane)),
        changes: advice::other_answer(snapshot, attempt),
        notes,
        answered_by: answered_by.to_owned(),
    })
}

/// Answers a question by its verdicts alone: one for each place that the call may go to.
///
/// # Errors
/// The question names something that is not there, or that cannot call or be called.
pub fn verdicts(snapshot: &Snapshot, question: &Question) -> Result<Vec<Foreseen>, Unanswerable> {
    let protocol = party::protocol(&question.protocol)?;
    let (from, _) = party::from(snapshot, &question.from)?;
    let target = party::target(snapshot, question, protocol)?;
    let foreseen = foresee(snapshot, question, &from, &target)?;
    let told = foreseen.iter().filter_map(|(attempt, outcome)| {
        let is_itself = matches!(
            (attempt.caller, attempt.called),
            (Caller::Pod(caller), Called::Pod { pod, .. }) if caller.key() == pod.key()
        );
        Some(Foreseen { is_itself, verdict: outcome.verdict()?.clone() })
    });
    Ok(told.collect())
}

/// Foresees a call to each place that it may go to: of a service, each endpoint.
fn foresee<'a>(
    snapshot: &'a Snapshot,
    question: &Question,
    from: &'a party::From<'a>,
    target: &party::Target<'a>,
) -> Result<Vec<(Attempt<'a>, Outcome<'a>)>, Unanswerable> {
    let protocol = party::protocol(&question.protocol)?;
    let attempts = target.endpoints.iter().map(|endpoint| {
        let attempt = Attempt {
            caller: from.caller(snapshot, endpoint.called),
            called: endpoint.called,
            port: endpoint.port,
            protocol,
            by_service: target.service.is_some(),
        };
        let outcome = reach(snapshot, &attempt);
        if outcome.verdict().is_none() {
            return Err(party::both_outside(question));
        }
        Ok((attempt, outcome))
    });
    attempts.collect()
}

fn allowed(outcome: &Outcome<'_>) -> bool {
    outcome.verdict().is_some_and(|verdict| verdict.allowed)
}

fn endpoint((attempt, outcome): &(Attempt<'_>, Outcome<'_>)) -> EndpointAnswer {
    EndpointAnswer {
        address: std::net::SocketAddr::new(attempt.called.address(), attempt.port).to_string(),
        pod: match attempt.called {
            Called::Pod { pod, .. } => Some(pod.key().to_string()),
            Called::Address(_) => None,
        },
        verdict: Answer::of(allowed(outcome)),
        summary: outcome.verdict().map(ambit_core::Verdict::summary).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
