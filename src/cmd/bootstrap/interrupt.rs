//! Ctrl-C, a closed terminal and SIGTERM end a bootstrap at its next breath instead of on the spot, so that a server that was in use is
//! given back. A second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::sys::signal;

static ASKED: AtomicBool = AtomicBool::new(false);

pub fn watch() -> Result<()> {
    let on_signal = |_| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(1);
        }
    };
    signal::spawn(on_signal).map_err(|error| Error::failed(format!("cannot watch for signals: {error}")))
}

/// An error once somebody has asked for the end.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::SeqCst) {
        return Err(Error::failed("interrupted; run bootstrap again on both nodes, it goes on where it has to"));
    }
    Ok(())
}
