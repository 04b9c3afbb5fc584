//! The link thread of each agent, and the network between the two: loss, delay, copies, recordings, cuts. The steps and their order are those
//! of `src/daemon/link.rs`; who is believed is judged by the real `peer::session`.

use std::rc::Rc;
use std::sync::Arc;

use mmha::core::event::{Address, Event, Gate, Heard, LeaseSeen};
use mmha::core::want::Hold;
use mmha::peer::session::Verdict;

use crate::check::LETTING_GO_US;
use crate::node::{Agent, Datagram};
use crate::queue::{Job, Us};
use crate::world::World;

const HURRY_US: Us = 1_000;
/// Datagrams that wait in a socket whose reader is frozen.
const SOCKET: usize = 200;
/// Recordings that an attacker keeps.
const RECORDED: usize = 64;

/// An address that is to be added waits for nothing.
fn spacing(agent: &Agent, local: Us) -> Us {
    let blessed = local / 1000 <= agent.blessed_until_ms.min(agent.orders.hold_until_ms);
    let held = matches!(agent.address, Address::Held { .. });
    if agent.orders.vip == Hold::Yes && agent.latched.is_none() && !held && blessed { 0 } else { HURRY_US }
}

impl World {
    /// The link thread has something to say out of turn.
    pub fn hurry(&mut self, at: usize) {
        let local = self.nodes[at].clock.now(self.now);
        let Some(agent) = &self.nodes[at].agent else { return };
        let slot = (agent.sent_us + spacing(agent, local)).min(agent.next_us).saturating_sub(local);
        let wait = if agent.must_shut() { 0 } else { slot };
        self.turn_in(at, wait.max(self.set.thread_us / 2));
    }

    fn turn_in(&mut self, at: usize, local: Us) {
        let when = self.now + self.nodes[at].clock.stretch(local);
        let life = self.nodes[at].life;
        if let Some(agent) = &mut self.nodes[at].agent
            && when < agent.turn_at
        {
            agent.turn_at = when;
            self.queue.push(when, at, life, Job::Turn);
        }
    }

    /// One turn of the thread's loop.
    pub fn turn(&mut self, at: usize) {
        let local = self.nodes[at].clock.now(self.now);
        let now = self.now;
        let Some(agent) = self.nodes[at].agent.as_mut().filter(|agent| agent.turn_at == now) else { return };
        agent.turn_at = Us::MAX;
        let gap_ms = (local - agent.turned_us) / 1000;
        agent.turned_us = local;
        self.notice_gap(at, gap_ms);
        self.shut_early(at);
        let keepalive = self.set.limits.keepalive * 1000;
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let due = local >= agent.next_us;
        let news = agent.answer_now || agent.orders.say.version != agent.sent_version;
        if due || news && local >= agent.sent_us + spacing(agent, local) {
            agent.sent_us = local;
            if due {
                agent.slot_us = local;
                let next = agent.next_us + keepalive;
                agent.next_us = if next > local { next } else { local + keepalive };
            }
            self.act_and_send(at, local);
        }
        self.report(at);
        self.read(at);
        let Some(agent) = &self.nodes[at].agent else { return };
        let news = agent.answer_now || agent.orders.say.version != agent.sent_version;
        let until = if news { agent.next_us.min(agent.sent_us + spacing(agent, local)) } else { agent.next_us };
        self.turn_in(at, until.saturating_sub(local).max(1));
    }

    fn notice_gap(&mut self, at: usize, gap_ms: u64) {
        let limit = self.set.limits.gate.min(self.set.limits.lease);
        let (order, gap_ignored) = (self.nodes[at].agent.as_ref().map_or(0, |agent| agent.orders.order), self.set.bugs.gap_ignored);
        let Some(agent) = &mut self.nodes[at].agent else { return };
        if agent.latched.is_some_and(|latched| latched != order) {
            agent.latched = None;
        }
        if gap_ms < limit || gap_ignored {
            return;
        }
        agent.stood_still_ms = Some(gap_ms);
        if agent.orders.vip == Hold::Yes || matches!(agent.address, Address::Held { .. }) || agent.gate == Gate::Open {
            agent.latched = Some(order);
            (agent.address, agent.gate) = (Address::Absent, Gate::Shut);
            (self.nodes[at].vip_until, self.nodes[at].gate_until) = (0, 0);
        }
    }

