//! The modelled etcd: one key, its leases, its clock and its raft term. A leader that has been deposed and does not know it yet goes on
//! answering renewals, without effect.

use mmha::core::event::Ms;

use crate::node::Clock;
use crate::queue::Us;

pub type Lease = u32;

/// One question to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Revoke(Lease),
    KeepAlive(Lease),
    Read,
    Grant,
    Take(Lease),
}

#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Revoked,
    /// The lease has ended.
    Gone,
    Alive {
        term: u64,
    },
    /// Under which lease the key is, and whose that is.
    Key {
        held: Option<(Lease, usize)>,
        term: u64,
    },
    Granted(Lease),
}

pub struct Etcd {
    clock: Clock,
    pub ttl_us: Us,
    pub up: bool,
    pub down_at: Us,
    pub slow: bool,
    pub term: u64,
    /// Each with its owner and its end by the arbiter's clock.
    leases: Vec<(Lease, usize, Us)>,
    key: Option<Lease>,
    last: Lease,
    pub cut: [bool; 2],
    /// The member that this node's renewals reach has been deposed in this term and does not know it yet.
    pub deposed: [Option<u64>; 2],
}

impl Etcd {
    pub fn new(ttl_ms: Ms, rate: u64) -> Etcd {
        Etcd {
            clock: Clock::new(0, 0, rate),
            ttl_us: ttl_ms * 1000,
            up: true,
            down_at: 0,
            slow: false,
            term: 2,
            leases: Vec::new(),
            key: None,
            last: 0,
            cut: [false; 2],
            deposed: [None; 2],
        }
    }

    /// A new leader gives every lease that had not ended its whole length again.
    pub fn elect(&mut self, now: Us, ended_by: Us) {
        self.term += 1;
        let (now, ended_by) = (self.clock.now(now), self.clock.now(ended_by));
        self.leases.retain(|(_, _, ends)| *ends > ended_by);
        self.leases.iter_mut().for_each(|(_, _, ends)| *ends = now + self.ttl_us);
    }

    pub fn carry_out(&mut self, at: usize, ask: Ask, late: Us, now: Us) -> Answer {
        let now = self.clock.now(now);
        self.leases.retain(|(_, _, ends)| *ends > now);
        if let (Ask::KeepAlive(_), Some(term)) = (ask, self.deposed[at]) {
            return Answer::Alive { term };
        }
        let owner = |lease: Lease| self.leases.iter().find(|(id, _, _)| *id == lease).map(|(_, owner, _)| (lease, *owner));
        let held = self.key.and_then(owner);
        match ask {
            Ask::Revoke(lease) => {
                self.leases.retain(|(id, _, _)| *id != lease);
                Answer::Revoked
            }
            Ask::KeepAlive(lease) => match self.leases.iter_mut().find(|(id, _, _)| *id == lease) {
                None => Answer::Gone,
                Some(found) => {
                    found.2 = now + self.ttl_us + late;
                    Answer::Alive { term: self.term }
                }
            },
            Ask::Read => Answer::Key { held, term: self.term },
            Ask::Grant => {
                // Only a member with a majority can; whoever has found one asks it first from now on.
                self.deposed[at] = None;
                self.last += 1;
                self.leases.push((self.last, at, now + self.ttl_us + late));
                Answer::Granted(self.last)
            }
            Ask::Take(lease) => {
                let mine = owner(lease);
                if held.is_none() && mine.is_some() {
                    self.key = Some(lease);
                }
                Answer::Key { held: held.or(mine), term: self.term }
            }
        }
    }
}
