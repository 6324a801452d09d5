//! cgroup2: where it is mounted, which id a cgroup has, and whether this process lies below one.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// An error of finding or entering a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup2 is mounted in this mount namespace.
    #[error(
        "no cgroup2 in /proc/mounts: mount one, or name its folder with --cgroup-root (`ip netns exec` hides the \
         host's mounts: use `nsenter --net=PATH`)"
    )]
    NotMounted,
    /// The folder is no cgroup2 cgroup.
    #[error("{} is not a folder of a cgroup2 mount", .0.display())]
    NotCgroup2(PathBuf),
    /// A file cannot be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Name of the cgroup that an agent makes for itself below a root that it was started outside of.
const OWN_CGROUP: &str = "ambit-agent";

/// Returns the folder where cgroup2 is mounted; the first, where there are several.
///
/// # Errors
/// `NotMounted`.
pub fn find_cgroup2() -> Result<PathBuf, CgroupError> {
    let mounts = read(Path::new("/proc/mounts"))?;
    cgroup2_of(&mounts).ok_or(CgroupError::NotMounted)
}

fn cgroup2_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Returns the kernel's id of the cgroup whose folder is `path`.
///
/// # Errors
/// `NotCgroup2` for any other folder.
pub fn cgroup_id(path: &Path) -> Result<u64, CgroupError> {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    let not_cgroup2 = |_| CgroupError::NotCgroup2(path.to_owned());
    let filesystem = rustix::fs::statfs(path).map_err(not_cgroup2)?;
    if filesystem.f_type.cast_unsigned() != CGROUP2_SUPER_MAGIC {
        return Err(CgroupError::NotCgroup2(path.to_owned()));
    }
    let metadata = fs::metadata(path).map_err(|source| CgroupError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.ino())
}

/// Sees to it that this process lies at or below the cgroup `root`, whose programs its sockets must meet: moves it
/// into a cgroup of its own there when it does not. Returns the folder it was moved to.
///
/// # Errors
/// `Io` when the kernel refuses the move.
pub fn join_cgroup(root: &Path) -> Result<Option<PathBuf>, CgroupError> {
    let current = read(Path::new("/proc/self/cgroup"))?;
    let own = current.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mount = mount_of(root)?;
    let own = mount.join(own.trim_start_matches('/'));
    let resolved = root.canonicalize().map_err(|source| CgroupError::Io {
        action: "resolve",
        path: root.to_owned(),
        source,
    })?;
    if own.starts_with(&resolved) {
        return Ok(None);
    }
    let target = resolved.join(OWN_CGROUP);
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| CgroupError::Io { action, path, source }
    };
    fs::create_dir_all(&target).map_err(failed("make", &target))?;
    let procs = target.join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string()).map_err(failed("write", &procs))?;
    Ok(Some(target))
}

/// Removes the cgroup that agents made for themselves below `root`. Returns its folder when there was one.
///
/// # Errors
/// `Io` while a process is in it.
pub fn remove_own_cgroup(root: &Path) -> Result<Option<PathBuf>, CgroupError> {
    let own = root.join(OWN_CGROUP);
    match fs::remove_dir(&own) {
        Ok(()) => Ok(Some(own)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CgroupError::Io { action: "remove the cgroup", path: own, source }),
    }
}

/// Returns the mount point that `path` lies on.
fn mount_of(path: &Path) -> Result<PathBuf, CgroupError> {
    let resolved = path.canonicalize().map_err(|source| CgroupError::Io {
        action: "resolve",
        path: path.to_owned(),
        source,
    })?;
    let mounts = read(Path::new("/proc/mounts"))?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2" && resolved.starts_with(path)).then(|| PathBuf::from(path))
        })
        .max_by_key(|path| path.components().count())
        .ok_or_else(|| CgroupError::NotCgroup2(path.to_owned()))
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_on_hybrid_and_unified_hosts() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_of(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_of(unified), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(cgroup2_of("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn a_folder_elsewhere_is_no_cgroup() {
        assert!(matches!(cgroup_id(Path::new("/tmp")), Err(CgroupError::NotCgroup2(_))));
    }
}
