//! What the kernel remembers of pods that are gone, removed.

use crate::{Kernel, KernelError};
use std::collections::BTreeSet;

impl Kernel {
    /// Forgets the flows, exchanges and counts of pods whose slot is below `next` and not in `slots`. Reads whole tables: not for a thread
    /// that serves connections.
    ///
    /// # Errors
    /// `Map`; what could be removed was.
    pub fn purge(&self, slots: &BTreeSet<u32>, next: u32) -> Result<(), KernelError> {
        // 0 stands for what belongs to no pod: the agent's and the node's own.
        let is_gone = |slot: u32| slot != 0 && slot < next && !slots.contains(&slot);
        for (key, flow) in self.flows.entries()? {
            if is_gone(flow.0.slot) {
                self.flows.remove(&key)?;
            }
        }
        for (key, _) in self.guard.datagrams.entries()? {
            if is_gone(key.0.slot) {
                self.guard.datagrams.remove(&key)?;
            }
        }
        for (key, _) in self.guard.heard.entries()? {
            if is_gone(key.0.slot) {
                self.guard.heard.remove(&key)?;
            }
        }
        for (key, _) in self.guard.refused.entries()? {
            if is_gone(key.0.slot) {
                self.guard.refused.remove(&key)?;
            }
        }
        Ok(())
    }
}
