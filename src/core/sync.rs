//! Whether the other node has what was acknowledged here, and whether I have what was acknowledged there. Only bookkeeping.

#[cfg(test)]
pub(super) mod tests;

use super::Core;
use super::beat::Beat;
use super::event::{Ms, RemoteSeen, Sample, ServerSeen};
use super::state::State;

/// A receiver that says it is connected and brings nothing for so long, while the writer is ahead, is none.
const STALL_MS: Ms = 4_000;

impl Core {
    /// Whether the stream from the writer still brings what the writer says it has. A connection can outlive the stream in it.
    pub(super) fn track_stall(&mut self) {
        let serves = |peer: &&super::belief::Peer| peer.beat.state == State::Active;
        let follows = self.peer_heard() && self.state == State::Standby && self.receives();
        let peer = self.belief.peer.as_ref().filter(serves).filter(|_| follows);
        if peer.is_none() {
            (self.belief.missing, self.belief.got_ms) = (false, self.belief.now);
            return;
        }
        let (missing, got) = (self.relation().missing, self.relation().got);
        if !missing || got > self.belief.got {
            self.belief.got_ms = self.belief.now;
        }
        (self.belief.missing, self.belief.got) = (missing, got);
    }

    /// A commit waits until all that was written before it is received as well. So nobody waits for a receiver that still has to fetch what it
    /// missed, which after a night can take minutes, nor for one whose connection brings nothing. Nobody waits for a holder's.
    pub(super) fn track_level(&mut self) {
        // A writer that works and tells no history has one that no heartbeat can carry. From any other that tells none nothing follows.
        let known = |beat: &Beat| beat.history.is_some() || beat.state.holds() && beat.server_ok;
        let known = self.peer_heard() && self.belief.peer.as_ref().is_some_and(|peer| known(&peer.beat));
        let level = self.state.holds() || self.belief.level || known && !self.relation().missing;
        self.belief.level = self.receives() && level;
    }

    /// The receiver is connected to the peer's server, by the last look.
    fn receives(&self) -> bool {
        let replica = self.belief.sample.as_ref().and_then(|sample| sample.replica.as_ref());
        replica.is_some_and(|replica| replica.receiver_connected)
    }

    /// The writer gives the copy up unless it hears soon that the receiver has caught up: that must be seen at once.
    pub(super) fn levels(&self) -> bool {
        !self.belief.level && self.receives()
    }

    pub(super) fn stalled(&self) -> bool {
        let suspect = self.belief.suspect && matches!(self.state, State::Standby | State::Isolated);
        suspect || self.belief.missing && self.since(self.belief.got_ms) >= STALL_MS
    }

    /// Whether I could go on alone, judged while the peer still speaks.
    pub(super) fn note_sync(&mut self) {
        if self.belief.torn {
            self.mend_torn();
        }
        let Some(peer) = &self.belief.peer else { return };
        let sample = self.belief.sample.as_ref();
        if self.belief.torn && !self.state.holds() {
            self.belief.alone = false;
        } else if self.state.holds() {
            self.belief.alone = true;
        } else if peer.beat.state.holds() {
            // A server that is down acknowledges nothing: what held when it went still holds.
            let was = self.belief.alone && !peer.beat.server_ok;
            self.belief.alone = if self.limits.lossless { peer.beat.protected } else { self.receives() || was };
        } else if let (Some(theirs), Some(mine)) = (&peer.beat.history, sample.map(|s| &s.history)) {
            self.belief.alone = mine.contains(theirs);
        } else if peer.beat.protected {
            self.belief.alone = true;
        }
    }

