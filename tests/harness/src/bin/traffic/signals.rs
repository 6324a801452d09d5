//! Being asked to stop: SIGTERM or SIGINT.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

static STOP: AtomicBool = AtomicBool::new(false);
static WATCHING: OnceLock<()> = OnceLock::new();

/// Catches the signals from now on; `then` runs when the first one comes.
pub(crate) fn on_stop(then: impl FnOnce() + Send + 'static) -> Result<()> {
    if WATCHING.set(()).is_err() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime for signals")?;
    let (mut term, mut interrupt) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::terminate()).context("catch SIGTERM")?,
            signal(SignalKind::interrupt()).context("catch SIGINT")?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        });
        STOP.store(true, Ordering::Release);
        then();
    });
    Ok(())
}

/// Returns whether the program was asked to stop.
pub(crate) fn stopped() -> bool {
    STOP.load(Ordering::Acquire)
}
