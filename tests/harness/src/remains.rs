//! Removes what a testbed made, in an order that works: processes, mounts, namespaces, folders. Used at the
//! end of a testbed and for those whose process died without one. Never touches a living testbed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

use crate::cgroup;
use crate::name::{BedId, PREFIX};
use crate::netns;

/// Where a testbed keeps its files: objects, CA, logs, sockets, and its own bpffs.
pub(crate) fn dir_of(id: &BedId) -> PathBuf {
    std::env::temp_dir().join(id.to_string())
}

/// Removes everything that the testbed `id` made; goes on after a failure and returns the first one.
pub(crate) fn remove(id: &BedId, cgroups: &Path) -> Result<()> {
    let name = id.to_string();
    let mut steps = vec![cgroup::remove(&cgroups.join(&name))];
    for bpffs in mounts_below(&dir_of(id)) {
        // Unmounting drops the pins, and with them the last reference to every link and map of its agents.
        steps.push(
            unmount(&bpffs, UnmountFlags::DETACH).with_context(|| format!("unmount {}", bpffs.display())),
        );
    }
    for namespace in netns::list(&name).iter().filter(|n| BedId::of_name(n).as_ref() == Some(id)) {
        steps.push(netns::delete(namespace));
    }
    let dir = dir_of(id);
    if dir.exists() {
        steps.push(fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display())));
    }
    steps.into_iter().collect()
}

/// Removes the remains of testbeds whose process is gone (killed, or out of time).
pub(crate) fn collect(cgroups: &Path) {
    let names = [cgroups.to_path_buf(), std::env::temp_dir()]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .chain(netns::list(PREFIX))
        .collect::<Vec<_>>();
    let dead: BTreeSet<BedId> =
        names.iter().filter_map(|name| BedId::of_name(name)).filter(|id| !id.owner_lives()).collect();
    for id in dead {
        // Another process may be collecting the same remains: what matters is that they go.
        if let Err(error) = remove(&id, cgroups) {
            eprintln!("harness: remains of {id}: {error:#}");
        }
    }
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    targets.filter(|target| target.starts_with(dir)).collect()
}
