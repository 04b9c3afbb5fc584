//! The claim: when it is announced, and its number, which must be on disk before it counts.

use super::Core;
use super::state::State;

impl Core {
    /// Probes count from when they became wanted; the claim is announced from when only time is missing.
    pub(super) fn track_claim(&mut self) {
        let probing = self.probe();
        if probing && !self.belief.probing {
            self.belief.probes = 0;
            self.belief.first_probe_ms = None;
        }
        self.belief.probing = probing;
        self.belief.claims_since = if self.claims() { self.belief.claims_since.or(Some(self.belief.now)) } else { None };
        self.number_ahead();
    }

    /// So that the claim does not wait for the disk.
    fn number_ahead(&mut self) {
        let yields = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.state.yields());
        let soon = self.belief.claims_since.is_some() || yields && self.peer_heard();
        if soon && self.state == State::Standby && self.belief.record_known && !self.is_numbered() {
            self.belief.want_record.epoch = self.next_epoch();
            self.belief.numbered = true;
        }
    }

    /// Of the claim that begins now. Who was the last holder stays that until the claim succeeds: a crash in between must not leave nobody who
    /// may start alone.
    pub(super) fn number_claim(&mut self) {
        if !self.is_numbered() {
            self.belief.want_record.epoch = self.next_epoch();
        }
        self.belief.numbered = false;
    }

    /// A number of which no claim was made is left to the next one.
    fn is_numbered(&self) -> bool {
        self.belief.numbered && self.belief.want_record.epoch > self.peers_epoch()
    }

    /// Above all ever seen, odd for node 1, even for node 2, so that two claims never tie.
    fn next_epoch(&self) -> u64 {
        let seen = self.belief.record.epoch.max(self.peers_epoch());
        if seen % 2 == u64::from(self.id.number) % 2 { seen + 2 } else { seen + 1 }
    }

    fn peers_epoch(&self) -> u64 {
        self.belief.peer.as_ref().map_or(0, |peer| peer.beat.epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::beat::Beat;
    use super::super::event::Record;
    use super::super::sync::tests::holder;
    use super::*;

    fn hears(core: &mut Core, state: State, epoch: u64) -> u64 {
        if let Some(peer) = &mut core.belief.peer {
            peer.beat = Arc::new(Beat { state, epoch, ..(*peer.beat).clone() });
        }
        core.track_claim();
        core.belief.want_record.epoch
    }

    #[test]
    fn the_number_is_ahead_of_the_claim_and_serves_for_one() {
        let mut core = holder();
        assert!(core.id.number == 1 && core.peer_heard());
        (core.state, core.belief.record_known) = (State::Standby, true);
        (core.belief.record, core.belief.want_record) = (Record { epoch: 6, held: 0 }, Record { epoch: 6, held: 0 });
        assert_eq!(hears(&mut core, State::Active, 6), 6, "nobody is to claim");
        assert_eq!([hears(&mut core, State::Fence, 6), hears(&mut core, State::Active, 6), hears(&mut core, State::Drain, 6)], [7; 3]);
        assert_eq!(hears(&mut core, State::Fence, 8), 9, "the peer has claimed since");
        core.belief.record = core.belief.want_record;
        core.number_claim();
        assert_eq!(core.belief.want_record.epoch, 9, "this claim");
        core.number_claim();
        assert_eq!(core.belief.want_record.epoch, 11, "another one");
        core.belief.record = core.belief.want_record;
        assert_eq!(hears(&mut core, State::Fence, 8), 13);
        (core.belief.record_known, core.belief.numbered) = (false, false);
        assert_eq!(hears(&mut core, State::Fence, 20), 13, "what the disk has is not known");
    }
}
