//! Renewal: the task that replaces each certificate at half its life, and keeps trying when that fails.
//!
//! It owns attempts, back-off and what is logged about them. The times come from `ambit_core::renew`. A live
//! connection keeps the certificate that it was made with.

use std::collections::btree_map::Entry as Slot;
use std::error::Error;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use ambit_core::identity::SpiffeId;
use ambit_core::renew;
use tracing::{error, info, warn};

use super::{Entry, IdentityStore};

/// The schedule is looked at again at least this often: the wall clock can jump while the task sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// And never more often than this.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);

/// What to do with an identity that the store does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It has just become wanted.
    Insert,
    /// It was dropped meanwhile.
    Forget,
}

impl IdentityStore {
    /// Renews each certificate at half its life (±10 % of the life) until `shutdown` completes.
    ///
    /// A failure is repeated with growing pauses; it is logged as a warning, and as an error once less than a
    /// tenth of the life is left.
    pub async fn run_renewal(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let now = SystemTime::now();
            let next = self.next_due(now);
            let sleep = match next {
                Some((id, due)) if due <= now => {
                    self.renew(&id, Missing::Forget);
                    // Many can be due together: let connections have their turn in between.
                    tokio::task::yield_now().await;
                    Duration::ZERO
                }
                Some((_, due)) => due.duration_since(now).unwrap_or_default(),
                None => LONGEST_SLEEP,
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(sleep.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Returns the identity that is due first, and when.
    pub(super) fn next_due(&self, now: SystemTime) -> Option<(SpiffeId, SystemTime)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let due = |entry: &Entry| match &entry.current {
            // The clock went back: the certificate is not valid yet, and would be useless for as long.
            Some(current) if now < current.not_before && entry.failures == 0 => now,
            _ => entry.renew_at,
        };
        let (id, entry) = entries.iter().min_by_key(|(_, entry)| due(entry))?;
        Some((id.clone(), due(entry)))
    }

    /// Issues a certificate and puts it in place; says whether that succeeded. Never takes a usable one away.
    pub(super) fn renew(&self, id: &SpiffeId, missing: Missing) -> bool {
        let now = SystemTime::now();
        // Not under the lock: handshakes read the map.
        let issued = self.issue(id, now);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let slot = match (entries.entry(id.clone()), missing) {
            (Slot::Occupied(slot), _) => slot.into_mut(),
            (Slot::Vacant(slot), Missing::Insert) => {
                slot.insert(Entry { current: None, renew_at: now, failures: 0, last_error: None })
            }
            (Slot::Vacant(_), Missing::Forget) => return false,
        };
        match issued {
            Ok(identity) => {
                slot.renew_at = self.renewal_of(&identity);
                let not_after = humantime::format_rfc3339_seconds(identity.not_after);
                if identity.not_after < identity.issued_at + self.lifetime {
                    warn!(src.id = %id, serial = %identity.serial, %not_after, "certificate issued, cut short by the end of the root");
                } else {
                    info!(src.id = %id, serial = %identity.serial, %not_after, "certificate issued");
                }
                slot.current = Some(Arc::new(identity));
                slot.failures = 0;
                slot.last_error = None;
                true
            }
            Err(failure) => {
                slot.fail(id, &failure, now, self.lifetime);
                false
            }
        }
    }
}

impl Entry {
    fn fail(&mut self, id: &SpiffeId, failure: &dyn Error, now: SystemTime, lifetime: Duration) {
        self.failures = self.failures.saturating_add(1);
        let life = self.current.as_ref().map_or(lifetime, |current| current.life());
        let pause = renew::retry_after(self.failures, life);
        self.renew_at = now + pause;
        let reason = chain(failure);
        let critical = self
            .current
            .as_ref()
            .is_none_or(|current| renew::is_critical(now, current.issued_at, current.not_after));
        let retry_in = humantime::format_duration(pause);
        if critical {
            error!(src.id = %id, %reason, failures = self.failures, %retry_in, "certificate not renewed, and there is none that lasts");
        } else {
            warn!(src.id = %id, %reason, failures = self.failures, %retry_in, "certificate not renewed");
        }
        self.last_error = Some(reason);
    }
}

/// Writes an error and its sources on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
