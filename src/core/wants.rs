//! What must hold in each state, as one value rebuilt after every step.

use std::sync::Arc;

use super::Core;
use super::beat::Beat;
use super::calm::asks_for_more;
use super::candidate::Fitness;
use super::event::{Gate, ServerSeen};
use super::fact::{Fact, Facts};
use super::history::History;
use super::state::State;
use super::want::{Announce, Hold, Receiver, Remote, Want, Writes};

/// A request of this node's operator is repeated to the holder for so long.
const ASKING_MS: super::event::Ms = 5_000;
/// How late the kernel may take an address away whose lease has ended (SAFETY M1, M2).
const ADDRESS_LATE_MS: super::event::Ms = 1_300;

impl Core {
    /// Whether anything but what is said to the peer is wanted otherwise than before.
    pub(super) fn refresh_want(&mut self) -> bool {
        let (before, decided_by) = ((self.belief.refused, self.belief.stance_version), self.facts);
        self.note_refusal();
        let say = self.say();
        // Only these two can have changed since the rules were asked.
        if before != (self.belief.refused, self.belief.stance_version) {
            self.facts = self.facts();
        }
        let facts = self.facts;
        let receiver = self.receiver();
        let want = Want {
            order: self.order,
            vip: self.vip(facts),
            announce: self.announce(facts),
            gate: self.gate(facts),
            writes: self.writes(),
            receiver,
            recover_to: (receiver == Receiver::Recover).then(|| self.recover_to()),
            semi_sync: self.belief.semi_sync,
            applied_first: self.applied_first(),
            spare_waiting: self.must_spare_waiting(),
            kill_server: self.belief.kill_server,
            probe: self.probe(),
            remote: self.remote(facts),
            fence: self.fence(facts),
            watch: self.watch(),
            arbiter: self.arbiter_order(facts),
            hold_until_ms: self.hold_until(),
            save: self.belief.record_known.then_some(self.belief.want_record),
            extra: if self.state == State::Quarantined { self.raw_extra() } else { History::default() },
            merge: self.belief.merge.clone(),
            say,
            exit: self.state == State::Stopped,
        };
        let more = self.want.as_ref().is_none_or(|old| asks_for_more(old, &want)) || facts != decided_by;
        self.want = Some(want);
        more
    }

    /// A grant that this node cannot use is declined for good, so that the peer may go on (SAFETY A3).
    fn note_refusal(&mut self) {
        let granted = self.belief.peer.as_ref().filter(|peer| peer.beat.state == State::Granted).map(|peer| peer.beat.epoch);
        let Some(epoch) = granted else {
            self.belief.granted_since = None;
            return;
        };
        let since = *self.belief.granted_since.get_or_insert(self.belief.now);
        let in_vain = match self.state {
            State::Open | State::Address | State::Active => false,
            State::Failed | State::Quarantined | State::Isolated | State::Stopping | State::Release => true,
            _ => self.since(since) >= 2 * self.limits.deadtime,
        };
        if in_vain {
            self.belief.refused = self.belief.refused.max(epoch);
        }
    }

    fn vip(&self, facts: Facts) -> Hold {
        match self.state {
            State::Address | State::Active | State::Fence | State::Drain => Hold::Yes,
            State::Boot if may_adopt(facts) => Hold::Keep,
            _ => Hold::No,
        }
    }

    fn announce(&self, facts: Facts) -> Option<Announce> {
        let belief = &self.belief;
        let here = self.vip(facts) == Hold::Yes && facts.has(Fact::VipSet);
        // Adopted: nobody knows what the run before had seen.
        let seen = belief.adopted || belief.peer.as_ref().is_some_and(|peer| peer.heard_ms >= belief.era_ms);
        here.then(|| match (facts.has(Fact::PeerHeard), seen) {
            (true, _) => Announce::InSight,
            (false, true) => Announce::Seldom,
            (false, false) => Announce::Alone,
        })
    }

