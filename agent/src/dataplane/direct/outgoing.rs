//! Connections that a pod has opened to something outside the mesh, and that no longer may be.

use super::{Refused, diag};
use crate::dataplane::{
    Dataplane, LocalPod,
    live::{Caller, Direction, Facts, Path},
};
use ambit_abi::flow_kind;
use ambit_core::{model::Egress, policy::Protocol, state::Snapshot};
use std::{collections::BTreeSet, fs, io};

/// Returns the outgoing connections of the pod that `snapshot` does not allow. The agent's own are not among them, nor
/// those of the pod that were rewritten to reach the agent: these lead to the pod's own address.
pub(super) fn refused_of<'a>(
    plane: &Dataplane,
    pod: &'a LocalPod,
    snapshot: &Snapshot,
) -> io::Result<Vec<Refused<'a>>> {
    let source = snapshot.workload_named(&pod.key.namespace, &pod.key.name);
    let Some(source) = source.filter(|source| source.egress == Egress::Mesh) else { return Ok(Vec::new()) };
    let sockets = diag::list_in(&pod.netns, &[diag::SYN_SENT, diag::LISTEN])?;
    let served: BTreeSet<u16> = sockets
        .iter()
        .filter(|socket| socket.state == diag::LISTEN)
        .map(|socket| socket.local.port())
        .collect();
    let mut refused = Vec::new();
    for socket in sockets.into_iter().chain(diag::list(&pod.netns)?) {
        // Who accepts on a port, calls from another.
        if socket.state == diag::LISTEN || served.contains(&socket.local.port()) {
            continue;
        }
        let verdict = snapshot.evaluate_egress(source, socket.remote, Protocol::Tcp);
        if verdict.allowed {
            continue;
        }
        let flow = plane.kernel.flow(socket.local, socket.remote).map_err(io::Error::other)?;
        if flow.is_some_and(|flow| flow.kind == flow_kind::AGENT) {
            continue;
        }
        let facts = Facts {
            direction: Direction::Outbound,
            caller: Caller::Identity(pod.identity.clone()),
            client: socket.local,
            server: socket.remote,
            destination: snapshot.workload(socket.remote.ip()).map(|pod| pod.key()),
            service: None,
            path: Path::Direct,
            protocol: Protocol::Tcp,
        };
        refused.push(Refused { pod, socket, facts, verdict });
    }
    if !refused.is_empty() {
        // A flow may have been forgotten where there are very many; a descriptor is not.
        let own = own_sockets()?;
        refused.retain(|refused| !own.contains(&refused.socket.inode));
    }
    Ok(refused)
}

/// Returns the inodes of the sockets that this process holds.
fn own_sockets() -> io::Result<BTreeSet<u32>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // A descriptor may have been closed since.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let inode = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
    }
    Ok(inodes)
}
