//! The agent's other threads: the observer of its server, the LAN's watcher, the store of the epoch file and the look at the peer's server. Each does one thing at a time, takes a while over it, and may be cut short between its steps.

use std::sync::Arc;

use mmha::core::event::{Event, RemoteSeen, Sample, ServerSeen, StoreSeen};
use mmha::core::want::{Announce, Remote};

use crate::node::Health;
use crate::queue::{Job, Us};
use crate::world::World;

const WATCHING_US: Us = 5_000;
const ABSENT_US: Us = 100_000;
const HANG_US: Us = 1_000_000;
const PING_US: Us = 375_000;
const PROBE_US: Us = 50_000;
const RETRY_US: Us = 1_000_000;
const REMOTE_US: Us = 500_000;
const CONNECT_US: Us = 450_000;
/// After the first, an address is announced again so long afterwards.
const ANNOUNCE_US: [Us; 4] = [0, 100_000, 1_000_000, 3_000_000];
pub const ANNOUNCE_AGAIN_US: Us = 5_000_000;
const ANNOUNCE_SELDOM_US: Us = 300_000_000;
const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

impl World {
    // The observer.

    pub fn look_soon(&mut self, at: usize) {
        self.look_in(at, self.set.thread_us);
    }

    fn look_in(&mut self, at: usize, local: Us) {
        let when = self.now + self.nodes[at].clock.stretch(local);
        let life = self.nodes[at].life;
        if let Some(agent) = &mut self.nodes[at].agent
            && when < agent.look_at
        {
            agent.look_at = when;
            self.queue.push(when, at, life, Job::Look);
        }
    }

    pub fn observe(&mut self, at: usize, job: Job) {
        let now = self.now;
        match job {
            Job::Look => {
                let Some(agent) = self.nodes[at].agent.as_mut().filter(|agent| agent.look_at == now) else { return };
                // Busy until the look is over.
                agent.look_at = 0;
                let taken_ms = self.local_ms(at);
                let slow = self.nodes[at].server.slow_us;
                match self.nodes[at].server.up {
                    Health::Hung => self.after(at, HANG_US, Job::Hangs { taken_ms }),
                    Health::Up if slow > 0 => {
                        let (wait, early) = (self.chance.below(slow), self.chance.below(2) == 0);
                        // Half of them see how it was at first, half how it is in the end.
                        self.note_early_look(at, early);
                        self.after(at, wait, Job::Looked { taken_ms, early });
                    }
                    Health::Up | Health::Dead => self.looked(at, taken_ms, false),
                }
            }
            Job::Looked { taken_ms, early } => self.looked(at, taken_ms, early),
            Job::Hangs { taken_ms } if self.nodes[at].server.up == Health::Hung => {
                let _ = taken_ms;
                self.seen(at, ServerSeen::Hung);
                self.look_again(at, ABSENT_US);
            }
            Job::Hangs { taken_ms } => self.looked(at, taken_ms, false),
            _ => self.seen(at, ServerSeen::Dead),
        }
    }

    fn note_early_look(&mut self, at: usize, early: bool) {
        let sample = early.then(|| self.sample(at, 0));
        self.watch.early[at] = sample;
    }

    fn sample(&mut self, at: usize, taken_ms: u64) -> Sample {
        let (connected, followed) = (self.streams[at].replica_sees, self.streams[1 - at].source_sees);
        self.nodes[at].server.sample(at, taken_ms, connected, followed)
    }

    fn looked(&mut self, at: usize, taken_ms: u64, early: bool) {
        let up = self.nodes[at].server.up == Health::Up;
        let seen = match (up, if early { self.watch.early[at].take() } else { None }) {
            (false, _) => ServerSeen::Dead,
            (true, Some(sample)) => ServerSeen::Ok(Arc::new(Sample { taken_ms, ..sample })),
            (true, None) => ServerSeen::Ok(Arc::new(self.sample(at, taken_ms))),
        };
        self.seen(at, seen);
        let watch = self.nodes[at].agent.as_ref().is_some_and(|agent| agent.watch);
        let pause = match (up, watch) {
            (false, _) => ABSENT_US,
            (true, true) => WATCHING_US,
            // As in `daemon/threads.rs`.
            (true, false) => (self.set.limits.deadtime / 4).clamp(100, 500) * 1000,
        };
        self.look_again(at, pause);
    }

