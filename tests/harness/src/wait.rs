//! Waiting for a condition, with words for what did not happen. Never a bare sleep.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds; panics after `timeout` with `what` was waited for.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || condition().then_some(()));
}

/// Waits until `probe` gives a value and returns it; panics after `timeout` with `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        if Instant::now() >= deadline {
            panic!("waited {timeout:?} for {what}, in vain");
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_as_soon_as_the_value_is_there() {
        let mut left = 3;
        let got = wait_for("three polls", Duration::from_secs(5), || {
            left -= 1;
            (left == 0).then_some("there")
        });
        assert_eq!(got, "there");
    }

    #[test]
    #[should_panic(expected = "for the moon, in vain")]
    fn panics_with_what_was_waited_for() {
        wait_until("the moon", Duration::from_millis(20), || false);
    }
}
