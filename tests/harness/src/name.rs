//! Names that tell whose they are: everything a testbed makes starts with its id, and the id with its process.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// What every name of the harness starts with.
pub(crate) const PREFIX: &str = "ambit-bed";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One testbed: the process that owns it (with its start, since pids are used again) and a counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BedId {
    pid: u32,
    start: u64,
    counter: u32,
}

impl BedId {
    /// Returns an id that no other living process and no earlier testbed of this one has.
    pub(crate) fn fresh() -> Self {
        let pid = std::process::id();
        Self { pid, start: started(pid).unwrap_or(0), counter: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Reads the id at the front of a name that a testbed gave, such as that of a namespace.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.splitn(4, '-');
        Some(Self {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            counter: parts.next()?.parse().ok()?,
        })
    }

    /// Returns whether the process that made the testbed still runs.
    pub(crate) fn owner_lives(&self) -> bool {
        started(self.pid) == Some(self.start)
    }
}

impl fmt::Display for BedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{}-{}-{}", self.pid, self.start, self.counter)
    }
}

/// Returns when a process started, in clock ticks since boot (field 22 of its stat line).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold blanks and brackets; everything after its last bracket is numbers.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_any_name_it_gave() {
        let id = BedId::fresh();
        assert_eq!(BedId::of_name(&id.to_string()), Some(id.clone()));
        assert_eq!(BedId::of_name(&format!("{id}-a-shop-web")), Some(id));
        for other in ["", "ambit-bed", "ambit-bed-1-2", "ambit-bed-x-2-3", "cni-1-2-3", "ambit-bedlam-1-2-3"]
        {
            assert_eq!(BedId::of_name(other), None, "{other}");
        }
    }

    #[test]
    fn ids_of_one_process_differ() {
        assert_ne!(BedId::fresh(), BedId::fresh());
    }

    #[test]
    fn a_reused_pid_does_not_keep_remains_alive() {
        let mine = BedId::fresh();
        assert!(mine.owner_lives());
        assert!(!BedId { start: mine.start + 1, ..mine.clone() }.owner_lives());
        assert!(!BedId { pid: u32::MAX, ..mine }.owner_lives());
    }
}