    fn seen(&mut self, at: usize, seen: ServerSeen) {
        self.seen_by_role(at, &seen);
        self.post(at, Event::Server(seen));
    }

    fn look_again(&mut self, at: usize, pause: Us) {
        if let Some(agent) = &mut self.nodes[at].agent {
            agent.look_at = Us::MAX;
        }
        self.look_in(at, pause);
    }

    // The LAN.

    pub fn lan(&mut self, at: usize, job: Job) {
        match job {
            Job::Carrier => {
                let carrier = self.nodes[at].carrier;
                self.post(at, Event::Link { carrier });
            }
            Job::Ping => {
                self.after(at, PING_US, Job::Ping);
                if self.gateway && self.nodes[at].on_lan() && !self.chance.per_mille(self.set.lan_lost) {
                    self.pinged(at);
                }
            }
            Job::Probe => self.probe(at),
            Job::Probed => self.post(at, Event::VipProbed),
            Job::Claimed => self.post(at, Event::VipClaimed { mac: MAC[1 - at] }),
            Job::Announce { round, since } => self.announce(at, round, since),
            _ => {}
        }
    }

    /// Noted at once while the network is in doubt.
    fn pinged(&mut self, at: usize) {
        let at_ms = self.local_ms(at);
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let lately = at_ms < std::mem::replace(&mut agent.pinged_ms, at_ms) + 2 * PING_US / 1000;
        match lately && !agent.probing {
            true => self.post_quietly(at, Event::PingAnswered { at_ms }),
            false => self.post(at, Event::PingAnswered { at_ms }),
        }
    }

    fn probe(&mut self, at: usize) {
        if !self.nodes[at].agent.as_ref().is_some_and(|agent| agent.probing) {
            return;
        }
        self.after(at, PROBE_US, Job::Probe);
        if !self.nodes[at].carrier {
            return;
        }
        let both = self.arp && self.nodes[0].on_lan() && self.nodes[1].on_lan();
        let answered = both && self.nodes[1 - at].has_vip(self.now) && !self.chance.per_mille(2 * self.set.lan_lost);
        if answered {
            let wait = self.set.delay_us[0] + self.chance.below(1_000.min(self.set.delay_us[1]) + 1);
            self.queue.push(self.now + wait, at, self.nodes[at].life, Job::Claimed);
        }
        if both && self.nodes[1 - at].runs() && !self.chance.per_mille(self.set.lan_lost) {
            self.queue.push(self.now + self.set.delay_us[0] + 20, 1 - at, self.nodes[1 - at].life, Job::Probed);
        }
        self.post(at, Event::ProbeSent);
    }

    fn announce(&mut self, at: usize, round: u8, since: Us) {
        let Some(agent) = &self.nodes[at].agent else { return };
        if agent.announced.is_none() || agent.announcing != since {
            return;
        }
        if agent.announced == Some(Announce::Seldom) && round >= 3 {
            return self.after(at, ANNOUNCE_SELDOM_US, Job::Announce { round, since });
        }
        let both = self.arp && self.nodes[0].on_lan() && self.nodes[1].on_lan();
        if both && self.nodes[1 - at].runs() && !self.chance.per_mille(self.set.lan_lost) {
            let wait = self.set.delay_us[0] + 50;
            self.queue.push(self.now + wait, 1 - at, self.nodes[1 - at].life, Job::Claimed);
        }
        let next = usize::from(round) + 1;
        let pause = ANNOUNCE_US.get(next).map_or(ANNOUNCE_AGAIN_US, |then| then - ANNOUNCE_US[next - 1]);
        self.after(at, pause, Job::Announce { round: round.saturating_add(1).min(5), since });
    }

    // The store.

