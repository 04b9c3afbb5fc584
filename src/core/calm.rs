//! Most of what arrives is no news: the same heartbeat again, the same look at the server. Then only marks of freshness move, and nothing is
//! decided anew. It takes no decision and skips none: every comparison of an age with a limit notes when its answer will change (`Age`).

use std::cell::Cell;
use std::cmp::Ordering;

use super::Core;
use super::belief::Peer;
use super::event::{Address, Event, Heard, LeaseSeen, Ms, Sample, ServerSeen};
use super::want::Want;

/// After anything has changed so many whole steps must find everything as it was: what a step writes down, the next may read.
const UNTIL_CALM: u8 = 2;

/// How long ago something was. To be compared with a limit only.
#[derive(Clone, Copy)]
pub(super) struct Age<'a> {
    pub then: Ms,
    pub now: Ms,
    /// The earliest moment at which any comparison so far comes out differently.
    pub next: &'a Cell<Ms>,
}

impl Age<'_> {
    /// Whether it has come to `limit`.
    fn reached(&self, limit: Ms) -> bool {
        let at = self.then.saturating_add(limit);
        if at > self.now {
            self.next.set(self.next.get().min(at));
        }
        at <= self.now
    }
}

impl PartialEq<Ms> for Age<'_> {
    fn eq(&self, limit: &Ms) -> bool {
        self.reached(*limit) && !self.reached(limit.saturating_add(1))
    }
}

impl PartialOrd<Ms> for Age<'_> {
    fn partial_cmp(&self, limit: &Ms) -> Option<Ordering> {
        let (reached, passed) = (self.reached(*limit), self.reached(limit.saturating_add(1)));
        Some(if passed {
            Ordering::Greater
        } else if reached {
            Ordering::Equal
        } else {
            Ordering::Less
        })
    }
    fn lt(&self, limit: &Ms) -> bool {
        !self.reached(*limit)
    }
    fn ge(&self, limit: &Ms) -> bool {
        self.reached(*limit)
    }
    fn le(&self, limit: &Ms) -> bool {
        !self.reached(limit.saturating_add(1))
    }
    fn gt(&self, limit: &Ms) -> bool {
        self.reached(limit.saturating_add(1))
    }
}

/// How settled the core is, and what it has looked at since the last news.
#[derive(Debug, Default)]
pub(super) struct Calm {
    restless: u8,
    beat: bool,
    server: bool,
}

/// What an event could be the news of.
#[derive(Clone, Copy)]
pub(super) struct Heading {
    news: bool,
    beat: bool,
    server: bool,
}

impl Core {
    /// Whether the event would leave every fact and every want as it is.
    pub(super) fn is_no_news(&self, event: &Event, now: Ms) -> bool {
        // With an arbiter each heartbeat moves the instant until which the leases may be renewed.
        if self.calm.restless > 0 || now >= self.belief.next.get() || self.limits.arbiter_ttl.is_some() {
            return false;
        }
        let within = |then: Ms, limit: Ms| now < then.saturating_add(limit);
        let belief = &self.belief;
        match event {
            // Nobody is called for nothing: should a comparison ever have been missed, the next tick mends it.
            Event::Tick => false,
            Event::Link { carrier } => belief.carrier == Some(*carrier),
            // While the address is probed, an answer proves that the probes left.
            Event::PingAnswered => {
                let lately = |at: Ms| at >= belief.started_ms && within(at, self.limits.isolation);
                belief.first_probe_ms.is_none() && belief.ping_ms.is_some_and(lately)
            }
            Event::Beat(heard) => {
                let fresh = |peer: &Peer| {
                    let lately = |at: Ms| within(at, self.limits.warntime.min(self.limits.deadtime));
                    lately(peer.heard_ms) && peer.echo_sent_ms.is_some_and(lately) && self.same_stance(heard, peer)
                };
                self.calm.beat && belief.remote.is_none() && belief.peer.as_ref().is_some_and(fresh)
            }
            Event::Lease(seen) => self.same_lease(*seen, within),
            Event::Server(seen) => self.calm.server && self.same_look(seen),
            _ => false,
        }
    }

    fn same_stance(&self, heard: &Heard, peer: &Peer) -> bool {
        let knows = |version: u64| version >= self.belief.stance_version;
        let echo = knows(peer.echo_version) == knows(peer.echo_version.max(heard.echo_version));
        !heard.new_session && heard.beat.version == peer.beat.version && echo
    }

    fn same_lease(&self, seen: LeaseSeen, within: impl Fn(Ms, Ms) -> bool) -> bool {
        let old = self.belief.lease;
        let kept = match (old.address, seen.address) {
            (Address::Held { renewed_ms }, Address::Held { .. }) => within(renewed_ms, self.limits.lease),
            (old, new) => old == new,
        };
        kept && old.gate == seen.gate
    }

