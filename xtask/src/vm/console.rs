//! What the virtual machine says on its serial console: the output of its tests, and marks of its init. It runs
//! nothing.

use std::{collections::VecDeque, mem};

use crate::test::Totals;

/// What marks a line of the machine's init.
pub(super) const MARK: &str = "VM: ";
/// The init's last line.
pub(super) const END: &str = "end";

/// How many of the last lines are kept to tell why a machine did not come to its end.
const LAST: usize = 20;

/// What was read so far.
#[derive(Default)]
pub(super) struct Console {
    /// The results of the tests.
    pub(super) totals: Totals,
    /// Whether the init came to its end.
    pub(super) ended: bool,
    last: VecDeque<String>,
    started: bool,
    closed: bool,
    /// How many tests had run when the running binary was started.
    before: u64,
}

impl Console {
    /// Reads a line; returns it where a person wants to see it.
    pub(super) fn read<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let line = line.trim_end_matches('\r');
        self.last.push_back(line.to_owned());
        self.last.drain(..self.last.len().saturating_sub(LAST));
        // The firmware writes its own codes in front of the first line.
        let Some((_, mark)) = line.split_once(MARK) else {
            self.closed |= line.starts_with("test result: ");
            self.totals.read(line);
            return self.started.then_some(line);
        };
        self.started = true;
        if mark == END {
            self.ended = true;
        } else if mark.starts_with("status") {
            // A test binary without a closing line has crashed, or did not start; one that ran no test was asked for
            // a test that is no more.
            if !mem::take(&mut self.closed) || self.totals.ran() == self.before {
                self.totals.broke_off();
            }
            self.before = self.totals.ran();
        }
        Some(mark)
    }

    /// Returns the machine's last lines: a kernel that stops says why there.
    pub(super) fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Console {
        let mut console = Console::default();
        for line in lines {
            console.read(line);
        }
        console
    }

    const GOOD: &str = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\r";

    #[test]
    fn results_count_and_the_end_is_seen() {
        let console =
            read(&["\u{1b}c\u{1b}[2JVM: Linux 6.1", "VM: running lane", GOOD, "VM: status 0\r", "VM: end\r"]);
        assert!(console.ended && console.totals.success());
    }

    #[test]
    fn a_binary_without_a_result_is_a_failure() {
        let console = read(&[
            "VM: running lane",
            GOOD,
            "VM: status 0",
            "VM: running policy",
            "VM: status 139",
            "VM: end",
        ]);
        assert!(console.ended && !console.totals.success());
    }

    #[test]
    fn a_name_that_no_test_has_is_a_failure() {
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out";
        let console =
            read(&["VM: running lane", GOOD, "VM: status 0", "VM: running policy x", none, "VM: status 0"]);
        assert_eq!(console.totals.to_string(), "5 passed, 1 failed");
        assert!(
            read(&["VM: running lane", GOOD, "VM: status 0", "VM: running policy", GOOD, "VM: status 0"])
                .totals
                .success()
        );
    }

    #[test]
    fn a_machine_that_hangs_has_no_end() {
        assert!(!read(&["VM: running lane", GOOD]).ended);
    }

    #[test]
    fn the_last_words_of_a_kernel_are_kept() {
        let mut lines = vec!["[    0.1] booting"; 2 * LAST];
        lines.push("Kernel panic - not syncing: No working init found.\r");
        let console = read(&lines);
        assert_eq!(console.last().count(), LAST);
        assert_eq!(console.last().last(), Some("Kernel panic - not syncing: No working init found."));
    }

    #[test]
    fn what_firmware_and_kernel_say_is_not_shown() {
        let mut console = Console::default();
        assert_eq!(console.read("[    0.1] booting"), None);
        assert_eq!(console.read("VM: running lane"), Some("running lane"));
        assert_eq!(console.read("test a ... ok\r"), Some("test a ... ok"));
    }
}
