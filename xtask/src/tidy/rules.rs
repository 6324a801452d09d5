//! The house rules, each a function from a file to the lines that break it. It reads no files.

use std::path::Path;

use super::{
    sleeps,
    source::{self, Line, has_word, is_word},
};

/// A line number and what is wrong there.
pub(super) type Broken = (usize, String);

const MAX_LINES: usize = 400;
/// Names that say nothing about what a module owns.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];
/// The only places for unsafe code.
const UNSAFE: [&str; 3] = ["ebpf-programs", "agent/bpf", "tests/harness/src/bin/attack/syscalls.rs"];

/// Returns the lines of the file at `path`, relative to the workspace, that break a rule.
pub(super) fn broken(path: &Path, text: &str) -> Vec<Broken> {
    let lines = source::lines(text);
    let mut broken = Vec::new();
    length(text, &mut broken);
    opening(text, &mut broken);
    names(path, &lines, &mut broken);
    for (number, line) in (1..).zip(&lines) {
        leftovers(number, line, &mut broken);
        if !UNSAFE.iter().any(|dir| path.starts_with(dir)) && has_word(&line.code, "unsafe") {
            broken.push((number, format!("unsafe code: it belongs in {}", UNSAFE.join(" or "))));
        }
        let ignored = line.code.trim_start().starts_with("#[ignore") || line.code.contains(", ignore");
        if ignored && line.code.contains("#[") {
            broken.push((number, "ignored test: repair it or delete it".to_owned()));
        }
    }
    broken.extend(sleeps::in_tests(path, &lines));
    broken
}

fn length(text: &str, broken: &mut Vec<Broken>) {
    let count = text.lines().count();
    if count > MAX_LINES {
        broken.push((
            MAX_LINES + 1,
            format!("{count} lines, {MAX_LINES} are allowed: split the file by what it owns"),
        ));
    }
}

fn opening(text: &str, broken: &mut Vec<Broken>) {
    if !text.starts_with("//!") {
        broken.push((
            1,
            "the file does not open with `//!`: say what it owns, and what it never does".to_owned(),
        ));
    }
}

fn names(path: &Path, lines: &[Line], broken: &mut Vec<Broken>) {
    let file = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if file == "mod" {
        broken.push((1, "mod.rs: name the file after its module, foo.rs beside foo/".to_owned()));
    }
    if EMPTY_NAMES.contains(&file) {
        broken.push((1, empty_name(file)));
    }
    for (number, line) in (1..).zip(lines) {
        let mut words = line.code.split(|c| !is_word(c)).skip_while(|word| *word != "mod").skip(1);
        // A module in a file of its own is reported there.
        if let Some(name) = words.next().filter(|name| EMPTY_NAMES.contains(name) && line.code.contains('{'))
        {
            broken.push((number, empty_name(name)));
        }
    }
}

fn empty_name(name: &str) -> String {
    format!("a module named {name}: name it after what it owns")
}

fn leftovers(number: usize, line: &Line, broken: &mut Vec<Broken>) {
    for stub in ["todo!", "unimplemented!"] {
        if line.code.contains(&format!("{stub}(")) {
            broken.push((number, format!("{stub}: write the code, or leave the feature out")));
        }
    }
    if has_word(&line.comment, concat!("FIX", "ME")) {
        broken.push((number, concat!("FIX", "ME: repair it now, or open an issue").to_owned()));
    }
}
