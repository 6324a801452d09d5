//! Adds up what test binaries report. It knows libtest's closing line and nothing else.

use std::fmt;

/// The results of several test binaries.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    passed: u64,
    failed: u64,
}

impl Totals {
    /// Adds a line of output, if it is the closing line of a test binary.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        // `ok. 5 passed; 0 failed; …`: ignored tests count as failures, for nothing may be left out.
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) =
                (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" | "ignored" => self.failed += number,
                _ => {}
            }
        }
    }

    /// Counts one test.
    pub(crate) fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Counts a binary that ended without a closing line.
    pub(crate) fn broke_off(&mut self) {
        self.failed += 1;
    }

    /// Returns how many tests failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Returns how many tests ran so far.
    pub(crate) fn ran(&self) -> u64 {
        self.passed + self.failed
    }

    /// Returns whether no test ran at all.
    pub(crate) fn nothing_ran(&self) -> bool {
        self.ran() == 0
    }

    /// Returns whether tests ran and none failed.
    pub(crate) fn success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: &[&str]) -> Totals {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.read(line));
        totals
    }

    const OK: &str =
        "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.31s";

    #[test]
    fn results_of_several_binaries_add_up() {
        let bad = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 4.05s";
        assert_eq!(totals(&[OK, "test deny_beats_allow ... ok", bad]).to_string(), "8 passed, 2 failed");
    }

    #[test]
    fn an_ignored_test_is_a_failure() {
        assert!(totals(&[OK]).success());
        assert!(
            !totals(&["test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out"])
                .success()
        );
    }

    #[test]
    fn no_test_at_all_is_no_success() {
        assert!(totals(&["running 0 tests"]).nothing_ran());
        assert!(!totals(&[]).success());
    }

    #[test]
    fn broken_off_binary_is_a_failure() {
        let mut totals = totals(&[OK]);
        totals.broke_off();
        assert_eq!(totals.to_string(), "5 passed, 1 failed");
        assert!(!totals.success());
    }
}
