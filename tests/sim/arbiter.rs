//! The modelled arbiter: an etcd (`etcd`), and both nodes' threads that keep its lease as `act::arbiter` does. Each question is on its way for a while, may be lost, and may be carried out after its sender has given it up.

use mmha::core::event::{ArbiterSeen, Event, Ms};
use mmha::core::want::{ArbiterOrder, Hold};

use crate::bugs::Bugs;
use crate::check::LETTING_GO_US;
use crate::etcd::{Answer, Ask, Etcd, Lease};
use crate::queue::{Job, Us};
use crate::world::World;

/// A lease ends when etcd next looks at it.
const ENDS_LATE_US: Us = 500_000;
/// Lateness of the link thread and of closing the gate (J and F of SAFETY B).
const CLOSING_MS: Ms = 25;
/// However slow the answers were, etcd is not asked in a tight loop.
const REST_US: Us = 50_000;
/// A slow etcd's way in one direction: most questions are given up before the answer has come.
const SLOW_US: Us = 900_000;

#[derive(Debug, Clone, Copy)]
enum Step {
    Ending,
    Renewing,
    Confirming { term: u64 },
    Looking,
    Granting,
    Taking,
}

/// The thread of one node.
#[derive(Default)]
struct Keeper {
    lease: Option<Lease>,
    stale: Option<Lease>,
    /// The turn under way: its order, when it began, what is asked.
    turn: Option<(ArbiterOrder, Us, Step)>,
    turn_number: u32,
    /// The order has changed since the turn began.
    bell: bool,
    question: u32,
    answer: Option<(u32, Answer)>,
    sent_us: Us,
    /// When the renewal was asked for that a read now confirms.
    renewed_us: Us,
}

pub struct Arbiter {
    etcd: Etcd,
    /// /run/mmha/arbiter.
    memory: [Option<Lease>; 2],
    keepers: [Keeper; 2],
}

impl Arbiter {
    pub fn new(ttl_ms: Ms, rate: u64) -> Arbiter {
        Arbiter { etcd: Etcd::new(ttl_ms, rate), memory: [None; 2], keepers: Default::default() }
    }
}

impl Keeper {
    /// No later run can find the lease then, and it is never believed in again.
    fn give_up(&mut self, memory: &mut Option<Lease>, bugs: &Bugs) {
        if bugs.revoked_lease_kept {
            self.stale = self.lease.or(self.stale);
            return;
        }
        *memory = None;
        self.stale = self.lease.take().or(self.stale);
    }
}

impl World {
    pub fn act_on_arbiter(&mut self, act: &str, at: usize) -> bool {
        let now = self.now;
        let Some(arbiter) = &mut self.arbiter else { return false };
        match act {
            "arbiter_down" if arbiter.etcd.up => (arbiter.etcd.up, arbiter.etcd.down_at) = (false, now),
            "arbiter_up" if !arbiter.etcd.up => {
                arbiter.etcd.up = true;
                arbiter.etcd.elect(now, arbiter.etcd.down_at);
            }
            "arbiter_down" | "arbiter_up" => {}
            "arbiter_elects" if arbiter.etcd.up => arbiter.etcd.elect(now, now),
            "arbiter_elects" => {}
            "depose_leader" => {
                arbiter.etcd.deposed[at] = arbiter.etcd.deposed[at].or(Some(arbiter.etcd.term));
                arbiter.etcd.elect(now, if arbiter.etcd.up { now } else { arbiter.etcd.down_at });
            }
            "slow_arbiter" => arbiter.etcd.slow = true,
            "quick_arbiter" => arbiter.etcd.slow = false,
            "cut_arbiter" => arbiter.etcd.cut[at] = true,
            "mend_arbiter" => (arbiter.etcd.cut[at], arbiter.etcd.deposed[at]) = (false, None),
            // One fault at a time, and yet everything but the ping target is gone; or a part of the network with the leader that was.
            "cut_all_but_gateway" => {
                arbiter.etcd.cut[at] = true;
                self.act("cut_layer_2", at);
            }
            "part_with_old_leader" => {
                self.act("depose_leader", at);
                self.act("cut_layer_2", at);
            }
            "mend_parts" => {
                self.act("mend_arbiter", at);
                self.act("mend_links", at);
            }
            _ => return false,
        }
        true
    }

    /// The agent has been started: what its thread knows is what stands in the file.
    pub fn start_keeper(&mut self, at: usize) {
        let Some(arbiter) = &mut self.arbiter else { return };
        let question = arbiter.keepers[at].question + 1;
        arbiter.keepers[at] = Keeper { lease: arbiter.memory[at], question, ..Keeper::default() };
        self.ring_keeper(at);
    }

