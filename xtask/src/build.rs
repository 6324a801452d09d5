//! Builds the BPF object with the toolchain that set-up found, then the binaries that embed it. It installs nothing.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{
    setup::{self, BpfToolchain, Report},
    workspace::{self, Profile, Workspace},
};

/// The name under which the object lies in the target directory, where `agent/bpf/build.rs` looks for it.
const OBJECT: &str = "ambit-ebpf.o";
const TRIPLE: &str = "bpfel-unknown-none";
/// The package of the `ambit` binary.
pub(crate) const AGENT: &[&str] = &["ambit-agent"];
/// The packages whose binaries the demo, the benchmark and the kernel tests start.
pub(crate) const EVERYTHING: &[&str] = &["ambit-agent", "ambit-harness", "ambit-demo", "ambit-bench"];

/// Builds the BPF object, setting up its toolchain first, and returns where it lies.
///
/// `AMBIT_BPF_OBJECT` names a ready object, and then nothing is set up or built.
///
/// # Errors
/// When set-up or the build fails; a mismatch of LLVM versions is named as such.
pub(crate) fn object(workspace: &Workspace, report: &Report) -> Result<PathBuf> {
    if let Some(path) = env::var_os("AMBIT_BPF_OBJECT").map(PathBuf::from) {
        if !path.is_file() {
            bail!("AMBIT_BPF_OBJECT names {}, which is no file: correct or unset it", path.display());
        }
        return Ok(path);
    }
    let toolchain = setup::bpf_toolchain(workspace, report)?;
    compile(workspace, &toolchain)?;
    let built = workspace.target().join("bpf").join(TRIPLE).join("release/ambit-ebpf");
    let object = object_path(workspace);
    replace_if_changed(&built, &object)?;
    Ok(object)
}

/// Builds the binaries of `packages`.
///
/// # Errors
/// When cargo fails.
pub(crate) fn binaries(workspace: &Workspace, profile: Profile, packages: &[&str]) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.arg("build").arg("--bins");
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    workspace::run(&mut cargo, "build ambit")
}

/// Returns where the BPF object lies, once it is built.
pub(crate) fn object_path(workspace: &Workspace) -> PathBuf {
    env::var_os("AMBIT_BPF_OBJECT").map_or_else(|| workspace.target().join(OBJECT), PathBuf::from)
}

fn compile(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<()> {
    // `--btf` makes the linker derive BTF from the debug information.
    let linker = format!("-Clinker={}", toolchain.linker.display());
    let flags = ["-Cdebuginfo=2", "-Clink-arg=--btf", &linker].join("\u{1f}");
    let mut cargo = workspace.foreign_cargo(&toolchain.cargo, &toolchain.rustc);
    cargo
        .args(["build", "--release", "--package", "ambit-ebpf", "--target", TRIPLE, "-Z", "build-std=core"])
        .args(["--color", if io::stderr().is_terminal() { "always" } else { "never" }])
        .env("CARGO_TARGET_DIR", workspace.target().join("bpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        // The linker of BPF programs sees the whole program anyway.
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .stderr(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("start {}", toolchain.cargo.display()))?;
    let stderr = child.stderr.take().context("read the BPF build's messages")?;
    let mut mismatch = false;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("read the BPF build's messages")?).into_owned();
        mismatch |= speaks_of_foreign_bitcode(&line);
        // A reader that has gone away is no reason to stop building.
        let _ = writeln!(io::stderr(), "{line}");
    }
    let status = child.wait().context("wait for the BPF build")?;
    if status.success() {
        return Ok(());
    }
    let rustc = toolchain.rustc.display();
    let llvm = toolchain.llvm;
    if mismatch {
        bail!(
            "build the BPF programs: {} cannot read the bitcode of {rustc}, which uses LLVM {llvm}: it was built \
             against an older LLVM. Rebuild it: LLVM_PREFIX=/usr/lib/llvm-{llvm} cargo install --force bpf-linker \
             --no-default-features --features llvm-{llvm}",
            toolchain.linker.display(),
        );
    }
    bail!("build the BPF programs with {rustc} (LLVM {llvm}): cargo failed ({status})")
}

/// LLVM ends a complaint about bitcode of another version with the versions of both sides.
fn speaks_of_foreign_bitcode(line: &str) -> bool {
    line.contains("Producer: 'LLVM") || line.contains("Invalid bitcode") || line.contains("invalid bitcode")
}

/// Copies only what changed: a new time stamp would rebuild everything that embeds the object.
fn replace_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // A build that runs meanwhile sees the old object or the new one, never half of it.
    let fresh = to.with_extension(format!("o.{}", std::process::id()));
    fs::write(&fresh, new).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, to).with_context(|| format!("move the object to {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_object_keeps_its_time_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("new"), dir.path().join(OBJECT));
        fs::write(&from, b"one").unwrap();
        replace_if_changed(&from, &to).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&to).unwrap().set_modified(old).unwrap();
        replace_if_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), old);
        fs::write(&from, b"two").unwrap();
        replace_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn bitcode_of_a_newer_llvm_is_recognised() {
        let line = "Unknown attribute kind (102) (Producer: 'LLVM22.1.4-rust-1.97.0' Reader: 'LLVM 21.1.0')";
        assert!(speaks_of_foreign_bitcode(line));
        assert!(!speaks_of_foreign_bitcode("error[E0425]: cannot find value `x` in this scope"));
    }
}
