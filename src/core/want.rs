//! What must hold now. Level-triggered: actuators compare it with what is and act on the difference, so repeating it is safe.

use std::sync::Arc;

use super::beat::Beat;
use super::event::{Ms, Record};
use super::history::History;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Yes,
    No,
    /// Neither renew nor remove (at start, before adoption is decided).
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    Open,
    Closed,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    On,
    /// On, and connected anew: it brings nothing although the writer is ahead.
    Restart,
    /// On, and fetch back the own transactions this server has lost.
    Recover,
    Off,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    No,
    /// See whether its server port answers.
    Look,
    /// ... and if it does, close it for writes.
    Fence,
}

/// How the neighbours are told that the address is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// The peer is in sight: regularly, beginning when it comes into sight. Until then it may have told them otherwise.
    InSight,
    /// It has not been in sight since the address came: regularly.
    Alone,
    /// It has gone out of sight since: it may have taken over unseen, and then its announcements are the right ones. After the first second
    /// they are rare, and nobody is contradicted; yet it may have taken over and died, and a router believes for hours what it was told last.
    Seldom,
}

/// The arbiter's lease: have it, give it back, or (`Keep`) renew what there is and take nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArbiterOrder {
    pub hold: Hold,
    /// Grows whenever the lease is wanted again after it was to be given back: what was seen before does not count.
    pub turn: u64,
    /// Written beside this node's name, for people.
    pub epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Grows with every change of state: outcomes of older orders do not count.
    pub order: u64,
    pub vip: Hold,
    /// `None`: it is not here, or is to go.
    pub announce: Option<Announce>,
    pub gate: Hold,
    pub writes: Writes,
    pub receiver: Receiver,
    /// What `Receiver::Recover` has to reach in the own history.
    pub recover_to: Option<History>,
    pub semi_sync: bool,
    /// Do not open a server that has received what it has not applied: something may have come since the look on which the claim rests.
    pub applied_first: bool,
    /// Commits that wait here can get no acknowledgement. Closing the server must not end their sessions, which would commit them here alone:
    /// it stops at the first of them and says `RoleOutcome::Waiting`.
    pub spare_waiting: bool,
    /// Kill the own server: it hangs, or holds commits that nobody will acknowledge.
    pub kill_server: bool,
    /// Send ARP probes for the VIP.
    pub probe: bool,
    pub remote: Remote,
    /// Run the operator's fencing command, again and again until it succeeds.
    pub fence: bool,
    /// Look at the own server as often as possible.
    pub watch: bool,
    /// What must be on disk; `None` until the file has been read, so that a damaged one is never overwritten.
    pub save: Option<Record>,
    /// Own transactions that the leader lacks, to be written to a file; empty when there are none.
    pub extra: History,
    /// What of them may flow to the leader, to be on disk; `None` until it has been read from there.
    pub merge: Option<History>,
    pub arbiter: ArbiterOrder,
    /// Neither lease is renewed after this instant, whatever has become of the thread that would say so. `Ms::MAX`: no such limit.
    pub hold_until_ms: Ms,
    pub say: Arc<Beat>,
    /// The process may end.
    pub exit: bool,
}