    /// The power is gone, and with it what the file in /run says.
    pub fn forget_lease(&mut self, at: usize) {
        if let Some(arbiter) = &mut self.arbiter {
            arbiter.memory[at] = arbiter.memory[at].filter(|_| self.set.bugs.lease_survives_power);
        }
    }

    /// There is a new order, which ends the pause between two turns.
    pub fn ring_keeper(&mut self, at: usize) {
        let wait = self.set.thread_us;
        let Some(arbiter) = &mut self.arbiter else { return };
        arbiter.keepers[at].bell = true;
        if arbiter.keepers[at].turn.is_none() {
            self.keep_in(at, wait);
        }
    }

    fn keep_in(&mut self, at: usize, wait: Us) {
        let Some(arbiter) = &mut self.arbiter else { return };
        arbiter.keepers[at].turn_number += 1;
        let number = arbiter.keepers[at].turn_number;
        self.after(at, wait, Job::Keep { number });
    }

    pub fn keeper(&mut self, at: usize, job: Job) {
        let Some(arbiter) = &mut self.arbiter else { return };
        let keeper = &mut arbiter.keepers[at];
        match job {
            Job::Keep { number } if number == keeper.turn_number && keeper.turn.is_none() => self.begin_turn(at),
            Job::Answered { question } if question == keeper.question => {
                if let Some((of, answer)) = keeper.answer.take()
                    && of == question
                {
                    self.hear(at, answer);
                }
            }
            Job::GivenUp { question } if question == keeper.question => {
                keeper.stale = keeper.stale.filter(|_| !self.set.bugs.revoked_lease_kept);
                self.conclude(at, ArbiterSeen::Unreachable("no answer in time".to_owned()));
            }
            _ => {}
        }
    }

    fn begin_turn(&mut self, at: usize) {
        let begun = self.nodes[at].clock.now(self.now);
        let (Some(arbiter), Some(agent)) = (&mut self.arbiter, &self.nodes[at].agent) else { return };
        let order = agent.arbiter;
        let keeper = &mut arbiter.keepers[at];
        keeper.bell = false;
        if order.hold == Hold::No {
            keeper.give_up(&mut arbiter.memory[at], &self.set.bugs);
        }
        let stale = keeper.stale;
        keeper.turn = Some((order, begun, Step::Ending));
        match stale {
            Some(lease) => self.ask(at, Step::Ending, Ask::Revoke(lease)),
            None => self.ask_for_lease(at),
        }
    }

    fn ask_for_lease(&mut self, at: usize) {
        let Some(arbiter) = &self.arbiter else { return };
        let keeper = &arbiter.keepers[at];
        let Some((order, _, _)) = keeper.turn else { return };
        match keeper.lease.filter(|_| order.hold != Hold::No) {
            Some(lease) => self.ask(at, Step::Renewing, Ask::KeepAlive(lease)),
            None => self.ask(at, Step::Looking, Ask::Read),
        }
    }

    fn ask(&mut self, at: usize, step: Step, ask: Ask) {
        let [least, most] = self.set.etcd_us;
        let local = self.nodes[at].clock.now(self.now);
        let open = self.reaches_arbiter(at);
        let Some(arbiter) = &mut self.arbiter else { return };
        let wait = self.chance.between(least, if arbiter.etcd.slow { SLOW_US } else { most });
        let (call, keeper) = (arbiter.etcd.ttl_us / 10, &mut arbiter.keepers[at]);
        keeper.question += 1;
        keeper.sent_us = local;
        if let Some(turn) = &mut keeper.turn {
            turn.2 = step;
        }
        let question = keeper.question;
        self.after(at, call, Job::GivenUp { question });
        if open {
            self.queue.push(self.now + wait, at, self.nodes[at].life, Job::Asked { ask, question });
        }
    }

    fn reaches_arbiter(&self, at: usize) -> bool {
        let cut = self.arbiter.as_ref().is_none_or(|arbiter| arbiter.etcd.cut[at]);
        self.nodes[at].on_lan() && !cut && (self.gateway || !self.set.etcd_behind_gateway)
    }

    /// The question arrives, whatever has become of its sender.
    pub fn asked(&mut self, at: usize, life: u32, ask: Ask, question: u32) {
        let ([least, most], open) = (self.set.etcd_us, self.reaches_arbiter(at));
        let Some(arbiter) = self.arbiter.as_mut().filter(|arbiter| arbiter.etcd.up && open) else { return };
        let late = self.chance.below(ENDS_LATE_US);
        let answer = arbiter.etcd.carry_out(at, ask, late, self.now);
        if arbiter.keepers[at].question == question {
            arbiter.keepers[at].answer = Some((question, answer));
            let wait = self.chance.between(least, if arbiter.etcd.slow { SLOW_US } else { most });
            self.queue.push(self.now + wait, at, life, Job::Answered { question });
        }
    }

