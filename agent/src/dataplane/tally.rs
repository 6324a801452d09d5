//! Counts what is under way, for whoever must wait until nothing is. Knows nothing of what it counts.

use tokio::sync::watch;

/// How many of something there are. A clone counts the same.
#[derive(Clone, Debug)]
pub(crate) struct Tally(watch::Sender<usize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(watch::Sender<usize>);

impl Default for Tally {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Tally {
    /// Counts one more.
    pub(crate) fn enter(&self) -> Counted {
        // Nobody waits for more of them.
        self.0.send_if_modified(|count| {
            *count += 1;
            false
        });
        Counted(self.0.clone())
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until there is none.
    pub(crate) async fn none(&self) {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_if_modified(|count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_none_waits_for_the_last() {
        let tally = Tally::default();
        tally.none().await;
        let (first, second) = (tally.enter(), tally.enter());
        assert_eq!(tally.count(), 2);
        drop(first);
        let waits = tally.none();
        let mut waits = std::pin::pin!(waits);
        tokio::select! {
            biased;
            () = &mut waits => panic!("one is left"),
            () = std::future::ready(()) => {}
        }
        drop(second);
        waits.await;
    }
}
