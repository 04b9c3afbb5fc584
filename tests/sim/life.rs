//! How servers end and start again, and what their crash recovery keeps.

use mmha::core::fact::Fact;

use crate::node::Health;
use crate::queue::{Job, Us};
use crate::replication::CONNECT_US;
use crate::world::World;

/// How often a starting server asks whether its peer has taken over, and how long a peer that came up itself cannot have (`cmd/recovery.rs`).
const ASK_US: Us = 100_000;
const FRESH_US: Us = 10_000_000;
/// After a cut, its answer is waited for.
const AFTER_CUT_US: Us = 10_000_000;

impl World {
    pub fn end_server(&mut self, at: usize) {
        if self.nodes[at].server.up == Health::Dead {
            return;
        }
        self.nodes[at].server.end();
        self.disconnect(at, false);
        self.disconnect(1 - at, true);
        if self.nodes[at].powered {
            let wait = self.chance.between(20, 800);
            self.after(at, wait, Job::Died);
        }
    }

    pub fn start_server_in(&mut self, at: usize, wait: Us) {
        let number = self.nodes[at].server.number;
        self.push_server(at, wait, Job::ServerUp { server: number });
    }

    pub fn server_up(&mut self, at: usize, number: u32) {
        let server = &self.nodes[at].server;
        if server.up != Health::Dead || server.number != number {
            return;
        }
        let Some(taken) = self.peer_has_taken_over(at) else {
            return self.push_server(at, ASK_US, Job::ServerUp { server: number });
        };
        let now = self.now;
        let server = &mut self.nodes[at].server;
        if taken {
            server.own = server.committed;
        } else {
            server.committed = server.own;
        }
        (server.up, server.up_since, server.number) = (Health::Up, now, number + 1);
        (server.asks_until, server.was_cut_off) = (None, false);
        self.keep_connecting(1 - at, CONNECT_US);
    }

    /// What crash recovery is told (`mmha recovery`): a peer that serves does without what it never acknowledged. `None`: it may be about to.
    fn peer_has_taken_over(&mut self, at: usize) -> Option<bool> {
        let deadtime_us = self.set.limits.deadtime * 1000;
        let (now, asked) = (self.now, self.wire());
        let peer = &self.nodes[1 - at].server;
        let (answers, open, fresh) = (asked && peer.up == Health::Up, !peer.read_only, now < peer.up_since + FRESH_US);
        let node = &mut self.nodes[at];
        if node.agent.as_ref().is_some_and(|agent| agent.core.view().has(Fact::Cut)) {
            node.server.was_cut_off = true;
            return None;
        }
        let patient = node.server.was_cut_off;
        let patience_us = if patient { AFTER_CUT_US } else { 2 * deadtime_us };
        let late = now >= *node.server.asks_until.get_or_insert(now + patience_us);
        match answers {
            true if open || fresh || late || node.agent.is_some() && !patient => Some(open),
            false if late || !patient => Some(false),
            _ => None,
        }
    }

    /// A hung server goes on where it was.
    pub fn unhang(&mut self, at: usize) {
        if self.nodes[at].server.up == Health::Hung {
            self.nodes[at].server.up = Health::Up;
        }
    }
}
