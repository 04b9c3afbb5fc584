//! Whether the other node has what was acknowledged here, and whether I have what was acknowledged there. Only bookkeeping.

use super::Core;
use super::event::{Ms, Sample, ServerSeen};
use super::state::State;

/// A receiver that says it is connected and brings nothing for so long, while the writer is ahead, is none.
const STALL_MS: Ms = 4_000;

impl Core {
    /// Whether the stream from the writer still brings what the writer says it has. A connection can outlive the stream in it.
    pub(super) fn track_stall(&mut self) {
        let connected = self.belief.sample.as_ref().and_then(|s| s.replica.as_ref()).is_some_and(|replica| replica.receiver_connected);
        let serves = |peer: &&super::belief::Peer| peer.beat.state == State::Active;
        let peer = self.belief.peer.as_ref().filter(serves).filter(|_| self.peer_heard() && self.state == State::Standby && connected);
        let (Some(peer), Some(sample)) = (peer, &self.belief.sample) else {
            (self.belief.missing, self.belief.got_ms) = (false, self.belief.now);
            return;
        };
        let have = self.belief.mark.union(&sample.history).only(&peer.beat.server_key);
        let missing = peer.beat.history.as_ref().is_some_and(|theirs| !have.contains(&theirs.only(&peer.beat.server_key)));
        if !missing || have.count() > self.belief.got {
            self.belief.got_ms = self.belief.now;
        }
        (self.belief.missing, self.belief.got) = (missing, have.count());
    }

    pub(super) fn stalled(&self) -> bool {
        self.belief.missing && self.since(self.belief.got_ms) >= STALL_MS
    }

    /// Whether I could go on alone, judged while the peer still speaks.
    pub(super) fn note_sync(&mut self) {
        let Some(peer) = &self.belief.peer else { return };
        let sample = self.belief.sample.as_ref();
        if self.state.holds() {
            self.belief.alone = true;
        } else if peer.beat.state.holds() {
            // A server that is down acknowledges nothing: what held when it went still holds.
            let was = self.belief.alone && !peer.beat.server_ok;
            let connected = sample.and_then(|s| s.replica.as_ref()).is_some_and(|replica| replica.receiver_connected);
            self.belief.alone = if self.limits.lossless { peer.beat.protected } else { connected || was };
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
        self.belief.synced = if self.limits.lossless { waits } else { follows };
    }

    /// Silent, yet it serves: by now perhaps without waiting for me. Only a stream that it promised to wait for, and that still runs,
    /// keeps me in sync.
    pub(super) fn doubt_sync(&mut self) {
        let waits = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.state.holds() && peer.beat.protected);
        let replica = self.belief.sample.as_ref().and_then(|sample| sample.replica.as_ref());
        let streams = waits && replica.is_some_and(|replica| replica.receiver_connected);
        if !self.peer_heard() && !self.state.holds() && !streams {
            (self.belief.alone, self.belief.solo) = (false, false);
        }
    }

    /// Commits always wait under load: whether acknowledgements flow shows in how many have got theirs.
    pub(super) fn note_flow(&mut self, sample: &Sample) {
        let written = sample.history.only(&sample.server_key).count();
        let acknowledged = written.saturating_sub(u64::from(sample.semi_sync_waiting));
        if sample.semi_sync_waiting == 0 || acknowledged > self.belief.acknowledged {
            self.belief.flowed_ms = self.belief.now;
            self.belief.acknowledged = acknowledged;
        }
    }

    /// The peer speaks, and has not received for long enough: I am about to go on without waiting for it, and say so.
    pub(super) fn deaf_long(&self) -> bool {
        let deaf = self.belief.peer.as_ref().and_then(|peer| peer.deaf_since);
        deaf.is_some_and(|since| self.since(since) >= self.limits.deadtime / 2)
    }

    /// It knows that I no longer wait for it: or it would go on from what it has when it loses sight of me. One that has heard nothing of
    /// me for two deadtimes and does not claim has seen me answer for the address, and will not.
    fn knows_unprotected(&self) -> bool {
        let Some(peer) = &self.belief.peer else { return false };
        let unheard = peer.echo_sent_ms.is_none_or(|sent| self.since(sent) >= 2 * self.limits.deadtime);
        peer.echo_version >= self.belief.unprotected_version || (unheard && !peer.beat.claims)
    }

    /// Semi-sync is on while the peer receives; it is given up knowingly, never by a server timeout (SAFETY A9).
    pub(super) fn track_semi_sync(&mut self) {
        let serving = matches!(self.state, State::Open | State::Address | State::Active);
        let receiving = self.peer_echo() && self.belief.peer.as_ref().is_some_and(|peer| peer.beat.receiving);
        // Acknowledgements may still flow where heartbeats do not: only a replica that is gone, or commits that wait, end it.
        let moved = self.since(self.belief.flowed_ms) < self.limits.deadtime / 2;
        let flows = moved && self.belief.sample.as_ref().is_some_and(|s| s.semi_sync_active);
        let listened = self.since(self.belief.started_ms) >= self.limits.deadtime;
        let silent = !self.peer_heard() && !self.cut() && listened && !flows;
        self.belief.semi_sync = match serving && self.limits.lossless {
            false => self.belief.semi_sync && matches!(self.state, State::Fence | State::Drain),
            true if receiving => true,
            true if silent || (self.deaf_long() && self.knows_unprotected()) => false,
            true => self.belief.semi_sync,
        };
        self.belief.synced &= self.belief.semi_sync || !serving || !self.limits.lossless;
        let sampled = self.belief.sample.as_ref().is_some_and(|s| s.semi_sync_on && s.semi_sync_active);
        let protected = self.state != State::Active || (self.belief.semi_sync && sampled);
        self.belief.unprotected_since = if protected { None } else { self.belief.unprotected_since.or(Some(self.belief.now)) };
    }

    /// Letting go without a handover of a server that hangs, or that holds commits whose acknowledgement cannot come: ending their
    /// sessions would commit them here alone. Crash recovery drops them instead, and the tail is fetched from the survivor.
    pub(super) fn must_kill_server(&self) -> bool {
        let hung = matches!(self.belief.server, Some(ServerSeen::Hung));
        // What waited when I fell asleep may wait still, and if I slept long enough, for a peer that has taken over meanwhile.
        let slept = self.belief.woke.is_some_and(|gap| gap >= self.limits.deadtime);
        let asleep = slept && self.belief.sample.as_ref().is_some_and(|s| s.truncates && s.semi_sync_on);
        self.limits.kill_hung && !self.belief.stop && (hung || asleep || self.hopeless())
    }

    /// Commits wait here for an acknowledgement that cannot come.
    pub(super) fn hopeless(&self) -> bool {
        // Of a server that died since, nothing waits any more, and the one that comes back is well.
        let answers = matches!(self.belief.server, Some(ServerSeen::Ok(_) | ServerSeen::Refuses(_)));
        let waiting = answers && self.belief.sample.as_ref().is_some_and(|s| s.truncates && s.semi_sync_on && s.semi_sync_waiting > 0);
        // A peer that claims hears nothing of me, though the last echo is not old yet; one that leads receives from me no more.
        let taken = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.claims || peer.beat.state.holds());
        waiting && (!self.peer_echo() || self.peer_late() || taken)
    }

    pub(super) fn must_kill_unclosed(&self) -> bool {
        let alive = !matches!(self.belief.server, Some(ServerSeen::Dead) | None);
        self.limits.kill_hung && !self.belief.stop && alive && !self.read_only()
    }
}
