//! The kernel's own refusals, turned into the same words as the agent's.

use super::Decisions;
use crate::dataplane::live::{Caller, Direction, Facts};
use ambit_abi::{Event, SocketAddress, event_reason};
use ambit_bpf::{EventReader, from_abi};
use ambit_core::state::Snapshot;
use arc_swap::ArcSwap;
use std::{io, sync::Arc};
use tokio::io::{Interest, unix::AsyncFd};

/// Reports what the kernel refuses, for as long as the agent runs.
///
/// # Errors
/// What waiting for the ring buffer says.
pub async fn report_refusals(
    reader: EventReader,
    decisions: Arc<Decisions>,
    state: Arc<ArcSwap<Snapshot>>,
) -> io::Result<()> {
    let mut ring = AsyncFd::with_interest(reader, Interest::READABLE)?;
    loop {
        let mut ready = ring.readable_mut().await?;
        while let Some(event) = ready.get_inner_mut().next_event() {
            report(&event, &decisions, &state.load());
        }
        ready.clear_ready();
    }
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