    /// Open while serving, and until nothing but the gate keeps a closed server's node from granting: who only reads goes on, and who writes is
    /// told why it ends. The link thread opens it together with the address. Left as it is while a restarted agent has not yet decided
    /// whether it still serves.
    fn gate(&self, facts: Facts) -> Hold {
        match (self.state, self.vip(facts)) {
            (State::Address | State::Active | State::Fence, _) => Hold::Yes,
            (State::Drain, _) if !(facts.has(Fact::PeerApplied) && facts.has(Fact::EpochSaved)) => Hold::Yes,
            (_, Hold::Keep) => Hold::Keep,
            _ => Hold::No,
        }
    }

    fn writes(&self) -> Writes {
        if self.limits.both_write {
            return if matches!(self.state, State::Boot | State::Stopping | State::Stopped) { Writes::Keep } else { Writes::Open };
        }
        match self.state {
            State::Boot => Writes::Keep,
            State::Open | State::Address | State::Active => Writes::Open,
            _ => Writes::Closed,
        }
    }

    /// What a quarantined peer wrote may conflict, and nobody waits for it.
    fn applied_first(&self) -> bool {
        let parted = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.state == State::Quarantined);
        self.state == State::Open && !self.limits.both_write && !self.belief.force && !parted
    }

    fn receiver(&self) -> Receiver {
        if self.limits.both_write {
            return if self.stalled() { Receiver::Restart } else { Receiver::On };
        }
        let holding = matches!(self.state, State::Open | State::Address | State::Active);
        let Some(peer) = self.belief.peer.as_ref().filter(|_| self.peer_heard()) else {
            // Commits wait no more: stopping the receiver can take seconds while its source does not answer.
            return if holding && !self.belief.semi_sync { Receiver::Off } else { Receiver::Keep };
        };
        if matches!(self.state, State::Quarantined) {
            return Receiver::Off;
        }
        let known = peer.beat.history.is_some() && self.sample().is_some();
        if !known || !peer.beat.server_ok {
            return if holding && !peer.beat.server_ok { Receiver::Off } else { Receiver::Keep };
        }
        if holding {
            let agree = self.relation().i_have_theirs && self.relation().they_have_theirs;
            let merges = peer.beat.state == State::Quarantined && peer.beat.merges;
            return if (agree || merges) && !peer.beat.state.holds() { Receiver::On } else { Receiver::Keep };
        }
        let follows = self.state == State::Standby && peer.beat.state == State::Active && self.read_only();
        match follows && self.has_extra() != Some(true) {
            true if self.has_lost_tail() => Receiver::Recover,
            true if self.stalled() => Receiver::Restart,
            true => Receiver::On,
            false => Receiver::Keep,
        }
    }

    fn recover_to(&self) -> History {
        let theirs = self.belief.peer.as_ref().and_then(|peer| peer.beat.history.clone()).unwrap_or_default();
        self.sample().map(|sample| theirs.only(&sample.server_key)).unwrap_or_default()
    }

    pub(super) fn probe(&self) -> bool {
        match self.state {
            // Who may not claim does not make the other one give way.
            State::Standby => self.peer_late() && (self.belief.alone && !self.paused() || self.belief.force),
            // By consent too: the peer has let go, and whoever answers now is a stranger.
            State::Gate | State::Open => true,
            _ => false,
        }
    }

    fn remote(&self, facts: Facts) -> Remote {
        let quiet = facts.has(Fact::VipQuiet);
        match self.state {
            State::Gate if !self.peer_heard() && quiet && !self.cut() && facts.has(Fact::ArbiterOk) => Remote::Fence,
            State::Gate | State::Standby if self.peer_late() => Remote::Look,
            _ => Remote::No,
        }
    }

    /// The fencing command may switch the peer off: only when nothing else is missing for a takeover. Of two nodes that both hold nothing
    /// and do not hear each other, node 2 waits, so that they do not switch each other off.
    fn fence(&self, facts: Facts) -> bool {
        let missing = [Fact::PeerHeard, Fact::Cut, Fact::Paused, Fact::Duel, Fact::FenceOk].iter().any(|fact| facts.has(*fact));
        let proof = [Fact::VipQuiet, Fact::EpochOk, Fact::LinkUp, Fact::ArbiterOk].iter().all(|fact| facts.has(*fact));
        let held = self.belief.peer.as_ref().is_some_and(|peer| peer.beat.state.holds());
        let first = held || self.id.number == 1 || self.since(self.entered_ms) >= self.limits.deadtime;
        self.state == State::Gate && !missing && proof && facts.has(Fact::Applied) && first
    }

    fn watch(&self) -> bool {
        let handing_over =
            |peer: &super::belief::Peer| matches!(peer.beat.state, State::Fence | State::Drain | State::Granted | State::Release);
        match self.state {
            State::Gate | State::Open | State::Address | State::Fence | State::Drain | State::Granted | State::Release => true,
            State::Active => self.since(self.entered_ms) < 2_000,
            // The claim comes at the end of the deadtime: by then the look on which it rests has been taken.
            State::Standby if self.belief.claims_since.is_some() => true,
            State::Standby if self.peer_heard() => self.belief.peer.as_ref().is_some_and(handing_over) || self.just_in() || self.levels(),
            _ => self.just_in(),
        }
    }

    fn just_in(&self) -> bool {
        self.since(self.entered_ms) < 1_000
    }

    /// Confirmed: nothing of mine can reach a client any more.
    fn gone(&self) -> bool {
        let lease = self.belief.lease;
        let let_go = lease.address == super::event::Address::Absent && matches!(lease.gate, Gate::Shut | Gate::None);
        let silent = matches!(self.belief.server, Some(ServerSeen::Dead | ServerSeen::Hung)) || self.read_only();
        let saved = self.belief.record == self.belief.want_record;
        match self.state {
            State::Standby | State::Isolated | State::Failed | State::Quarantined | State::Stopping | State::Stopped => let_go && silent,
            State::Granted => let_go && silent && saved,
            _ => false,
        }
    }

    fn say(&mut self) -> Arc<Beat> {
        let Fitness { candidate, unready } = self.fitness;
        let holds = self.state.holds();
        let sample = self.sample();
        let replica = sample.and_then(|sample| sample.replica.as_ref());
        let receiving = self.belief.level && replica.is_some_and(|replica| replica.receiver_connected) && !self.stalled();
        // A look that began before the server was closed may lack what it took until then.
        // On a failing disk a server counts transactions that it could not log: nobody can ever have them.
        let sound = self.belief.disk_error.is_none();
        let settled = sound && (holds || self.read_only() && (self.limits.both_write || sample.is_some_and(|sample| sample.read_only)));
        let beat = Beat {
            state: self.state,
            epoch: if holds { self.belief.want_record.epoch.max(self.belief.record.epoch) } else { self.belief.record.epoch },
            held: if holds { self.belief.want_record.held } else { self.belief.record.held },
            version: 0,
            gone: self.gone(),
            candidate,
            claims: self.belief.claims_since.is_some(),
            shy: self.failed_lately(),
            pause: self.belief.pause.number,
            pause_minutes: self.pause_minutes(),
            refused: self.belief.refused,
            ready: unready.is_none(),
            current: receiving && self.nearly_applied() && !self.failed_lately(),
            receiving,
            protected: self.belief.synced && self.limits.lossless && !self.deaf_long(),
            server_ok: sound && matches!(self.belief.server, Some(ServerSeen::Ok(_))),
            server_key: self.belief.sample.as_ref().map(|s| s.server_key.clone()).unwrap_or_default(),
            history: sample.filter(|_| settled).map(|s| s.history.clone()),
            unapplied: sample.filter(|_| settled).map(super::event::Sample::unapplied).unwrap_or_default(),
            applying: replica.is_some_and(|replica| replica.applier_running),
            closed: if self.state == State::Drain { self.belief.closed.clone().map(|(_, history)| history) } else { None },
            asks: self.state == State::Standby && self.belief.asked_ms.is_some_and(|at| self.since(at) < ASKING_MS),
            by_request: self.state.yields() && self.belief.by_request,
            merges: self.state == State::Quarantined && self.merging(),
            leaving: self.belief.stop,
            // Without a gate only the address's lease stops anything.
            gate_ms: if self.belief.lease.gate == Gate::None { self.limits.lease + ADDRESS_LATE_MS } else { self.limits.gate },
            gated: self.belief.lease.gate != Gate::None,
            deadtime_ms: self.limits.deadtime,
            config: self.limits.config_digest,
            why: unready.unwrap_or_default().into(),
        };
        self.numbered(beat)
    }

    /// The version moves when anything but itself changed; my stance counts from the first version that says it.
    fn numbered(&mut self, mut beat: Beat) -> Arc<Beat> {
        let last = self.want.as_ref().map(|want| &want.say);
        let version = last.map_or(1, |said| said.version);
        beat.version = version;
        if let Some(said) = last.filter(|said| ***said == beat) {
            return Arc::clone(said);
        }
        beat.version = version + 1;
        let mine = beat.candidate == self.id.number;
        let was_mine = last.is_some_and(|said| said.candidate == self.id.number);
        if mine && !was_mine {
            self.belief.stance_version = beat.version;
        } else if !mine {
            self.belief.stance_version = u64::MAX;
        }
        // Only a holder's word tells the peer that commits do not wait for it.
        let alone = |beat: &Beat| beat.state.holds() && !beat.protected;
        if !alone(&beat) {
            self.belief.unprotected_version = u64::MAX;
        } else if last.is_none_or(|said| !alone(said)) {
            self.belief.unprotected_version = beat.version;
        }
        Arc::new(beat)
    }
}

