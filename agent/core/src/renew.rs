//! When a certificate is renewed, retried after a failure, and worth an alarm: pure arithmetic on instants.
//!
//! It owns the schedule of renewal. It never reads a clock, draws a random number or touches a certificate:
//! the caller passes the instants and the jitter.

use std::time::{Duration, SystemTime};

/// The jitter moves a renewal by at most this part of the life.
const JITTER_DIVISOR: f64 = 10.0;
/// The last tenth of a life is the time when a failed renewal needs a person.
const CRITICAL_DIVISOR: u32 = 10;
/// Bounds of the first pause after a failure.
const FIRST_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Bounds of the longest pause between two attempts.
const LAST_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(600));

/// Returns the instant at which a certificate is due for renewal: half its life, moved by the jitter.
///
/// `issued_at` is the instant of issue, not the certificate's `notBefore`, which is set back to tolerate
/// clock skew and would make a short life look over before it began. `jitter` is a draw from -1.0 to 1.0
/// and stands for -10 % to +10 % of the life; a value outside is cut to the range, one that is not a number
/// counts as 0. A life that ends before it begins is due at once, at `issued_at`.
pub fn renew_at(issued_at: SystemTime, valid_until: SystemTime, jitter: f64) -> SystemTime {
    let Ok(life) = valid_until.duration_since(issued_at) else { return issued_at };
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(-1.0, 1.0) };
    issued_at + life.mul_f64(0.5 + jitter / JITTER_DIVISOR)
}

/// Returns the pause before the next attempt after `failures` failures in a row (1 for the first).
///
/// It doubles with each failure, and both its start and its limit follow the life, so that a short-lived
/// certificate gets several attempts before it expires and a long-lived one does not hammer its issuer.
pub fn retry_after(failures: u32, life: Duration) -> Duration {
    let first = (life / 200).clamp(FIRST_RETRY.0, FIRST_RETRY.1);
    let longest = (life / 20).clamp(LAST_RETRY.0, LAST_RETRY.1);
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(longest)
}

/// Says whether `now` lies in the last tenth of the life or past it.
pub fn is_critical(now: SystemTime, issued_at: SystemTime, valid_until: SystemTime) -> bool {
    let Ok(life) = valid_until.duration_since(issued_at) else { return true };
    valid_until.duration_since(now).map_or(true, |left| left <= life / CRITICAL_DIVISOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 24 * 3600;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn close(left: SystemTime, right: SystemTime) -> bool {
        let apart = left.duration_since(right).or_else(|_| right.duration_since(left));
        apart.is_ok_and(|apart| apart < Duration::from_millis(1))
    }

    #[test]
    fn renewal_is_due_at_half_life_moved_by_a_tenth_at_most() {
        // life in seconds, jitter, seconds after issue
        let table = [
            (100, 0.0, 50.0),
            (100, 1.0, 60.0),
            (100, -1.0, 40.0),
            (100, 0.5, 55.0),
            (100, 7.0, 60.0),
            (100, -7.0, 40.0),
            (100, f64::NAN, 50.0),
            (100, f64::INFINITY, 60.0),
            (2, 0.0, 1.0),
            (2, 1.0, 1.2),
            (2, -1.0, 0.8),
            (24 * 3600, 0.0, 43_200.0),
            (10 * YEAR, 0.0, 5.0 * YEAR as f64),
            (0, 1.0, 0.0),
        ];
        for (life, jitter, due) in table {
            let got = renew_at(at(0), at(life), jitter);
            let want = at(0) + Duration::from_secs_f64(due);
            assert!(close(got, want), "life {life} s, jitter {jitter}: due {got:?}, want {want:?}");
        }
    }

    #[test]
    fn a_life_that_ends_before_it_begins_is_due_at_once() {
        assert_eq!(renew_at(at(10), at(3), 1.0), at(10));
        assert!(is_critical(at(0), at(10), at(3)));
    }

    #[test]
    fn a_retry_doubles_up_to_a_limit_that_follows_the_life() {
        // failures, life in seconds, pause in milliseconds
        let table = [
            (0, 86_400, 10_000),
            (1, 86_400, 10_000),
            (2, 86_400, 20_000),
            (3, 86_400, 40_000),
            (7, 86_400, 600_000),
            (u32::MAX, 86_400, 600_000),
            (1, 2, 100),
            (2, 2, 200),
            (3, 2, 200),
            (1, 600, 3_000),
            (2, 600, 6_000),
            (9, 600, 30_000),
            (1, 10 * YEAR, 10_000),
            (1, 0, 100),
        ];
        for (failures, life, pause) in table {
            let got = retry_after(failures, Duration::from_secs(life));
            assert_eq!(got, Duration::from_millis(pause), "{failures} failures, life {life} s");
        }
    }

    #[test]
    fn a_short_life_leaves_room_for_several_attempts_before_expiry() {
        let life = Duration::from_secs(2);
        let spent: Duration = (1..=3).map(|failures| retry_after(failures, life)).sum();
        assert!(renew_at(at(0), at(2), 1.0) + spent < at(2));
    }

    #[test]
    fn only_the_last_tenth_is_critical() {
        let table = [(0, false), (50, false), (89, false), (90, true), (99, true), (100, true), (101, true)];
        for (now, critical) in table {
            assert_eq!(is_critical(at(now), at(0), at(100)), critical, "{now} s into 100 s");
        }
    }
}
