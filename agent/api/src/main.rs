//! Writes the definitions of ambit's kinds into a folder: `crds FOLDER`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use ambit_api::definitions;
use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("name the folder: crds FOLDER")?);
    for definition in definitions()? {
        let path = folder.join(definition.file);
        std::fs::write(&path, definition.text()?).with_context(|| format!("write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
