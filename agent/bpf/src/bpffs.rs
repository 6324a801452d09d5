//! The folder for pins: on a BPF filesystem, mode 0700, and nothing of it left after a clean-up.

use crate::{KernelError, sys};
use rustix::{
    fs::{FlockOperation, flock, statfs},
    mount::{MountFlags, mount},
};
use std::{
    fs::{self, DirEntry, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// How the folders of maps begin; the version of their layout follows.
pub(crate) const MAPS_PREFIX: &str = "maps-v";
/// Where the BPF filesystem is mounted by convention.
const SYSTEM_BPFFS: &str = "/sys/fs/bpf";
/// What a filesystem that an agent mounted is called in /proc/mounts, so that a clean-up knows it again.
const MOUNT_SOURCE: &str = "ambit";

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
        mount(
            MOUNT_SOURCE,
            &mount_point,
            "bpf",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            None,
        )
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

/// Returns what tells the folder `pins` from every other: its filesystem and its inode.
///
/// # Errors
/// `Bpffs` when it cannot be read.
pub fn pins_id(pins: &Path) -> Result<(u64, u64), KernelError> {
    let metadata =
        fs::metadata(pins).map_err(|source| KernelError::Bpffs { path: pins.to_owned(), source })?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes every pin below `pins`, of every version: all programs detach, and pods are no longer enforced. Unmounts the
/// BPF filesystem that an agent mounted, unless somebody else uses it. Returns how many pins there were.
///
/// # Errors
/// `Taken` while an agent runs, `Bpffs` when a pin cannot be removed.
pub fn cleanup(pins: &Path) -> Result<usize, KernelError> {
    let failed = |source: io::Error| KernelError::Bpffs { path: pins.to_owned(), source };
    let mut removed = 0;
    if pins.exists() && on_bpffs(pins) {
        let lock = lock_pins(pins)?;
        // On kernels without links for devices, filters outlive the pins.
        for folder in map_folders(pins).map_err(failed)? {
            crate::guard::remove_filters(&pins.join(folder));
        }
        removed = remove_below(pins).map_err(failed)?;
        drop(lock);
    }
    let mount_point = if pins.starts_with(SYSTEM_BPFFS) { Path::new(SYSTEM_BPFFS) } else { pins };
    let is_own_mount = is_own_mount(mount_point).map_err(failed)?;
    if !is_own_mount || mount_point != pins {
        // A folder that is itself a mount point of somebody else is busy, and empty is good enough.
        let _ = fs::remove_dir(pins);
    }
    if is_own_mount && is_empty(mount_point).map_err(failed)? {
        match rustix::mount::unmount(mount_point, rustix::mount::UnmountFlags::empty()) {
            Ok(()) if mount_point == pins => fs::remove_dir(pins).map_err(failed)?,
            Ok(()) => {}
            Err(rustix::io::Errno::BUSY) => {
                tracing::warn!(path = %mount_point.display(), "the BPF filesystem stays mounted: somebody uses it");
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(removed)
}

/// Tells whether nothing is pinned in `folder`.
fn is_empty(folder: &Path) -> io::Result<bool> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.iter().all(is_kernels_own))
}

/// Tells a file that the kernel itself puts into a BPF filesystem; nothing else has a dot in its name.
fn is_kernels_own(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().contains(&b'.')
}

/// Tells whether an agent mounted the BPF filesystem at `path`.
fn is_own_mount(path: &Path) -> io::Result<bool> {
    let path = path.to_string_lossy();
    let mounts = fs::read_to_string("/proc/mounts")?;
    // The last one covers the others.
    let last = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(path.as_ref()));
    Ok(last.is_some_and(|line| line.starts_with(&format!("{MOUNT_SOURCE} "))))
}

/// Removes the maps of other versions of the layout below `pins`, which no attached program uses any more. Returns the
/// names of their folders.
///
/// # Errors
/// `Bpffs` when one cannot be removed.
pub(crate) fn remove_other_maps(pins: &Path, current: &str) -> Result<Vec<String>, KernelError> {
    let failed = |source: io::Error| KernelError::Bpffs { path: pins.to_owned(), source };
    let mut folders = map_folders(pins).map_err(failed)?;
    folders.retain(|name| name != current);
    for name in &folders {
        let path = pins.join(name);
        remove_below(&path).and_then(|_| fs::remove_dir(&path)).map_err(failed)?;
    }
    Ok(folders)
}

/// Returns the names of the folders of maps, of every version.
fn map_folders(pins: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(pins)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<io::Result<Vec<String>>>()?;
    Ok(names.into_iter().filter(|name| name.starts_with(MAPS_PREFIX)).collect())
}

/// Removes links before maps, so that no program runs on maps that are going away.
fn remove_below(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        if is_kernels_own(&entry) {
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
