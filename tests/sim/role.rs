//! The agent's role thread: takes the steps of `act::role` one at a time, is cut short between them, and rests while its server is as ordered.

use mmha::act::role::Order;
use mmha::core::event::{Event, RoleOutcome, ServerSeen};
use mmha::core::want::{Receiver, Writes};

use crate::node::Health;
use crate::queue::{Job, Sql, Us};
use crate::world::World;

const RECONCILE_US: Us = 1_500_000;
const AT_REST_US: Us = 15_000_000;
const RESTART_MS: u64 = 5_000;
/// Per mille of conversations of which the server has done everything and nothing is heard.
const ANSWERS_LOST: u64 = 3;

impl World {
    pub fn role(&mut self, at: usize, job: Job) {
        let server = self.nodes[at].server.up;
        let Some(agent) = &mut self.nodes[at].agent else { return };
        match job {
            Job::Role if agent.role_busy => {}
            Job::Role => self.role_turn(at),
            // The last look before the statement that opens the server.
            Job::RoleChecked { order } => {
                let (wanted, number) = (agent.role.order == order, self.nodes[at].server.number);
                if wanted && server == Health::Up {
                    let wait = self.chance.between(50, 300);
                    self.queue.push(self.now + wait, at, 0, Job::Sql { act: Sql::Open, server: number });
                    let more = self.chance.between(0, self.nodes[at].server.slow_us);
                    self.after(at, wait + 100 + more, Job::RoleDone { order });
                } else {
                    self.role_failed(at, order, server);
                }
            }
            Job::RoleDone { order } if server == Health::Up && !self.chance.per_mille(ANSWERS_LOST) => {
                agent.role_busy = false;
                let (closed, waiting) = (agent.closed_at.take(), std::mem::take(&mut agent.met_waiting));
                if waiting {
                    self.post(at, Event::Role { order, outcome: RoleOutcome::Waiting });
                    return self.after(at, RECONCILE_US, Job::Role);
                }
                if let Some(history) = closed {
                    self.role_report(at, order, RoleOutcome::Closed(history));
                }
                self.role_turn(at);
            }
            Job::RoleDone { order } => self.role_failed(at, order, server),
            _ => {}
        }
    }

    /// The observer has looked: a role thread at rest hears of it when its server is no longer as ordered.
    pub fn seen_by_role(&mut self, at: usize, seen: &ServerSeen) {
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let met = matches!(seen, ServerSeen::Ok(sample) if agent.role.is_met_by(sample));
        let before = std::mem::replace(&mut agent.role_met, met.then(|| agent.role.clone()));
        if before.is_some() && !met {
            self.soon(at, Job::Role);
        }
    }

    fn role_failed(&mut self, at: usize, order: u64, server: Health) {
        let Some(agent) = &mut self.nodes[at].agent else { return };
        (agent.role_busy, agent.closed_at, agent.met_waiting) = (false, None, false);
        let withdrawn = agent.role.order != order;
        let why = if server == Health::Hung { "it hangs" } else { "it is dead, the order was withdrawn, or the answer is lost" };
        self.post(at, Event::Role { order, outcome: RoleOutcome::Failed(why.to_owned()) });
        let wait = if withdrawn { self.set.thread_us } else { RECONCILE_US };
        self.after(at, wait, Job::Role);
    }

    fn role_report(&mut self, at: usize, order: u64, outcome: RoleOutcome) {
        let Some(agent) = &mut self.nodes[at].agent else { return };
        if agent.role_reported != order {
            agent.role_reported = order;
            self.post(at, Event::Role { order, outcome });
        }
    }

    /// Compares the order with the server and takes the first step that is missing.
    fn role_turn(&mut self, at: usize) {
        let (server, own) = (self.nodes[at].server.up, self.nodes[at].server.own);
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let role = agent.role.clone();
        if role.writes == Writes::Keep && role.receiver == Receiver::Keep {
            return;
        }
        if server != Health::Up {
            agent.role_busy = true;
            let wait = if server == Health::Hung { RECONCILE_US } else { self.set.thread_us };
            return self.after(at, wait, Job::RoleDone { order: role.order });
        }
        let have = &self.nodes[at].server;
        let Some(agent) = &self.nodes[at].agent else { return };
        let target = role.recover_to.as_ref().and_then(|history| history.last(&(at + 1).to_string())).unwrap_or(0);
        let rested = self.nodes[at].clock.now(self.now) / 1000 - agent.role_restarted_ms >= RESTART_MS;
        let act = match (role.writes, role.receiver) {
            (Writes::Closed, _) if !have.read_only => Some(Sql::Close),
            (Writes::Closed, _) if have.semi_sync => Some(Sql::SemiSync(false)),
            (Writes::Open, _) if have.read_only && agent.role_opened != role.order => Some(Sql::KillSessions),
            (Writes::Open, _) if !have.read_only && have.semi_sync != role.semi_sync => Some(Sql::SemiSync(role.semi_sync)),
            (_, Receiver::On | Receiver::Restart | Receiver::Recover) if !have.receiver => Some(Sql::Receiver(true)),
            (_, Receiver::Off) if have.receiver => Some(Sql::Receiver(false)),
            (_, Receiver::Restart) if rested => Some(Sql::Restart),
            (_, Receiver::Recover) if own < target => Some(Sql::Recover { target }),
            _ => None,
        };
        self.role_step(at, &role, act);
    }

    fn role_step(&mut self, at: usize, role: &Order, act: Option<Sql>) {
        let (closed, semi) = (self.nodes[at].server.read_only, self.nodes[at].server.semi_sync);
        let history = self.nodes[at].server.history(at);
        let early = self.set.bugs.read_only_unconfirmed && act == Some(Sql::Close);
        if role.writes == Writes::Closed && (closed && !semi || early) {
            self.role_report(at, role.order, RoleOutcome::Closed(history));
        } else if role.writes == Writes::Open && !closed {
            if let Some(agent) = &mut self.nodes[at].agent {
                agent.role_opened = role.order;
            }
            self.role_report(at, role.order, RoleOutcome::Opened);
        } else if role.writes == Writes::Open && act != Some(Sql::KillSessions) {
            self.post(at, Event::Role { order: role.order, outcome: RoleOutcome::FoundClosed });
        }
        let Some(act) = act else {
            let met = self.nodes[at].agent.as_ref().is_some_and(|agent| agent.role_met.as_ref() == Some(&agent.role));
            return self.after(at, if met { AT_REST_US } else { RECONCILE_US }, Job::Role);
        };
        let local_ms = self.local_ms(at);
        let Some(agent) = &mut self.nodes[at].agent else { return };
        agent.role_busy = true;
        if act == Sql::Restart {
            agent.role_restarted_ms = local_ms;
        }
        let number = self.nodes[at].server.number;
        let wait = 50 + self.chance.between(0, self.nodes[at].server.slow_us);
        self.queue.push(self.now + wait, at, 0, Job::Sql { act, server: number });
        let done = match act {
            Sql::KillSessions => Job::RoleChecked { order: role.order },
            _ => Job::RoleDone { order: role.order },
        };
        let more = self.chance.between(0, self.nodes[at].server.slow_us);
        self.after(at, wait + 60 + more, done);
    }
}
