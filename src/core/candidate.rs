//! Which node should hold the address by all this one knows, and why this node could not take it. Only comparisons.

use std::cmp::Ordering;

use super::Core;
use super::beat::Beat;
use super::event::{Ms, ReplicaSample, ServerSeen};
use super::state::State;

/// After a claim that could not open the server or add the address.
const CLAIM_PAUSE_MS: Ms = 30_000;

type Obstacle = (fn(&Core) -> bool, &'static str);

/// What keeps a node from taking over, in the order in which it is said.
const OBSTACLES: [Obstacle; 19] = [
    (|core| core.belief.stop, "it is stopping"),
    // Who was the last to hold the address may take it again: its server may have been restarted in the pause.
    (|core| core.paused() && !core.belief.record.was_holder(), "the pair is paused: `mmha resume` ends that"),
    (|core| core.state.holds(), "it serves"),
    (|core| matches!(core.state, State::Boot), "it has just started"),
    (|core| matches!(core.state, State::Quarantined), "it is quarantined: it has transactions the writer lacks"),
    (|core| matches!(core.state, State::Isolated), "it is cut off"),
    (|core| !matches!(core.belief.server, Some(ServerSeen::Ok(_))), "its server does not work"),
    (|core| core.belief.disk_error.is_some(), "its server's disk takes no writes"),
    (|core| !matches!(core.state, State::Standby | State::Gate), "it is not standby"),
    (|core| core.belief.carrier != Some(true), "its interface has no carrier"),
    (|core| !core.belief.record_known || core.belief.store_error.is_some(), "its epoch file cannot be used"),
    (|core| !core.read_only(), "its server is not confirmed read-only"),
    (|core| core.sample().is_none(), "its server has not been looked at in this state"),
    (|core| core.replica().is_none(), "replication is not set up on it"),
    (|core| !core.replica().is_some_and(|replica| replica.applier_running) && !core.applied(), "its applier does not run"),
    (|core| core.has_extra() == Some(true), "it has transactions the writer lacks"),
    (Core::behind_peer, "it lacks transactions of its peer, or cannot know"),
    (Core::lacks_own_history, "it has lost transactions of its own that its peer has"),
    (Core::has_lost_tail, "it is fetching back transactions it had lost"),
];

/// Found out once in each round of the table: the facts rest on it, and the heartbeat tells it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fitness {
    /// Number of the node that should hold the VIP by all I know; 0 = undecided.
    pub candidate: u8,
    /// Why this node could not take over now; `None` = it could.
    pub unready: Option<&'static str>,
}

impl Core {
    pub(super) fn find_fitness(&self) -> Fitness {
        let unready = OBSTACLES.iter().find(|(holds, _)| holds(self)).map(|(_, why)| *why);
        Fitness { candidate: self.candidate(unready.is_none()), unready }
    }

    fn candidate(&self, ready: bool) -> u8 {
        let (me, other) = (self.id.number, 3 - self.id.number);
        if self.state.yields() || !ready {
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
        // It may need long to apply what it has received, and I have all of that: be it that my server was down when it was asked.
        let sooner = self.relation().i_have_all && !self.relation().they_have_all;
        if peer.beat.state.holds() || peer.beat.state == State::Gate && !sooner {
            return other;
        }
        self.fitter(&peer.beat)
    }

    /// Both could serve: the one with all data, then the later holder, then the later number of a claim, then the preferred one.
    pub(super) fn fitter(&self, peer: &Beat) -> u8 {
        let (me, other) = (self.id.number, 3 - self.id.number);
        if self.sample().is_none() || peer.history.is_none() {
            return 0;
        }
        match (self.relation().i_have_all, self.relation().they_have_all) {
            (true, true) => {
                if self.id.preferred {
                    me
                } else {
                    other
                }
            }
            (true, false) => me,
            (false, true) => other,
            (false, false) => match self.belief.record.held.cmp(&peer.held).then(self.belief.record.epoch.cmp(&peer.epoch)) {
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

    fn replica(&self) -> Option<&ReplicaSample> {
        self.sample().and_then(|sample| sample.replica.as_ref())
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
            (Some(_), Some(_)) if peer.beat.server_ok => !self.relation().i_have_theirs,
            _ => !(self.belief.alone || self.belief.record.was_holder() && self.belief.record.held >= peer.beat.held),
        }
    }

    fn lacks_own_history(&self) -> bool {
        self.sample().is_some() && !self.relation().own_mark_kept
    }
}
