//! Debian's kernel package, fetched and unpacked into the target directory; never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{setup::Report, workspace};

/// The package that leads to Debian's newest kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";
/// The series that is wanted: that of Debian 12.
const SERIES: &str = "6.1.";

/// An unpacked kernel.
pub(super) struct Kernel {
    /// What boots.
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
    /// As `uname -r` says it.
    pub(super) release: String,
}

/// Returns the kernel, fetching it when it is not there yet.
///
/// # Errors
/// When this is no Debian with a kernel of the series, or it cannot be fetched.
pub(super) fn fetch(dir: &Path, report: &Report) -> Result<Kernel> {
    if let Some(kernel) = find(&dir.join("kernel"))? {
        return Ok(kernel);
    }
    let package = package()?;
    report.doing(format!("fetching Debian's {package} into {}", dir.display()));
    let mut download = Command::new("apt-get");
    download.args(["download", &package]).current_dir(dir);
    workspace::run(&mut download, "fetch the kernel")?;
    let archive = fs::read_dir(dir)
        .with_context(|| format!("read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&package)))
        .with_context(|| format!("apt-get left no {package} in {}", dir.display()))?;
    // Unpacked under another name first: half a kernel is none.
    let (fresh, kernel) = (dir.join("kernel.new"), dir.join("kernel"));
    let mut unpack = Command::new("dpkg-deb");
    workspace::run(unpack.arg("-x").arg(&archive).arg(&fresh), "unpack the kernel")?;
    fs::rename(&fresh, &kernel).with_context(|| format!("move the kernel to {}", kernel.display()))?;
    find(&kernel)?.with_context(|| format!("{} holds no kernel", archive.display()))
}

fn find(dir: &Path) -> Result<Option<Kernel>> {
    let Ok(entries) = fs::read_dir(dir.join("boot")) else { return Ok(None) };
    let images = entries.flatten().map(|entry| entry.path());
    let release = |path: &Path| Some(path.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned());
    let Some((image, release)) = images.into_iter().find_map(|path| Some((path.clone(), release(&path)?)))
    else {
        return Ok(None);
    };
    let modules = dir.join("lib/modules").join(&release);
    if !modules.is_dir() {
        bail!("{} is missing: remove {} and try again", modules.display(), dir.display());
    }
    Ok(Some(Kernel { image, modules, release }))
}

fn package() -> Result<String> {
    let output = Command::new("apt-cache").args(["depends", META]).env("LC_ALL", "C").output();
    let output =
        output.context("run apt-cache: the kernel for the virtual machine comes from Debian's archive")?;
    let depends = String::from_utf8_lossy(&output.stdout).into_owned();
    match image_in(&depends) {
        Some(package) if package.starts_with(&format!("linux-image-{SERIES}")) => Ok(package),
        Some(other) => bail!(
            "this Debian's kernel is {other}, and the tests want {SERIES}x: run this on Debian 12, or put the unpacked \
             package into target/vm/kernel"
        ),
        None => bail!("apt knows no {META}: run `apt-get update` on Debian 12, then this command again"),
    }
}

fn image_in(depends: &str) -> Option<String> {
    let mut packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find(|package| package.starts_with("linux-image-")).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_found_among_the_dependencies() {
        let depends =
            "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Recommends: x\n";
        assert_eq!(image_in(depends).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(image_in("N: Unable to locate package"), None);
    }
}
