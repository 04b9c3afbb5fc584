//! Ctrl-C, a closed terminal and SIGTERM end a bootstrap at its next breath instead of on the spot, so that a server that was in use is
//! given back. Asking again, a second or more later, ends it at once: one wish often comes as two signals (the kernel and the shell
//! both tell of a closed terminal; timeout(1) and sudo(8) signal the child and then its process group).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::signal;

/// Signals closer together than this are one wish.
const SAME_WISH: Duration = Duration::from_secs(1);

static ASKED: OnceLock<Instant> = OnceLock::new();

pub fn watch() -> Result<()> {
    let on_signal = |_| {
        if is_second_wish(*ASKED.get_or_init(Instant::now), Instant::now()) {
            std::process::exit(1);
        }
    };
    signal::spawn(on_signal).map_err(|error| Error::failed(format!("cannot watch for signals: {error}")))
}

/// An error once somebody has asked for the end.
pub fn check() -> Result<()> {
    if ASKED.get().is_some() {
        return Err(Error::failed("interrupted; run bootstrap again on both nodes, it goes on where it has to"));
    }
    Ok(())
}

fn is_second_wish(first: Instant, now: Instant) -> bool {
    now.saturating_duration_since(first) >= SAME_WISH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signals_at_once_are_one_wish() {
        let first = Instant::now();
        for (later_ms, second) in [(0, false), (1, false), (999, false), (1_000, true), (60_000, true)] {
            assert_eq!(is_second_wish(first, first + Duration::from_millis(later_ms)), second, "{later_ms} ms later");
        }
    }
}
