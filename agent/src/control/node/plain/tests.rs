//! Holds the straight way against the reader of all of YAML.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::control::node::read_everything;

/// Tells whether the straight way leaves the text alone, or reads it as the other does.
fn agrees(text: &str) -> Result<bool, String> {
    let mut documents = Vec::new();
    let stopped = read(text, 1000, &mut documents);
    let mut errors = Vec::new();
    let expected = read_everything(Path::new("in.yaml"), text, &mut errors);
    match stopped {
        Err(Stop::Rare) => return Ok(false),
        Ok(()) if errors.is_empty() && documents == expected => return Ok(true),
        // The words differ now and then, the place does not.
        Err(Stop::Wrong(place, _))
            if documents == expected
                && errors.len() == 1
                && (errors[0].line, errors[0].column) == (place.line, place.column) =>
        {
            return Ok(true);
        }
        _ => {}
    }
    Err(format!("{text:?}\n{documents:#?}\n{expected:#?}\n{errors:?}"))
}

#[test]
fn what_people_and_tools_write_is_read_straight() {
    for text in [
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: web, v: \"1\"}}\n",
        "a: |\n  b\n  c\nd: >-\n  e\n  f\n",
        "{\"a\": [1, 2.5, null, true, \"x\\n\"], \"b\": {}}",
        "a: [1, -1, +1, 0x10, 0o7, 1e3, .5, 1_000, 010, .inf, .nan, 99999999999999999999]",
        "a: [~, null, Null, '', yes, off, True, FALSE, no, y, 2024-01-01, 10.0.0.1, \"fd00::1\", a:b, http://x]",
        "a: b # comment\n# another\n---\n---\nc: d\n...\n",
        "- a\n-\n- - b\n",
        "a: b\n  c\n\n  d\n",
        "a:\n- ...\n- b---\n",
        "a: {b: [}",
        "a: b\n---\na: [",
        "a: b: c",
    ] {
        assert_eq!(agrees(text), Ok(true), "{text}");
    }
    for text in ["a: &x b\nc: *x", "a: !!str 1", "<<: {a: b}", "1: a", "? [a]\n: b", "true: a"] {
        assert_eq!(agrees(text), Ok(false), "{text}");
    }
}

#[test]
fn more_values_than_may_be_read_stop_it() {
    let mut documents = Vec::new();
    assert!(matches!(read("a: [1, 2, 3]", 6, &mut documents), Ok(())));
    assert!(matches!(read("a: [1, 2, 3]", 5, &mut documents), Err(Stop::TooLarge)));
}

/// Pieces of YAML; together they are more often wrong than not.
const PIECES: [&str; 54] = [
    "a",
    "b: ",
    "- ",
    "\n",
    "  ",
    "    ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "1",
    "0",
    "true",
    "True",
    "null",
    "~",
    "yes",
    "0x1f",
    "1e3",
    ".5",
    "-1",
    "+2",
    "\"q\"",
    "'s'",
    "---\n",
    "# c\n",
    "|\n",
    ">-\n",
    "?",
    " x y",
    ".inf",
    "1_0",
    "0o7",
    "010",
    "...\n",
    "é",
    "\t",
    "<<",
    "&a ",
    "*a",
    "!!str ",
    "%YAML 1.2\n",
    "a: 1\n",
    "\r\n",
    "-",
    "2024-01-01",
    "\u{85}",
    "\\",
    ":",
    "a:b",
    "http://x",
    "\n\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_read_differently(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 1..14)) {
        let agrees = agrees(&pieces.concat());
        prop_assert!(agrees.is_ok(), "{}", agrees.unwrap_err());
    }
}
