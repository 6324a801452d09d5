//! Copies the BPF object, which `cargo xtask build` makes, to where the crate embeds it. It builds nothing itself: the
//! object takes another toolchain.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const OBJECT: &str = "ambit-ebpf.o";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=AMBIT_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    let object = env::var_os("AMBIT_BPF_OBJECT").map_or_else(|| target_dir(&out).join(OBJECT), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::copy(&object, out.join(OBJECT)) {
        Ok(_) => Ok(()),
        Err(error) => {
            println!("cargo::error=no BPF object at {} ({error}): run `cargo xtask build`", object.display());
            Err("the BPF object is missing".to_owned())
        }
    }
}

/// Returns the target directory, which cargo marks with CACHEDIR.TAG, above the build script's own directory.
fn target_dir(out: &Path) -> &Path {
    let marked = out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    // An unmarked one: target/<profile>/build/<package>/out.
    marked.or_else(|| out.ancestors().nth(4)).unwrap_or(out)
}