    /// A handover waits for the gate alone, and not for the next heartbeat.
    fn shut_early(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(agent) = node.agent.as_mut().filter(|agent| agent.must_shut()) else { return };
        agent.gate = Gate::Shut;
        if !self.set.bugs.gate_never_shuts {
            node.gate_until = 0;
        }
    }

    /// Lease first, then the datagram, which moves the gate; an unwanted address goes after it.
    fn act_and_send(&mut self, at: usize, local: Us) {
        let (limits, bugs) = (&self.set.limits, &self.set.bugs);
        let node = &mut self.nodes[at];
        let Some(agent) = &mut node.agent else { return };
        let blessed_until_ms = if bugs.stuck_loop_renews { u64::MAX } else { agent.blessed_until_ms };
        if local / 1000 > blessed_until_ms.min(agent.orders.hold_until_ms) {
            return;
        }
        let held = agent.latched.is_none();
        if agent.orders.vip == Hold::Yes && held {
            node.vip_until = local + limits.lease * 1000 + self.chance.below(self.set.lease_late_us + 1);
            match agent.address {
                // One address of the group is refused: the others are here.
                Address::Held { .. } | Address::Found { .. } | Address::Unknown if node.vip_broken => {}
                _ if node.vip_broken => agent.address = Address::Unknown,
                _ => {
                    node.vip_renewed = local;
                    agent.address = Address::Held { renewed_ms: local / 1000 };
                }
            }
        }
        match if held { agent.orders.gate } else { Hold::No } {
            Hold::Yes if !matches!(agent.address, Address::Held { .. }) => {}
            Hold::Yes if bugs.gate_never_shuts => (node.gate_until, agent.gate) = (Us::MAX, Gate::Open),
            Hold::Yes => (node.gate_until, agent.gate) = (local + limits.gate * 1000, Gate::Open),
            Hold::No if bugs.gate_never_shuts => agent.gate = Gate::Shut,
            Hold::No => (node.gate_until, agent.gate) = (0, Gate::Shut),
            Hold::Keep => {}
        }
        if agent.orders.vip == Hold::No || !held {
            if !bugs.address_stays || !matches!(agent.address, Address::Held { .. }) {
                node.vip_until = 0;
            }
            agent.address = Address::Absent;
        }
        let header = agent.sessions.next(agent.orders.say.version, local);
        (agent.sent_version, agent.answer_now) = (agent.orders.say.version, false);
        let datagram = Rc::new(Datagram { header, beat: Arc::clone(&agent.orders.say) });
        if self.recorded.len() < RECORDED {
            self.recorded.push(Rc::clone(&datagram));
        } else if self.chance.below(64) == 0 {
            let place = self.chance.below(RECORDED as u64) as usize;
            self.recorded[place] = Rc::clone(&datagram);
        }
        self.transmit(at, datagram);
    }

    fn transmit(&mut self, from: usize, datagram: Rc<Datagram>) {
        if (self.replaying || self.set.bugs.recordings_trusted) && self.chance.per_mille(300) {
            let recording = Rc::clone(&self.recorded[self.chance.below(self.recorded.len() as u64) as usize]);
            self.fly(usize::from(recording.header.sender == 1), recording);
        }
        if !self.udp[from] || !self.nodes[from].on_lan() || self.chance.per_mille(self.set.lost) {
            return;
        }
        if self.chance.per_mille(self.set.twice) {
            self.fly(1 - from, Rc::clone(&datagram));
        }
        self.fly(1 - from, datagram);
    }

