//! Which hooks of a pod still stand: the agent is not the only one that can take them off.

use crate::{
    Device, Kernel, KernelError,
    guard::{has_links, link_name},
    kernel::lookup_link,
    programs::{GUARD_PROGRAMS, LOOKUP_PROGRAM, descriptor},
};
use std::os::fd::AsFd;

impl Kernel {
    /// Returns the names of a pod's own links that are pinned no longer, or attached to nothing; of the hooks at the
    /// cgroup root only the proof tells.
    ///
    /// # Errors
    /// `Link`.
    pub fn fallen(&self, netns_cookie: u64, devices: &[Device]) -> Result<Vec<String>, KernelError> {
        let mut hooks = vec![(LOOKUP_PROGRAM, lookup_link(netns_cookie))];
        if has_links() {
            let on = |device: &Device| GUARD_PROGRAMS.map(|name| (name, link_name(name, device.index)));
            hooks.extend(devices.iter().flat_map(on));
        }
        let programs = self.programs();
        let mut fallen = Vec::new();
        for (program, link) in hooks {
            let descriptor = descriptor(&programs, program)?;
            if !self.links.is_alive(&link, descriptor.as_fd())? {
                fallen.push(link);
            }
        }
        Ok(fallen)
    }
}
