//! Enrols and releases the pods of this node, as the snapshot says: certificates first, then listeners, then hooks.
//!
//! Decides nothing about connections. A pod that cannot be enrolled is reported and tried again; the others are not
//! disturbed by it.

mod lane;
mod wanted;

pub use wanted::{WantedPod, wanted_pods};

use crate::{
    dataplane::{Dataplane, LocalPod, Netns, NetnsError},
    identity::store::IdentityStore,
    observe::{PodStatus, chain},
};
use ambit_bpf::{KernelError, PodEntry};
use ambit_core::{
    identity::SpiffeId,
    model::{Mode, WorkloadKey},
    state::Snapshot,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// How long the listeners of a pod that was released serve what was steered to them just before.
const DRAIN: Duration = Duration::from_secs(1);

/// Why a pod is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The Pod object names no network namespace.
    #[error("the Pod object has no annotation ambit.dev/netns: add the path of its network namespace")]
    NoNetns,
    /// The network namespace cannot be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Another pod claims the same network namespace.
    #[error("its network namespace is that of pod {0}: correct one of the annotations ambit.dev/netns")]
    Shared(WorkloadKey),
    /// The listeners cannot be made.
    #[error(transparent)]
    Listen(#[from] crate::dataplane::ListenError),
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A pod that is enrolled.
struct Enrolled {
    wanted: WantedPod,
    entry: PodEntry,
    local: Arc<LocalPod>,
    /// Stops accepting when dropped.
    accepting: JoinSet<()>,
}

/// The enrolment of a node.
pub struct Enrolment {
    plane: Arc<Dataplane>,
    identities: Arc<IdentityStore>,
    enrolled: BTreeMap<WorkloadKey, Enrolled>,
    /// What an agent before this one left in the kernel, by the cookie of the network namespace.
    inherited: BTreeMap<u64, PodEntry>,
    /// Network namespaces of pods that are wanted and could not be enrolled whole: their hooks stay, and refuse.
    blocked: BTreeSet<u64>,
    problems: BTreeMap<WorkloadKey, String>,
    next_slot: u32,
}

impl Enrolment {
    /// Takes over what an agent before this one left in the kernel.
    ///
    /// # Errors
    /// The kernel's maps cannot be read.
    pub fn new(plane: Arc<Dataplane>) -> Result<Self, KernelError> {
        let inherited: BTreeMap<u64, PodEntry> =
            plane.kernel.pods()?.into_iter().map(|entry| (entry.netns_cookie, entry)).collect();
        let next_slot = inherited.values().map(|entry| entry.slot).max().unwrap_or(0) + 1;
        let identities = Arc::clone(&plane.identities);
        Ok(Self {
            plane,
            identities,
            enrolled: BTreeMap::new(),
            inherited,
            blocked: BTreeSet::new(),
            problems: BTreeMap::new(),
            next_slot,
        })
    }

    /// Makes the node what `wanted` says. Called again with the same pods it repairs what has changed underneath.
    ///
    /// # Errors
    /// The kernel's maps cannot be written; what could be done was done.
    pub fn apply(&mut self, snapshot: &Snapshot, wanted: Vec<WantedPod>) -> Result<(), KernelError> {
        let identities: BTreeSet<SpiffeId> = wanted.iter().map(|pod| pod.identity.clone()).collect();
        self.identities.reconcile(&identities);
        let mut gone: Vec<WorkloadKey> = Vec::new();
        for (key, enrolled) in &self.enrolled {
            let still = wanted.iter().find(|pod| pod.key == *key);
            if !still.is_some_and(|pod| enrolled.is_instance(pod)) {
                gone.push(key.clone());
            }
        }
        for key in &gone {
            self.release(key)?;
        }
        let keys: BTreeSet<&WorkloadKey> = wanted.iter().map(|pod| &pod.key).collect();
        self.problems.retain(|key, _| keys.contains(key));
        self.blocked.clear();
        for pod in wanted {
            self.ensure(pod)?;
        }
        let blocked = &self.blocked;
        for (_, entry) in self.inherited.extract_if(.., |cookie, _| !blocked.contains(cookie)) {
            self.plane.kernel.release(&entry)?;
        }
        let enrolled = self.enrolled.values().map(|pod| pod.entry.netns_cookie);
        let cookies = enrolled.chain(self.blocked.iter().copied()).collect();
        self.plane.kernel.detach_stale(&cookies)?;
        let pods: Vec<(u32, WorkloadKey)> =
            self.enrolled.values().map(|pod| (pod.entry.slot, pod.wanted.key.clone())).collect();
        // Verdicts speak of pods that exist, and come before the ways that lead to them.
        let lane = self.plane.kernel.has_direct_lane();
        let verdicts = if lane { lane::verdicts(snapshot, &pods) } else { BTreeMap::new() };
        self.plane.kernel.set_verdicts(&verdicts)?;
        let callers = self.enrolled.values().map(|pod| (pod.entry.slot, Arc::clone(&pod.local)));
        self.plane.local.store(Arc::new(callers.collect()));
        let services = if lane { snapshot.meshed_services() } else { BTreeMap::new() };
        self.plane.kernel.set_services(&services)?;
        self.plane.kernel.set_destinations(&snapshot.redirect_destinations().into_iter().collect())
    }

    fn ensure(&mut self, pod: WantedPod) -> Result<(), KernelError> {
        if let Some(enrolled) = self.enrolled.get_mut(&pod.key) {
            if enrolled.entry.flags != pod.flags {
                enrolled.entry.flags = pod.flags;
                self.plane.kernel.update(&enrolled.entry)?;
            }
            enrolled.wanted = pod;
            return Ok(());
        }
        let key = pod.key.clone();
        match self.enrol(pod) {
            Ok(enrolled) => {
                self.problems.remove(&key);
                tracing::info!(pod = %key, mode = %enrolled.wanted.mode, src.id = %enrolled.wanted.identity, "pod enrolled");
                self.enrolled.insert(key, enrolled);
            }
            Err(error) => {
                let problem = chain(&error);
                // Said once, not at every attempt.
                if self.problems.get(&key) != Some(&problem) {
                    tracing::error!(pod = %key, reason = %problem, "pod is not enrolled: other pods refuse it and cannot reach it");
                }
                self.problems.insert(key, problem);
            }
        }
        Ok(())
    }

    fn enrol(&mut self, pod: WantedPod) -> Result<Enrolled, EnrolError> {
        let path = pod.netns.as_deref().filter(|path| !path.is_empty()).ok_or(EnrolError::NoNetns)?;
        let netns = Netns::open(&self.plane.home, Path::new(path))?;
        let cookie = netns.cookie();
        if let Some((other, _)) = self.enrolled.iter().find(|(_, pod)| pod.entry.netns_cookie == cookie) {
            return Err(EnrolError::Shared(other.clone()));
        }
        let before = self.inherited.remove(&cookie);
        let slot = match &before {
            Some(entry) if entry.addresses == pod.addresses => entry.slot,
            _ => self.take_slot(),
        };
        let entry =
            PodEntry { netns_cookie: cookie, slot, addresses: pod.addresses.clone(), flags: pod.flags };
        let local =
            LocalPod::new(pod.key.clone(), slot, netns.clone(), pod.identity.clone(), pod.addresses.clone());
        // Listeners first, so that no connection finds the hooks without them; but without listeners the hooks are
        // attached all the same, and refuse.
        let accepting = self.plane.listen(&local);
        let hooked = self.plane.kernel.enrol(&entry, &netns);
        if let Some(before) = before.filter(|before| before.slot != slot) {
            // The same network namespace under other addresses: those that are no longer its own go.
            let stale = before.addresses.into_iter().filter(|ip| !entry.addresses.contains(ip)).collect();
            self.plane.kernel.forget_addresses(&PodEntry { addresses: stale, ..before })?;
        }
        let whole = hooked.map_err(EnrolError::from).and_then(|()| accepting.map_err(EnrolError::from));
        match whole {
            Ok(accepting) => Ok(Enrolled { wanted: pod, entry, local, accepting }),
            Err(error) => {
                self.blocked.insert(cookie);
                self.inherited.insert(cookie, entry);
                Err(error)
            }
        }
    }

    fn release(&mut self, key: &WorkloadKey) -> Result<(), KernelError> {
        let Some(enrolled) = self.enrolled.remove(key) else { return Ok(()) };
        self.plane.kernel.release(&enrolled.entry)?;
        self.plane.forget(enrolled.entry.slot);
        // No hook leads to the listeners any more; whoever is in their queues is still served.
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN).await;
            drop(enrolled.accepting);
        });
        tracing::info!(pod = %key, "pod released");
        Ok(())
    }

    fn take_slot(&mut self) -> u32 {
        let slot = self.next_slot;
        self.next_slot += 1;
        slot
    }

    /// Returns the pods on which policies are enforced.
    pub fn enforced(&self) -> Vec<Arc<LocalPod>> {
        let enforced = |pod: &&Enrolled| matches!(pod.wanted.mode, Mode::Permissive | Mode::Strict);
        self.enrolled.values().filter(enforced).map(|pod| Arc::clone(&pod.local)).collect()
    }

    /// Returns the pods that are or should be enrolled.
    pub fn status(&self, wanted: &[WantedPod]) -> Vec<PodStatus> {
        let status = |pod: &WantedPod| {
            let enrolled = self.enrolled.get(&pod.key);
            let captured = enrolled.is_some_and(|pod| self.plane.kernel.is_captured(pod.entry.netns_cookie));
            PodStatus {
                namespace: pod.key.namespace.clone(),
                name: pod.key.name.clone(),
                mode: pod.mode.to_string(),
                identity: pod.identity.to_string(),
                addresses: pod.addresses.iter().map(ToString::to_string).collect(),
                policies: pod.policies,
                captured,
                problem: self.problems.get(&pod.key).cloned().or_else(|| pod.mode_problem.clone()),
            }
        };
        wanted.iter().map(status).collect()
    }
}

impl Enrolled {
    /// Tells whether `pod` is this very instance, still in the same network namespace.
    fn is_instance(&self, pod: &WantedPod) -> bool {
        let before = &self.wanted;
        before.uid == pod.uid
            && before.netns == pod.netns
            && before.addresses == pod.addresses
            && before.identity == pod.identity
            && pod.netns.as_deref().is_some_and(|path| self.local.netns.is_at(Path::new(path)))
    }
}
