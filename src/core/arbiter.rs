//! The arbiter's part of the decision: what its lease proves and for how long, when it is wanted, and what is said about it.
//!
//! Two proofs keep the peer from claiming by silence, and a holder needs one of them: the lease is mine (the peer cannot have it), or the
//! peer has heard me within the isolation limit (its silence is not long enough). For the claimer both must be gone: it needs the lease,
//! and a silence that outlasts the second proof and the gate of a holder that froze on its last instant.

use super::Core;
use super::event::{ArbiterSeen, Ms};
use super::fact::{Fact, Facts};
use super::state::State;
use super::want::{ArbiterOrder, Hold};
use super::wants::may_adopt;

/// Lateness of the link thread and of closing the gate (J and F of SAFETY B).
const CLOSING_MS: Ms = 25;
/// A lease may outlive its node by its own length, and by as much again after an election in the arbiter.
const OUTLIVED: Ms = 2;

impl Core {
    pub(super) fn note_arbiter(&mut self, turn: u64, seen: ArbiterSeen) {
        let order = self.belief.arbiter_order;
        let current = turn == order.turn && order.hold != Hold::No;
        match &seen {
            ArbiterSeen::Mine { until_ms, .. } if current => self.belief.arbiter_until_ms = *until_ms,
            // Seen before it was given back.
            ArbiterSeen::Mine { .. } => return,
            ArbiterSeen::Free | ArbiterSeen::Taken { .. } => self.belief.arbiter_until_ms = 0,
            // What was believed runs out by itself.
            ArbiterSeen::Unreachable(_) => {}
        }
        let theirs = matches!(&seen, ArbiterSeen::Taken { by } if *by == self.id.peer_name);
        // An arbiter that was away starts every lease anew: only one that answered all the time tells a living node from a dead one.
        self.belief.taken_since = if theirs { self.belief.taken_since.or(Some(self.belief.now)) } else { None };
        self.belief.arbiter = Some(seen);
        let heard_ms = self.belief.peer.as_ref().map(|peer| peer.heard_ms);
        let (Some(taken_ms), Some(heard_ms)) = (self.belief.taken_since, heard_ms) else { return };
        // Its lease has been renewed since I last heard it: it serves on.
        if self.since(taken_ms.max(heard_ms)) > OUTLIVED * self.limits.arbiter_ttl.unwrap_or(0) {
            self.doubt_sync();
        }
    }

    /// Who may have to let go for want of an arbiter does not begin to acknowledge alone. What it was asked before the peer's last sign of
    /// life (or of hearing me) says nothing: one cut may have taken both, a few heartbeats lost before it. And that there was none since is seen
    /// only at the server, where acknowledgements may still come.
    pub(super) fn arbiter_firm(&self, last_sign: Option<Ms>) -> bool {
        if self.limits.arbiter_ttl.is_none() {
            return true;
        }
        let since = last_sign.unwrap_or(self.belief.started_ms) + self.limits.warntime;
        let looked_ms = self.belief.sample.as_ref().map_or(0, |sample| sample.taken_ms);
        matches!(self.belief.arbiter, Some(ArbiterSeen::Mine { asked_ms, .. }) if (since..=looked_ms).contains(&asked_ms))
    }

    pub(super) fn has_lease(&self) -> bool {
        self.since(self.belief.arbiter_until_ms) < 0
    }

    /// Until when the peer's last echo keeps it from claiming, as far as I can rely on that.
    fn echo_until(&self) -> Ms {
        let echo = self.belief.peer.as_ref().and_then(|peer| peer.echo_sent_ms);
        echo.map_or(0, |sent| sent + self.limits.isolation)
    }

