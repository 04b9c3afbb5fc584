//! One box of the model: its clock, its kernel's leases, its server, its disk, and what its agent's threads know. Data; the rest of the
//! simulator moves it.

use std::rc::Rc;
use std::sync::Arc;

use mmha::act::role::Order;
use mmha::core::Core;
use mmha::core::beat::Beat;
use mmha::core::event::{Address, Event, Gate, LeaseSeen, Record, ReplicaSample, Sample};
use mmha::core::history::History;
use mmha::core::key::ServerKey;
use mmha::core::want::{Announce, ArbiterOrder, Hold, Remote, Writes};
use mmha::peer::codec::Header;
use mmha::peer::session::Sessions;

use crate::check::UNBLESSED_US;
use crate::queue::{Due, Us};

/// CLOCK_BOOTTIME of one box: it drifts, and stops while a hypervisor pauses the box.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    world: Us,
    local: Us,
    /// Local microseconds per second of the world.
    rate: u64,
    stopped: bool,
}

impl Clock {
    pub fn new(world: Us, local: Us, rate: u64) -> Clock {
        Clock { world, local, rate, stopped: false }
    }
    pub fn now(&self, world: Us) -> Us {
        if self.stopped { self.local } else { self.local + (world - self.world) * self.rate / 1_000_000 }
    }
    /// How long the world takes for a stretch of this clock.
    pub fn stretch(&self, local: Us) -> Us {
        local * 1_000_000 / self.rate + 1
    }
    /// When this clock, if nobody stops it, comes to `local`: the same whenever it is asked.
    pub fn when(&self, local: Us) -> Us {
        self.world + (local.saturating_sub(self.local) * 1_000_000).div_ceil(self.rate)
    }
    pub fn stop(&mut self, world: Us) {
        (self.local, self.world, self.stopped) = (self.now(world), world, true);
    }
    pub fn go_on(&mut self, world: Us) {
        (self.world, self.stopped) = (world, false);
    }
    pub fn rate(&self) -> u64 {
        self.rate
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    Dead,
    Hung,
}

/// A modelled server. Transactions of one writer are numbered from 1 without gaps, so a count says which ones are there.
#[derive(Debug, Clone)]
pub struct Server {
    key: ServerKey,
    pub up: Health,
    /// Grows with every start and end.
    pub number: u32,
    pub up_since: Us,
    /// Starting, it asks its peer until then.
    pub asks_until: Option<Us>,
    pub was_cut_off: bool,
    pub read_only: bool,
    pub semi_sync: bool,
    /// Own transactions in the binlog, and those of them that wait for nobody's acknowledgement any more.
    pub own: u64,
    pub committed: u64,
    /// The peer's transactions in the relay log, and those applied.
    pub received: u64,
    pub applied: u64,
    pub receiver: bool,
    /// Connected, and bringing nothing.
    pub stalled: bool,
    /// The applier needs so long for what has come, microseconds.
    pub lag_us: Us,
    /// A statement takes up to so long, microseconds.
    pub slow_us: Us,
    pub applying: bool,
    /// Clients have been writing since it was opened.
    pub writing: bool,
    shown: Option<([u64; 3], History, History)>,
}

impl Server {
    pub fn new(at: usize) -> Server {
        Server {
            key: (at + 1).to_string().into(),
            up: Health::Up,
            number: 0,
            up_since: 0,
            asks_until: None,
            was_cut_off: false,
            read_only: true,
            semi_sync: false,
            own: 10,
            committed: 10,
            received: 10,
            applied: 10,
            receiver: true,
            stalled: false,
            lag_us: 0,
            slow_us: 0,
            applying: false,
            writing: false,
            shown: None,
        }
    }

    /// The relay log is fetched again; what becomes of commits that nobody acknowledged is decided at the next start.
    pub fn end(&mut self) {
        self.up = Health::Dead;
        (self.number, self.asks_until, self.was_cut_off) = (self.number + 1, None, false);
        self.received = self.applied;
        (self.read_only, self.semi_sync, self.receiver, self.stalled) = (true, false, false, false);
        (self.applying, self.writing) = (false, false);
    }

