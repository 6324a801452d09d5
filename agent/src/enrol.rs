//! Enrols and releases the pods of this node, as the snapshot says: certificates first, then listeners, then hooks.
//!
//! Decides nothing about connections. A pod that cannot be enrolled is reported and tried again; the others are not
//! disturbed by it.

mod compiled;
mod links;
mod proofs;
mod status;
mod wanted;

use links::guard;
use proofs::Proofs;
pub use wanted::{WantedPod, wanted_pods};

use crate::{
    dataplane::{Dataplane, Links, LocalPod, Netns, NetnsError, canaries},
    identity::store::IdentityStore,
    observe::chain,
};
use ambit_abi::pod_flag;
use ambit_bpf::{KernelError, PodEntry};
use ambit_core::{
    identity::SpiffeId,
    model::{Mode, WorkloadKey},
    state::Snapshot,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
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
    /// The pod's links to the node cannot be found.
    #[error("find the pod's links to the node")]
    Links(#[source] std::io::Error),
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
    /// What the guard stands on.
    links: Links,
    /// Stops accepting when dropped.
    accepting: JoinSet<()>,
}

/// The enrolment of a node.
pub struct Enrolment {
    plane: Arc<Dataplane>,
    identities: Arc<IdentityStore>,
    enrolled: BTreeMap<WorkloadKey, Enrolled>,
    /// Hooks without listeners, by the cookie of the network namespace: what an agent before this one left in the
    /// kernel, and pods that were enrolled, or were to be, and are not now. They refuse until their pod is enrolled,
    /// or no longer wanted.
    inherited: BTreeMap<u64, PodEntry>,
    /// Slots below this one were given by an agent before this one.
    first_slot: u32,
    /// The snapshot and the slots for which the kernel's tables were last written.
    written: Option<(u64, Vec<u32>)>,
    problems: BTreeMap<WorkloadKey, String>,
    next_slot: u32,
    /// How many times the pods were looked at.
    passes: u64,
    proofs: Arc<Proofs>,
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
            first_slot: next_slot,
            written: None,
            problems: BTreeMap::new(),
            next_slot,
            passes: 0,
            proofs: Arc::default(),
        })
    }

    /// Makes the node what `wanted` says. Called again with the same pods it repairs what has changed underneath.
    ///
    /// # Errors
    /// The kernel's maps cannot be written; what could be done was done.
    pub fn apply(&mut self, snapshot: &Snapshot, wanted: Vec<WantedPod>) -> Result<(), KernelError> {
        let identities: BTreeSet<SpiffeId> = wanted.iter().map(|pod| pod.identity.clone()).collect();
        self.identities.reconcile(&identities);
        let by_key: BTreeMap<&WorkloadKey, &WantedPod> = wanted.iter().map(|pod| (&pod.key, pod)).collect();
        let is_same =
            |key: &WorkloadKey, pod: &Enrolled| by_key.get(key).is_some_and(|now| pod.is_instance(now));
        let gone: Vec<(WorkloadKey, Enrolled)> =
            self.enrolled.extract_if(.., |key, pod| !is_same(key, pod)).collect();
        for (key, enrolled) in gone {
            self.retire(&key, enrolled);
        }
        self.problems.retain(|key, _| by_key.contains_key(key));
        let sources: Vec<Awaited> = wanted.iter().map(Awaited::of).collect();
        self.hold(&sources)?;
        let addresses: Vec<(WorkloadKey, Vec<IpAddr>)> =
            wanted.iter().map(|pod| (pod.key.clone(), pod.addresses.clone())).collect();
        for pod in wanted {
            self.ensure(pod)?;
        }
        // What belongs to a pod that is wanted and could not be enrolled keeps its hooks, which refuse, for as long as
        // its network namespace exists.
        let failed: BTreeSet<IpAddr> = addresses
            .into_iter()
            .filter(|(key, _)| !self.enrolled.contains_key(key))
            .flat_map(|(_, addresses)| addresses)
            .collect();
        let is_over = |_: &u64, entry: &mut PodEntry| !entry.addresses.iter().any(|ip| failed.contains(ip));
        let over: Vec<PodEntry> = self.inherited.extract_if(.., is_over).map(|(_, entry)| entry).collect();
        for entry in &over {
            self.plane.kernel.release(entry)?;
        }
        let mut dead = Vec::new();
        for cookie in self.inherited.keys() {
            if !self.plane.kernel.is_hooked(*cookie)? {
                dead.push(*cookie);
            }
        }
        for entry in dead.iter().filter_map(|cookie| self.inherited.remove(cookie)) {
            self.plane.kernel.release(&entry)?;
        }
        if !over.is_empty() || !dead.is_empty() {
            self.purge();
        }
        self.look_at_links();
        // What a pod may do comes after the verdicts that say what it still may.
        let written = self.write_tables(snapshot);
        self.write_flags()?;
        written?;
        // Not before the tables know what these pods may reach.
        self.hold(&sources)?;
        let pods = self.enrolled.values().map(|pod| (&pod.local, pod.links.devices.as_slice()));
        self.proofs.refresh(&self.plane, pods);
        Ok(())
    }

    /// Lets the kernel forget what it remembers of pods that are gone.
    fn purge(&self) {
        let slots = self.enrolled.values().map(|pod| &pod.entry).chain(self.inherited.values());
        let slots: BTreeSet<u32> = slots.map(|entry| entry.slot).collect();
        // A pod that is enrolled meanwhile has a later slot.
        let (kernel, next) = (Arc::clone(&self.plane.kernel), self.next_slot);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = kernel.purge(&slots, next) {
                tracing::warn!(reason = %chain(&error), "the kernel remembers flows of pods that are gone");
            }
        });
    }

    /// Holds back what the pods of `wanted` send that are not enrolled: they are to be known before they are heard.
    fn hold(&self, wanted: &[Awaited]) -> Result<(), KernelError> {
        let missing = wanted.iter().filter(|pod| !self.enrolled.contains_key(&pod.key));
        let held = missing.filter(|pod| pod.flags & pod_flag::ENFORCED != 0 && !self.is_inherited(pod));
        let held = held.flat_map(|pod| pod.addresses.iter().map(|ip| (*ip, pod.flags)));
        self.plane.kernel.set_awaited(&held.collect())
    }

    /// Tells whether an agent before this one enrolled this very pod: its hooks stand, and it needs no holding back.
    fn is_inherited(&self, pod: &Awaited) -> bool {
        let netns = |path: &String| Netns::open(&self.plane.home, Path::new(path)).ok();
        let found = pod.netns.as_ref().filter(|_| !self.inherited.is_empty()).and_then(netns);
        let entry = found.and_then(|netns| self.inherited.get(&netns.cookie()));
        entry.is_some_and(|entry| entry.addresses == pod.addresses && entry.pod_flags == pod.flags)
    }

    /// Writes what follows from the snapshot and from the pods that are enrolled, if either has changed.
    fn write_tables(&mut self, snapshot: &Snapshot) -> Result<(), KernelError> {
        let pods: Vec<(u32, WorkloadKey)> =
            self.enrolled.values().map(|pod| (pod.entry.slot, pod.wanted.key.clone())).collect();
        let current = (snapshot.version(), pods.iter().map(|(slot, _)| *slot).collect());
        if self.written.as_ref() == Some(&current) {
            return Ok(());
        }
        let enrolled = self.enrolled.values().map(|pod| pod.entry.netns_cookie);
        self.plane.kernel.detach_stale(&enrolled.chain(self.inherited.keys().copied()).collect())?;
        // Verdicts speak of pods that exist, and come before the ways that lead to them.
        let lane = self.plane.kernel.has_direct_lane();
        self.plane.kernel.set_compiled(&compiled::compiled(snapshot, &pods, lane))?;
        let callers = self.enrolled.values().map(|pod| (pod.entry.slot, Arc::clone(&pod.local)));
        self.plane.local.store(Arc::new(callers.collect()));
        self.plane.kernel.set_services(&snapshot.meshed_services())?;
        let mut destinations: BTreeSet<(IpAddr, u16)> =
            snapshot.redirect_destinations().into_iter().collect();
        destinations.extend(canaries().map(|ip| (ip, 0)));
        self.plane.kernel.set_destinations(&destinations)?;
        self.written = Some(current);
        Ok(())
    }

    /// Writes what the enrolled pods may do, where it has changed.
    fn write_flags(&mut self) -> Result<(), KernelError> {
        for pod in self.enrolled.values_mut().filter(|pod| pod.entry.pod_flags != pod.wanted.pod_flags) {
            let entry = PodEntry { pod_flags: pod.wanted.pod_flags, ..pod.entry.clone() };
            // The guard first: what it has not heard by the time that a pod is restricted counts as forged.
            for device in &pod.links.devices {
                self.plane.kernel.guard(&entry, device)?;
            }
            self.plane.kernel.update_source(&entry)?;
            pod.entry = entry;
        }
        Ok(())
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
            Some(entry) if entry.addresses == pod.addresses && entry.slot < self.first_slot => entry.slot,
            _ => self.take_slot(),
        };
        let entry = PodEntry {
            netns_cookie: cookie,
            slot,
            addresses: pod.addresses.clone(),
            flags: pod.flags,
            pod_flags: pod.pod_flags,
        };
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
        let guarded = hooked.map_err(EnrolError::from).and_then(|()| {
            // From here on the pod's sockets announce what they open; what they opened before is announced for them.
            self.plane.announce_older(&local)?;
            guard(&self.plane, &entry, &netns)
        });
        match guarded.and_then(|links| Ok((links, accepting?))) {
            Ok((links, accepting)) => Ok(Enrolled { wanted: pod, entry, local, links, accepting }),
            Err(error) => {
                self.inherited.insert(cookie, entry);
                Err(error)
            }
        }
    }

    /// Stops serving a pod that is no longer this instance; its hooks stay until it is known what comes after it.
    fn retire(&mut self, key: &WorkloadKey, enrolled: Enrolled) {
        self.plane.forget(enrolled.entry.slot);
        self.inherited.insert(enrolled.entry.netns_cookie, enrolled.entry);
        // Whoever is in the listeners' queues is still served.
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN).await;
            drop(enrolled.accepting);
        });
        tracing::info!(pod = %key, "pod released");
    }

    /// Stops accepting connections of all pods; whoever waits in the listeners' queues is reset.
    pub fn stop_listening(&mut self) {
        for pod in self.enrolled.values_mut() {
            pod.accepting = JoinSet::new();
        }
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
}

/// A pod that is to be enrolled, as far as holding it back goes.
struct Awaited {
    key: WorkloadKey,
    netns: Option<String>,
    addresses: Vec<IpAddr>,
    flags: u32,
}

impl Awaited {
    fn of(pod: &WantedPod) -> Self {
        let (key, netns, addresses) = (pod.key.clone(), pod.netns.clone(), pod.addresses.clone());
        Self { key, netns, addresses, flags: pod.pod_flags }
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
