//! What servers do: clients' writes, statements of agents, replication with semi-sync. A transaction is a number.

use mmha::core::event::{Event, RoleOutcome};
use mmha::core::want::Writes;

use crate::node::Health;
use crate::queue::{Job, Sql, Us};
use crate::world::World;

/// Clients that wait for the acknowledgement of a commit and send nothing else meanwhile.
const CLIENTS: u64 = 3;
/// A receiver that hears nothing gives its connection up after this (SAFETY B17), and tries to connect again so often.
const NET_TIMEOUT_US: Us = 10_000_000;
pub const CONNECT_US: Us = 1_000_000;
/// TCP repeats what was lost.
const REPEAT_US: Us = 200_000;

/// Replication to one node, as both ends see it: a connection that was cut is believed in for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stream {
    pub replica_sees: bool,
    pub source_sees: bool,
    /// Grows with every connection.
    pub number: u32,
    connecting: bool,
    sending: bool,
    acking: bool,
    cut: bool,
}

impl World {
    /// Packets between the two servers get through.
    pub fn wire(&self) -> bool {
        self.tcp && self.nodes.iter().all(|node| node.on_lan() && node.runs())
    }

    /// Rows flow to node `to`, and acknowledgements back.
    pub fn flows(&self, to: usize) -> bool {
        let (replica, source) = (&self.nodes[to].server, &self.nodes[1 - to].server);
        let stream = &self.streams[to];
        let both_up = replica.up == Health::Up && source.up == Health::Up;
        both_up && stream.replica_sees && stream.source_sees && replica.receiver && !replica.stalled && self.wire()
    }

    /// Clients on the LAN reach this node's server, on whatever address.
    pub fn reachable(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.server.up == Health::Up && node.runs() && node.on_lan() && node.gate_open(self.now)
    }

    fn waits(&self, at: usize) -> bool {
        self.nodes[at].server.semi_sync && !self.set.bugs.commits_do_not_wait
    }

    /// Whether a client could be told "committed" by this node now.
    pub fn can_acknowledge(&self, at: usize) -> bool {
        self.reachable(at) && !self.nodes[at].server.read_only && (!self.waits(at) || self.flows(1 - at))
    }

    pub fn push_server(&mut self, at: usize, wait: Us, job: Job) {
        self.queue.push(self.now + wait, at, 0, job);
    }

    pub fn write(&mut self, at: usize, number: u32) {
        if number != self.nodes[at].server.number {
            return;
        }
        if self.nodes[at].server.read_only {
            self.nodes[at].server.writing = false;
            return;
        }
        self.write_later(at);
        let open = self.reachable(at);
        let server = &mut self.nodes[at].server;
        if !open || server.own - server.committed >= CLIENTS {
            return;
        }
        server.own += 1;
        let given_up = self.set.bugs.semi_sync_times_out && !self.flows(1 - at);
        if !self.waits(at) || given_up {
            self.commit(at, self.nodes[at].server.own);
        }
        self.send_rows(1 - at, self.set.delay_us[0]);
    }

    /// Clients try again and again while the server is open.
    fn write_later(&mut self, at: usize) {
        let wait = self.set.write_us / 2 + self.chance.below(self.set.write_us + 1);
        let number = self.nodes[at].server.number;
        self.push_server(at, wait, Job::Write { server: number });
    }

    /// Up to here nobody waits any more; clients that can be reached are told.
    fn commit(&mut self, at: usize, up_to: u64) {
        let server = &mut self.nodes[at].server;
        server.committed = server.committed.max(up_to.min(server.own));
        if self.reachable(at) {
            let committed = self.nodes[at].server.committed;
            if committed > self.watch.acknowledged[at] {
                self.watch.acknowledged[at] = committed;
                self.watch.writes += 1;
            }
        }
    }

    pub fn send_rows(&mut self, to: usize, wait: Us) {
        if !std::mem::replace(&mut self.streams[to].sending, true) {
            self.queue.push(self.now + wait, to, 0, Job::Stream);
        }
    }

