//! What the virtual machine says on its serial console: the output of its tests, and marks of its init. It runs
//! nothing.

use crate::test::Totals;

/// What marks a line of the machine's init.
pub(super) const MARK: &str = "VM: ";
/// The init's last line.
pub(super) const END: &str = "end";

/// What was read so far.
#[derive(Default)]
pub(super) struct Console {
    /// The results of the tests.
    pub(super) totals: Totals,
    /// Whether the init came to its end.
    pub(super) ended: bool,
    started: bool,
    closed: bool,
}

impl Console {
    /// Reads a line; returns it where a person wants to see it.
    pub(super) fn read<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let line = line.trim_end_matches('\r');
        // The firmware writes its own codes in front of the first line.
        let Some((_, mark)) = line.split_once(MARK) else {
            self.closed |= line.starts_with("test result: ");
            self.totals.read(line);
            return self.started.then_some(line);
        };
        self.started = true;
        if mark == END {
            self.ended = true;
        } else if mark.starts_with("status") && !std::mem::take(&mut self.closed) {
            // A test binary without a closing line has crashed, or did not start.
            self.totals.broke_off();
        }
        Some(mark)
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
    fn a_machine_that_hangs_has_no_end() {
        assert!(!read(&["VM: running lane", GOOD]).ended);
    }

    #[test]
    fn what_firmware_and_kernel_say_is_not_shown() {
        let mut console = Console::default();
        assert_eq!(console.read("[    0.1] booting"), None);
        assert_eq!(console.read("VM: running lane"), Some("running lane"));
        assert_eq!(console.read("test a ... ok\r"), Some("test a ... ok"));
    }
}
