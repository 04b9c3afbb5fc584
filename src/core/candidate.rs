//! Which node should hold the address by all this one knows, and why this node could not take it. Only comparisons.

use std::cmp::Ordering;

use super::Core;
use super::event::{Ms, ServerSeen};
use super::history::History;
use super::state::State;

/// After a claim that could not open the server or add the address.
const CLAIM_PAUSE_MS: Ms = 30_000;

impl Core {
    /// Number of the node that should hold the VIP by all I know; 0 = undecided.
    pub(super) fn candidate(&self) -> u8 {
        let (me, other) = (self.id.number, 3 - self.id.number);
        if self.state.yields() || !self.ready() {
            return if self.state.holds() && !self.state.yields() { me } else { other };
        }
        let Some(peer) = self.belief.peer.as_ref().filter(|_| self.peer_heard()) else { return me };
        // Both have just started: the preferred node is given the moment it needs, rather than the address twice.
        if peer.beat.state == State::Boot && !self.id.preferred && self.since(self.entered_ms) < self.limits.deadtime {
            return other;
        }
        if peer.beat.state.yields() || !peer.beat.ready {
            return if peer.beat.state.holds() && !peer.beat.state.yields() { other } else { me };
        }
        if self.state == State::Gate {
            return me;
        }
        if self.failed_lately() != peer.beat.shy && peer.beat.state == State::Standby {
            return if peer.beat.shy { me } else { other };
        }
        if peer.beat.state.holds() || peer.beat.state == State::Gate {
            return other;
        }
        self.fitter(&peer.beat.history, peer.beat.epoch)
    }

    /// Both could serve: the one with all data, then the later holder, then the preferred one.
    pub(super) fn fitter(&self, theirs: &Option<History>, peer_epoch: u64) -> u8 {
        let (me, other) = (self.id.number, 3 - self.id.number);
        let (Some(sample), Some(theirs)) = (self.sample(), theirs) else { return 0 };
        let (i_have, they_have) = (sample.history.contains(theirs), theirs.contains(&sample.history));
        match (i_have, they_have) {
            (true, true) => {
                if self.id.preferred {
                    me
                } else {
                    other
                }
            }
            (true, false) => me,
            (false, true) => other,
            (false, false) => match self.belief.record.epoch.cmp(&peer_epoch) {
                Ordering::Greater => me,
                Ordering::Less => other,
                Ordering::Equal if self.id.preferred => me,
                Ordering::Equal => other,
            },
        }
    }

    /// A claim of mine has just come to nothing: a peer that is ready goes first.
    pub(super) fn failed_lately(&self) -> bool {
        self.belief.claim_failed_ms.is_some_and(|at| self.since(at) < CLAIM_PAUSE_MS)
    }

    pub(super) fn ready(&self) -> bool {
        self.not_ready_why().is_none()
    }

    /// Why this node could not take over now; `None` = it could.
    pub(super) fn not_ready_why(&self) -> Option<&'static str> {
        let belief = &self.belief;
        let replica = self.sample().and_then(|sample| sample.replica.as_ref());
        let reasons = [
            (belief.stop, "it is stopping"),
            // Who was the last to hold the address may take it again: its server may have been restarted in the pause.
            (self.paused() && !belief.record.holder, "the pair is paused: `mmha resume` ends that"),
            (self.state.holds(), "it serves"),
            (matches!(self.state, State::Boot), "it has just started"),
            (matches!(self.state, State::Quarantined), "it is quarantined: it has transactions the writer lacks"),
            (matches!(self.state, State::Isolated), "it is cut off"),
            (!matches!(belief.server, Some(ServerSeen::Ok(_))), "its server does not work"),
            (belief.disk_error.is_some(), "its server's disk takes no writes"),
            (!matches!(self.state, State::Standby | State::Gate), "it is not standby"),
            (belief.carrier != Some(true), "its interface has no carrier"),
            (!belief.record_known || belief.store_error.is_some(), "its epoch file cannot be used"),
            (!self.read_only(), "its server is not confirmed read-only"),
            (self.sample().is_none(), "its server has not been looked at in this state"),
            (replica.is_none(), "replication is not set up on it"),
            (!replica.is_some_and(|replica| replica.applier_running) && !self.applied(), "its applier does not run"),
            (!self.raw_extra().is_empty(), "it has transactions the writer lacks"),
            (self.behind_peer(), "it lacks transactions of its peer, or cannot know"),
            (self.lacks_own_history(), "it has lost transactions of its own that its peer has"),
            (!self.lost_tail().is_empty(), "it is fetching back transactions it had lost"),
        ];
        reasons.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
    }

    /// The peer holds nothing and has granted nothing: what it acknowledged by itself must be here before it may be followed. While its
    /// history is not known, only who was in sync with it, or held the address last, is sure of that.
    fn behind_peer(&self) -> bool {
        let Some(peer) = self.belief.peer.as_ref().filter(|_| self.peer_heard() && !self.limits.both_write) else { return false };
        // A quarantined peer has found that I lead, and that I lack what it has: it says so, and serves nobody.
        if peer.beat.state.holds() || matches!(peer.beat.state, State::Granted | State::Quarantined) || self.belief.force {
            return false;
        }
        match (&peer.beat.history, self.sample()) {
            (Some(theirs), Some(mine)) if peer.beat.server_ok => !mine.history.contains(&theirs.only(&peer.beat.server_key)),
            _ => !(self.belief.alone || self.belief.record.holder && self.belief.record.epoch >= peer.beat.epoch),
        }
    }

    fn lacks_own_history(&self) -> bool {
        self.sample().is_some_and(|sample| !sample.history.contains(&self.belief.own_mark))
    }
}