    pub fn history(&mut self, at: usize) -> History {
        self.histories(at).0
    }

    /// What is there and what was received, as the server shows it.
    fn histories(&mut self, at: usize) -> (History, History) {
        let numbers = [self.own, self.applied, self.received];
        if let Some((of, history, received)) = &self.shown
            && *of == numbers
        {
            return (history.clone(), received.clone());
        }
        let show = |theirs: u64| History::parse(&format!("{}:1-{},{}:1-{theirs}", at + 1, self.own, 2 - at)).expect("a history");
        let history = show(self.applied);
        let received = if self.applied == self.received { history.clone() } else { show(self.received) };
        self.shown = Some((numbers, history.clone(), received.clone()));
        (history, received)
    }

    pub fn sample(&mut self, at: usize, taken_ms: u64, connected: bool, followed: bool) -> Sample {
        let (history, received) = self.histories(at);
        let replica = ReplicaSample {
            receiver_running: self.receiver,
            receiver_connected: self.receiver && connected,
            applier_running: true,
            received,
            ..ReplicaSample::default()
        };
        Sample {
            taken_ms,
            read_only: self.read_only,
            server_key: self.key.clone(),
            history,
            replica: Some(replica),
            semi_sync_on: self.semi_sync,
            semi_sync_active: self.semi_sync && followed,
            semi_sync_waiting: u32::try_from(self.own - self.committed).expect("few"),
        }
    }
}

pub struct Datagram {
    pub header: Header,
    pub beat: Arc<Beat>,
}

/// What the link thread was last told.
pub struct Orders {
    pub order: u64,
    pub vip: Hold,
    pub gate: Hold,
    pub say: Arc<Beat>,
    pub hold_until_ms: u64,
}

/// The threads of one run of the agent.
pub struct Agent {
    pub core: Core,
    pub sessions: Sessions,
    /// The main thread stands still: what it was told meanwhile.
    pub stuck: bool,
    pub stuck_for_ms: u64,
    /// Until when the link thread goes on without it; `u64::MAX` while it runs.
    pub blessed_until_ms: u64,
    pub mailbox: Vec<Event>,
    /// When a ping target last answered.
    pub pinged_ms: u64,
    pub orders: Orders,
    pub role: Order,
    /// The order that the server met when the observer last saw it.
    pub role_met: Option<Order>,
    pub role_busy: bool,
    pub role_reported: u64,
    pub role_opened: u64,
    pub role_restarted_ms: u64,
    /// What the conversation with the server has found, to be reported when it is over.
    pub closed_at: Option<History>,
    pub met_waiting: bool,
    pub watch: bool,
    pub save: Option<Record>,
    pub store_busy: bool,
    pub store_failed: bool,
    pub written: Option<Record>,
    pub probing: bool,
    pub remote: Remote,
    pub remote_busy: bool,
    pub arbiter: ArbiterOrder,
    pub fenced_at: Option<History>,
    pub kill_server: bool,
    pub exiting: bool,
    /// How neighbours are told where the address is, and the first of the announcements that are under way.
    pub announced: Option<Announce>,
    pub announcing: Us,
    /// When the core is to be asked again, by its own clock and by the world's.
    pub tick_ms: u64,
    pub tick_at: Us,
    pub turn_at: Us,
    pub look_at: Us,
    pub turned_us: Us,
    pub sent_us: Us,
    pub next_us: Us,
    /// When the last slot was.
    pub slot_us: Us,
    pub sent_version: u64,
    pub answer_now: bool,
    pub latched: Option<u64>,
    pub stood_still_ms: Option<u64>,
    pub address: Address,
    pub gate: Gate,
    pub told: Option<LeaseSeen>,
    /// Arrived while the agent was frozen.
    pub inbox: Vec<Rc<Datagram>>,
}

pub struct Node {
    pub clock: Clock,
    pub powered: bool,
    /// By its hypervisor: nothing runs, and its clock stands.
    pub paused: bool,
    /// Nothing runs, and its clock goes on.
    pub asleep: bool,
    /// SIGSTOP for the agent.
    pub frozen: bool,
    pub carrier: bool,
    /// Its port of the switch works.
    pub lan: bool,
    pub agent: Option<Agent>,
    pub life: u32,
    pub session: u64,
    pub server: Server,
    pub record: Record,
    pub disk_full: bool,
    pub disk_us: Us,
    /// By its own clock: when the kernel ends the two leases, and when the address was last renewed.
    pub vip_until: Us,
    pub gate_until: Us,
    pub vip_renewed: Us,
    pub vip_broken: bool,
    pub no_recover: bool,
    /// Runs again after a pause that its clock has not seen.
    pub dazed_until: Us,
    pub dazed_since: Us,
    /// The first order to open the server that an operator forced, if any.
    pub forced: bool,
    pub waiting: Vec<Due>,
}

impl Node {
    pub fn new(at: usize, clock: Clock) -> Node {
        Node {
            clock,
            powered: true,
            paused: false,
            asleep: false,
            frozen: false,
            carrier: true,
            lan: true,
            agent: None,
            life: 0,
            session: 0,
            server: Server::new(at),
            record: Record::default(),
            disk_full: false,
            disk_us: 0,
            vip_until: 0,
            gate_until: 0,
            vip_renewed: 0,
            vip_broken: false,
            no_recover: false,
            dazed_until: 0,
            dazed_since: 0,
            forced: false,
            waiting: Vec::new(),
        }
    }

