//! The rule that a test waits for a condition: it may pause between two looks in a loop, and sleeps nowhere else.

use std::path::Path;

use super::{
    rules::Broken,
    source::{Line, has_word, is_word},
};

/// Its code waits for conditions on behalf of tests: it is no test itself.
const HARNESS: &str = "tests/harness";

/// Returns the lines of tests that sleep outside a `while` or `loop` that waits for something.
pub(super) fn in_tests(path: &Path, lines: &[Line]) -> Vec<Broken> {
    let sleeping = outside_waiting_loops(lines);
    let tests = test_lines(path, lines);
    let hits = sleeping.into_iter().filter(|number| tests.contains(number));
    hits.map(|number| (number, "a test sleeps: wait for a condition instead".to_owned())).collect()
}

/// The numbers of the lines that sleep where no loop of the same function stands around.
fn outside_waiting_loops(lines: &[Line]) -> Vec<usize> {
    let mut found = Vec::new();
    // For each open block, whether it belongs to a waiting loop of its function.
    let mut blocks: Vec<bool> = Vec::new();
    // The code since the last block or statement began.
    let mut header = String::new();
    for (number, line) in (1..).zip(lines) {
        let mut sleeps = false;
        for c in line.code.chars() {
            match c {
                '{' => {
                    let waits = has_word(&header, "while") || has_word(&header, "loop");
                    let inherited = blocks.last() == Some(&true) && !has_word(&header, "fn");
                    blocks.push(waits || inherited);
                }
                '}' => drop(blocks.pop()),
                '(' => {
                    sleeps |= header.ends_with("sleep") && blocks.last() != Some(&true) && is_call(&header)
                }
                _ => {}
            }
            match c {
                '{' | '}' | ';' => header.clear(),
                _ => header.push(c),
            }
        }
        header.push(' ');
        if sleeps {
            found.push(number);
        }
    }
    found
}

/// `header` ends with `sleep`: returns whether that is the whole name of what is called.
fn is_call(header: &str) -> bool {
    let before = header.strip_suffix("sleep").unwrap_or(header);
    !before.ends_with(is_word) && !before.ends_with("fn ")
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