    /// The server is as it was at the last look, and that look was young enough for everything it is asked about.
    fn same_look(&self, seen: &ServerSeen) -> bool {
        let belief = &self.belief;
        let silent_since = belief.peer.as_ref().map_or(0, |peer| peer.heard_ms);
        let (Some(ServerSeen::Ok(old)), ServerSeen::Ok(new)) = (&belief.server, seen) else { return belief.server.as_ref() == Some(seen) };
        let young = old.taken_ms >= belief.era_ms.max(self.entered_ms) && old.taken_ms > belief.closed_ms && new.taken_ms >= old.taken_ms;
        let counts = self.peer_heard() || old.taken_ms >= silent_since;
        young && counts && belief.mark_before == belief.mark && same_but_for_time(old, new)
    }

    /// Moves the marks of freshness that the event moves, and nothing else.
    pub(super) fn refresh(&mut self, event: Event, now: Ms) {
        let belief = &mut self.belief;
        belief.now = now;
        if !belief.missing {
            belief.got_ms = now;
        }
        match event {
            Event::PingAnswered => belief.ping_ms = Some(now),
            Event::Lease(seen) => belief.lease = seen,
            Event::Beat(heard) => {
                if let Some(peer) = &mut belief.peer {
                    peer.heard_ms = now;
                    peer.echo_sent_ms = heard.echo_sent_ms.or(peer.echo_sent_ms);
                    peer.echo_version = peer.echo_version.max(heard.echo_version);
                }
            }
            Event::Server(ServerSeen::Ok(new)) => {
                if let Some(sample) = &mut belief.sample {
                    sample.taken_ms = new.taken_ms;
                }
                if new.semi_sync_waiting == 0 {
                    belief.flowed_ms = now;
                }
                belief.server = Some(ServerSeen::Ok(new));
            }
            _ => {}
        }
    }

    pub(super) fn heading(&self, event: &Event) -> Heading {
        let belief = &self.belief;
        let (beat, server, news) = match event {
            Event::Beat(heard) => {
                let same = belief.peer.as_ref().is_some_and(|peer| !heard.new_session && peer.beat.version == heard.beat.version);
                (true, false, !same)
            }
            Event::Server(seen @ ServerSeen::Ok(new)) => {
                let same = matches!(&belief.server, Some(ServerSeen::Ok(old)) if same_but_for_time(old, new));
                (false, true, !same && belief.server.as_ref() != Some(seen))
            }
            Event::Server(seen) => (false, true, belief.server.as_ref() != Some(seen)),
            _ => (false, false, false),
        };
        Heading { news, beat, server }
    }

    /// A limit has changed, or something else that no event tells.
    pub(super) fn disturb(&mut self) {
        self.calm = Calm { restless: UNTIL_CALM, ..Calm::default() };
    }

    /// After a whole step: was anything new in it?
    pub(super) fn settle(&mut self, heading: Heading, moved: bool) {
        let calm = &mut self.calm;
        if moved {
            *calm = Calm { restless: UNTIL_CALM, ..Calm::default() };
            return;
        }
        calm.restless = calm.restless.saturating_sub(1);
        // What the event brought has been looked at; what the other observer brings must be looked at with it in mind.
        calm.beat = heading.beat || calm.beat && !heading.news;
        calm.server = heading.server || calm.server && !heading.news;
    }

    /// When `step` must be called again even if nothing happens: when the next comparison with a limit comes out differently.
    pub fn deadline(&self) -> Ms {
        let next = match self.calm.restless {
            0 => self.belief.next.get().max(self.belief.now + 1),
            _ => self.belief.now + (self.limits.deadtime / 200).clamp(2, 10),
        };
        let limit = self.want().hold_until_ms;
        if limit > self.belief.now { next.min(limit) } else { next }
    }
}

fn same_but_for_time(old: &Sample, new: &Sample) -> bool {
    let rest =
        |sample: &Sample| (sample.read_only, sample.semi_sync_on, sample.semi_sync_active, sample.semi_sync_waiting, sample.truncates);
    rest(old) == rest(new) && old.history == new.history && old.replica == new.replica && old.server_key == new.server_key
}

/// Whether anybody but the peer is to do something else.
pub(super) fn asks_for_more(old: &Want, new: &Want) -> bool {
    let kernel = |want: &Want| (want.order, want.vip, want.gate, want.probe, want.remote, want.watch, want.arbiter, want.exit);
    let server = |want: &Want| (want.writes, want.receiver, want.semi_sync, want.kill_server, want.save);
    kernel(old) != kernel(new)
        || server(old) != server(new)
        || (&old.recover_to, &old.extra, &old.merge, old.fence) != (&new.recover_to, &new.extra, &new.merge, new.fence)
}
