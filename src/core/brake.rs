//! What holds the address still: an operator's pause, shared by both nodes, and the flap brake, each node's own. Only bookkeeping.

use super::Core;
use super::event::Ms;
use super::rules::{Rule, is_braked};

/// A day: a pause that somebody forgot must end.
pub const PAUSE_AT_MOST_MINUTES: u64 = 24 * 60;

/// An operator's pause, shared by both nodes: the one with the higher number counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pause {
    pub number: u64,
    pub until_ms: Ms,
}

impl Core {
    /// Odd numbers are node 1's, even ones node 2's: two operators at the same moment do not tie.
    pub(super) fn note_pause(&mut self, minutes: u64) {
        let next = self.belief.pause.number.saturating_add(1);
        let number = if next % 2 == u64::from(self.id.number) % 2 { next } else { next.saturating_add(1) };
        self.belief.pause = Pause { number, until_ms: self.pause_until(minutes) };
    }

    fn pause_until(&self, minutes: u64) -> Ms {
        self.belief.now + minutes.min(PAUSE_AT_MOST_MINUTES) * 60_000
    }

    /// What an operator said at the peer counts here too, if it is the later word.
    pub(super) fn adopt_pause(&mut self) {
        let Some(peer) = &self.belief.peer else { return };
        if peer.beat.pause > self.belief.pause.number {
            let (number, minutes) = (peer.beat.pause, peer.beat.pause_minutes);
            self.belief.pause = Pause { number, until_ms: self.pause_until(minutes) };
            if minutes == 0 {
                self.belief.departures.clear();
            }
        }
    }

    pub(super) fn paused(&self) -> bool {
        self.belief.now < self.belief.pause.until_ms
    }

    /// Minutes that are left of a pause, rounded up: what is said changes once a minute.
    pub(super) fn pause_minutes(&self) -> u64 {
        self.belief.pause.until_ms.saturating_sub(self.belief.now).div_ceil(60_000)
    }

    pub(super) fn flapping(&self) -> bool {
        let departures = &self.belief.departures;
        let many = self.limits.flap_count > 0 && departures.len() >= self.limits.flap_count;
        many && departures.first().is_some_and(|first| self.since(*first) < self.limits.flap_window)
    }

    pub(super) fn count_departure(&mut self, rule: &Rule) {
        if self.limits.flap_count == 0 || !is_braked(rule) {
            return;
        }
        let now = self.belief.now;
        let departures = &mut self.belief.departures;
        if departures.len() >= self.limits.flap_count {
            departures.remove(0);
        }
        departures.push(now);
    }
}
