//! The watchdog device as a guard: it resets this box when the link thread no longer comes round under the core's blessing while the node
//! may hold the address. Opened once, for the whole life of the service, so that nobody else can have it when it is needed; its timer runs only
//! from the claim until everything is let go. Never armed for longer than the peer waits.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::duration::show;
use crate::config::{Heartbeat, timing};
use crate::core::event::Ms;
use crate::error::{Error, Kind, Result};
use crate::sys::watchdog::Watchdog;

/// At rest, where the timer cannot be stopped: as long as a service may take to come back after a restart by hand. Most drivers take it.
const AT_REST_S: u32 = 60;
/// A meal lasts: heartbeats may be as near as 2 ms, and a management board is asked over a slow line.
const MEALS_PER_TIMEOUT: Ms = 5;

/// What the timer does now; for `status` and the last words of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    Armed,
    Stopped,
    /// The driver does not stop it (nowayout): it is fed as long as the service runs, and ends this box so long after it.
    Unstoppable {
        seconds: u32,
    },
}

#[derive(Debug)]
pub struct Guard {
    device: Watchdog,
    path: PathBuf,
    identity: String,
    seconds: u32,
    fit: RangeInclusive<u32>,
    timer: Timer,
    fed_ms: Ms,
}

impl Guard {
    /// Takes the device of this configuration, if there is one, and tries it: armed, short enough, and at rest again. A refusal names the
    /// remedy; exit 1 lets systemd try again, which also keeps a timer fed that cannot be stopped.
    pub fn open(heartbeat: &Heartbeat) -> Result<Option<Guard>> {
        let Some(path) = &heartbeat.watchdog else { return Ok(None) };
        let (device, identity) = Watchdog::open(path).map_err(|fault| Refusal::of(path, &fault).error())?;
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let mut guard = Guard {
            device,
            path: path.clone(),
            identity,
            seconds: seconds(heartbeat.watchdog_timeout),
            fit: seconds(timing::shortest_watchdog(heartbeat.keepalive))..=seconds(timing::longest_watchdog(heartbeat.deadtime)),
            timer: Timer::Armed,
            fed_ms: 0,
        };
        let tried = guard.set(0);
        guard.rest();
        let (shown, identity, timeout) = (path.display(), &guard.identity, show(heartbeat.watchdog_timeout));
        match tried {
            Ok(()) => Ok(Some(guard)),
            Err(fault) => Err(Error::failed(format!(
                "watchdog \"{shown}\" ({identity}) cannot be armed for {timeout}: {fault}; set watchdog_timeout to what it can do, and deadtime at least 1s longer, or use another device"
            ))),
        }
    }

    pub fn timer(&self) -> Timer {
        self.timer
    }

    /// For the log, once.
    pub fn text(&self) -> String {
        let end = match self.timer {
            Timer::Unstoppable { seconds } => {
                format!("; its driver does not stop it: this box is reset {seconds}s after the service has ended")
            }
            Timer::Armed | Timer::Stopped => String::new(),
        };
        format!(
            "watchdog \"{}\" ({}), {}s, is armed while this node may hold the address{end}",
            self.path.display(),
            self.identity,
            self.seconds
        )
    }

    /// Before anything is held. Armed already: nothing to do.
    pub fn arm(&mut self, now: Ms) -> Result<()> {
        if self.timer == Timer::Armed {
            return Ok(());
        }
        self.set(now).map_err(|fault| self.lost("armed", &fault))
    }

    fn set(&mut self, now: Ms) -> io::Result<()> {
        let effective = self.device.set_timeout(self.seconds)?;
        if !self.fit.contains(&effective) {
            return Err(io::Error::other(format!(
                "its driver makes {effective}s of that, and only {} to {}s fit to keepalive and deadtime",
                self.fit.start(),
                self.fit.end()
            )));
        }
        if !matches!(self.timer, Timer::Unstoppable { .. }) {
            self.device.start()?;
        }
        self.device.feed()?;
        (self.timer, self.fed_ms) = (Timer::Armed, now);
        Ok(())
    }

