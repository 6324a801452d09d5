//! What people see of the enrolled pods: captured or not, how that is known, what the guard dropped, what is wrong.

use super::{Enrolment, WantedPod};
use crate::observe::{PodStatus, refused_packet, rfc3339};
use ambit_abi::event_reason;
use ambit_core::Reason;
use std::collections::BTreeMap;

impl Enrolment {
    /// Returns the pods that are or should be enrolled.
    pub fn status(&self, wanted: &[WantedPod]) -> Vec<PodStatus> {
        let kernel = &self.plane.kernel;
        let refused = kernel.refused().unwrap_or_default();
        let status = |pod: &WantedPod| {
            let enrolled = self.enrolled.get(&pod.key);
            let captured = enrolled.is_some_and(|pod| {
                let cookie = pod.entry.netns_cookie;
                kernel.is_captured(cookie)
                    && pod.links.devices.iter().all(|link| kernel.is_guarded(cookie, link))
            });
            let (links, slot) = enrolled.map(|pod| (pod.links.clone(), pod.entry.slot)).unwrap_or_default();
            let proof = self.proofs.of(slot);
            let proven = proof.as_ref().is_some_and(|proof| proof.failure.is_none());
            PodStatus {
                namespace: pod.key.namespace.clone(),
                name: pod.key.name.clone(),
                mode: pod.mode.to_string(),
                egress: pod.egress.to_string(),
                identity: pod.identity.to_string(),
                addresses: pod.addresses.iter().map(ToString::to_string).collect(),
                policies: pod.policies,
                captured: captured && proven,
                tested_at: proof.as_ref().map(|proof| rfc3339(proof.at)),
                guard: links.devices.into_iter().map(|device| device.name).collect(),
                dropped: dropped(&refused, slot),
                problem: self
                    .problems
                    .get(&pod.key)
                    .cloned()
                    .or_else(|| proof.and_then(|proof| proof.failure))
                    .or_else(|| pod.label_problem.clone())
                    .or_else(|| unguarded(&links.unguarded)),
            }
        };
        wanted.iter().map(status).collect()
    }
}

/// Returns how many packets of the pod with this slot the guard dropped, by the code of the reason.
fn dropped(refused: &BTreeMap<(u32, u32), u64>, slot: u32) -> BTreeMap<String, u64> {
    let own = refused.range((slot, 0)..=(slot, u32::MAX));
    let code = |reason| match reason {
        event_reason::EGRESS => Some(Reason::EgressOutsideMesh.code()),
        other => refused_packet(other).map(|refused| refused.code),
    };
    own.filter_map(|((_, reason), packets)| Some((code(*reason)?.to_owned(), *packets))).collect()
}

/// Says what it means that a pod has links which the guard cannot stand on.
fn unguarded(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| {
        format!(
            "{} leads out of the pod past the node's network (no veth or netkit pair): packets of raw sockets are not \
             caught there",
            names.join(", ")
        )
    })
}
