//! Finds the BPF object that `cargo xtask build` made, and hands it to the crate.
use std::{
    env, fs,
    path::{Path, PathBuf},
};
fn main() {
    println!("cargo::rerun-if-env-changed=AMBIT_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = out.ancestors().nth(4).map(Path::to_owned).unwrap_or_default();
    let object =
        env::var_os("AMBIT_BPF_OBJECT").map(PathBuf::from).unwrap_or_else(|| target.join("ambit-ebpf.o"));
    println!("cargo::rerun-if-changed={}", object.display());
    fs::copy(&object, out.join("ambit-ebpf.o"))
        .unwrap_or_else(|e| panic!("{}: {e}: run cargo xtask build", object.display()));
}
