//! The kernel's own refusals, turned into the same words as the agent's.

use super::packet::refused_packet;
use crate::dataplane::{
    Dataplane,
    live::{Direction, Facts, Path},
};
use ambit_abi::{Event, SocketAddress, TCP, UDP, event_reason};
use ambit_bpf::{EventReader, StopSign, from_abi};
use ambit_core::{
    model::Mode,
    policy::{Call, Protocol, evaluate_egress},
    state::Snapshot,
};
use std::{io, sync::Arc, thread::JoinHandle};

/// The thread that reports the kernel's refusals; stops when dropped.
pub struct Reporting {
    stop: Arc<StopSign>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reporting {
    fn drop(&mut self) {
        // Two readers of one buffer would take each other's place: this one is over when this returns.
        if let (Ok(()), Some(thread)) = (self.stop.raise(), self.thread.take()) {
            // A panic of the thread was reported by itself.
            let _ = thread.join();
        }
    }
}

/// Reports what the kernel refuses, on a thread of its own, until the returned handle is dropped.
///
/// # Errors
/// The thread cannot be made.
pub fn report_refusals(mut reader: EventReader, plane: Arc<Dataplane>) -> io::Result<Reporting> {
    let stop = Arc::new(StopSign::new()?);
    let sign = Arc::clone(&stop);
    let follow = move || {
        loop {
            match reader.wait(&sign) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "the kernel's refusals are no longer reported");
                    return;
                }
            }
            while let Some(event) = reader.next_event() {
                report(&event, &plane);
            }
        }
    };
    let thread = std::thread::Builder::new().name("refusals".to_owned()).spawn(follow)?;
    Ok(Reporting { stop, thread: Some(thread) })
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
        protocol: if event.protocol == u32::from(UDP) { Protocol::Udp } else { Protocol::Tcp },
    };
    if let Some(refused) = refused_packet(event.reason) {
        // It was refused, or would have been, because of the pod whose link it was on.
        let pod = plane.pod(if outbound { event.source_slot } else { event.slot });
        let mode = pod.and_then(|key| snapshot.workload_named(&key.namespace, &key.name)).map(|pod| pod.mode);
        return decisions.refused_packet(&facts, refused, event.protocol, mode != Some(Mode::Audit));
    }
    match event.reason {
        event_reason::UNVERIFIED_IN_STRICT => decisions.refused_by_kernel(&facts),
        event_reason::POLICY | event_reason::DATAGRAM => decisions.decided_by_kernel(&facts, &snapshot),
        event_reason::EGRESS | event_reason::EGRESS_AUDIT => report_egress(event, plane, &snapshot, &facts),
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

/// Reports that a pod called something outside the mesh that no egress rule names, in the words of the snapshot.
fn report_egress(event: &Event, plane: &Dataplane, snapshot: &Snapshot, facts: &Facts) {
    let key = plane.pod(event.source_slot);
    // A pod that is gone is nobody's to ask about.
    let Some(source) = key.and_then(|key| snapshot.workload_named(&key.namespace, &key.name)) else { return };
    let named = |number: u16| event.protocol == u32::from(number);
    let asked = (named(TCP) || named(UDP))
        .then(|| snapshot.evaluate_egress(source, facts.server, facts.protocol))
        .filter(|verdict| !verdict.allowed || verdict.would_refuse.is_some());
    // Behind a service the kernel refused the endpoint that it chose; and no rule names ICMP.
    let verdict = asked.unwrap_or_else(|| {
        let (address, port) = (facts.server.ip(), facts.server.port());
        evaluate_egress(&[], &Call { source, address, port, protocol: facts.protocol, in_mesh: false })
    });
    plane.decisions.egress_decided_by_kernel(facts, &verdict);
}