    fn hear(&mut self, at: usize, answer: Answer) {
        let Some(arbiter) = &mut self.arbiter else { return };
        let keeper = &mut arbiter.keepers[at];
        let Some((order, _, step)) = keeper.turn else { return };
        match (step, answer) {
            (Step::Ending, _) => {
                keeper.stale = None;
                self.ask_for_lease(at);
            }
            (Step::Renewing, Answer::Alive { term }) => {
                keeper.renewed_us = keeper.sent_us;
                self.ask(at, Step::Confirming { term }, Ask::Read);
            }
            (Step::Renewing, _) => {
                (keeper.lease, arbiter.memory[at]) = (None, None);
                self.ask(at, Step::Looking, Ask::Read);
            }
            (Step::Confirming { term }, Answer::Key { held: Some((lease, _)), term: now }) if keeper.lease == Some(lease) => {
                if term == now || self.set.bugs.term_ignored {
                    self.conclude_mine(at);
                } else {
                    self.conclude(at, ArbiterSeen::Unreachable("another leader".to_owned()));
                }
            }
            (Step::Confirming { .. }, Answer::Key { held, .. }) => {
                (keeper.lease, arbiter.memory[at]) = (None, None);
                match held {
                    Some((_, owner)) => self.conclude(at, taken(at, owner)),
                    None => self.ask(at, Step::Looking, Ask::Read),
                }
            }
            (Step::Looking, Answer::Key { held: Some((_, owner)), .. }) => self.conclude(at, taken(at, owner)),
            (Step::Looking, _) if order.hold == Hold::Yes && keeper.lease.is_none() => self.ask(at, Step::Granting, Ask::Grant),
            (Step::Looking, _) => self.conclude(at, ArbiterSeen::Free),
            (Step::Granting, Answer::Granted(lease)) => {
                (keeper.lease, keeper.renewed_us) = (Some(lease), keeper.sent_us);
                self.ask(at, Step::Taking, Ask::Take(lease));
            }
            (Step::Taking, Answer::Key { held: Some((lease, _)), .. }) if keeper.lease == Some(lease) => self.conclude_mine(at),
            (Step::Taking, Answer::Key { held, .. }) => {
                keeper.lease = None;
                self.conclude(at, held.map_or(ArbiterSeen::Free, |(_, owner)| taken(at, owner)));
            }
            (Step::Confirming { .. } | Step::Granting | Step::Taking, _) => {}
        }
    }

    fn conclude_mine(&mut self, at: usize) {
        let gate = self.set.limits.gate;
        let Some(arbiter) = &mut self.arbiter else { return };
        let keeper = &arbiter.keepers[at];
        arbiter.memory[at] = keeper.lease;
        let whole = arbiter.etcd.ttl_us / 1000 * 99 / 100;
        let believed = if self.set.bugs.lease_believed_whole { whole } else { whole - (gate + gate / 100 + CLOSING_MS) };
        let asked_ms = keeper.renewed_us / 1000;
        self.conclude(at, ArbiterSeen::Mine { asked_ms, until_ms: asked_ms + believed });
    }

    fn conclude(&mut self, at: usize, seen: ArbiterSeen) {
        let local = self.nodes[at].clock.now(self.now);
        let Some(arbiter) = &mut self.arbiter else { return };
        let (ttl, keeper) = (arbiter.etcd.ttl_us, &mut arbiter.keepers[at]);
        let Some((order, begun, _)) = keeper.turn.take() else { return };
        keeper.question += 1;
        let pause = match (order.hold, &seen) {
            (Hold::No, ArbiterSeen::Unreachable(_)) | (_, ArbiterSeen::Mine { .. }) => ttl / 3,
            (Hold::No, _) | (Hold::Keep, ArbiterSeen::Free | ArbiterSeen::Taken { .. }) => ttl,
            (Hold::Yes, _) | (Hold::Keep, ArbiterSeen::Unreachable(_)) => ttl / 10,
        };
        let wait = if keeper.bell { self.set.thread_us } else { (begun + pause).saturating_sub(local).max(REST_US) };
        self.keep_in(at, wait);
        // A refusal ends what a pause of the hypervisor has left, but for an echo that seems fresh by the clock that stood.
        if matches!(seen, ArbiterSeen::Free | ArbiterSeen::Taken { .. }) && self.nodes[at].agent.as_ref().is_some_and(|agent| !agent.stuck)
        {
            let echo = self.set.limits.isolation * 1000;
            self.nodes[at].dazed_until = self.nodes[at].dazed_until.min(self.now + echo + LETTING_GO_US);
        }
        self.post(at, Event::Arbiter { turn: order.turn, seen });
    }
}

fn taken(at: usize, owner: usize) -> ArbiterSeen {
    let by = if owner == at { "an earlier lease".to_owned() } else { ["db-01", "db-02"][owner].to_owned() };
    ArbiterSeen::Taken { by }
}