    pub(super) fn arbiter_ok(&self) -> bool {
        if self.limits.arbiter_ttl.is_none() {
            return true;
        }
        if self.state.holds() || self.state == State::Boot {
            return self.has_lease() || self.since(self.echo_until()) < 0;
        }
        let beat = self.belief.peer.as_ref().map(|peer| (peer.heard_ms, peer.beat.gate_ms));
        let (heard_ms, gate_ms) = beat.unwrap_or((self.belief.started_ms, self.limits.gate));
        let gate_ms = self.limits.gate.max(gate_ms.min(60_000));
        let longest = self.limits.isolation + gate_ms + gate_ms / 100 + CLOSING_MS;
        self.has_lease() && self.since(heard_ms) >= longest
    }

    /// The link thread stops by itself then, should this one have stood still.
    pub(super) fn hold_until(&self) -> Ms {
        match self.limits.arbiter_ttl {
            Some(_) if self.state.holds() => self.belief.arbiter_until_ms.max(self.echo_until()),
            _ => Ms::MAX,
        }
    }

    /// Given back only when nothing of mine can reach a client any more; from then on it is not believed in, whatever comes late.
    pub(super) fn arbiter_order(&mut self, facts: Facts) -> ArbiterOrder {
        let gone = facts.has(Fact::VipGone) && facts.has(Fact::GateShut);
        let hold = match self.state {
            State::Gate | State::Open | State::Address | State::Active | State::Fence | State::Drain => Hold::Yes,
            State::Boot if may_adopt(facts) => Hold::Keep,
            _ if gone => Hold::No,
            _ => Hold::Keep,
        };
        let last = self.belief.arbiter_order;
        let turn = if last.hold == Hold::No && hold != Hold::No { last.turn + 1 } else { last.turn };
        if hold == Hold::No {
            self.belief.arbiter_until_ms = 0;
        }
        // A claim that is only numbered changes nothing yet.
        let epoch = if hold == Hold::Yes { self.belief.want_record.epoch } else { last.epoch };
        self.belief.arbiter_order = ArbiterOrder { hold, turn, epoch };
        self.belief.arbiter_order
    }

