//! `ambit explain` at the main socket: the snapshot in force answers, and what keeps it from being enforced is noted.
//!
//! Never decides anything, and never writes into the kernel.

use super::node::Node;
use crate::explain::{Explanation, Question, explain};
use ambit_core::Snapshot;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers a question.
pub(super) async fn answer(node: &Arc<Node>, question: Question) -> Value {
    let node = Arc::clone(node);
    // It copies the objects for what it proposes: too long for a thread that carries connections.
    let answered = tokio::task::spawn_blocking(move || {
        let snapshot = node.plane.state.load_full();
        let options = &node.parts.options;
        let answered_by = format!("the agent of node {}, snapshot {}", options.node, snapshot.version());
        let mut answer = explain(&snapshot, &question, options.same_node, &answered_by)?;
        note_what_is_not_enforced(&node, &snapshot, &mut answer);
        anyhow::Ok(serde_json::to_value(answer)?)
    });
    match answered.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => json!({ "error": format!("{error:#}") }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Notes what the snapshot does not know: pods of this node that are not captured, and objects that are not in force.
fn note_what_is_not_enforced(node: &Node, snapshot: &Snapshot, answer: &mut Explanation) {
    for pod in node.pods(snapshot) {
        let name = format!("{}/{}", pod.namespace, pod.name);
        if (name == answer.caller || name == answer.called) && !pod.captured {
            let problem = pod.problem.unwrap_or_else(|| "no test has shown it yet".to_owned());
            answer
                .notes
                .push(format!("{name} is not captured, so that this may not hold for it now: {problem}"));
        }
    }
    let errors = node.parts.source.status.borrow().errors.len();
    if errors > 0 {
        answer.notes.push(
            "the objects as they are now are not valid, and the last good state answers; `ambit status` says what is wrong"
                .to_owned(),
        );
    }
}
