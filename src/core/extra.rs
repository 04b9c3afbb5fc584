//! Both histories compared: what only this server has, what it has lost, and what of that may flow. Only comparison: no rule, no time.

use super::Core;
use super::history::History;
use super::state::State;

impl Core {
    /// What was received and must be applied. Not what a quarantined peer wrote: that may conflict, and nobody waits for it.
    pub(super) fn owed(&self) -> History {
        match self.belief.peer.as_ref().filter(|peer| peer.beat.state == State::Quarantined) {
            Some(peer) => self.belief.mark.without(&peer.beat.server_key),
            None => self.belief.mark.clone(),
        }
    }

    /// Own transactions that the leader of the pair lacks.
    pub(super) fn raw_extra(&self) -> History {
        self.compared().map(|(mine, theirs)| mine.minus(&theirs)).unwrap_or_default()
    }

    pub(super) fn agrees(&self) -> bool {
        self.compared().is_some() && self.raw_extra().is_empty()
    }

    /// All that is extra here was accepted; what has come since was not.
    pub(super) fn merging(&self) -> bool {
        let Some(accepted) = self.belief.merge.as_ref().filter(|accepted| !accepted.is_empty()) else { return false };
        let extra = self.raw_extra();
        !extra.is_empty() && accepted.contains(&extra)
    }

    /// Own transactions that this server has lost and the leader still has.
    pub(super) fn lost_tail(&self) -> History {
        self.compared().map(|(mine, theirs)| theirs.minus(&mine)).unwrap_or_default()
    }

    /// My own writes as I have them and as the leader has them; `None` while there is no leader or either is not known.
    fn compared(&self) -> Option<(History, History)> {
        if self.limits.both_write || self.state.holds() || !self.peer_echo() || !self.read_only() {
            return None;
        }
        let (sample, peer) = (self.sample()?, self.belief.peer.as_ref()?);
        let theirs = peer.beat.history.as_ref()?;
        let leads = peer.beat.state.holds() || self.diverged_behind();
        leads.then(|| (sample.history.only(&sample.server_key), theirs.only(&sample.server_key)))
    }

    /// Nobody holds, both have what the other lacks, and the peer held the later epoch.
    fn diverged_behind(&self) -> bool {
        let Some(peer) = &self.belief.peer else { return false };
        let (Some(sample), Some(theirs)) = (self.sample(), &peer.beat.history) else { return false };
        let diverged = !sample.history.contains(theirs) && !theirs.contains(&sample.history);
        let other = 3 - self.id.number;
        diverged && !peer.beat.state.holds() && self.fitter(&peer.beat.history, peer.beat.epoch) == other
    }
}