    pub(super) fn arbiter_why(&self) -> String {
        match &self.belief.arbiter {
            None => "it has not answered yet".to_owned(),
            Some(ArbiterSeen::Mine { .. }) if self.has_lease() => format!("it is mine; {} may still serve for a moment", self.id.peer_name),
            Some(ArbiterSeen::Mine { .. }) => "it could not be renewed in time".to_owned(),
            Some(ArbiterSeen::Free) => "nobody has it".to_owned(),
            Some(ArbiterSeen::Taken { by }) => format!("{by} has it"),
            Some(ArbiterSeen::Unreachable(why)) => why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::beat::Beat;
    use super::super::event::{Address, Event, Gate, Heard, LeaseSeen, Record, Sample, ServerSeen, StoreSeen};
    use super::super::sync::tests::{holder, limits};
    use super::super::{Core, Identity, Limits};
    use super::*;

    fn core(arbiter_ttl: Option<Ms>) -> Core {
        let limits = Limits { ping_configured: true, arbiter_ttl, ..limits() };
        let id = Identity { number: 1, peer_name: "db-02".into(), vip: "192.0.2.243".into(), preferred: true };
        Core::new(id, limits, 1_000)
    }

    fn let_go(core: &mut Core, now: Ms) {
        core.step(Event::Store(StoreSeen::Saved(Record::default())), now);
        core.step(Event::Server(ServerSeen::Dead), now);
        core.step(Event::Lease(LeaseSeen { address: Address::Absent, gate: Gate::Shut }), now);
    }

    #[test]
    fn a_lease_that_is_given_back_is_not_believed_in_whatever_comes_late() {
        let mut core = core(Some(5_000));
        let mine = |until_ms| Event::Arbiter { turn: 0, seen: ArbiterSeen::Mine { asked_ms: 1_000, until_ms } };
        assert_eq!(core.want().arbiter.hold, Hold::Keep, "the address of an earlier run may still be here");
        core.step(mine(4_400), 1_001);
        assert_eq!(core.view().arbiter_left_ms(), Some(3_399));
        assert!(core.view().has(Fact::ArbiterOk));
        let_go(&mut core, 1_002);
        assert_eq!((core.want().arbiter.hold, core.view().arbiter_left_ms()), (Hold::No, None));
        core.step(mine(6_000), 1_003);
        assert_eq!(core.view().arbiter_left_ms(), None, "it was asked for before");
        assert!(!core.view().has(Fact::ArbiterOk));
    }

    #[test]
    fn a_lease_ends_by_the_clock_and_at_once_when_another_has_it() {
        let mut core = core(Some(5_000));
        core.step(Event::Arbiter { turn: 0, seen: ArbiterSeen::Mine { asked_ms: 1_000, until_ms: 3_000 } }, 1_001);
        core.step(Event::Arbiter { turn: 0, seen: ArbiterSeen::Unreachable("no answer".into()) }, 2_999);
        assert!(core.view().has(Fact::ArbiterOk), "what is believed runs out by itself");
        core.step(Event::Tick, 3_000);
        assert!(!core.view().has(Fact::ArbiterOk));
        core.step(Event::Arbiter { turn: 0, seen: ArbiterSeen::Mine { asked_ms: 1_000, until_ms: 9_000 } }, 3_001);
        core.step(Event::Arbiter { turn: 0, seen: ArbiterSeen::Taken { by: "db-02".into() } }, 3_002);
        assert!(!core.view().has(Fact::ArbiterOk));
        assert_eq!(core.arbiter_why(), "db-02 has it");
    }

    /// A cut may take peer and arbiter with the grant; and what the peer does not know yet it cannot heed.
    #[test]
    fn who_is_granted_the_address_waits_for_a_living_peer_from_the_first_commit() {
        for (server_ok, waits) in [(true, true), (false, false)] {
            let mut core = core(Some(5_000));
            core.step(Event::Store(StoreSeen::Saved(Record::default())), 1_001);
            core.step(Event::Link { carrier: true }, 1_001);
            let beat = Arc::new(Beat { state: State::Granted, server_ok, ..(*core.want().say).clone() });
            let heard = Heard { beat, new_session: false, echo_sent_ms: Some(2_000), echo_version: 1 };
            core.step(Event::Beat(Box::new(heard)), 2_000);
            core.facts.set(Fact::PeerConsents, true);
            core.leave(State::Gate, State::Open);
            core.step(Event::Tick, 2_001);
            assert_eq!(core.want().semi_sync, waits, "its server answers: {server_ok}");
            assert!(core.want().applied_first, "something may have come since the look");
            assert_eq!(core.belief.unprotected_version, core.want().say.version, "it has not heard yet that nothing waits");
            core.belief.peer.as_mut().expect("heard").deaf_since = Some(0);
            core.step(Event::Tick, 3_001);
            assert_eq!(core.want().semi_sync, waits);
        }
    }

    #[test]
    fn an_answer_says_nothing_about_what_comes_after_it_nor_before_anybody_has_looked() {
        let mut core = holder();
        core.limits.arbiter_ttl = Some(5_000);
        core.belief.arbiter = Some(ArbiterSeen::Mine { asked_ms: 200_000, until_ms: 204_000 });
        let sample = core.belief.sample.clone().expect("looked at");
        for (last_sign_ms, taken_ms, firm) in [(199_000, 200_000, true), (199_001, 200_000, false), (199_000, 199_999, false)] {
            core.belief.sample = Some(Arc::new(Sample { taken_ms, ..(*sample).clone() }));
            assert_eq!(core.arbiter_firm(Some(last_sign_ms)), firm, "{last_sign_ms} {taken_ms}");
        }
    }

    #[test]
    fn without_an_arbiter_nothing_is_missing_and_nothing_ends() {
        let mut core = core(None);
        let_go(&mut core, 1_002);
        assert!(core.view().has(Fact::ArbiterOk));
        assert_eq!(core.want().hold_until_ms, Ms::MAX);
    }
}
