//! Finds the programs under test: named by the environment, or built beside the running executable.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::must;

/// Returns the path of one of the workspace's programs (`ambit`, `traffic`, `calculator`); panics if it is not built.
///
/// `AMBIT_BIN`, `TRAFFIC_BIN` and so on name another one.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    must(find(name))
}

pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let variable = format!("{}_BIN", name.to_uppercase().replace('-', "_"));
    if let Some(path) = env::var_os(&variable).map(PathBuf::from) {
        if !path.is_file() {
            bail!("{variable} names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let executable = env::current_exe().context("find the running executable")?;
    // Tests run from <target>/<profile>/deps, programs from <target>/<profile>.
    let profile = executable
        .ancestors()
        .skip(1)
        .find(|dir| dir.file_name().is_none_or(|n| n != "deps" && n != "examples"))
        .context("the running executable has no folder")?;
    let siblings = profile.parent().map(|target| [target.join("debug"), target.join("release")]);
    [profile.to_path_buf()]
        .into_iter()
        .chain(siblings.into_iter().flatten())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "`{name}` is not built in {}: run `cargo xtask build`, or set {variable}",
                profile.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = find("no-such-program").unwrap_err().to_string();
        assert!(error.contains("cargo xtask build") && error.contains("NO_SUCH_PROGRAM_BIN"), "{error}");
    }
}