    fn fly(&mut self, to: usize, datagram: Rc<Datagram>) {
        let [least, most] = self.set.delay_us;
        let late = if self.chance.per_mille(self.set.late) { self.chance.below(5_000_000) } else { 0 };
        let wait = self.chance.between(least, most) + late;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.flight.push(None);
                u32::try_from(self.flight.len() - 1).expect("few")
            }
        };
        self.flight[slot as usize] = Some(datagram);
        self.queue.push(self.now + wait, to, 0, Job::Datagram { slot });
    }

    /// A datagram reaches the socket, unless the way has been cut meanwhile.
    pub fn arrive(&mut self, at: usize, slot: u32) {
        self.free.push(slot);
        let Some(datagram) = self.flight[slot as usize].take() else { return };
        let node = &mut self.nodes[at];
        if !node.on_lan() {
            return;
        }
        let Some(agent) = &mut node.agent else { return };
        if node.frozen {
            if agent.inbox.len() < SOCKET {
                agent.inbox.push(datagram);
            }
            return;
        }
        self.report(at);
        self.take(at, &datagram);
    }

    /// What waited in the socket, after the leases were seen to.
    fn read(&mut self, at: usize) {
        let Some(agent) = &mut self.nodes[at].agent else { return };
        for datagram in std::mem::take(&mut agent.inbox) {
            self.take(at, &datagram);
        }
    }

    fn take(&mut self, at: usize, datagram: &Datagram) {
        let local = self.nodes[at].clock.now(self.now);
        let trusting = self.set.bugs.recordings_trusted;
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let verdict = match agent.sessions.judge(&datagram.header, local) {
            Verdict::Ignore | Verdict::Unproved if trusting => Verdict::Fresh,
            verdict => verdict,
        };
        if verdict == Verdict::Ignore {
            return;
        }
        let proof = agent.sessions.accept(&datagram.header, verdict, local);
        if verdict == Verdict::Unproved {
            agent.answer_now = true;
            return self.hurry(at);
        }
        let new_session = verdict == Verdict::NewSession;
        agent.answer_now |= new_session;
        // The own one leaves with the peer's, unless there was one a moment ago.
        let met = local >= agent.slot_us + self.set.limits.keepalive * 1000 / 2;
        if met {
            agent.next_us = agent.next_us.min(local);
        }
        let heard = Heard {
            beat: Arc::clone(&datagram.beat),
            new_session,
            echo_sent_ms: proof.echo_sent_us.map(|sent| sent / 1000),
            echo_version: proof.echo_version,
        };
        // Only a beat that tells of the new holder ends it: others may have waited in the socket since before.
        let told = !agent.stuck && datagram.beat.state.holds();
        if told {
            self.nodes[at].dazed_until = self.nodes[at].dazed_until.min(self.now + LETTING_GO_US);
        }
        self.post(at, Event::Beat(Box::new(heard)));
        if new_session || met {
            self.hurry(at);
        }
    }

    /// Leases as they are, whenever they differ from what the core was last told.
    fn report(&mut self, at: usize) {
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let woke = agent.stood_still_ms.take();
        let seen = LeaseSeen { address: agent.address, gate: agent.gate };
        let news = agent.told != Some(seen) && seen.gate != Gate::Unknown;
        let held = |seen: LeaseSeen| matches!(seen, LeaseSeen { address: Address::Held { .. }, gate: Gate::Open | Gate::None });
        let renewed = agent.told.is_some_and(held) && held(seen);
        if news {
            agent.told = Some(seen);
        }
        if let Some(gap_ms) = woke {
            self.post(at, Event::Woke { gap_ms });
        }
        if news && renewed {
            self.post_quietly(at, Event::Lease(seen));
        } else if news {
            self.post(at, Event::Lease(seen));
        }
    }
}