    /// Kept as it was at the last good look: what counts at the server's death is what was true while it lived.
    pub(super) fn note_synced(&mut self) {
        let belief = &self.belief;
        let Some(sample) = &belief.sample else { return };
        let serves = matches!(self.state, State::Open | State::Address | State::Active);
        if !serves || sample.taken_ms < belief.era_ms {
            return;
        }
        let follows = belief.peer.as_ref().is_some_and(|peer| peer.beat.receiving && peer.beat.current);
        let waits = belief.semi_sync && sample.semi_sync_on && sample.semi_sync_active;
        if !waits {
            self.belief.alone_until = None;
            self.belief.synced = !self.limits.lossless && follows;
            return;
        }
        // What was acknowledged before commits began to wait is at the peer only once the peer says so. What it has received it will have.
        let (until, key) = (belief.alone_until.as_ref().unwrap_or(&sample.history), &sample.server_key);
        let has = |beat: &Beat| beat.has().map_or(beat.current, |theirs| theirs.contains_of(until, key));
        let synced = belief.synced || self.peer_heard() && belief.peer.as_ref().is_some_and(|peer| has(&peer.beat));
        let until = until.clone();
        self.belief.synced = if self.limits.lossless { synced } else { follows };
        self.belief.alone_until = Some(until);
    }

    /// The server of a node that follows another has ended, and with it perhaps what it had received and not applied: until it has caught up
    /// with what the peer had by then, it is not in sync, whatever the peer believes.
    pub(super) fn note_torn(&mut self) {
        if !self.state.holds() && !self.belief.solo && !self.belief.record.was_holder() {
            (self.belief.torn, self.belief.torn_until, self.belief.alone) = (true, None, false);
        }
    }

    fn mend_torn(&mut self) {
        let alive = matches!(self.belief.server, Some(ServerSeen::Ok(_)));
        let theirs = self.belief.peer.as_ref().and_then(|peer| peer.beat.history.as_ref().map(|history| (history, &peer.beat.server_key)));
        let (Some((theirs, key)), Some(sample), true) = (theirs, self.belief.sample.as_ref(), alive) else { return };
        let until = self.belief.torn_until.get_or_insert_with(|| theirs.clone());
        // Received again is enough: it is applied before anything is opened.
        self.belief.torn = !sample.history.union(&sample.unapplied()).contains_of(until, key);
    }

