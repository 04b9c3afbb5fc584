//! From beliefs to facts: every comparison with a limit stands here.

use super::Core;
use super::belief::Peer;
use super::calm::Age;
use super::event::{Address, FenceSeen, Gate, Ms, RemoteSeen, Sample, ServerSeen};
use super::fact::{Fact, Facts};
use super::history::History;
use super::state::State;

/// Probes that must have gone unanswered before the VIP counts as free (SAFETY B7).
const QUIET_PROBES: u32 = 4;
/// Own transactions that the leader lacks may still be on their way to it for so long after the last of them came.
const EXTRA_PATIENCE_MS: Ms = 1_500;
/// Deadtimes for which node 2 gives way to a node 1 that probes as well. Twice as many for a node 1 whose claim has come to nothing.
const GIVE_WAY: Ms = 2;
/// How late a gate may end, besides 1 % (`config/timing.rs`).
const GATE_LATE_MS: Ms = 5;
/// A look at the peer's server is repeated twice a second: an older one says nothing.
const REMOTE_FRESH_MS: Ms = 2_000;
/// After a rolled-back handover the next voluntary one waits.
const ROLLBACK_PAUSE_MS: Ms = 30_000;

impl Core {
    pub(super) fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        self.set_peer_facts(&mut facts);
        self.set_lan_facts(&mut facts);
        self.set_server_facts(&mut facts);
        let belief = &self.belief;
        let mut set = |fact, holds| facts.set(fact, holds);
        set(Fact::Woke, belief.woke.is_some());
        set(Fact::Settled, belief.server.is_some() && belief.lease.address != Address::Unknown && self.store_answered());
        set(Fact::Alone, belief.alone);
        let ping_since_start = belief.ping_ms.is_some_and(|at| at >= belief.started_ms);
        set(Fact::Life, self.peer_echo() || ping_since_start || !self.limits.ping_configured);
        set(Fact::MayStart, belief.record_known && belief.record.was_holder());
        set(Fact::InitOver, self.since(belief.started_ms) >= self.limits.initdead);
        set(Fact::EpochOk, belief.record_known && belief.store_error.is_none());
        set(Fact::EpochSaved, belief.record_known && belief.record == belief.want_record);
        set(Fact::IntentOver, belief.claims_since.is_some_and(|since| self.since(since) >= 2 * self.limits.keepalive));
        set(Fact::ArbiterOk, self.arbiter_ok());
        set(Fact::OpStop, belief.stop);
        set(Fact::OpSwitch, belief.switch);
        set(Fact::OpForce, belief.force);
        set(Fact::FenceOk, !self.limits.fence_configured || belief.fence == Some(FenceSeen::Done));
        set(Fact::Paused, self.paused());
        set(Fact::Flapping, self.flapping());
        set(Fact::TimeOver, self.since(self.entered_ms) >= self.state.bound_ms(self.limits.deadtime));
        facts
    }

    fn set_peer_facts(&self, facts: &mut Facts) {
        let (heard, echo) = (self.peer_heard(), self.peer_echo());
        facts.set(Fact::PeerHeard, heard);
        facts.set(Fact::PeerLate, self.peer_late());
        facts.set(Fact::PeerEcho, echo);
        facts.set(Fact::Mine, self.fitness.candidate == self.id.number);
        let Some(peer) = self.belief.peer.as_ref().filter(|_| heard) else { return };
        let beat = &peer.beat;
        facts.set(Fact::PeerHolds, beat.state.holds());
        facts.set(Fact::PeerNewer, beat.state.holds() && beat.epoch > self.belief.record.epoch.max(self.belief.want_record.epoch));
        // With my lease it cannot claim, it waits: what it says it said before a cut healed, or it does not hear me.
        facts.set(Fact::PeerClaims, beat.claims && !self.has_lease());
        facts.set(Fact::PeerConsents, self.peer_consents());
        facts.set(Fact::PeerRefuses, echo && beat.refused >= self.belief.record.epoch);
        facts.set(Fact::PeerReady, beat.ready && !beat.leaving);
        facts.set(Fact::PeerCurrent, beat.current);
        facts.set(Fact::PeerSynced, self.belief.synced);
        let rested = self.belief.rolled_back_ms.is_none_or(|at| self.since(at) >= ROLLBACK_PAUSE_MS);
        let fit = peer.fit_since.is_some_and(|since| self.since(since) >= self.limits.failback_delay);
        facts.set(Fact::PeerStable, fit && rested && self.since(self.entered_ms) >= self.limits.failback_delay);
        facts.set(
            Fact::PeerPreferred,
            !self.id.preferred && !self.belief.by_request && self.limits.auto_failback && beat.config == self.limits.config_digest,
        );
        facts.set(Fact::PeerAsks, beat.asks);
        facts.set(Fact::PeerApplied, self.peer_applied());
    }

    fn set_lan_facts(&self, facts: &mut Facts) {
        let belief = &self.belief;
        facts.set(Fact::LinkUp, belief.carrier == Some(true));
        facts.set(Fact::Cut, self.cut());
        let held = match belief.lease.address {
            Address::Held { renewed_ms } => Some(renewed_ms),
            Address::Unknown | Address::Found { .. } | Address::Absent => None,
        };
        facts.set(Fact::VipSet, held.is_some());
        facts.set(Fact::VipGone, belief.lease.address == Address::Absent);
        facts.set(Fact::LeaseKept, held.is_some_and(|renewed| self.since(renewed) < self.limits.lease));
        facts.set(Fact::GateShut, matches!(belief.lease.gate, Gate::Shut | Gate::None));
        let found = matches!(belief.lease.address, Address::Found { left_ms } if self.since(belief.started_ms) < left_ms);
        facts.set(Fact::Adoptable, found);
        let probing_ms = self.probing_ms();
        let claim = belief.vip_claim.map(|(_, at)| self.since(at));
        facts.set(Fact::VipAnswered, claim.is_some_and(|age| age < probing_ms));
        let since_gate = claim.is_some_and(|age| age < probing_ms) && belief.vip_claim.is_some_and(|(_, at)| at >= belief.gate_ms);
        facts.set(Fact::VipTaken, since_gate && matches!(self.state, State::Gate | State::Open));
        facts.set(Fact::VipContested, self.contested());
        facts.set(Fact::Duel, self.duel());
        let first = belief.first_probe_ms.is_some_and(|at| self.since(at) >= probing_ms);
        let last = self.since(belief.last_probe_ms) <= self.limits.keepalive;
        // Probes that left into a dead network are unanswered too: somebody must have been heard on it while they went out.
        let alive = |at: Ms| belief.ping_ms.is_some_and(|answer| answer >= at + probing_ms / 2);
        let network = !self.limits.ping_configured || belief.first_probe_ms.is_some_and(alive);
        // A peer that was cut off meanwhile lets go an isolation after its own last answer: that may have come just after my network did.
        let listened = belief.back_ms.is_none_or(|at| self.since(at) >= self.limits.deadtime);
        facts.set(Fact::VipQuiet, first && last && network && listened && belief.probes >= QUIET_PROBES);
        let fresh = |at: Ms| self.since(at) < REMOTE_FRESH_MS;
        // A server that stands still cannot be closed. Should it go on one day, its gate has ended, and stays shut without heartbeats.
        let gated = belief.peer.as_ref().is_some_and(|peer| peer.beat.gated);
        let clear = |seen: &(RemoteSeen, Ms)| match seen.0 {
            RemoteSeen::Fenced(_) => true,
            RemoteSeen::Down => fresh(seen.1),
            RemoteSeen::Mute => fresh(seen.1) && gated && !self.peer_heard(),
            RemoteSeen::Up | RemoteSeen::Failed(_) => false,
        };
        let fenced = belief.fence == Some(FenceSeen::Done);
        facts.set(Fact::RemoteClear, fenced || belief.remote.as_ref().is_some_and(clear));
    }

    fn set_server_facts(&self, facts: &mut Facts) {
        let belief = &self.belief;
        facts.set(Fact::DbOk, matches!(belief.server, Some(ServerSeen::Ok(_))));
        facts.set(Fact::DiskOk, belief.disk_error.is_none());
        facts.set(Fact::DbDead, matches!(belief.server, Some(ServerSeen::Dead)));
        facts.set(Fact::DbHung, matches!(belief.server, Some(ServerSeen::Hung)));
        let adoptable = self.state == State::Boot && belief.sample.as_ref().is_some_and(|sample| !sample.read_only);
        let opened = self.state.holds() && belief.opened_order >= belief.era_order;
        facts.set(Fact::DbRw, adoptable || opened || (self.limits.both_write && self.sample().is_some()));
        facts.set(Fact::DbRo, self.read_only());
        facts.set(Fact::DbFoundClosed, belief.found_closed_order == self.order);
        let closed = belief.closed.as_ref().is_some_and(|(order, _)| *order == self.order);
        facts.set(Fact::DbClosed, closed || (self.limits.both_write && self.sample().is_some()));
        // A claim rests on a look that was taken since: what came in the last moment, acknowledged, must be in it.
        let from = self.entered_ms.min(self.peers_last_word());
        let looked = self.state != State::Gate || belief.sample.as_ref().is_some_and(|sample| sample.taken_ms >= from);
        facts.set(Fact::Applied, looked && self.applied());
        // A holder that does not receive never will what it lacks; of two that follow nobody the leader connects again within a second.
        let fetches = belief.peer.as_ref().is_some_and(|peer| peer.beat.receiving || !peer.beat.state.holds());
        let patience = if fetches { EXTRA_PATIENCE_MS } else { 0 };
        facts.set(Fact::Agrees, self.agrees());
        facts.set(Fact::Merging, self.merging());
        let extra = self.has_extra() == Some(true);
        facts.set(Fact::Extra, extra && belief.extra.is_some_and(|(_, since)| self.since(since) >= patience));
    }

    pub(super) fn since(&self, then: Ms) -> Age<'_> {
        Age { then, now: self.belief.now, next: &self.belief.next }
    }

    /// The pair's deadtime: the larger of both nodes', and never before the peer's announced gate has ended (SAFETY A10, B9).
    fn deadtime(&self) -> Ms {
        let peers = self.belief.peer.as_ref().map_or(0, |peer| peer.beat.deadtime_ms.max(peer.beat.gate_ms + self.limits.keepalive / 2));
        self.limits.deadtime.max(peers.min(60_000))
    }

    /// From then on nothing that a silent peer acknowledges leaves it: its gate has ended, should its last heartbeat have been lost on the way.
    fn peers_last_word(&self) -> Ms {
        let silent = self.belief.peer.as_ref().filter(|peer| peer.beat.gated && !self.peer_heard());
        let ended = |peer: &Peer| peer.heard_ms + self.limits.keepalive + peer.beat.gate_ms + peer.beat.gate_ms / 100 + GATE_LATE_MS;
        // Probes begin anew after a standstill: a look from before it is too old.
        silent.zip(self.belief.first_probe_ms).map_or(Ms::MAX, |(peer, probing)| ended(peer).max(probing))
    }

    pub(super) fn peer_heard(&self) -> bool {
        self.belief.peer.as_ref().is_some_and(|peer| self.since(peer.heard_ms) < self.deadtime())
    }

    /// Silent for long enough to start gathering proof.
    pub(super) fn peer_late(&self) -> bool {
        self.belief.peer.as_ref().is_none_or(|peer| self.since(peer.heard_ms) >= self.limits.warntime)
    }

    pub(super) fn peer_echo(&self) -> bool {
        let echo = self.belief.peer.as_ref().and_then(|peer| peer.echo_sent_ms);
        self.peer_heard() && echo.is_some_and(|sent| self.since(sent) < self.limits.deadtime)
    }

    fn peer_consents(&self) -> bool {
        let Some(peer) = &self.belief.peer else { return false };
        let granted = peer.beat.state != State::Granted || peer.beat.epoch > self.belief.refused;
        let echo_fresh = peer.echo_sent_ms.is_some_and(|sent| self.since(sent) < self.limits.warntime);
        self.peer_echo()
            && echo_fresh
            && peer.beat.gone
            && granted
            && peer.beat.candidate == self.id.number
            && peer.echo_version >= self.belief.stance_version
    }

    fn peer_applied(&self) -> bool {
        let known = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.history.is_some());
        if !known || self.belief.closed.is_none() || self.belief.sample.is_none() {
            return self.limits.both_write;
        }
        self.peer_echo() && self.relation().closed_there
    }

    pub(super) fn ping_answers(&self) -> bool {
        self.belief.ping_ms.is_some_and(|at| self.since(at) < self.limits.isolation)
    }

    pub(super) fn cut(&self) -> bool {
        // A node that has just started has had no chance yet to hear anybody; once it has adopted its lease it must have.
        let grace = if self.state == State::Boot { self.belief.started_ms } else { 0 };
        let last_sign = self.belief.peer.as_ref().map_or(0, |peer| peer.heard_ms).max(grace);
        let heard_within_limit = self.since(last_sign) < self.limits.isolation;
        let no_carrier = self.belief.carrier == Some(false);
        !heard_within_limit && (no_carrier || (self.limits.ping_configured && !self.ping_answers()))
    }

    /// By all the proof so far the VIP will be mine as soon as the deadtime is over: to be announced (SAFETY B8).
    pub(super) fn claims(&self) -> bool {
        let belief = &self.belief;
        let silent = self.since(belief.peer.as_ref().map_or(belief.started_ms, |peer| peer.heard_ms));
        let soon = silent >= self.deadtime().saturating_sub(2 * self.limits.keepalive);
        let unanswered = belief.first_probe_ms.is_some() && belief.probes >= QUIET_PROBES / 2 && belief.probing;
        let may = belief.alone && !self.paused() || belief.force;
        // One lost answer is not silence: whoever hears the claim yields at once.
        let answered = belief.vip_claim.is_some_and(|(_, at)| self.since(at) < self.probing_ms());
        let able = belief.store_error.is_none() && !self.cut() && !self.duel();
        matches!(self.state, State::Standby | State::Gate) && soon && unanswered && !answered && may && able
    }

    /// Both gather proof and neither holds: each one's probe would go unanswered (SAFETY A4). Node 2 gives way, and so does a node 1 whose last
    /// claim came to nothing; neither for ever: a node that cannot claim after all must not keep the other from serving.
    fn duel(&self) -> bool {
        let lately = self.belief.probed_ms.is_some_and(|at| self.since(at) < self.probing_ms());
        let (second, patience) = if self.id.number == 2 { (true, GIVE_WAY) } else { (self.failed_lately(), 2 * GIVE_WAY) };
        // From when a claim became possible: what kept both from it may end for both at once.
        let from = self.entered_ms.max(self.belief.first_probe_ms.unwrap_or(0));
        let patient = self.state != State::Gate || self.since(from) < patience * self.deadtime();
        second && lately && patient
    }

    /// How long the VIP must stay unanswered: the time between warntime and deadtime (SAFETY B7).
    fn probing_ms(&self) -> Ms {
        self.limits.deadtime.saturating_sub(self.limits.warntime)
    }

    /// The older claim yields; a young one stays on node 1, and on node 2 unless the contest goes on (SAFETY A4).
    fn contested(&self) -> bool {
        let belief = &self.belief;
        let lately = belief.vip_claim.is_some_and(|(_, at)| at >= belief.era_ms && self.since(at) < self.limits.deadtime);
        let young = self.since(belief.era_ms) < self.limits.deadtime;
        let long = belief.contest_since.is_some_and(|since| self.since(since.max(belief.era_ms)) >= self.limits.deadtime / 2);
        self.state.holds() && lately && (!young || (self.id.number == 2 && long))
    }

    fn store_answered(&self) -> bool {
        self.belief.record_known || self.belief.store_error.is_some()
    }

    /// The last look at the server, if it was taken in the present era and is not old.
    pub(super) fn sample(&self) -> Option<&Sample> {
        let sample = self.belief.sample.as_deref()?;
        let ok = matches!(self.belief.server, Some(ServerSeen::Ok(_)));
        (ok && sample.taken_ms >= self.belief.era_ms).then_some(sample)
    }

    pub(super) fn read_only(&self) -> bool {
        let reopened = self.sample().is_some_and(|sample| !sample.read_only && sample.taken_ms > self.belief.closed_ms);
        let closed = !reopened && self.belief.closed.as_ref().is_some_and(|(order, _)| *order >= self.belief.era_order);
        let settled = !matches!(self.state, State::Release | State::Fence) && self.sample().is_some_and(|sample| sample.read_only);
        !self.state.holds() && (closed || settled || (self.limits.both_write && self.sample().is_some()))
    }

    /// Everything of the peer's that ever reached this node is applied, judged by a look no older than the silence.
    pub(super) fn applied(&self) -> bool {
        let Some(sample) = &self.belief.sample else { return false };
        let silent_since = self.belief.peer.as_ref().map_or(0, |peer| if self.peer_heard() { 0 } else { peer.heard_ms });
        let alive = matches!(self.belief.server, Some(ServerSeen::Ok(_)));
        alive && sample.taken_ms >= silent_since && self.owes_nothing(sample) && self.relation().own_mark_kept
    }

    /// What was received is applied. What a quarantined peer wrote need not be: that may conflict, and nobody waits for it.
    fn owes_nothing(&self, sample: &Sample) -> bool {
        match self.belief.peer.as_ref().filter(|peer| peer.beat.state == State::Quarantined) {
            Some(peer) => sample.history.contains_without(&self.belief.marks.received, &peer.beat.server_key),
            None => self.relation().mark_applied,
        }
    }

    /// Close enough to start a handover: the rest is applied while it drains.
    pub(super) fn nearly_applied(&self) -> bool {
        self.sample().is_some() && self.relation().mark_before_applied
    }

    /// Own transactions that the leader of the pair lacks.
    pub(super) fn raw_extra(&self) -> History {
        self.compared().map(|(sample, theirs)| sample.history.only(&sample.server_key).minus(theirs)).unwrap_or_default()
    }

    /// Whether there are any but those that wait for its applier; `None` while they cannot be compared.
    pub(super) fn has_extra(&self) -> Option<bool> {
        self.compared().map(|_| !self.relation().they_get_mine)
    }

    pub(super) fn agrees(&self) -> bool {
        self.compared().is_some() && self.relation().they_have_mine
    }

    /// All that is extra here was accepted; what has come since was not.
    pub(super) fn merging(&self) -> bool {
        let Some(accepted) = self.belief.merge.as_ref().filter(|accepted| !accepted.is_empty()) else { return false };
        let extra = self.raw_extra();
        !extra.is_empty() && accepted.contains(&extra)
    }

    /// This server has lost own transactions that the leader still has.
    pub(super) fn has_lost_tail(&self) -> bool {
        self.compared().is_some() && !self.relation().i_have_mine
    }

    /// What I have and what the leader has; `None` while there is no leader or either is not known.
    fn compared(&self) -> Option<(&Sample, &History)> {
        if self.limits.both_write || self.state.holds() || !self.peer_echo() || !self.read_only() {
            return None;
        }
        let (sample, peer) = (self.sample()?, self.belief.peer.as_ref()?);
        let theirs = peer.beat.history.as_ref()?;
        let leads = peer.beat.state.holds() || self.diverged_behind();
        leads.then_some((sample, theirs))
    }

    /// Nobody holds, both have what the other lacks, and the peer held the later epoch.
    fn diverged_behind(&self) -> bool {
        let Some(peer) = &self.belief.peer else { return false };
        let known = self.sample().is_some() && peer.beat.history.is_some();
        let diverged = known && !self.relation().i_have_all && !self.relation().they_get_all;
        let other = 3 - self.id.number;
        // A quarantined peer has found that I lead: an epoch that it only claimed in vain must not leave nobody.
        diverged && peer.beat.state != State::Quarantined && !peer.beat.state.holds() && self.fitter(&peer.beat) == other
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::beat::Beat;
    use super::super::sync::tests::holder;
    use super::*;

    #[test]
    fn a_silent_peer_has_its_last_word_when_its_gate_has_ended() {
        let mut core = holder();
        let heard = core.belief.peer.as_ref().map_or(0, |peer| peer.heard_ms);
        let mut last_word = |gated, since_heard, probing_since| {
            core.belief.now = heard + since_heard;
            core.belief.first_probe_ms = Some(heard + probing_since);
            let peer = core.belief.peer.as_mut().expect("a peer");
            peer.beat = Arc::new(Beat { gated, gate_ms: 1_500, ..(*peer.beat).clone() });
            core.peers_last_word()
        };
        assert_eq!(last_word(true, 1_999, 1_000), Ms::MAX, "it is not silent yet");
        assert_eq!(last_word(true, 2_000, 1_000), heard + 250 + 1_515 + 5, "a heartbeat of it may have been lost");
        assert_eq!(last_word(true, 2_000, 1_900), heard + 1_900, "this node stood still until then");
        assert_eq!(last_word(false, 2_000, 1_000), Ms::MAX, "it has no gate");
    }

    #[test]
    fn who_cannot_write_its_epoch_announces_no_claim() {
        let mut core = holder();
        let heard = core.belief.peer.as_ref().map_or(0, |peer| peer.heard_ms);
        (core.state, core.belief.alone, core.belief.probing) = (State::Standby, true, true);
        (core.belief.now, core.belief.first_probe_ms, core.belief.probes) = (heard + 1_600, Some(heard + 1_000), 10);
        assert!(core.claims());
        core.belief.store_error = Some("no space left on device".to_owned());
        assert!(!core.claims());
    }
}
