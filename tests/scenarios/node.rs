//! One box of the modelled world: kernel leases, a gate, a server, an epoch file, and what its actuators do with a `Want`.

use std::cell::RefCell;
use std::sync::Arc;

use mmha::core::event::{Address, Event, Gate, LeaseSeen, Record, RemoteSeen, ReplicaSample, RoleOutcome, Sample, ServerSeen};
use mmha::core::history::History;
use mmha::core::want::{Hold, Receiver, Remote, Want, Writes};
use mmha::core::{Core, Limits};

pub const LEASE_MS: u64 = 1_000;
/// The world's clock when a story begins.
pub const START_MS: u64 = 100_000;
/// The kernel may be late by this much (SAFETY M2).
const LEASE_SLACK_MS: u64 = 1_300;
/// systemd's RestartSec of the server's unit.
const REVIVE_MS: u64 = 2_000;

pub fn limits() -> Limits {
    Limits {
        keepalive: 250,
        deadtime: 2_000,
        warntime: 1_000,
        initdead: 20_000,
        gate: 1_500,
        lease: LEASE_MS,
        isolation: 1_500,
        failback_delay: 5_000,
        auto_failback: true,
        lossless: true,
        both_write: false,
        kill_hung: true,
        ping_configured: true,
        fence_configured: false,
        flap_count: 3,
        flap_window: 600_000,
        config_digest: 7,
        arbiter_ttl: None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Up,
    Dead,
    Hung,
}

pub struct Node {
    pub name: &'static str,
    pub core: Option<Core>,
    pub powered: bool,
    pub frozen: bool,
    pub carrier: bool,
    pub ping: bool,
    pub server: Server,
    pub read_only: bool,
    pub semi_sync: bool,
    /// The newest own writes, which wait for the peer's acknowledgement: crash recovery drops them, as MariaDB's does
    /// when the peer has taken over.
    pub waiting: u64,
    pub receiver: bool,
    /// Connected, and bringing nothing.
    pub stalled: bool,
    /// Own writes that are on this server, and the peer's that are applied here.
    pub own: u64,
    pub applied: u64,
    /// The peer's that have arrived, and whether something keeps the applier from them.
    pub received: u64,
    pub applier_held: bool,
    pub record: Record,
    pub vip_until: u64,
    pub gate_until: u64,
    pub session: u64,
    pub heard: Option<(u64, u64, u64)>,
    pub sent_ms: u64,
    pub sent_version: u64,
    pub looked_ms: u64,
    pub done_order: u64,
    pub probed_ms: u64,
    pub pinged_ms: u64,
    pub told: Option<LeaseSeen>,
    pub told_remote_ms: u64,
    pub turn_ms: u64,
    /// What the core was last told about the carrier, and when.
    pub linked: Option<(bool, u64)>,
    /// How long the server and the disk take for what is asked of them, and since when the present order is known.
    pub slow_ms: u64,
    pub ordered: (u64, u64),
    pub to_save: Option<(Record, u64)>,
    /// When systemd starts a server that the agent has killed.
    pub revive_ms: Option<u64>,
    pub killed: bool,
    pub disk_full: bool,
    /// A third host answers its probes for the address.
    pub stranger: bool,
    pub vip_broken: bool,
    pub no_recover: bool,
    /// Its applier has stopped at a row that conflicts, and what it has received up to.
    pub conflict: bool,
    /// On disk: extra transactions that may flow to the leader.
    pub merge: History,
}

impl Node {
    pub fn new() -> Node {
        Node {
            name: "",
            core: None,
            powered: true,
            frozen: false,
            carrier: true,
            ping: true,
            server: Server::Up,
            read_only: true,
            semi_sync: false,
            waiting: 0,
            receiver: true,
            stalled: false,
            own: 10,
            applied: 10,
            received: 10,
            applier_held: false,
            record: Record::default(),
            vip_until: 0,
            gate_until: 0,
            session: 0,
            heard: None,
            sent_ms: 0,
            sent_version: 0,
            looked_ms: 0,
            done_order: 0,
            probed_ms: 0,
            pinged_ms: 0,
            told: None,
            told_remote_ms: 0,
            turn_ms: 0,
            linked: None,
            slow_ms: 0,
            ordered: (0, 0),
            to_save: None,
            revive_ms: None,
            killed: false,
            disk_full: false,
            stranger: false,
            vip_broken: false,
            no_recover: false,
            conflict: false,
            merge: History::default(),
        }
    }
}

impl Node {
    pub fn history(&self, at: usize) -> History {
        self.history_with(at, self.applied)
    }

    fn history_with(&self, at: usize, theirs: u64) -> History {
        let both = [self.own, theirs];
        History::parse(&format!("{}:1-{},{}:1-{}", at + 1, both[0], 2 - at, both[1])).expect("a history")
    }

    pub fn receive(&mut self, up_to: u64) {
        self.received = self.received.max(up_to);
        if !self.applier_held && !self.conflict {
            self.applied = self.applied.max(self.received);
        }
    }

    pub fn look(&self, at: usize, now: u64, connected: bool) -> ServerSeen {
        match self.server {
            Server::Dead => ServerSeen::Dead,
            Server::Hung => ServerSeen::Hung,
            Server::Up => {
                let replica = ReplicaSample {
                    receiver_running: self.receiver,
                    receiver_connected: self.receiver && connected,
                    applier_running: !self.conflict,
                    received: self.history_with(at, self.received.max(self.applied)),
                    ..ReplicaSample::default()
                };
                ServerSeen::Ok(Arc::new(Sample {
                    taken_ms: now,
                    read_only: self.read_only,
                    server_key: (at + 1).to_string().into(),
                    history: self.history(at),
                    replica: Some(replica),
                    semi_sync_on: self.semi_sync,
                    semi_sync_active: self.semi_sync && connected,
                    semi_sync_waiting: u32::try_from(self.waiting).expect("few"),
                }))
            }
        }
    }

    /// What the peer's look at this server, or its attempt to close it, comes to: whether it answers, its kernel does, and closing works.
    pub fn seen_from_afar(&mut self, at: usize, wanted: Remote, (answers, connects, closes): (bool, bool, bool)) -> RemoteSeen {
        let mute = connects && self.server == Server::Hung;
        match (answers, wanted) {
            (false, Remote::Fence) if mute => RemoteSeen::Mute,
            (false, _) if mute => RemoteSeen::Up,
            (false, _) => RemoteSeen::Down,
            (true, Remote::Fence) if closes => {
                self.read_only = true;
                self.waiting = 0;
                RemoteSeen::Fenced(self.history(at))
            }
            (true, Remote::Fence) => RemoteSeen::Down,
            (true, _) => RemoteSeen::Up,
        }
    }

    pub fn end_server(&mut self) {
        self.server = Server::Dead;
        self.read_only = true;
        self.receiver = false;
        self.semi_sync = false;
        self.received = 0;
        self.own -= std::mem::take(&mut self.waiting);
    }

    pub fn serve(&mut self, want: &Want, now: u64) {
        if want.kill_server && !self.killed {
            self.end_server();
            self.revive_ms = Some(now + REVIVE_MS);
        }
        self.killed = want.kill_server;
        if self.ordered.0 != want.order {
            self.ordered = (want.order, now);
        }
        if self.server != Server::Up || now < self.ordered.1 + self.slow_ms {
            return;
        }
        if want.writes == Writes::Closed && want.spare_waiting && self.waiting > 0 {
            return step(self, Event::Role { order: want.order, outcome: RoleOutcome::Waiting }, now);
        }
        if want.writes != Writes::Keep {
            self.semi_sync = want.semi_sync;
        }
        match want.receiver {
            Receiver::On | Receiver::Recover => self.receiver = true,
            Receiver::Restart => {
                self.stalled = false;
                step(self, Event::Role { order: want.order, outcome: RoleOutcome::Reconnected }, now);
            }
            Receiver::Off => self.receiver = false,
            Receiver::Keep => {}
        }
        if self.done_order == want.order {
            if want.writes == Writes::Open && self.read_only {
                step(self, Event::Role { order: want.order, outcome: RoleOutcome::FoundClosed }, now);
            }
            return;
        }
        let outcome = match want.writes {
            Writes::Keep => return,
            Writes::Open => RoleOutcome::Opened,
            Writes::Closed => RoleOutcome::Closed(History::default()),
        };
        self.read_only = want.writes == Writes::Closed;
        if self.read_only {
            self.waiting = 0; // their sessions are gone, they stay
        }
        self.done_order = want.order;
        let at = usize::from(&*want.say.server_key == "2");
        let outcome = if outcome == RoleOutcome::Opened { outcome } else { RoleOutcome::Closed(self.history(at)) };
        step(self, Event::Role { order: want.order, outcome }, now);
    }

    /// Without waiting for a heartbeat, as the link thread does.
    pub fn shut_early(&mut self, want: &Want, now: u64) {
        let open = self.told.filter(|told| told.gate == Gate::Open && want.gate == Hold::No);
        if let Some(told) = open {
            self.gate_until = 0;
            let seen = LeaseSeen { gate: Gate::Shut, ..told };
            self.told = Some(seen);
            step(self, Event::Lease(seen), now);
        }
    }

    pub fn lease(&mut self, want: &Want, now: u64) {
        match want.vip {
            Hold::Yes if self.vip_broken => {}
            Hold::Yes => self.vip_until = now + LEASE_MS + LEASE_SLACK_MS,
            Hold::No => self.vip_until = 0,
            Hold::Keep => {}
        }
        // What cannot be renewed is held as it was.
        let before = self.told.map_or(Address::Absent, |told| told.address);
        let address = match want.vip {
            Hold::Yes if self.vip_broken && before == Address::Absent => Address::Unknown,
            Hold::Yes if self.vip_broken => before,
            Hold::Yes => Address::Held { renewed_ms: now },
            Hold::No => Address::Absent,
            Hold::Keep => return,
        };
        match want.gate {
            Hold::Yes if !matches!(address, Address::Held { .. }) => {}
            Hold::Yes => self.gate_until = now + 1_500,
            Hold::No => self.gate_until = 0,
            Hold::Keep => {}
        }
        let seen = LeaseSeen { address, gate: if self.gate_until > now { Gate::Open } else { Gate::Shut } };
        if self.told != Some(seen) {
            self.told = Some(seen);
            step(self, Event::Lease(seen), now);
        }
    }
}

thread_local! {
    /// Every change of state of the story under way, in order.
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What was decided since the last call.
pub fn told() -> Vec<String> {
    TOLD.take()
}

pub fn step(node: &mut Node, event: Event, now: u64) {
    if let Some(core) = &mut node.core {
        core.step(event, now);
        for decision in core.take_decisions() {
            if decision.from != decision.to {
                let seconds = (decision.at_ms - START_MS) as f64 / 1e3;
                let line =
                    format!("{seconds:>8.3} s  {} {} by rule {}, epoch {}", node.name, decision.to.name(), decision.rule, decision.epoch);
                TOLD.with_borrow_mut(|told| told.push(line));
            }
            if std::env::var_os("MMHA_TRACE").is_some() {
                println!(
                    "{:>8} {} -> {} ({}) {}",
                    decision.at_ms,
                    decision.from.name(),
                    decision.to.name(),
                    decision.rule,
                    decision.sentence
                );
            }
        }
    }
}