    /// Silent, yet it serves: by now perhaps without waiting for me. Only a stream that it promised to wait for, and that still runs,
    /// keeps me in sync. Where its server cannot be reached none runs, whatever the receiver believes.
    pub(super) fn doubt_sync(&mut self) {
        let waits = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.state.holds() && peer.beat.protected);
        let reached = !matches!(self.belief.remote, Some((RemoteSeen::Down | RemoteSeen::Mute, _)));
        let streams = waits && reached && self.receives();
        if !self.peer_heard() && !self.state.holds() && !streams {
            (self.belief.alone, self.belief.solo) = (false, false);
        }
    }

    /// Commits always wait under load: whether acknowledgements flow shows in how many have got theirs.
    pub(super) fn note_flow(&mut self, sample: &Sample) {
        let written = sample.history.count_of(&sample.server_key);
        let acknowledged = written.saturating_sub(u64::from(sample.semi_sync_waiting));
        let more = acknowledged > self.belief.acknowledged;
        // Or the wait of one was ended: that only delays what rests on it.
        if more && sample.semi_sync_active {
            self.belief.receipt_ms = self.belief.now;
        }
        if sample.semi_sync_waiting == 0 || more {
            self.belief.flowed_ms = self.belief.now;
            self.belief.acknowledged = acknowledged;
        }
    }

    /// The peer speaks, and has not received for long enough: I am about to go on without waiting for it, and say so. A receiver that has
    /// stopped may be back soon, but not that of a quarantined server.
    pub(super) fn deaf_long(&self) -> bool {
        let Some(peer) = &self.belief.peer else { return false };
        let patience = if peer.beat.state == State::Quarantined { 0 } else { self.limits.deadtime / 2 };
        peer.deaf_since.is_some_and(|since| self.since(since) >= patience)
    }

    /// It knows that I no longer wait for it: or it would go on from what it has when it loses sight of me. One that has heard nothing of
    /// me for two deadtimes and does not claim has seen me answer for the address, and will not.
    fn knows_unprotected(&self) -> bool {
        let Some(peer) = &self.belief.peer else { return false };
        let unheard = peer.echo_sent_ms.is_none_or(|sent| self.since(sent) >= 2 * self.limits.deadtime);
        peer.echo_version >= self.belief.unprotected_version || (unheard && !peer.beat.claims && self.arbiter_firm(peer.echo_sent_ms))
    }

    /// The server has been seen to no longer wait since that was given up, so that what it then acknowledged alone can be told from what comes
    /// after. A look that still finds it waiting may have begun before.
    fn alone_is_over(&self) -> bool {
        let seen = |at: Ms| self.belief.sample.as_ref().is_some_and(|sample| sample.taken_ms > at && !sample.semi_sync_on);
        self.belief.semi_sync || self.belief.given_up_ms.is_none_or(seen)
    }

    /// Semi-sync is on while the peer receives; it is given up knowingly, never by a server timeout (SAFETY A9).
    pub(super) fn track_semi_sync(&mut self) {
        let serving = matches!(self.state, State::Open | State::Address | State::Active);
        let receiving = self.peer_echo() && self.belief.peer.as_ref().is_some_and(|peer| peer.beat.receiving);
        // Acknowledgements may still flow where heartbeats do not: only a replica that is gone, or commits that wait, end it. Looks may be
        // further apart than this: a commit that waits in one has waited since the one before at most.
        let moved = self.since(self.belief.flowed_ms) < self.limits.deadtime / 2;
        let flows = self.belief.sample.as_ref().is_some_and(|s| s.semi_sync_active && (moved || s.semi_sync_waiting == 0));
        let listened = self.since(self.belief.started_ms) >= self.limits.deadtime;
        // An acknowledgement is a sign of life like a heartbeat, and may have come for longer.
        let firm = self.arbiter_firm(self.belief.peer.as_ref().map(|peer| peer.heard_ms.max(self.belief.receipt_ms)));
        let silent = !self.peer_heard() && !self.cut() && listened && !flows && firm;
        let before = self.belief.semi_sync;
        self.belief.semi_sync = match serving && self.limits.lossless {
            false => before && matches!(self.state, State::Fence | State::Drain),
            true if receiving && self.alone_is_over() => true,
            true if silent || (self.deaf_long() && self.knows_unprotected()) => false,
            true => before,
        };
        if before && !self.belief.semi_sync {
            (self.belief.given_up_ms, self.belief.alone_until) = (Some(self.belief.now), None);
        }
        self.belief.synced &= self.belief.semi_sync || !serving || !self.limits.lossless;
        let protected = self.state != State::Active || self.protects();
        self.belief.unprotected_since = if protected { None } else { self.belief.unprotected_since.or(Some(self.belief.now)) };
    }

    /// Commits wait for the peer, and it has what was acknowledged before they did.
    pub(super) fn protects(&self) -> bool {
        let waits = self.belief.sample.as_ref().is_some_and(|s| s.semi_sync_on && s.semi_sync_active);
        self.belief.semi_sync && self.belief.synced && waits
    }

    /// Letting go of a server that hangs: its sessions may hold commits that wait, and cannot be asked.
    pub(super) fn must_kill_server(&self) -> bool {
        self.may_kill() && matches!(self.belief.server, Some(ServerSeen::Hung))
    }

    /// Without a handover, commits that wait get no acknowledgement any more: ending their sessions would commit them here alone. Crash recovery
    /// drops them instead, and the tail is fetched from the survivor. Where the kill has not helped, they are ended.
    pub(super) fn must_spare_waiting(&self) -> bool {
        let closing = matches!(self.state, State::Release | State::Standby | State::Gate | State::Isolated | State::Failed);
        // A peer that claims hears nothing of me, though the last echo is not old yet; one that leads receives from me no more.
        let taken = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.claims || peer.beat.state.holds());
        // What waited when I fell asleep may wait still, for a peer that has taken over meanwhile.
        let in_vain = !self.peer_echo() || self.peer_late() || taken || self.belief.slept;
        closing && in_vain && self.may_kill() && !self.belief.kill_server
    }

    pub(super) fn slept_long(&self) -> bool {
        self.belief.woke.is_some_and(|gap| gap >= self.limits.deadtime)
    }

    fn may_kill(&self) -> bool {
        self.limits.kill_hung && !self.belief.stop
    }

    pub(super) fn must_kill_unclosed(&self) -> bool {
        let alive = !matches!(self.belief.server, Some(ServerSeen::Dead) | None);
        self.may_kill() && alive && !self.read_only()
    }
}
