//! When each pod was last tested for being captured, and what came of it.

use crate::{
    dataplane::{Dataplane, LocalPod},
    observe::chain,
};
use ambit_bpf::Device;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How often a pod that is captured is tested again.
const AGAIN: Duration = Duration::from_secs(30);
/// How often one that is not is.
const SOON: Duration = Duration::from_secs(1);

/// What the last test of a pod came to.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// When.
    pub(super) at: SystemTime,
    /// Why the pod is not captured; `None`: it is.
    pub(super) failure: Option<String>,
    due: Instant,
}

/// The last test of each pod, by slot.
#[derive(Default)]
pub(super) struct Proofs {
    proofs: Mutex<BTreeMap<u32, Entry>>,
}

#[derive(Default)]
struct Entry {
    last: Option<Proof>,
    running: bool,
    /// Whether the test that runs began before the last failure, of which it may know nothing.
    outdated: bool,
}

impl Proofs {
    fn proofs(&self) -> MutexGuard<'_, BTreeMap<u32, Entry>> {
        // Entries are replaced whole: a panic elsewhere leaves the map usable.
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last test of the pod with this slot.
    pub(super) fn of(&self, slot: u32) -> Option<Proof> {
        self.proofs().get(&slot).and_then(|entry| entry.last.clone())
    }

    /// Starts the tests that are due, and forgets pods other than `pods`.
    pub(super) fn refresh<'a>(
        self: &Arc<Self>,
        plane: &Arc<Dataplane>,
        pods: impl Iterator<Item = (&'a Arc<LocalPod>, &'a [Device])>,
    ) {
        if !plane.kernel.is_attached() {
            return;
        }
        let pods: BTreeMap<u32, _> = pods.map(|(pod, devices)| (pod.slot, (pod, devices))).collect();
        let mut proofs = self.proofs();
        proofs.retain(|slot, _| pods.contains_key(slot));
        for (slot, (pod, devices)) in pods {
            let entry = proofs.entry(slot).or_default();
            if entry.running || entry.last.as_ref().is_some_and(|proof| Instant::now() < proof.due) {
                continue;
            }
            entry.running = true;
            let (proofs, plane) = (Arc::clone(self), Arc::clone(plane));
            let (pod, devices) = (Arc::clone(pod), devices.to_vec());
            tokio::spawn(async move {
                let failure = plane.prove(&pod, &devices).await.err().map(|error| chain(&error));
                proofs.conclude(&pod, failure);
            });
        }
    }

    /// Takes `failure` for what the last test came to, and lets another test follow soon.
    pub(super) fn fail(&self, pod: &LocalPod, failure: String) {
        let mut proofs = self.proofs();
        let Some(entry) = proofs.get_mut(&pod.slot) else { return };
        entry.outdated = entry.running;
        entry.enter(pod, Some(failure));
    }

    fn conclude(&self, pod: &LocalPod, failure: Option<String>) {
        let mut proofs = self.proofs();
        // A pod that was released meanwhile is of no interest.
        let Some(entry) = proofs.get_mut(&pod.slot) else { return };
        entry.running = false;
        if !std::mem::take(&mut entry.outdated) {
            entry.enter(pod, failure);
        }
    }
}

impl Entry {
    fn enter(&mut self, pod: &LocalPod, failure: Option<String>) {
        let before = self.last.as_ref().and_then(|proof| proof.failure.as_deref());
        match &failure {
            Some(problem) if before != Some(problem) => {
                tracing::error!(pod = %pod.key, reason = %problem, "pod is not captured");
            }
            None if before.is_some() => tracing::info!(pod = %pod.key, "pod is captured again"),
            _ => {}
        }
        let due = Instant::now() + if failure.is_some() { SOON } else { AGAIN };
        self.last = Some(Proof { at: SystemTime::now(), failure, due });
    }
}
