//! The house rules that neither rustfmt nor clippy knows. It reads the workspace's Rust files and changes nothing.

mod rules;
mod sleeps;
mod source;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A broken rule, at a line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    line: usize,
    /// What is wrong, and what to do.
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.text)
    }
}

/// Checks every Rust file below `root`.
///
/// # Errors
/// When a rule is broken (each place is printed) or a file cannot be read.
pub(crate) fn run(root: &Path) -> Result<()> {
    let findings = check(root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("tidy: 1 house rule is broken"),
        count => bail!("tidy: house rules are broken at {count} places"),
    }
}

fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let files = rust_files(root)?;
    if files.is_empty() {
        bail!("tidy: {} holds no Rust file", root.display());
    }
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let path = file.strip_prefix(root).unwrap_or(&file).to_owned();
        let place = |(line, text)| Finding { path: path.clone(), line, text };
        findings.extend(rules::broken(&path, &text).into_iter().map(place));
    }
    findings.sort();
    Ok(findings)
}

/// The Rust files below `dir`, without what cargo built and hidden directories.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("read {}", dir.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().with_context(|| format!("read {}", path.display()))?;
        let built = path.join("CACHEDIR.TAG").exists();
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') && !built {
            files.extend(rust_files(&path)?);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
