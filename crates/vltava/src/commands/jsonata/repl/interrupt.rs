//! Ctrl-C while an evaluation runs. While a line is edited the terminal hands it over as a key; at any other
//! time it is a signal, which from here on ends what runs and not the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Sets the flag at each interrupt, until the process ends.
pub(super) fn sets(flag: Arc<AtomicBool>) -> io::Result<()> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        while interrupts.recv().await.is_some() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}