    pub fn replicate(&mut self, at: usize, job: Job) {
        match job {
            Job::Stream => self.rows_arrive(at),
            Job::Ack => {
                self.streams[1 - at].acking = false;
                if self.waits(at) && self.flows(1 - at) {
                    self.commit(at, self.nodes[1 - at].server.received);
                }
            }
            Job::Apply => {
                let server = &mut self.nodes[at].server;
                server.applying = false;
                if server.up == Health::Up {
                    server.applied = server.received;
                } else if server.up == Health::Hung {
                    self.apply_in(at, 100_000);
                }
            }
            Job::Connect => self.connect(at),
            Job::Unhears { link } if link == self.streams[at].number && !self.flows(at) => {
                self.streams[at].replica_sees = false;
                self.keep_connecting(at, CONNECT_US);
            }
            _ => {}
        }
    }

    fn rows_arrive(&mut self, at: usize) {
        self.streams[at].sending = false;
        let source = self.nodes[1 - at].server.own;
        if !self.streams[at].replica_sees || !self.streams[at].source_sees {
            return;
        }
        if !self.flows(at) {
            let hung = self.nodes[at].server.up == Health::Hung || self.nodes[1 - at].server.up == Health::Hung;
            let wait = if hung { 1_000_000 } else { REPEAT_US };
            return self.send_rows(at, wait);
        }
        self.nodes[at].server.received = source.max(self.nodes[at].server.received);
        if self.waits(1 - at) && !std::mem::replace(&mut self.streams[at].acking, true) {
            self.queue.push(self.now + self.set.delay_us[0], 1 - at, 0, Job::Ack);
        }
        let lag = self.nodes[at].server.lag_us;
        let wait = if lag == 0 { 0 } else { self.chance.between(lag / 2, lag) };
        self.apply_in(at, wait);
    }

    fn apply_in(&mut self, at: usize, wait: Us) {
        let server = &mut self.nodes[at].server;
        if wait == 0 {
            server.applied = server.received;
        } else if !std::mem::replace(&mut server.applying, true) {
            self.push_server(at, wait, Job::Apply);
        }
    }

    pub fn keep_connecting(&mut self, to: usize, wait: Us) {
        if !std::mem::replace(&mut self.streams[to].connecting, true) {
            let wait = wait / 10 + self.chance.below(wait + 1);
            self.push_server(to, wait, Job::Connect);
        }
    }

    fn connect(&mut self, to: usize) {
        self.streams[to].connecting = false;
        let replica = &self.nodes[to].server;
        if replica.up != Health::Up || !replica.receiver || self.streams[to].replica_sees && self.streams[to].source_sees {
            return;
        }
        if self.wire() && self.nodes[1 - to].server.up == Health::Up {
            let stream = &mut self.streams[to];
            (stream.replica_sees, stream.source_sees, stream.cut) = (true, true, false);
            stream.number += 1;
            // Started again by GTID: what was received and is not applied is fetched again.
            self.send_rows(to, self.set.delay_us[0]);
        } else {
            self.keep_connecting(to, CONNECT_US);
        }
    }

    /// One end is gone; the other learns it at once if packets get through, and by its timeout if not.
    pub fn disconnect(&mut self, to: usize, by_source: bool) {
        let wire = self.wire();
        let stream = &mut self.streams[to];
        if by_source || wire {
            stream.source_sees = false;
        }
        if !by_source || wire {
            stream.replica_sees = false;
        }
        stream.number += 1;
        let number = stream.number;
        if stream.replica_sees {
            self.push_server(to, NET_TIMEOUT_US, Job::Unhears { link: number });
        } else {
            self.keep_connecting(to, CONNECT_US);
        }
    }

    /// The power is gone: nothing of what was under way at this node comes.
    pub fn unplug(&mut self, at: usize) {
        (self.streams[at].connecting, self.streams[at].sending, self.streams[1 - at].acking) = (false, false, false);
    }

    /// After every change of the network: a receiver that hears nothing will give up in time, and a dead source shows once packets pass.
    pub fn network_changed(&mut self) {
        let wire = self.wire();
        for to in 0..2 {
            let stream = &mut self.streams[to];
            if stream.source_sees && !stream.replica_sees && wire {
                stream.source_sees = false;
            }
            if stream.replica_sees && !stream.source_sees && wire {
                stream.replica_sees = false;
                self.keep_connecting(to, CONNECT_US);
            } else if stream.replica_sees && !wire && !std::mem::replace(&mut stream.cut, true) {
                let link = stream.number;
                self.push_server(to, NET_TIMEOUT_US, Job::Unhears { link });
            } else if stream.replica_sees && wire {
                stream.cut = false;
                stream.number += 1;
            }
        }
    }

