//! Links: attached once, pinned, and updated in place by the next agent, so that there is never a moment without.

use crate::{KernelError, sys};
use aya::programs::{ProgramError, links::FdLink};
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// Where links are pinned.
#[derive(Debug)]
pub(crate) struct Links {
    folder: PathBuf,
}

impl Links {
    /// Opens the folder, making it when it is missing.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, KernelError> {
        fs::create_dir_all(&folder).map_err(|source| KernelError::Bpffs { path: folder.clone(), source })?;
        Ok(Self { folder })
    }

    /// Puts `program` in charge of the link `name`: updates the pinned one, or attaches and pins a new one.
    pub(crate) fn ensure(
        &self,
        name: &str,
        program_name: &'static str,
        program: BorrowedFd<'_>,
        attach: impl FnOnce() -> Result<FdLink, ProgramError>,
    ) -> Result<(), KernelError> {
        let path = self.folder.join(name);
        match sys::open_pin(&path) {
            Ok(link) => match sys::update_link(link.as_fd(), program) {
                Ok(()) => return Ok(()),
                // What the link was attached to is gone: a cgroup or a network namespace that was made anew.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => self.remove(name)?,
                Err(source) => return Err(KernelError::Link { action: "update", path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(KernelError::Link { action: "open", path, source }),
        }
        let link = attach().map_err(|source| KernelError::Attach {
            program: program_name,
            target: name.to_owned(),
            source: Box::new(source),
        })?;
        link.pin(&path).map(drop).map_err(|error| KernelError::Link {
            action: "pin",
            path,
            source: io::Error::other(error),
        })
    }

    /// Detaches and forgets the link `name`, at once; says nothing when there is none.
    pub(crate) fn remove(&self, name: &str) -> Result<(), KernelError> {
        let path = self.folder.join(name);
        // What fails here has lost its target already; the pin goes in any case.
        let _ = sys::detach_pinned(&path);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(KernelError::Link { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Tells whether what the link `name` is attached to still exists; puts `program` in charge of it where it does.
    pub(crate) fn is_alive(&self, name: &str, program: BorrowedFd<'_>) -> Result<bool, KernelError> {
        let path = self.folder.join(name);
        let updated = sys::open_pin(&path).and_then(|link| sys::update_link(link.as_fd(), program));
        match updated {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(KernelError::Link { action: "look at", path, source }),
        }
    }

    /// Returns the names of the pinned links.
    pub(crate) fn names(&self) -> Result<Vec<String>, KernelError> {
        let failed = |source| KernelError::Bpffs { path: self.folder.clone(), source };
        fs::read_dir(&self.folder)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(failed))
            .collect()
    }

    /// Tells whether the link `name` is pinned.
    pub(crate) fn exists(&self, name: &str) -> bool {
        Path::exists(&self.folder.join(name))
    }
}
