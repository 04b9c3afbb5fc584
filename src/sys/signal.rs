//! Signals as calls on a thread of their own, where anything may be done; no handler runs code of ours.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What the operator or systemd wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: hand over and end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// From now on these signals no longer end the process: each calls `on_signal`, in the order of arrival, until the process ends.
pub fn spawn(on_signal: impl Fn(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let body = move || {
        for number in signals.forever() {
            on_signal(if number == SIGHUP { Signal::Reload } else { Signal::Stop });
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(body).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_signal_is_told() {
        let (sender, receiver) = mpsc::channel();
        spawn(move |signal| sender.send(signal).expect("the test listens")).expect("spawn");
        for (number, expect) in [(SIGHUP, Signal::Reload), (SIGTERM, Signal::Stop), (SIGINT, Signal::Stop)] {
            signal_hook::low_level::raise(number).expect("raise");
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(expect));
        }
    }
}
