//! What happens next: jobs in the order of their time. Time jumps from one to the next; nothing is polled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::etcd::Ask;

/// Microseconds of the world's own time, which no node sees.
pub type Us = u64;

/// What is to happen at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    // The agent's: they end with it, and wait while it is frozen.
    Tick,
    Turn,
    Look,
    Looked { taken_ms: u64, early: bool },
    Hangs { taken_ms: u64 },
    Died,
    Carrier,
    Ping,
    Probe,
    Claimed,
    Probed,
    Announce { round: u8, since: Us },
    Role,
    RoleChecked { order: u64 },
    RoleDone { order: u64 },
    Store,
    Stored,
    Remote,
    RemoteDown { tries: u8 },
    RemoteDone,
    Unstick,
    // Of its arbiter's thread.
    Keep { number: u32 },
    Answered { question: u32 },
    GivenUp { question: u32 },
    Farewell,
    StartAgent,
    // The network's and the arbiter's.
    Asked { ask: Ask, question: u32 },
    Datagram { slot: u32 },
    // The kernel's and the server's: they go on without the agent.
    Sql { act: Sql, server: u32 },
    FencedByPeer { server: u32 },
    ServerUp { server: u32 },
    Write { server: u32 },
    Stream,
    Ack,
    Apply,
    Connect,
    Unhears { link: u32 },
}

/// What a server is told to do, one statement or conversation each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sql {
    Close,
    KillSessions,
    Open,
    SemiSync(bool),
    Receiver(bool),
    Restart,
    Recover { target: u64 },
}

impl Job {
    /// Done by the agent's own threads.
    pub fn of_agent(self) -> bool {
        !matches!(
            self,
            Job::Datagram { .. }
                | Job::Asked { .. }
                | Job::Sql { .. }
                | Job::FencedByPeer { .. }
                | Job::ServerUp { .. }
                | Job::Write { .. }
                | Job::Stream
                | Job::Ack
                | Job::Apply
                | Job::Connect
                | Job::Unhears { .. }
        )
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Due {
    pub at: Us,
    number: u64,
    pub node: usize,
    /// Of the agent (or box) it was meant for: a later one does not do it.
    pub life: u32,
    pub job: Job,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.number == other.number
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// The heap gives the greatest first: the earliest is the greatest.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Due>,
    number: u64,
}

impl Queue {
    pub fn push(&mut self, at: Us, node: usize, life: u32, job: Job) {
        self.number += 1;
        self.heap.push(Due { at, number: self.number, node, life, job });
    }

    /// The next job, if it is due by then.
    pub fn pop(&mut self, by: Us) -> Option<Due> {
        if self.heap.peek()?.at > by { None } else { self.heap.pop() }
    }
}
