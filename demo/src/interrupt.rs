//! Ctrl-C and SIGTERM end the demo between two rows, so that everything it made is removed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Catches the signals; the channel gets a message when the first one comes.
pub(crate) fn watch() -> Result<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime for signals")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    drop(guard);
    let (told, asked) = channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        ASKED.store(true, Ordering::Release);
        // Nobody listens any more when the demo is ending already.
        let _ = told.send(());
    });
    Ok(asked)
}

/// Fails once the demo was asked to end.
pub(crate) fn check() -> Result<()> {
    if ASKED.load(Ordering::Acquire) {
        bail!("interrupted; everything is being removed");
    }
    Ok(())
}
