//! A file of objects, as `ambit check` and the agent read it: every text ends in errors or in a snapshot, never in a panic,
//! and an error names a line that the text has.
#![no_main]

use std::path::Path;

use ambit_agent::control::{file::related, finding::Findings, objects::Objects};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    objects.read_file(Path::new("fuzz.yaml"), text, &mut findings);
    let snapshot = related(&objects, "cluster.local", 1, &mut findings);
    assert_eq!(snapshot.is_some(), findings.errors.is_empty());
    // YAML also breaks lines at a lone carriage return.
    let lines = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    for finding in &findings.errors {
        assert!(finding.line as usize <= lines, "{finding} of {lines} lines");
    }
});
