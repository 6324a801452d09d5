//! The kernel's own refusals, turned into the same words as the agent's.

use super::packet::refused_packet;
use crate::dataplane::{
    Dataplane,
    live::{Direction, Facts, Path},
};
use ambit_abi::{Event, SocketAddress, event_reason};
use ambit_bpf::{EventReader, from_abi};
use ambit_core::model::Mode;
use std::{io, sync::Arc};

/// Reports what the kernel refuses, on a thread of its own, for as long as the agent runs.
///
/// # Errors
/// The thread cannot be made.
pub fn report_refusals(mut reader: EventReader, plane: Arc<Dataplane>) -> io::Result<()> {
    let follow = move || {
        loop {
            if let Err(error) = reader.wait() {
                tracing::error!(%error, "the kernel's refusals are no longer reported");
                return;
            }
            while let Some(event) = reader.next_event() {
                report(&event, &plane);
            }
        }
    };
    std::thread::Builder::new().name("refusals".to_owned()).spawn(follow).map(drop)
}

fn report(event: &Event, plane: &Dataplane) {
    let (decisions, snapshot) = (&plane.decisions, plane.state.load());
    let key = &event.key;
    let client = from_abi(SocketAddress { ip: key.source, port: key.source_port, _pad: 0 });
    let server = from_abi(SocketAddress { ip: key.destination, port: key.destination_port, _pad: 0 });
    let outbound = event.slot == 0 && event.source_slot != 0;
    let facts = Facts {
        direction: if outbound { Direction::Outbound } else { Direction::Inbound },
        caller: plane.instance(event.source_slot),
        client,
        server,
        destination: snapshot.workload(server.ip()).map(|pod| pod.key()),
        service: None,
        path: Path::Plaintext,
    };
    if let Some(refused) = refused_packet(event.reason) {
        // It was refused, or would have been, because of the pod whose link it was on.
        let pod = plane.pod(if outbound { event.source_slot } else { event.slot });
        let mode = pod.and_then(|key| snapshot.workload_named(&key.namespace, &key.name)).map(|pod| pod.mode);
        return decisions.refused_packet(&facts, refused, event.protocol, mode != Some(Mode::Audit));
    }
    match event.reason {
        event_reason::UNVERIFIED_IN_STRICT => decisions.refused_by_kernel(&facts),
        event_reason::POLICY => decisions.refused_by_policy(&facts, &snapshot),
        event_reason::UNKNOWN_ADDRESS => decisions.unknown_destination(&facts),
        event_reason::NO_LISTENER => decisions.limited(|| {
            tracing::warn!(
                src.addr = %client, dst.addr = %server, verdict = "deny", reason = "no-listener",
                "connection refused: no agent served the pod, because none ran or the pod is not enrolled whole \
                 (`ambit status` says why)"
            );
        }),
        unknown => tracing::warn!(unknown, "the kernel reported a refusal that this agent does not know"),
    }
}
