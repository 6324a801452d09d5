//! Network namespaces under /run/netns, so that `ip netns` and the annotation `ambit.dev/netns` see them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::shell::script;

const DIR: &str = "/run/netns";

/// Returns the path by which the namespace `name` is entered.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Makes a namespace whose loopback is up.
pub(crate) fn create(name: &str) -> Result<()> {
    script(None, &format!("ip netns add {name}\nip -n {name} link set lo up")).map(drop)
}

/// Removes a namespace; its interfaces go with it once its last process is gone.
pub(crate) fn delete(name: &str) -> Result<()> {
    script(None, &format!("ip netns delete {name}")).map(drop)
}

/// Returns the names of all namespaces that start with `prefix`.
pub(crate) fn list(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(DIR).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(prefix)).collect()
}

/// Runs `work` on a thread of its own inside the namespace; sockets that it makes stay in there.
pub(crate) fn inside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = path(name);
    let thread = std::thread::spawn(move || {
        let handle = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter {}", path.display()))?;
        work()
    });
    thread.join().map_err(|_| anyhow!("the thread in namespace {name} panicked"))?
}