    /// In every turn; does nothing while the timer stands still or has just been fed.
    pub fn feed(&mut self, now: Ms) -> Result<()> {
        let fresh = now.saturating_sub(self.fed_ms) < Ms::from(self.seconds) * 1000 / MEALS_PER_TIMEOUT;
        let outcome = match self.timer {
            Timer::Armed if !fresh => self.device.feed(),
            Timer::Unstoppable { .. } if !fresh => self.device.feed_and_expect_close(),
            _ => return Ok(()),
        };
        self.fed_ms = now;
        outcome.map_err(|fault| self.lost("fed", &fault))
    }

    /// Nothing is held: the timer stands still, or lasts long where it cannot.
    pub fn rest(&mut self) {
        if self.timer != Timer::Armed {
            return;
        }
        let seconds = self.device.set_timeout(AT_REST_S).unwrap_or(self.seconds);
        self.timer = match self.device.stop() {
            Ok(()) => Timer::Stopped,
            Err(_) => {
                // Old drivers stop only when they are closed after this. Whether it is taken shows with the next meal.
                let _ = self.device.feed_and_expect_close();
                Timer::Unstoppable { seconds }
            }
        };
    }

    fn lost(&self, what: &str, fault: &io::Error) -> Error {
        Error::failed(format!("watchdog \"{}\" cannot be {what} ({fault}): this node holds nothing without it", self.path.display()))
    }
}

/// Why a device cannot be had, and what to do. Exit 3 only where trying again is vain and no timer was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    pub why: String,
    pub remedy: &'static str,
}

impl Refusal {
    pub fn of(path: &Path, fault: &io::Error) -> Refusal {
        let shown = path.display();
        let refusal = |kind, why: String, remedy| Refusal { kind, why, remedy };
        match fault.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => refusal(
                Kind::Failed,
                format!("watchdog \"{shown}\" is missing"),
                "load the module of this box's watchdog (softdog if it has none) with a file in /etc/modules-load.d, or correct mmha.toml",
            ),
            Some(libc::EBUSY) => refusal(
                Kind::Failed,
                format!("watchdog \"{shown}\" belongs to another program"),
                "have systemd (RuntimeWatchdogSec= in system.conf), the watchdog daemon or whatever has it let go of it, or name another device in mmha.toml",
            ),
            Some(libc::ENOTTY | libc::EISDIR | libc::EINVAL) => {
                refusal(Kind::Config, format!("\"{shown}\" is not a watchdog"), "name one in mmha.toml, as \"/dev/watchdog0\"")
            }
            _ => refusal(
                Kind::Failed,
                format!("watchdog \"{shown}\" cannot be opened ({fault})"),
                "make it work, or take it out of mmha.toml",
            ),
        }
    }

    fn error(self) -> Error {
        Error::new(self.kind, format!("{}: {}", self.why, self.remedy))
    }
}

#[cfg(test)]
impl Guard {
    /// Armed, and from now on nothing works.
    pub fn broken() -> Guard {
        let (device, path, identity) = (Watchdog::broken(), PathBuf::from("/dev/watchdog0"), String::new());
        Guard { device, path, identity, seconds: 1, fit: 1..=1, timer: Timer::Armed, fed_ms: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_cannot_be_had_are_refused_with_a_remedy() {
        fn check(path: &str, code: u8, expect: &str) {
            let mut heartbeat = crate::mycnf::fragment::tests::config().heartbeat;
            heartbeat.watchdog = Some(path.into());
            let refused = Guard::open(&heartbeat).expect_err(path);
            assert!(refused.exit_code() == code && refused.to_string().contains(expect), "{refused}");
        }
        check("/dev/no-watchdog", 1, "is missing: load the module");
        check("/dev/null", 3, "\"/dev/null\" is not a watchdog");
        check("/dev", 3, "\"/dev\" is not a watchdog");
        let busy = Refusal::of(Path::new("/dev/watchdog0"), &io::Error::from_raw_os_error(libc::EBUSY)).error();
        assert!(busy.exit_code() == 1 && busy.to_string().contains("RuntimeWatchdogSec="), "{busy}");
        let lost = Guard::broken().feed(1000).expect_err("it is broken").to_string();
        assert!(lost.starts_with("watchdog \"/dev/watchdog0\" cannot be fed (No space left"), "{lost}");
        assert!(Guard::broken().feed(199).is_ok(), "it has just been fed");
        assert!(Guard::open(&crate::mycnf::fragment::tests::config().heartbeat).expect("none is configured").is_none());
    }
}