/// The lease of an earlier run may still be adopted: not beside a holder, whatever else is not known yet.
pub(super) fn may_adopt(facts: Facts) -> bool {
    let has = |fact| facts.has(fact);
    !has(Fact::PeerHolds) && (!has(Fact::Settled) || has(Fact::Adoptable) && has(Fact::MayStart) && has(Fact::DbRw))
}

#[cfg(test)]
mod tests {
    use super::super::event::{Address, Event, LeaseSeen};
    use super::super::sync::tests::holder;
    use super::*;

    #[test]
    fn nothing_is_kept_for_an_adoption_beside_a_holder() {
        let mut facts = Facts::default();
        assert!(may_adopt(facts), "nothing is known yet");
        facts.set(Fact::PeerHolds, true);
        assert!(!may_adopt(facts));
        facts.set(Fact::Settled, true);
        facts.set(Fact::PeerHolds, false);
        assert!(!may_adopt(facts), "there is nothing to adopt");
        for fact in [Fact::Adoptable, Fact::MayStart, Fact::DbRw] {
            facts.set(fact, true);
        }
        assert!(may_adopt(facts));
    }

    #[test]
    fn who_has_lost_sight_of_its_peer_hardly_announces_its_address() {
        let mut core = holder();
        let mut at = |since_heard, claimed_before_heard, adopted, held| {
            let heard = core.belief.peer.as_ref().expect("heard").heard_ms;
            core.belief.era_ms = if claimed_before_heard { heard } else { heard + 1 };
            core.belief.adopted = adopted;
            let address = if held { Address::Held { renewed_ms: heard + since_heard } } else { Address::Absent };
            core.belief.lease = LeaseSeen { address, gate: Gate::Open };
            (core.belief.now, core.state) = (heard + since_heard, State::Active);
            let facts = core.facts();
            core.announce(facts)
        };
        assert_eq!(at(0, true, false, true), Some(Announce::InSight));
        assert_eq!(at(0, true, false, false), None, "it is not here");
        assert_eq!(at(2_000, true, false, true), Some(Announce::Seldom));
        assert_eq!(at(2_000, false, false, true), Some(Announce::Alone), "claimed in the silence");
        assert_eq!(at(2_000, false, true, true), Some(Announce::Seldom), "found by an agent that was restarted in the silence");
        core.leave(State::Active, State::Release);
        core.step(Event::Tick, core.belief.now);
        assert_eq!(core.want().announce, None);
    }
}
