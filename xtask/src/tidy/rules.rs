//! The house rules, each a function from a file to the lines that break it. It reads no files.

use std::path::Path;

use super::source::{self, Line, is_word};

/// A line number and what is wrong there.
type Broken = (usize, String);

const MAX_LINES: usize = 400;
/// Names that say nothing about what a module owns.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];
/// The only places for unsafe code.
const UNSAFE: [&str; 2] = ["ebpf-programs", "agent/bpf"];
/// Its code waits for conditions on behalf of tests: it is no test itself.
const HARNESS: &str = "tests/harness";

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
    for number in test_lines(path, &lines) {
        let line = lines.get(number - 1).map_or("", |line| &line.code);
        if line.contains("thread::sleep") || line.contains("time::sleep") || calls(line, "sleep") {
            broken.push((number, "a test sleeps: wait for a condition instead".to_owned()));
        }
    }
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

/// The numbers of the lines that are tests: whole files of tests, and inline modules under `#[cfg(test)]`.
fn test_lines(path: &Path, lines: &[Line]) -> Vec<usize> {
    let of_tests = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs");
    if of_tests && !path.starts_with(HARNESS) {
        return (1..=lines.len()).collect();
    }
    let mut found = Vec::new();
    let mut announced = false;
    let mut depth: Option<i64> = None;
    for (number, line) in (1..).zip(lines) {
        let code = line.code.trim();
        if depth.is_none() {
            announced |= code.contains("#[cfg(test)]");
            let opens = announced && code.contains('{');
            // `#[cfg(test)] mod tests;` is another file, which counts as one of tests by its name.
            announced &= !opens && !code.ends_with(';');
            if !opens {
                continue;
            }
        }
        found.push(number);
        let change = code.matches('{').count() as i64 - code.matches('}').count() as i64;
        depth = Some(depth.unwrap_or(0) + change).filter(|depth| *depth > 0);
    }
    found
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c| !is_word(c)).any(|found| found == word)
}

fn calls(code: &str, function: &str) -> bool {
    code.match_indices(function).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + function.len()..).is_some_and(|text| text.starts_with('('));
        after && !before.is_some_and(is_word)
    })
}
