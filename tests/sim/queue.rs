//! What happens next: jobs in the order of their time. Time jumps from one to the next; nothing is polled. What happens often and of which a
//! node has one at a time has a lane of its own, as a look at all lanes is cheaper than a heap.

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

/// Lanes of one node.
const LANES: usize = 10;
/// In the first of them the job that was put there last counts: what it replaces would find that it is not wanted any more.
const REPLACED: usize = 3;
const ROLE: usize = 3;

fn lane(job: Job) -> Option<usize> {
    match job {
        Job::Tick => Some(0),
        Job::Turn => Some(1),
        Job::Look => Some(2),
        Job::Role => Some(ROLE),
        Job::Looked { .. } => Some(4),
        Job::Ping => Some(5),
        Job::Write { .. } => Some(6),
        Job::Stream => Some(7),
        Job::Ack => Some(8),
        Job::Apply => Some(9),
        _ => None,
    }
}

pub struct Queue {
    heap: BinaryHeap<Due>,
    number: u64,
    /// When the job in each lane is due; `Us::MAX`: the lane is empty.
    times: [Us; 2 * LANES],
    lanes: [Option<Due>; 2 * LANES],
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { heap: BinaryHeap::new(), number: 0, times: [Us::MAX; 2 * LANES], lanes: [None; 2 * LANES] }
    }
}

impl Queue {
    pub fn push(&mut self, at: Us, node: usize, life: u32, job: Job) {
        self.number += 1;
        let due = Due { at, number: self.number, node, life, job };
        let Some(lane) = lane(job) else { return self.heap.push(due) };
        let place = node * LANES + lane;
        match &self.lanes[place] {
            Some(_) if lane < REPLACED => {}
            // One turn of the role's thread at a time, as soon as anybody wants it.
            Some(before) if lane == ROLE && before.life == life && before.at <= at => return,
            Some(_) if lane == ROLE => {}
            Some(_) => return self.heap.push(due),
            None => {}
        }
        (self.times[place], self.lanes[place]) = (at, Some(due));
    }

    /// The next job, if it is due by then.
    pub fn pop(&mut self, by: Us) -> Option<Due> {
        let (mut place, mut at) = (0, Us::MAX);
        for (lane, time) in self.times.iter().enumerate() {
            if *time < at {
                (place, at) = (lane, *time);
            }
        }
        let of_heap = self.heap.peek().map_or(Us::MAX, |due| due.at);
        if at.min(of_heap) > by {
            return None;
        }
        if of_heap < at {
            return self.heap.pop();
        }
        self.times[place] = Us::MAX;
        self.lanes[place].take()
    }
}