    pub fn runs(&self) -> bool {
        self.powered && !self.paused && !self.asleep
    }
    pub fn on_lan(&self) -> bool {
        self.powered && self.carrier && self.lan
    }
    /// The kernel answers for the floating address.
    pub fn has_vip(&self, now: Us) -> bool {
        self.runs() && self.vip_until > self.clock.now(now)
    }
    pub fn gate_open(&self, now: Us) -> bool {
        self.gate_until > self.clock.now(now)
    }
    /// Until both end by themselves, which they do within `UNBLESSED_US`.
    pub fn leases_left(&self, now: Us) -> Us {
        self.clock.stretch(self.vip_until.max(self.gate_until).saturating_sub(self.clock.now(now)).min(UNBLESSED_US))
    }
}

impl Agent {
    pub fn must_shut(&self) -> bool {
        self.orders.gate == Hold::No && self.gate == Gate::Open
    }

    pub fn new(core: Core, sessions: Sessions, local: Us) -> Agent {
        let orders = Orders { order: 0, vip: Hold::Keep, gate: Hold::Keep, say: Arc::clone(&core.want().say), hold_until_ms: 0 };
        let role = Order { order: 0, writes: Writes::Keep, ..Order::of(core.want()) };
        let arbiter = core.want().arbiter;
        Agent {
            core,
            sessions,
            stuck: false,
            stuck_for_ms: 0,
            blessed_until_ms: u64::MAX,
            mailbox: Vec::new(),
            orders,
            role,
            role_met: None,
            pinged_ms: 0,
            role_busy: false,
            role_reported: 0,
            role_opened: 0,
            role_restarted_ms: 0,
            closed_at: None,
            met_waiting: false,
            watch: false,
            save: None,
            store_busy: false,
            store_failed: false,
            written: None,
            probing: false,
            remote: Remote::No,
            remote_busy: false,
            arbiter,
            fenced_at: None,
            kill_server: false,
            exiting: false,
            announced: None,
            announcing: 0,
            tick_ms: u64::MAX,
            tick_at: Us::MAX,
            turn_at: Us::MAX,
            look_at: Us::MAX,
            turned_us: local,
            sent_us: 0,
            next_us: local,
            slot_us: local,
            sent_version: 0,
            answer_now: false,
            latched: None,
            stood_still_ms: None,
            address: Address::Unknown,
            gate: Gate::Unknown,
            told: None,
            inbox: Vec::new(),
        }
    }
}