    pub fn store(&mut self, at: usize, job: Job) {
        let (full, wait) = (self.nodes[at].disk_full, self.nodes[at].disk_us);
        let forgotten = self.set.bugs.epoch_not_saved;
        let Some(agent) = &mut self.nodes[at].agent else { return };
        match job {
            Job::Store if agent.store_busy => {}
            Job::Store => {
                let (saved, failed) = (self.nodes[at].record, agent.store_failed);
                let Some(record) = agent.save.filter(|record| *record != saved || failed) else { return };
                (agent.store_busy, agent.written) = (true, Some(record));
                let wait = self.chance.between(wait / 2, wait) + self.set.thread_us;
                self.after(at, wait, Job::Stored);
            }
            _ => {
                agent.store_busy = false;
                let Some(record) = agent.written.take() else { return };
                agent.store_failed = full;
                if full {
                    self.post(at, Event::Store(StoreSeen::Failed("disk full".into())));
                    return self.after(at, RETRY_US, Job::Store);
                }
                if !forgotten {
                    self.nodes[at].record = record;
                }
                self.post(at, Event::Store(StoreSeen::Saved(record)));
                let again = |agent: &crate::node::Agent| agent.save.is_some_and(|save| save != record);
                if self.nodes[at].agent.as_ref().is_some_and(again) {
                    self.soon(at, Job::Store);
                }
            }
        }
    }

    // The peer's server.

    fn peer_answers(&self, at: usize) -> bool {
        let both = self.nodes[0].on_lan() && self.nodes[1].on_lan();
        self.tcp && both && self.nodes[1 - at].runs()
    }

    pub fn remote(&mut self, at: usize, job: Job) {
        let (answers, peer) = (self.peer_answers(at), self.nodes[1 - at].server.up);
        let fence_skipped = self.set.bugs.fence_skipped;
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let (want, busy) = (agent.remote, agent.remote_busy);
        match job {
            Job::Remote if busy || want == Remote::No => {}
            Job::Remote if !answers => {
                agent.remote_busy = true;
                self.after(at, CONNECT_US, Job::RemoteDown { tries: 1 });
            }
            Job::RemoteDown { tries: 1 } if !answers => self.after(at, CONNECT_US, Job::RemoteDown { tries: 2 }),
            Job::RemoteDown { .. } if !answers => self.remote_end(at, RemoteSeen::Down),
            Job::Remote | Job::RemoteDown { .. } if peer == Health::Dead || fence_skipped => self.remote_end(at, RemoteSeen::Down),
            Job::Remote | Job::RemoteDown { .. } if want == Remote::Fence => {
                (agent.remote_busy, agent.fenced_at) = (true, None);
                self.post(at, Event::Remote(RemoteSeen::Up));
                let number = self.nodes[1 - at].server.number;
                let wait = 300 + self.chance.below(self.nodes[1 - at].server.slow_us + 1_000);
                self.queue.push(self.now + wait, 1 - at, 0, Job::FencedByPeer { server: number });
                let most = if peer == Health::Hung { 3_000_000 } else { wait + 500 };
                self.after(at, most, Job::RemoteDone);
            }
            Job::Remote | Job::RemoteDown { .. } => self.remote_end(at, RemoteSeen::Up),
            _ => {
                let fenced = agent.fenced_at.take().filter(|_| answers);
                let seen = fenced.map_or_else(|| RemoteSeen::Failed("no answer".into()), RemoteSeen::Fenced);
                self.remote_end(at, seen);
            }
        }
    }

    fn remote_end(&mut self, at: usize, seen: RemoteSeen) {
        if let Some(agent) = &mut self.nodes[at].agent {
            agent.remote_busy = false;
        }
        self.post(at, Event::Remote(seen));
        self.after(at, REMOTE_US, Job::Remote);
    }

    /// The statement of the peer's agent reaches this server.
    pub fn fenced_by_peer(&mut self, at: usize, server: u32) {
        let alive = self.nodes[at].server.up == Health::Up && self.nodes[at].server.number == server;
        if !alive || !self.peer_answers(1 - at) {
            return;
        }
        self.close(at);
        let history = self.nodes[at].server.history(at);
        if let Some(agent) = &mut self.nodes[1 - at].agent {
            agent.fenced_at = Some(history);
        }
    }
}
