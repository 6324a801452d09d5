//! The folder for pins: on a BPF filesystem, mode 0700, and nothing of it left after a clean-up.

use crate::{KernelError, sys};
use rustix::{
    fs::{FlockOperation, flock, statfs},
    mount::{MountFlags, mount},
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Where the BPF filesystem is mounted by convention.
const SYSTEM_BPFFS: &str = "/sys/fs/bpf";

/// Makes the folder `pins`, mode 0700, on a BPF filesystem: mounts one at `/sys/fs/bpf` when `pins` lies below, else
/// at `pins` itself.
///
/// # Errors
/// `Bpffs` when the folder cannot be made, mounted or protected.
pub fn prepare_pins(pins: &Path) -> Result<(), KernelError> {
    let failed = |source: io::Error| KernelError::Bpffs { path: pins.to_owned(), source };
    let existing = pins.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !on_bpffs(existing) {
        let mount_point =
            if pins.starts_with(SYSTEM_BPFFS) { PathBuf::from(SYSTEM_BPFFS) } else { pins.to_owned() };
        fs::create_dir_all(&mount_point).map_err(failed)?;
        mount("bpf", &mount_point, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
            .map_err(|error| failed(error.into()))?;
        tracing::info!(path = %mount_point.display(), "mounted a BPF filesystem");
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(pins).map_err(failed)?;
    fs::set_permissions(pins, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Takes the folder `pins` for this process, until the returned file is closed.
///
/// # Errors
/// `Taken` when another agent uses it.
pub fn lock_pins(pins: &Path) -> Result<File, KernelError> {
    let failed = |source: io::Error| KernelError::Bpffs { path: pins.to_owned(), source };
    let folder = File::open(pins).map_err(failed)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(KernelError::Taken(pins.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes every pin below `pins`: all programs detach, and pods are no longer enforced. Returns how many pins there
/// were.
///
/// # Errors
/// `Taken` while an agent runs, `Bpffs` when a pin cannot be removed.
pub fn cleanup(pins: &Path) -> Result<usize, KernelError> {
    let failed = |source: io::Error| KernelError::Bpffs { path: pins.to_owned(), source };
    if !pins.exists() || !on_bpffs(pins) {
        return Ok(0);
    }
    drop(lock_pins(pins)?);
    // On kernels without links for devices, filters outlive the pins.
    crate::guard::remove_filters(&pins.join(format!("maps-v{}", ambit_abi::ABI_VERSION)));
    let removed = remove_below(pins).map_err(failed)?;
    // A folder that is itself the mount point is busy, and empty is good enough.
    let mount_point = fs::remove_dir(pins).is_err();
    if mount_point && !pins.starts_with(SYSTEM_BPFFS) {
        rustix::mount::unmount(pins, rustix::mount::UnmountFlags::empty())
            .map_err(|error| failed(error.into()))?;
        fs::remove_dir(pins).map_err(failed)?;
    }
    Ok(removed)
}

/// Removes links before maps, so that no program runs on maps that are going away.
fn remove_below(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        // Files that the kernel itself puts into a BPF filesystem; nothing else has a dot in its name.
        if entry.file_name().as_encoded_bytes().contains(&b'.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            removed += remove_below(&entry.path())?;
            fs::remove_dir(entry.path())?;
        } else {
            // Only a link can be detached; a pin of anything else is just removed.
            let _ = sys::detach_pinned(&entry.path());
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|filesystem| filesystem.f_type.cast_unsigned() == BPF_FS_MAGIC)
}
