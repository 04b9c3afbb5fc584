//! Beliefs that follow from others as time passes. Only bookkeeping.

use super::Core;
use super::beat::Beat;
use super::event::Ms;
use super::history::History;
use super::state::State;

/// How long an operator's `--force` counts.
const FORCE_MS: Ms = 60_000;

impl Core {
    /// Beliefs that follow from others over time.
    pub(super) fn track(&mut self) {
        self.track_semi_sync();
        self.track_stall();
        self.track_level();
        self.track_claim();
        let heard = self.peer_heard();
        self.belief.solo = match self.state {
            State::Active => !(heard || self.limits.lossless && self.belief.semi_sync),
            _ => self.belief.solo && !heard,
        };
        // An operator's risk is about what was seen then, not about whatever comes later.
        self.belief.force &= self.since(self.belief.forced_ms) < FORCE_MS;
        self.track_extra();
        // Accepted were these transactions: once the leader has them, the same numbers may one day name others.
        if self.belief.merge.as_ref().is_some_and(|accepted| !accepted.is_empty()) && self.agrees() {
            self.belief.merge = Some(History::default());
        }
        let belief = &mut self.belief;
        // While it only opens its server, its claim may still come to nothing.
        let serves = |beat: &Beat| beat.state.holds() && beat.state != State::Open;
        let newer = belief.peer.as_ref().is_some_and(|peer| serves(&peer.beat) && peer.beat.epoch > belief.want_record.held);
        if newer && !self.state.holds() {
            belief.want_record.held = 0;
        }
    }

    /// How many have not reached the leader, and since when they have not become fewer.
    fn track_extra(&mut self) {
        let waiting = self.belief.peer.as_ref().map(|peer| peer.beat.unapplied.clone()).unwrap_or_default();
        let extra = (self.has_extra() == Some(true)).then(|| self.raw_extra().minus(&waiting).count());
        let before = self.belief.extra;
        self.belief.extra = extra.map(|count| match before {
            Some((less, since)) if count >= less => (less, since),
            _ => (count, self.belief.now),
        });
    }

    /// Whether this node's own network was away.
    pub(super) fn note_carrier(&mut self, carrier: bool) {
        if carrier && self.belief.carrier == Some(false) {
            self.belief.back_ms = Some(self.belief.now);
        }
        self.belief.carrier = Some(carrier);
    }

    pub(super) fn note_ping(&mut self, at_ms: Ms) {
        // Four are asked in an isolation: one may be lost, two in a row are not.
        if self.belief.ping_ms.is_some_and(|before| at_ms.saturating_sub(before) >= self.limits.isolation * 3 / 4) {
            self.belief.back_ms = Some(at_ms);
        }
        self.belief.ping_ms = Some(at_ms);
    }
}