    // Statements.

    pub fn close(&mut self, at: usize) {
        let server = &mut self.nodes[at].server;
        (server.read_only, server.semi_sync) = (true, false);
        // The sessions that waited are gone; what they wrote stays, and no client was told.
        server.committed = server.own;
    }

    pub fn sql(&mut self, at: usize, act: Sql, number: u32) {
        if self.nodes[at].server.up != Health::Up || self.nodes[at].server.number != number {
            return;
        }
        match act {
            Sql::Close if self.spared(at) => {
                if let Some(agent) = &mut self.nodes[at].agent {
                    agent.met_waiting = true;
                }
            }
            Sql::Close => {
                self.close(at);
                let history = self.nodes[at].server.history(at);
                if let Some(agent) = &mut self.nodes[at].agent {
                    agent.closed_at = Some(history);
                }
            }
            Sql::KillSessions => {
                let server = &mut self.nodes[at].server;
                server.committed = server.own;
                if let Some(agent) = &self.nodes[at].agent {
                    self.nodes[at].server.semi_sync = agent.role.semi_sync;
                }
            }
            Sql::Open => self.open(at),
            Sql::SemiSync(on) => {
                self.nodes[at].server.semi_sync = on;
                if !on {
                    self.commit(at, self.nodes[at].server.own);
                }
            }
            Sql::Receiver(true) => {
                self.nodes[at].server.receiver = true;
                self.keep_connecting(at, 2_000);
                self.reconnected(at);
            }
            Sql::Receiver(false) => self.stop_receiver(at),
            Sql::Restart => {
                self.stop_receiver(at);
                (self.nodes[at].server.receiver, self.nodes[at].server.stalled) = (true, false);
                self.keep_connecting(at, 2_000);
                self.reconnected(at);
            }
            Sql::Recover { target } => self.recover(at, target),
        }
    }

    /// Commits wait in it that the agent does not want ended.
    fn spared(&self, at: usize) -> bool {
        let server = &self.nodes[at].server;
        server.own > server.committed && self.nodes[at].agent.as_ref().is_some_and(|agent| agent.role.spare_waiting)
    }

    fn reconnected(&mut self, at: usize) {
        if let Some(order) = self.nodes[at].agent.as_ref().map(|agent| agent.role.order) {
            self.post(at, Event::Role { order, outcome: RoleOutcome::Reconnected });
        }
    }

    fn open(&mut self, at: usize) {
        let applied_first = self.nodes[at].agent.as_ref().is_some_and(|agent| agent.role.applied_first);
        let server = &mut self.nodes[at].server;
        let unapplied = server.received - server.applied;
        if applied_first && unapplied > 0 && !self.set.bugs.opened_unapplied {
            return; // the role thread has looked a moment ago; here the look and the statement are one
        }
        server.read_only = false;
        // A statement may have been on its way when the box fell asleep: it opens the server behind a gate that has ended, and is taken back at once.
        let wanted = self.nodes[at].agent.as_ref().is_none_or(|agent| agent.role.writes != Writes::Closed);
        if unapplied > 0 && (wanted || self.nodes[at].gate_open(self.now)) && !self.nodes[at].forced {
            self.watch.fail(format!("db-0{} opens with {unapplied} received transactions unapplied", at + 1));
        }
        if let Some(agent) = &mut self.nodes[at].agent {
            agent.role_opened = agent.role.order;
        }
        if !std::mem::replace(&mut self.nodes[at].server.writing, true) {
            self.write_later(at);
        }
    }

    fn stop_receiver(&mut self, at: usize) {
        self.nodes[at].server.receiver = false;
        if self.set.bugs.relay_log_discarded {
            self.nodes[at].server.received = self.nodes[at].server.applied;
        }
        self.disconnect(at, false);
    }

    /// Its own history comes back from the peer's binlog, where everything that the peer has applied stands.
    fn recover(&mut self, at: usize, target: u64) {
        let there = self.nodes[1 - at].server.applied.min(target);
        if self.flows(at) && !self.nodes[at].no_recover {
            let server = &mut self.nodes[at].server;
            server.own = server.own.max(there);
            server.committed = server.committed.max(server.own);
        }
    }
}
