//! Compilers that can build `core` for BPF: those whose library source is installed. Finds them among rustup's and the
//! distribution's, and installs one where there is none.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::{Report, apt, find_program};
use crate::workspace::{self, outer_cargo};

/// A Rust compiler with its library source.
#[derive(Clone, Debug)]
pub(super) struct Toolchain {
    /// The compiler.
    pub(super) rustc: PathBuf,
    /// The cargo beside it, or the one that runs xtask.
    pub(super) cargo: PathBuf,
    /// The major version of its LLVM.
    pub(super) llvm: u32,
    version: (u32, u32),
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "{} ({major}.{minor}, LLVM {})", self.rustc.display(), self.llvm)
    }
}

/// Returns the usable compilers with library source, best first: the one that runs xtask, a nightly, rustup's others,
/// the distribution's.
pub(super) fn with_source() -> Vec<Toolchain> {
    sysroots().iter().filter(|sysroot| has_source(sysroot)).filter_map(|sysroot| inspect(sysroot)).collect()
}

/// Installs library source: into rustup's toolchain, else the distribution's compiler with its source, else a nightly.
///
/// # Errors
/// When every way fails, with the commands to run.
pub(super) fn install(report: &Report) -> Result<()> {
    report.doing(
        "no Rust toolchain with library source (rust-src), which `-Z build-std=core` compiles for BPF",
    );
    let rustup = find_program("rustup");
    if let Some(rustup) = &rustup {
        for name in rustup_names() {
            let what = format!("rustup component add rust-src --toolchain {name}");
            report.doing(&what);
            if quietly(Command::new(rustup).args(["component", "add", "rust-src", "--toolchain", &name])) {
                return Ok(());
            }
            report.doing(format!("`{what}` failed (no network?): trying the next way"));
        }
    }
    if apt::present() {
        if let Some(packages) = distribution_packages(report)? {
            return apt::install(&packages, "the distribution has a compiler with source", report);
        }
        report.doing(format!("the distribution has no rustc of at least {}", env!("CARGO_PKG_RUST_VERSION")));
    }
    if let Some(rustup) = &rustup {
        report.doing("rustup toolchain install nightly --profile minimal --component rust-src");
        let mut command = Command::new(rustup);
        command.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
        if quietly(&mut command) {
            return Ok(());
        }
    }
    bail!(advice())
}

/// Returns what to run where set-up cannot help itself.
pub(super) fn advice() -> String {
    format!(
        "no Rust toolchain of at least {} with library source: run `rustup toolchain install nightly --component \
         rust-src` (rustup: https://rustup.rs), or on Debian `apt-get install rustc-web rust-web-src`, then this \
         command again",
        env!("CARGO_PKG_RUST_VERSION")
    )
}

fn rustup_home() -> Option<PathBuf> {
    env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".rustup")))
}

/// rustup's toolchains that may take the source: the one that runs xtask, then an installed nightly.
fn rustup_names() -> Vec<String> {
    let mut names: Vec<String> =
        env::var("RUSTUP_TOOLCHAIN").into_iter().filter(|name| !name.contains('/')).collect();
    let nightly = installed().into_iter().filter_map(|dir| dir.file_name()?.to_str().map(str::to_owned));
    names.extend(nightly.filter(|name| name.starts_with("nightly-")).take(1));
    names.dedup();
    names
}

/// rustup's toolchains, in the order of their names.
fn installed() -> Vec<PathBuf> {
    let Some(entries) = rustup_home().and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    dirs.sort();
    dirs
}

fn sysroots() -> Vec<PathBuf> {
    let own = PathBuf::from(outer_cargo());
    let mut roots: Vec<PathBuf> =
        own.parent().and_then(Path::parent).map(Path::to_owned).into_iter().collect();
    let (nightly, other): (Vec<_>, Vec<_>) = installed()
        .into_iter()
        .partition(|dir| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nightly")));
    roots.extend(nightly);
    roots.extend(other);
    roots.extend(["/usr/local", "/usr"].map(PathBuf::from));
    let mut seen = Vec::new();
    roots.retain(|root| {
        let new = !seen.contains(root);
        seen.push(root.clone());
        new
    });
    roots
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

fn inspect(sysroot: &Path) -> Option<Toolchain> {
    let rustc = sysroot.join("bin/rustc");
    let mut command = Command::new(&rustc);
    workspace::forget_outer_cargo(&mut command);
    let output = command.arg("-vV").stdin(Stdio::null()).output().ok()?;
    let (version, llvm) = versions_in(&String::from_utf8_lossy(&output.stdout))?;
    let beside = sysroot.join("bin/cargo");
    let cargo = if beside.is_file() { beside } else { PathBuf::from(outer_cargo()) };
    let enough = version >= pair(env!("CARGO_PKG_RUST_VERSION"))?;
    enough.then_some(Toolchain { rustc, cargo, llvm, version })
}

/// Reads the compiler's version and its LLVM's major version from what `rustc -vV` prints.
fn versions_in(text: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((pair(field("release:")?)?, llvm))
}

/// Reads `major.minor` from the start of a version.
fn pair(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The distribution's compiler and source, when they are new enough.
fn distribution_packages(report: &Report) -> Result<Option<[&'static str; 2]>> {
    const PAIRS: [[&str; 2]; 2] = [["rustc-web", "rust-web-src"], ["rustc", "rust-src"]];
    let wanted = pair(env!("CARGO_PKG_RUST_VERSION"));
    apt::offered(report, || {
        PAIRS.into_iter().find(|[compiler, source]| {
            let version = apt::candidate(compiler).as_deref().and_then(pair);
            version.is_some() && version >= wanted && apt::candidate(source).is_some()
        })
    })
}

fn quietly(command: &mut Command) -> bool {
    workspace::forget_outer_cargo(command);
    workspace::forget_toolchain(command);
    workspace::run(command, "ask rustup").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_rustc() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                    release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(versions_in(text), Some(((1, 97), 22)));
        assert_eq!(versions_in("error: toolchain is not installed"), None);
    }

    #[test]
    fn distribution_versions_compare_by_number() {
        assert_eq!(pair("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert!(pair("1.100.0") > pair("1.95"));
        assert!(pair("1.63.0+dfsg1-2") < pair("1.95"));
        assert_eq!(pair("none"), None);
    }

    #[test]
    fn toolchain_without_library_source_is_passed_over() {
        let sysroot = tempfile::tempdir().unwrap();
        assert!(!has_source(sysroot.path()));
        let core = sysroot.path().join("lib/rustlib/src/rust/library/core");
        fs::create_dir_all(&core).unwrap();
        fs::write(core.join("Cargo.toml"), "").unwrap();
        assert!(has_source(sysroot.path()));
        assert!(inspect(sysroot.path()).is_none(), "it has no compiler");
    }
}
