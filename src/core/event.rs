//! Everything that may tell the core something. Observers and actuators report; nobody but the core concludes.

use std::sync::Arc;

use super::beat::Beat;
use super::history::History;
use super::key::ServerKey;

/// Milliseconds of CLOCK_BOOTTIME (the simulator's own clock in tests).
pub type Ms = u64;

#[derive(Debug, Clone)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The link thread stood still for so long and has dropped the leases already.
    Woke {
        gap_ms: Ms,
    },
    /// A verified datagram of the peer's current session.
    Beat(Box<Heard>),
    /// The interface of the VIP.
    Link {
        carrier: bool,
    },
    /// A ping target answered, then.
    PingAnswered {
        at_ms: Ms,
    },
    /// An ARP packet with the VIP as sender from a foreign MAC.
    VipClaimed {
        mac: [u8; 6],
    },
    /// Another host asks who has the VIP before it takes it: the peer, as a rule.
    VipProbed,
    /// An ARP probe for the VIP went out.
    ProbeSent,
    Lease(LeaseSeen),
    Server(ServerSeen),
    Role {
        order: u64,
        outcome: RoleOutcome,
    },
    Remote(RemoteSeen),
    Store(StoreSeen),
    /// `turn`: of the order that it answers.
    Arbiter {
        turn: u64,
        seen: ArbiterSeen,
    },
    /// The operator wants the VIP on the peer.
    Switch {
        force: bool,
    },
    /// The operator wants nothing to move for so long.
    Pause {
        minutes: u64,
    },
    /// The operator ends a pause, and releases the flap brake.
    Resume,
    Fence(FenceSeen),
    Disk(DiskSeen),
    /// Exactly these extra transactions may flow to the leader (empty: none may): the operator's wish, or what is on disk of it.
    Merge(History),
    /// The service is asked to end.
    Stop,
}

#[derive(Debug, Clone)]
pub struct Heard {
    pub beat: Arc<Beat>,
    /// A new session of the peer: what was promised by the old one is void.
    pub new_session: bool,
    /// When I sent the newest datagram that the peer has heard (its echo); `None` = no echo of this session.
    pub echo_sent_ms: Option<Ms>,
    /// The version of my own stance in that datagram.
    pub echo_version: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Not looked yet.
    Unknown,
    /// Found at start: a leased /32 of ours with so much left.
    Found {
        left_ms: Ms,
    },
    Absent,
    Held {
        renewed_ms: Ms,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Unknown,
    Open,
    Shut,
    /// No nf_tables: the address lease is the only fence.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSeen {
    pub address: Address,
    pub gate: Gate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerSeen {
    Ok(Arc<Sample>),
    /// No process listens.
    Dead,
    /// It did not answer within the hang limit.
    Hung,
    /// It answers, but refuses: the sentence says what.
    Refuses(String),
}

/// One look at the own server. `taken_ms` is when the look began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub taken_ms: Ms,
    pub read_only: bool,
    pub server_key: ServerKey,
    pub history: History,
    /// `None`: replication from the peer is not configured.
    pub replica: Option<ReplicaSample>,
    pub semi_sync_on: bool,
    pub semi_sync_active: bool,
    /// Commits that wait for the peer's acknowledgement.
    pub semi_sync_waiting: u32,
}

impl Sample {
    /// What has arrived and waits for the applier.
    pub fn unapplied(&self) -> History {
        self.replica.as_ref().map(|replica| self.history.unapplied(&replica.received, &self.server_key)).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaSample {
    pub receiver_running: bool,
    pub receiver_connected: bool,
    pub applier_running: bool,
    pub received: History,
    pub lag_s: Option<u64>,
    /// Last error of either thread, empty when none.
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleOutcome {
    /// Read-only, sessions gone, at this position.
    Closed(History),
    /// Not closed: commits wait that were to be spared.
    Waiting,
    /// Writable.
    Opened,
    /// It was opened under this order, and somebody has closed it since.
    FoundClosed,
    /// The receiver has a new connection to its source.
    Reconnected,
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteSeen {
    /// Nobody listens at the peer's server port (refused, unreachable or silent).
    Down,
    /// It listens; not closed by me.
    Up,
    /// I set it read-only over SQL; it stands at this position.
    Fenced(History),
    Failed(String),
    /// Its port takes connections and nobody behind it says a word: the server stands still.
    Mute,
}

/// Whether the own server's disk takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSeen {
    Ok,
    /// The end of a sentence that begins with "my server's disk fails:".
    Failed(String),
}

/// How the operator's fencing command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceSeen {
    /// The peer is off, or cut off from clients: the command said so by its exit code.
    Done,
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSeen {
    /// Read at start, or written and synced since.
    Saved(Record),
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArbiterSeen {
    /// The lease is this node's, and may be believed in until then. It was asked for at `asked_ms`.
    Mine { asked_ms: Ms, until_ms: Ms },
    /// Nobody has the lease.
    Free,
    /// Another node has it.
    Taken { by: String },
    /// No endpoint has given a usable answer: why.
    Unreachable(String),
}

/// What must survive a crash: /var/lib/mmha/epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    pub epoch: u64,
    /// The epoch in which this node was the last to hold the address, by all it knows; 0: another one was, or has been
    /// granted it. A later epoch was claimed in vain, or only numbered (`core/claim.rs`).
    pub held: u64,
}

impl Record {
    pub fn was_holder(&self) -> bool {
        self.held != 0
    }
}
