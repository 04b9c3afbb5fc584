//! What the link thread counts for `status`. Whoever reads it takes a copy.

use crate::act::watchdog::Timer;
use crate::core::event::Ms;
use crate::peer::codec::Refusal;

/// Of one path.
#[derive(Debug, Clone, Copy, Default)]
pub struct PathStatistics {
    pub heard_ms: Option<Ms>,
    pub round_trip_us: Option<u64>,
}

/// Of all paths, with what was refused on any of them.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    pub paths: Vec<PathStatistics>,
    pub wrong_mac: u64,
    pub malformed: u64,
    pub replayed: u64,
    /// The peer speaks another version of the protocol.
    pub other_version: Option<u8>,
    /// `None`: there is no watchdog device.
    pub watchdog: Option<Timer>,
}

impl Statistics {
    pub(super) fn count(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Malformed => self.malformed += 1,
            Refusal::UnknownKey | Refusal::WrongMac => self.wrong_mac += 1,
            Refusal::Version(version) => self.other_version = Some(version),
        }
    }

    pub(super) fn heard_on(&mut self, path: usize, now_ms: Ms, round_trip_us: Option<u64>) {
        if let Some(entry) = self.paths.get_mut(path) {
            entry.heard_ms = Some(now_ms);
            entry.round_trip_us = round_trip_us.or(entry.round_trip_us);
        }
    }
}
