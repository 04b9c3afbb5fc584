//! Events that only say again what is believed already, as nearly all do while nothing happens. They move the time of a belief and nothing
//! else, and no comparison of an age comes out differently (`calm`): the rules and the want are not worked out again. What this file does
//! without a whole step is exactly what the whole step would do (but what a tick more or less does).

use std::sync::Arc;

use super::Core;
use super::event::{Address, Event, Heard, LeaseSeen, Ms, Sample, ServerSeen};

/// Which kinds of news have been taken once more, in a whole step, since anything was new: what a step writes down, the next has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Repeated {
    beat: bool,
    look: bool,
}

/// What an event amounts to beside the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    News,
    /// Of the peer: what it says is worked out in the same step, so that the same once more is nothing new.
    NewBeat,
    /// A moment, which changes nothing by itself.
    Moment,
    BeatAgain,
    LookAgain,
}

impl Core {
    /// Takes the event if it changes nothing but the time of what is believed.
    pub(super) fn take_quietly(&mut self, event: &Event, now: Ms) -> bool {
        if self.restless > 0 || now >= self.belief.next.get() {
            return false;
        }
        let quiet = match event {
            Event::Tick => true,
            Event::PingAnswered => self.answered_again(now),
            Event::Lease(lease) => self.renewed_again(*lease, now),
            Event::Beat(heard) => self.heard_again(heard, now),
            Event::Server(ServerSeen::Ok(sample)) => self.looked_again(sample, now),
            Event::Server(ServerSeen::Dead | ServerSeen::Hung | ServerSeen::Refuses(_))
            | Event::Woke { .. }
            | Event::Link { .. }
            | Event::VipClaimed { .. }
            | Event::VipProbed
            | Event::ProbeSent
            | Event::Role { .. }
            | Event::Remote(_)
            | Event::Store(_)
            | Event::Arbiter { .. }
            | Event::Switch { .. }
            | Event::Pause { .. }
            | Event::Resume
            | Event::Fence(_)
            | Event::Disk(_)
            | Event::Merge(_)
            | Event::Stop => false,
        };
        if quiet {
            self.belief.now = now;
            if !self.belief.missing {
                self.belief.got_ms = now;
            }
        }
        quiet
    }

    /// Where probes count, an answer that was late enough for them has come already.
    fn answered_again(&mut self, now: Ms) -> bool {
        let belief = &mut self.belief;
        let answered = belief.ping_ms.is_some_and(|at| at >= belief.started_ms && now - at < self.limits.isolation);
        let probed = self.limits.deadtime.saturating_sub(self.limits.warntime) / 2;
        let counted = belief.first_probe_ms.is_none_or(|first| belief.ping_ms.is_some_and(|at| at >= first + probed));
        let quiet = answered && counted;
        if quiet {
            belief.ping_ms = Some(now);
        }
        quiet
    }

    fn renewed_again(&mut self, lease: LeaseSeen, now: Ms) -> bool {
        let before = self.belief.lease;
        let held = match (before.address, lease.address) {
            (Address::Held { renewed_ms: from }, Address::Held { renewed_ms: to }) => from <= to && now < from + self.limits.lease,
            (before, address) => before == address,
        };
        let quiet = held && before.gate == lease.gate;
        if quiet {
            self.belief.lease = lease;
        }
        quiet
    }

    /// Every limit on the peer's silence is longer than this, and every one on the age of its echo.
    fn shortest_silence(&self) -> Ms {
        let limits = &self.limits;
        limits.deadtime.saturating_sub(2 * limits.keepalive).min(limits.warntime).min(limits.isolation)
    }

    fn heard_again(&mut self, heard: &Heard, now: Ms) -> bool {
        let shortest = self.shortest_silence();
        if !self.repeated.beat || self.belief.remote.is_some() || self.belief.fence.is_some() || heard.new_session {
            return false;
        }
        let Some(peer) = self.belief.peer.as_mut() else { return false };
        let Some(echo_ms) = peer.echo_sent_ms else { return false };
        let sent_ms = heard.echo_sent_ms.unwrap_or(echo_ms);
        let fresh = now - peer.heard_ms < shortest && now.saturating_sub(echo_ms) < shortest && sent_ms >= echo_ms;
        if !fresh || heard.echo_version > peer.echo_version || !is_same(&peer.beat, &heard.beat) {
            return false;
        }
        (peer.heard_ms, peer.echo_sent_ms) = (now, Some(sent_ms));
        let until = self.hold_until();
        if let Some(want) = &mut self.want {
            want.hold_until_ms = until;
        }
        true
    }

    /// A look is compared with the moments of the last changes: the one before was later than all of them already.
    fn looked_again(&mut self, sample: &Sample, now: Ms) -> bool {
        let heard_ms = self.belief.peer.as_ref().map_or(0, |peer| peer.heard_ms);
        let (waits, heard) = (sample.semi_sync_waiting > 0, self.peer_heard());
        let belief = &mut self.belief;
        let since = self.entered_ms.max(belief.era_ms).max(belief.closed_ms + 1).max(if heard { 0 } else { heard_ms });
        let (Some(before), Some(ServerSeen::Ok(seen))) = (&mut belief.sample, &mut belief.server) else { return false };
        let later = before.taken_ms >= since && sample.taken_ms >= before.taken_ms;
        let flowed = waits || now - belief.flowed_ms < self.limits.deadtime / 2;
        if !self.repeated.look || !later || !flowed || !before.finds_the_same(sample) {
            return false;
        }
        (before.taken_ms, seen.taken_ms) = (sample.taken_ms, sample.taken_ms);
        if !waits {
            belief.flowed_ms = now;
        }
        true
    }

