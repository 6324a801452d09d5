//! Where the workspace and its target directory are, and cargo commands that start from a clean environment. It runs
//! nothing by itself.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The cargo profile of a build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `target/debug`.
    Dev,
    /// `target/release`.
    Release,
}

/// The checkout that this xtask was built from, and where cargo puts what it builds.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace, and the target directory as cargo would choose it.
    ///
    /// # Errors
    /// When the checkout was moved away since xtask was built.
    pub(crate) fn find() -> Result<Self> {
        // cargo sets the variable when it runs xtask; the built-in value serves a binary that is run by hand.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("find the directory above xtask's")?.to_owned();
        if !root.join("Cargo.toml").is_file() {
            bail!("{} holds no Cargo.toml: run `cargo xtask` inside the checkout", root.display());
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir().context("find the current directory")?.join(dir),
            None => own_target_dir().unwrap_or_else(|| root.join("target")),
        };
        Ok(Self { root, target })
    }

    /// Returns the directory of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the path of a built binary.
    pub(crate) fn binary(&self, profile: Profile, name: &str) -> PathBuf {
        let dir = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        self.target.join(dir).join(name)
    }

    /// Returns a command for the cargo that runs xtask, as if it were called by hand in the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(outer_cargo());
        forget_outer_cargo(&mut command);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Returns a command for the cargo of another toolchain, which inherits nothing from the one that runs xtask.
    pub(crate) fn foreign_cargo(&self, cargo: &Path, rustc: &Path) -> Command {
        let mut command = Command::new(cargo);
        forget_outer_cargo(&mut command);
        forget_toolchain(&mut command);
        command.current_dir(&self.root).env("RUSTC", rustc);
        command
    }
}

/// Returns the cargo that runs xtask, or the one on PATH.
pub(crate) fn outer_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Removes from `command` what an outer `cargo run` says about its package and its toolchain's libraries.
pub(crate) fn forget_outer_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_package) {
            command.env_remove(name);
        }
    }
    let Some(path) = env::var_os("LD_LIBRARY_PATH") else { return };
    let own: Vec<PathBuf> = env::split_paths(&path).filter(|dir| !added_by_cargo(dir)).collect();
    match env::join_paths(&own) {
        Ok(joined) if !own.is_empty() => command.env("LD_LIBRARY_PATH", joined),
        _ => command.env_remove("LD_LIBRARY_PATH"),
    };
}

/// Removes from `command` whatever selects a compiler or its flags.
pub(crate) fn forget_toolchain(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(selects_compiler) {
            command.env_remove(name);
        }
    }
}

/// Runs `command` with its output on standard error.
///
/// # Errors
/// When it cannot start or does not succeed; `what` says what was tried.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("{what}: start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{what}: {} failed ({status})", command.get_program().display());
    }
    Ok(())
}

fn describes_package(name: &str) -> bool {
    const EXACT: [&str; 4] = ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR"];
    const PREFIXES: [&str; 3] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn selects_compiler(name: &str) -> bool {
    const EXACT: [&str; 9] = [
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
    ];
    // CARGO_TARGET_<TRIPLE>_LINKER and _RUSTFLAGS stand above the flags that the BPF build passes.
    let for_bpf = name.starts_with("CARGO_TARGET_BPF") || name.starts_with("CARGO_BUILD_RUSTC");
    EXACT.contains(&name) || for_bpf || name.starts_with("CARGO_PROFILE_")
}

/// `cargo run` puts its own output directories and its toolchain's libraries in front of LD_LIBRARY_PATH.
fn added_by_cargo(dir: &Path) -> bool {
    let in_target = own_target_dir().is_some_and(|target| dir.starts_with(target));
    let in_toolchain =
        dir.join("rustlib").is_dir() || dir.components().any(|part| part.as_os_str() == "rustlib");
    in_target || in_toolchain
}

/// The target directory that holds this very executable: cargo marks it with CACHEDIR.TAG.
fn own_target_dir() -> Option<PathBuf> {
    let executable = env::current_exe().ok()?;
    executable.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_outer_package_are_forgotten_and_settings_kept() {
        for name in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_BIN_NAME"] {
            assert!(describes_package(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUSTFLAGS"] {
            assert!(!describes_package(name), "{name}");
        }
    }

    #[test]
    fn compiler_choice_does_not_leak_into_the_bpf_build() {
        for name in
            ["RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER"]
        {
            assert!(selects_compiler(name), "{name}");
        }
        assert!(!selects_compiler("CARGO_HOME"));
        assert!(!selects_compiler("PATH"));
    }
}
