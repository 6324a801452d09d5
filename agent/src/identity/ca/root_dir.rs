//! The directory that holds the root certificate and key: who may read it, one writer at a time, whole files.
//!
//! It owns the file names, modes, lock and the order of writes. It never looks inside a certificate or a key.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::CaError;

/// Name of the root certificate, in PEM.
pub(super) const CERT: &str = "root-cert.pem";
/// Name of the root key, in PKCS#8 PEM.
pub(super) const KEY: &str = "root-key.pem";
/// Mode of the root certificate: public.
pub(super) const CERT_MODE: u32 = 0o644;
/// Mode of the root key: its owner alone.
pub(super) const KEY_MODE: u32 = 0o600;

const LOCK: &str = ".lock";
const DIR_MODE: u32 = 0o700;
/// A PEM file of a P-256 root is under 2 KiB; what is larger than this is not one.
const MAX_FILE: u64 = 64 * 1024;
/// The holder of the lock works for some milliseconds; whoever holds it this long is stuck.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The directory, opened and locked: no other agent reads or writes it until this value is dropped.
#[derive(Debug)]
pub(super) struct RootDir {
    path: PathBuf,
    _lock: File,
}

impl RootDir {
    /// Creates the directory if it is missing, checks who can read it, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, CaError> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(path)
            .map_err(|source| io_error("create", path, source))?;
        let metadata = path.metadata().map_err(|source| io_error("inspect", path, source))?;
        check_owner(path, metadata.uid())?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CaError::DirMode { path: path.to_owned(), mode });
        }
        Ok(Self { path: path.to_owned(), _lock: lock(&path.join(LOCK))? })
    }

    /// Returns the path of a file of the directory, for messages.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file whole; `None` if there is none. A key that others can read is refused.
    pub(super) fn read(&self, name: &str, mode: u32) -> Result<Option<Zeroizing<Vec<u8>>>, CaError> {
        let path = self.file(name);
        // Looked at before it is opened: opening a FIFO would wait for a writer for ever.
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("inspect", &path, source)),
        };
        if !metadata.is_file() {
            return Err(CaError::NotAFile { path });
        }
        check_owner(&path, metadata.uid())?;
        let found = metadata.mode() & 0o7777;
        if found & !mode & 0o077 != 0 {
            return Err(CaError::FileMode { path, mode: found, wanted: mode });
        }
        let file = File::open(&path).map_err(|source| io_error("open", &path, source))?;
        let mut content = Zeroizing::new(Vec::with_capacity(4096));
        file.take(MAX_FILE + 1)
            .read_to_end(&mut content)
            .map_err(|source| io_error("read", &path, source))?;
        if content.len() as u64 > MAX_FILE {
            return Err(CaError::TooLarge { path, limit: MAX_FILE });
        }
        Ok(Some(content))
    }

    /// Puts a file in place whole or not at all: written aside, synced, renamed, and the directory synced.
    pub(super) fn write(&self, name: &str, mode: u32, content: &[u8]) -> Result<(), CaError> {
        let path = self.file(name);
        let aside = self.file(&format!(".{name}.new"));
        // What a killed agent left behind; the lock says that nobody else is writing it now.
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &aside, error));
            }
            _ => {}
        }
        let written = write_synced(&aside, mode, content).map_err(|source| io_error("write", &aside, source));
        let renamed = written.and_then(|()| {
            std::fs::rename(&aside, &path).map_err(|source| io_error("put in place", &path, source))
        });
        if let Err(error) = renamed {
            // Best effort: the first error is the one to report, and the next start removes the rest.
            let _ = std::fs::remove_file(&aside);
            return Err(error);
        }
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| io_error("sync", &self.path, source))
    }
}

fn write_synced(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(path)?;
    // Set on the open file, so that the umask has no say.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Takes the lock, which the kernel releases when its holder dies. The file is never removed: removing a
/// lock file lets two agents lock two different files of one name.
fn lock(path: &Path) -> Result<File, CaError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(KEY_MODE)
        .open(path)
        .map_err(|source| io_error("open", path, source))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", path, source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(CaError::LockBusy { path: path.to_owned(), waited: LOCK_PATIENCE });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
        }
    }
}

fn check_owner(path: &Path, owner: u32) -> Result<(), CaError> {
    let us = rustix::process::geteuid().as_raw();
    if owner == us { Ok(()) } else { Err(CaError::Owner { path: path.to_owned(), owner, us }) }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> CaError {
    CaError::Io { action, path: path.to_owned(), source }
}
