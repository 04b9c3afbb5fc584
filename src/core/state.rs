//! The states of one node, and how long it may stay in those that wait for something.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Just started; holds nothing, promises nothing.
    Boot,
    /// Holds nothing; follows the peer's writer or waits for an agreement.
    Standby,
    /// Gathering the proof that a claim is safe; still holds nothing.
    Gate,
    /// Claimed: the server is being opened for writes.
    Open,
    /// The server is open; the address is being added.
    Address,
    /// Serving.
    Active,
    /// Handover: the server is being closed, behind an open gate; rollback is free.
    Fence,
    /// Handover: closed at a known position; the peer applies the rest, then the gate is shut; rollback is free.
    Drain,
    /// Handover: granted to the peer; no way back by timeout (SAFETY A3).
    Granted,
    /// Letting go of everything, in any order that works.
    Release,
    /// Cut off from peer and ping targets.
    Isolated,
    /// Own server dead, hung or refusing.
    Failed,
    /// Has transactions of its own that the writer lacks.
    Quarantined,
    /// Leaving for good.
    Stopping,
    /// Nothing held; the process may end.
    Stopped,
}

impl State {
    pub const ALL: [State; 15] = [
        State::Boot,
        State::Standby,
        State::Gate,
        State::Open,
        State::Address,
        State::Active,
        State::Fence,
        State::Drain,
        State::Granted,
        State::Release,
        State::Isolated,
        State::Failed,
        State::Quarantined,
        State::Stopping,
        State::Stopped,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::Boot => "boot",
            State::Standby => "standby",
            State::Gate => "gate",
            State::Open => "open",
            State::Address => "address",
            State::Active => "active",
            State::Fence => "fence",
            State::Drain => "drain",
            State::Granted => "granted",
            State::Release => "release",
            State::Isolated => "isolated",
            State::Failed => "failed",
            State::Quarantined => "quarantined",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }

    /// Claimed and not yet let go: a newer claim elsewhere must make this node yield.
    pub fn holds(self) -> bool {
        matches!(self, State::Open | State::Address | State::Active | State::Fence | State::Drain)
    }

    /// On its way out: the peer is the one to take over.
    pub fn yields(self) -> bool {
        matches!(self, State::Fence | State::Drain | State::Granted | State::Release | State::Stopping | State::Stopped)
    }

    /// Milliseconds after which `TimeOver` holds. Fence, drain and open stay below 10 s together (SAFETY B12).
    pub fn bound_ms(self, deadtime_ms: u64) -> u64 {
        match self {
            State::Fence | State::Drain | State::Open | State::Release | State::Stopping => 3_000,
            State::Address => 2_000,
            State::Granted => deadtime_ms,
            State::Boot
            | State::Standby
            | State::Gate
            | State::Active
            | State::Isolated
            | State::Failed
            | State::Quarantined
            | State::Stopped => u64::MAX,
        }
    }
}