    /// To be asked before a whole step.
    pub(super) fn novelty(&self, event: &Event) -> Novelty {
        let belief = &self.belief;
        match event {
            Event::Tick | Event::PingAnswered | Event::Lease(_) => Novelty::Moment,
            Event::Beat(heard) if heard.new_session => Novelty::News,
            Event::Beat(heard) if belief.peer.as_ref().is_some_and(|peer| is_same(&peer.beat, &heard.beat)) => Novelty::BeatAgain,
            Event::Beat(_) => Novelty::NewBeat,
            Event::Server(ServerSeen::Ok(sample)) if belief.sample.as_ref().is_some_and(|before| before.finds_the_same(sample)) => {
                Novelty::LookAgain
            }
            _ => Novelty::News,
        }
    }

    /// After a whole step: whether anything was new in it, and what it was about.
    pub(super) fn count_repeated(&mut self, novelty: Novelty, moved: bool) {
        if moved || matches!(novelty, Novelty::News | Novelty::NewBeat) {
            self.repeated = Repeated { beat: !moved && novelty == Novelty::NewBeat, look: false };
        } else {
            self.repeated.beat |= novelty == Novelty::BeatAgain;
            self.repeated.look |= novelty == Novelty::LookAgain;
        }
    }
}

fn is_same(one: &Arc<super::beat::Beat>, other: &Arc<super::beat::Beat>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use super::super::beat::Beat;
    use super::super::event::{Gate, Record, ReplicaSample, StoreSeen};
    use super::super::history::History;
    use super::super::state::State;
    use super::super::{Identity, Limits};
    use super::*;

    fn core(number: u8) -> Core {
        let limits = Limits {
            keepalive: 250,
            deadtime: 2_000,
            warntime: 1_000,
            initdead: 20_000,
            gate: 1_500,
            lease: 1_000,
            isolation: 1_500,
            failback_delay: 5_000,
            auto_failback: true,
            lossless: true,
            both_write: false,
            kill_hung: true,
            ping_configured: true,
            fence_configured: false,
            flap_count: 0,
            flap_window: 600_000,
            config_digest: 7,
            arbiter_ttl: None,
        };
        let id = Identity { number, peer_name: "the peer".into(), vip: "192.0.2.243".into(), preferred: number == 1 };
        Core::new(id, limits, 10_000)
    }

    /// Numbers without a pattern, the same for the same start.
    fn below(seed: &mut u64, limit: u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % limit
    }

    fn look(now: Ms, own: u64) -> Event {
        let history = History::parse(&format!("1:1-{own},2:1-10")).unwrap_or_default();
        let replica =
            ReplicaSample { receiver_connected: true, applier_running: true, received: history.clone(), ..ReplicaSample::default() };
        let sample =
            Sample { taken_ms: now, read_only: true, server_key: "1".into(), history, replica: Some(replica), ..Sample::default() };
        Event::Server(ServerSeen::Ok(Box::new(sample)))
    }

    fn event(seed: &mut u64, now: Ms, beat: &Beat) -> Event {
        let rare = below(seed, 20) == 0;
        match below(seed, 6) {
            0 => Event::Tick,
            1 => Event::PingAnswered,
            2 => Event::Lease(LeaseSeen { address: Address::Absent, gate: if rare { Gate::Unknown } else { Gate::Shut } }),
            3 if rare => Event::Server(ServerSeen::Dead),
            3 => look(now, 10 + u64::from(below(seed, 30) == 0)),
            _ => {
                let (state, version) = if rare { (State::Release, beat.version + 1) } else { (State::Active, beat.version) };
                let beat =
                    Arc::new(Beat { state, version, epoch: 1, ready: true, server_ok: true, server_key: "2".into(), ..beat.clone() });
                Event::Beat(Box::new(Heard { beat, new_session: false, echo_sent_ms: Some(now - below(seed, 300)), echo_version: 1 }))
            }
        }
    }

    #[test]
    fn what_is_taken_quietly_a_whole_step_would_not_change() {
        let (mut quietly, mut whole) = (core(1), core(1));
        let (mut seed, mut now, mut quiet) = (7, 10_000, 0);
        let beat = (*core(2).want().say).clone();
        for step in 0..200_000 {
            now += if below(&mut seed, 100) == 0 { below(&mut seed, 4_000) } else { below(&mut seed, 120) };
            let event = match step {
                0 => Event::Store(StoreSeen::Saved(Record::default())),
                1 => Event::Link { carrier: true },
                _ => event(&mut seed, now, &beat),
            };
            quiet += u32::from(quietly.take_quietly(&event, now));
            quietly.step(event.clone(), now);
            whole.disturb();
            whole.step(event, now);
            assert_eq!(quietly.want(), whole.want(), "step {step}");
            assert_eq!(quietly.facts(), whole.facts(), "step {step}");
            assert_eq!(quietly.take_decisions(), whole.take_decisions(), "step {step}");
        }
        assert!(quiet > 20_000, "{quiet}");
    }
}
