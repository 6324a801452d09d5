//! The kernel's own refusals, turned into the same words as the agent's.

use super::Decisions;
use crate::dataplane::live::{Caller, Direction, Facts};
use ambit_abi::{Event, SocketAddress, event_reason};
use ambit_bpf::{EventReader, from_abi};
use ambit_core::state::Snapshot;
use arc_swap::ArcSwap;
use std::{io, sync::Arc};

/// Reports what the kernel refuses, on a thread of its own, for as long as the agent runs.
///
/// # Errors
/// The thread cannot be made.
pub fn report_refusals(
    mut reader: EventReader,
    decisions: Arc<Decisions>,
    state: Arc<ArcSwap<Snapshot>>,
) -> io::Result<()> {
    let follow = move || {
        loop {
            if let Err(error) = reader.wait() {
                tracing::error!(%error, "the kernel's refusals are no longer reported");
                return;
            }
            while let Some(event) = reader.next_event() {
                report(&event, &decisions, &state.load());
            }
        }
    };
    std::thread::Builder::new().name("refusals".to_owned()).spawn(follow).map(drop)
}

fn report(event: &Event, decisions: &Decisions, snapshot: &Snapshot) {
    let key = &event.key;
    let client = from_abi(SocketAddress { ip: key.source, port: key.source_port, _pad: 0 });
    let server = from_abi(SocketAddress { ip: key.destination, port: key.destination_port, _pad: 0 });
    let facts = Facts {
        direction: Direction::Inbound,
        caller: Caller::Unverified,
        client,
        server,
        destination: snapshot.workload(server.ip()).map(|pod| pod.key()),
        service: None,
        encrypted: false,
    };
    match event.reason {
        event_reason::UNVERIFIED_IN_STRICT => decisions.refused_by_kernel(&facts),
        event_reason::UNKNOWN_ADDRESS => decisions.unknown_destination(&facts),
        event_reason::NO_LISTENER => tracing::warn!(
            src.addr = %client, dst.addr = %server, verdict = "deny", reason = "agent-not-running",
            "connection refused while no agent was listening"
        ),
        unknown => tracing::warn!(unknown, "the kernel reported a refusal that this agent does not know"),
    }
}
