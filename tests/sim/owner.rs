//! Each agent's main thread, which owns the core: its mailbox, its clock, and how it stands still.

use mmha::core::event::{Event, Ms};

use crate::check::LETTING_GO_US;
use crate::queue::{Job, Us};
use crate::world::World;

/// Beyond this an agent's channel drops what it is told.
const MAILBOX: usize = 4096;
/// No tick is planned further ahead.
const LATEST_TICK_MS: Ms = 60_000;

impl World {
    pub fn tick(&mut self, at: usize) {
        let (now, world) = (self.local_ms(at), self.now);
        let Some(agent) = self.nodes[at].agent.as_mut().filter(|agent| agent.tick_at == world) else { return };
        agent.tick_at = Us::MAX;
        if agent.stuck {
            return;
        }
        agent.blessed_until_ms = u64::MAX;
        if now >= agent.core.deadline() {
            self.post(at, Event::Tick);
        } else {
            self.schedule_tick(at);
        }
    }

    pub fn schedule_tick(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(agent) = &mut node.agent else { return };
        let deadline = agent.core.deadline();
        if agent.tick_at != Us::MAX && deadline >= agent.tick_ms {
            return;
        }
        let latest = node.clock.now(self.now) / 1000 + LATEST_TICK_MS;
        let when = node.clock.when(deadline.min(latest) * 1000).max(self.now + 1);
        if when < agent.tick_at {
            (agent.tick_ms, agent.tick_at) = (deadline, when);
            self.queue.push(when, at, node.life, Job::Tick);
        }
    }

    /// Tells the core, or its mailbox while its thread stands still.
    pub fn post(&mut self, at: usize, event: Event) {
        let now = self.local_ms(at);
        let Some(agent) = &mut self.nodes[at].agent else { return };
        if agent.exiting {
            return;
        }
        if agent.stuck {
            if agent.mailbox.len() < MAILBOX {
                agent.mailbox.push(event);
            }
            return;
        }
        for waiting in agent.mailbox.drain(..) {
            agent.core.absorb(waiting, now);
        }
        agent.core.step(event, now);
        self.watch.steps += 1;
        let decisions = agent.core.take_decisions();
        if !decisions.is_empty() {
            let unforced = !agent.core.view().has(mmha::core::fact::Fact::OpForce);
            self.nodes[at].forced &= !decisions.iter().any(|decision| decision.to.name() == "gate") || !unforced;
            for decision in decisions {
                self.decided(at, &decision);
            }
        }
        self.publish(at);
    }

    /// That all goes on as before wakes nobody up: the core's thread finds it in its mailbox.
    pub fn post_quietly(&mut self, at: usize, event: Event) {
        if let Some(agent) = self.nodes[at].agent.as_mut().filter(|agent| !agent.exiting && agent.mailbox.len() < MAILBOX) {
            agent.mailbox.push(event);
        }
    }

    pub fn stick(&mut self, at: usize, time: Us) {
        if let Some(agent) = self.nodes[at].agent.as_mut().filter(|agent| !agent.stuck) {
            (agent.stuck, agent.stuck_for_ms) = (true, time / 1000);
            self.unbless(at);
            self.after(at, time, Job::Unstick);
        }
    }

    /// The main thread stands still from now on. It blesses the link thread for half a gate whenever it wakes up: here just now.
    pub fn unbless(&mut self, at: usize) {
        let until_ms = self.local_ms(at) + self.set.limits.gate / 2;
        if let Some(agent) = &mut self.nodes[at].agent {
            agent.blessed_until_ms = agent.blessed_until_ms.min(until_ms);
        }
    }

    /// Before anything is believed: after standing still for longer than a lease the core hears that first.
    pub fn unstick(&mut self, at: usize) {
        let limit = self.set.limits.lease;
        let Some(agent) = &mut self.nodes[at].agent else { return };
        agent.stuck = false;
        let (gap_ms, waiting) = (agent.stuck_for_ms, std::mem::take(&mut agent.mailbox));
        if gap_ms >= limit {
            self.post(at, Event::Woke { gap_ms });
        }
        for event in waiting {
            // What has waited is heard now.
            if matches!(&event, Event::Beat(heard) if heard.beat.state.holds()) {
                self.nodes[at].dazed_until = self.nodes[at].dazed_until.min(self.now + LETTING_GO_US);
            }
            self.post(at, event);
        }
        self.post(at, Event::Tick);
    }
}
