//! The hooks of enrolled pods, looked at again and again: put on links that have come since, put back where somebody
//! has taken them off.
//!
//! Never says that a pod is captured: that is for its next proof, a moment later.

use super::{EnrolError, Enrolled, Enrolment};
use crate::{
    dataplane::{Dataplane, Links, Netns, links},
    observe::chain,
};
use ambit_bpf::PodEntry;
use std::collections::BTreeSet;

/// After how many looks at the pods, a second apart, the kernel is asked about every link of theirs.
const THOROUGH_EVERY: u64 = 10;

impl Enrolment {
    /// Puts back what is gone, and the guard on links that have come since.
    pub(super) fn look_at_links(&mut self) {
        self.passes += 1;
        let thorough = self.passes.is_multiple_of(THOROUGH_EVERY);
        // Before anything is put back: the hooks at the root are every pod's.
        let bare: BTreeSet<u32> = self
            .enrolled
            .values()
            .filter(|pod| !stands(&self.plane, pod))
            .map(|pod| pod.entry.slot)
            .collect();
        let mut root_is_sound = !self.plane.kernel.is_attached();
        for (key, pod) in &mut self.enrolled {
            let is_bare = bare.contains(&pod.entry.slot);
            let has_failed = self.proofs.of(pod.entry.slot).is_some_and(|proof| proof.failure.is_some());
            if !(thorough || has_failed || is_bare) {
                continue;
            }
            let root = (has_failed || is_bare) && !root_is_sound;
            // Once for all pods.
            root_is_sound |= root;
            match repair(&self.plane, pod, root) {
                Ok(fallen) if is_bare || !fallen.is_empty() => {
                    self.proofs.fail(&pod.local, taken_off(&fallen))
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(pod = %key, reason = %chain(&error), "the pod's hooks do not all stand");
                }
            }
        }
    }
}

/// Tells whether the pins of everything that the pod needs are there: what is looked at every time.
fn stands(plane: &Dataplane, pod: &Enrolled) -> bool {
    let (kernel, cookie) = (&plane.kernel, pod.entry.netns_cookie);
    // At the agent's start the pods come first, and the hooks at the root a moment later.
    !kernel.is_attached()
        || kernel.is_captured(cookie)
            && pod.links.devices.iter().all(|device| kernel.is_guarded(cookie, device))
}

/// Attaches whatever of the pod's hooks is not attached, `root` those at the cgroup root too; returns what was gone.
fn repair(plane: &Dataplane, pod: &mut Enrolled, root: bool) -> Result<Vec<String>, EnrolError> {
    // A device that is gone takes its links with it, which is nobody's doing.
    let now = links(&plane.home, &pod.local.netns).map_err(EnrolError::Links)?;
    let known = pod.links.devices.iter().filter(|device| now.devices.contains(device));
    let fallen = plane.kernel.fallen(pod.entry.netns_cookie, &known.cloned().collect::<Vec<_>>())?;
    if root {
        plane.kernel.attach()?;
    }
    plane.kernel.enrol(&pod.entry, &pod.local.netns)?;
    pod.links = guard(plane, &pod.entry, &pod.local.netns)?;
    Ok(fallen)
}

/// Puts the guard on the links of a pod, and takes it off those that it no longer has.
pub(super) fn guard(plane: &Dataplane, pod: &PodEntry, netns: &Netns) -> Result<Links, EnrolError> {
    let links = links(&plane.home, netns).map_err(EnrolError::Links)?;
    for device in &links.devices {
        plane.kernel.guard(pod, device)?;
    }
    plane.kernel.unguard(pod.netns_cookie, &links.devices)?;
    Ok(links)
}

fn taken_off(fallen: &[String]) -> String {
    let what = if fallen.is_empty() { "a hook at the cgroup root".to_owned() } else { fallen.join(", ") };
    format!("{what} was taken off, not by the agent: it was put back, and the pod is tested again")
}
