//! The objects folder: files appear whole or not at all, and only when they differ from what stands there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// The folder that agents read, and a staging folder beside it on the same file system.
#[derive(Debug)]
pub(crate) struct ObjectsDir {
    path: PathBuf,
    staging: PathBuf,
}

impl ObjectsDir {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let staging = path.with_extension("staging");
        for dir in [&path, &staging] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(Self { path, staging })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes (Some) and removes (None) files; returns the time just before the last real change, if there was one.
    pub(crate) fn sync(&self, files: &BTreeMap<String, Option<String>>) -> Result<Option<SystemTime>> {
        let mut changed = None;
        for (name, text) in files {
            if name.contains('/') || name.starts_with('.') {
                bail!("{name:?} is no plain file name");
            }
            let target = self.path.join(name);
            let stands = fs::read_to_string(&target).ok();
            if stands == *text {
                continue;
            }
            let Some(text) = text else {
                changed = Some(SystemTime::now());
                fs::remove_file(&target).with_context(|| format!("remove {}", target.display()))?;
                continue;
            };
            let staged = self.staging.join(name);
            fs::write(&staged, text).with_context(|| format!("write {}", staged.display()))?;
            changed = Some(SystemTime::now());
            fs::rename(&staged, &target).with_context(|| format!("publish {}", target.display()))?;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let root = std::env::temp_dir().join(format!("ambit-objects-{}", std::process::id()));
        let dir = ObjectsDir::create(root.join("objects")).unwrap();
        let one = BTreeMap::from([("a.yaml".to_string(), Some("kind: A".to_string()))]);
        assert!(dir.sync(&one).unwrap().is_some());
        assert!(dir.sync(&one).unwrap().is_none());
        assert!(dir.sync(&BTreeMap::from([("a.yaml".to_string(), None)])).unwrap().is_some());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(dir.sync(&BTreeMap::from([("../a".to_string(), None)])).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
