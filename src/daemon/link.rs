//! The link thread: heartbeats out and in, the address lease, the write gate and the watchdog device. It must survive starvation, so it does
//! no logging, SQL, DNS or access to files, and holds no lock that another thread holds for longer than a copy takes.
//!
//! The write gate is moved by the datagrams themselves: one that carries the OPEN mark refreshes the kernel's gate element on its way
//! out, one with the SHUT mark deletes it. No heartbeat sent means that no acknowledgement leaves (SAFETY M7).

mod slots;
mod statistics;
#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::act::gate::{self as act_gate, MARK_OPEN, MARK_SHUT};
use crate::act::lease::Lease;
use crate::act::watchdog::Guard;
use crate::config::authkeys::Authkeys;
use crate::core::beat::Beat;
use crate::core::event::{Address, Event, Gate, Heard, LeaseSeen, Ms};
use crate::core::want::Hold;
use crate::daemon::Message;
use crate::daemon::callers::Asker;
use crate::error::{Error, Result};
use crate::peer::codec;
use crate::peer::session::{Sessions, Verdict};
use crate::sys::queue::Sender;
use crate::sys::slot::Reader;
use crate::sys::udp::LinkSocket;
use crate::sys::{clock, timer};

use slots::Slots;
pub use statistics::{PathStatistics, Statistics};

/// Datagrams sent out of turn are at least this far apart.
const HURRY_MS: Ms = 1;
/// The clients of the old connections are told at the cost of everybody else's outage, and of the time in which a node must have let go
/// (`config/timing.rs`).
const TELL_LIMIT: Duration = Duration::from_millis(10);
/// Datagrams read in one turn; the rest waits for the next, so that a flood cannot stop the sending.
const READ_AT_MOST: usize = 256;

/// The part of a `Want` that is about the link, with the core thread's blessing.
#[derive(Debug, Clone)]
pub struct Order {
    pub order: u64,
    pub vip: Hold,
    pub gate: Hold,
    pub say: Arc<Beat>,
    /// The core thread was alive so recently that this thread may act on its behalf until then. Zero: nothing may be sent yet.
    pub blessed_until_ms: Ms,
    /// Replaced whole when the operator rotates keys.
    pub keys: Arc<Authkeys>,
}

pub struct Path {
    pub socket: LinkSocket,
    pub peer: SocketAddrV4,
}

pub struct Setting {
    pub paths: Vec<Path>,
    pub sessions: Sessions,
    pub lease: Lease,
    pub callers: Asker,
    pub watchdog: Option<Guard>,
    pub gate_available: bool,
    pub keepalive_ms: Ms,
    pub gate_ms: Ms,
    pub lease_ms: Ms,
}

struct Link {
    setting: Setting,
    events: Sender<Message>,
    statistics: Arc<Mutex<Statistics>>,
    gate: Gate,
    opened_ms: Ms,
    /// A datagram that opens the gate may have passed the kernel since the gate was last shut over loopback.
    ajar: bool,
    /// The order under which this thread stood still: nothing is held again before the core has given another.
    latched: Option<u64>,
    /// The watchdog device is lost: nothing is held any more, and the core's thread ends the service.
    lost: Option<Lost>,
    stood_still_ms: Option<Ms>,
    reported: Option<LeaseSeen>,
    /// When the last heartbeat left; none has yet: 0.
    sent_ms: Ms,
    sent_version: u64,
    answer_now: bool,
    /// The peer, since the last turn of the loop.
    heard: bool,
}

struct Lost {
    why: Error,
    told: bool,
}

/// Runs until the process ends.
pub fn run(setting: Setting, mut orders: Reader<Order>, events: Sender<Message>, statistics: Arc<Mutex<Statistics>>) {
    let now = clock::now_ms();
    let mut link = Link::new(setting, events, statistics, now);
    let (mut turn_ms, mut slots) = (now, Slots::from(now, link.setting.keepalive_ms));
    loop {
        let order = orders.get();
        let hurry = link.answer_now || order.say.version != link.sent_version;
        let until = if hurry { slots.next_ms().min(link.sent_ms + link.spacing(&order, clock::now_ms())) } else { slots.next_ms() };
        if link.wait(&orders, until) {
            orders.take_bell();
        }
        let now = clock::now_ms();
        let order = orders.get();
        link.notice_gap(now.saturating_sub(turn_ms), &order);
        link.shut_early(&order);
        turn_ms = now;
        let due = slots.pass(now);
        let changed = link.answer_now || order.say.version != link.sent_version;
        if due || (changed && now >= link.sent_ms + link.spacing(&order, now)) {
            link.turn(&order, now);
            link.sent_ms = now;
        }
        // Before anything is read: what the core decides on a heartbeat rests on leases as they are now.
        link.report();
        link.read(&order.keys, clock::now_us());
        if std::mem::take(&mut link.heard) {
            slots.meet(now);
        }
    }
}

impl Link {
    fn new(setting: Setting, events: Sender<Message>, statistics: Arc<Mutex<Statistics>>, now: Ms) -> Link {
        let gate = if setting.gate_available { Gate::Unknown } else { Gate::None };
        Link {
            setting,
            events,
            statistics,
            gate,
            opened_ms: now,
            ajar: true, // an earlier run's
            latched: None,
            lost: None,
            stood_still_ms: None,
            reported: None,
            sent_ms: 0,
            sent_version: 0,
            answer_now: false,
            heard: false,
        }
    }

    /// True: there are orders.
    fn wait(&self, orders: &Reader<Order>, until: Ms) -> bool {
        let mut fds: Vec<BorrowedFd<'_>> = vec![orders.as_fd()];
        fds.extend(self.setting.paths.iter().map(|path| path.socket.as_fd()));
        timer::wait_readable(&fds, until).is_ok_and(|ready| ready[0])
    }

    /// Before anything is read: after standing still for longer than a lease, let go first and tell the core.
    fn notice_gap(&mut self, gap_ms: Ms, order: &Order) {
        if self.latched.is_some_and(|latched| latched != order.order) {
            self.latched = None;
        }
        if gap_ms < self.setting.gate_ms.min(self.setting.lease_ms) {
            return;
        }
        // Or about to hold: by an order from before.
        if order.vip == Hold::Yes || self.holds_address() || self.gate == Gate::Open {
            self.let_go(gap_ms, order.order);
        }
        self.stood_still_ms = Some(gap_ms);
    }

    fn let_go(&mut self, gap_ms: Ms, order: u64) {
        self.latched = Some(order);
        self.stood_still_ms = Some(gap_ms);
        self.shut();
        self.setting.lease.remove(clock::now_ms());
    }

    /// Whether nothing is open: known from this call or an earlier one.
    fn shut(&mut self) -> bool {
        self.ajar = self.ajar && act_gate::shut().is_err();
        !self.ajar
    }

    /// A handover waits for nothing but this: not for the next heartbeat, which would do the same.
    fn shut_early(&mut self, order: &Order) {
        if order.gate == Hold::No && self.gate == Gate::Open && self.shut() {
            self.gate = Gate::Shut;
        }
    }

    /// An address that is to be added waits for nothing; once it is here, or refused, its turn is over. Without a blessing there is none: it
    /// must not be waited for without sleeping.
    fn spacing(&self, order: &Order, now: Ms) -> Ms {
        let takes = order.vip == Hold::Yes && self.may_hold() && !self.holds_address() && now <= order.blessed_until_ms;
        if takes { 0 } else { HURRY_MS }
    }

    fn may_hold(&self) -> bool {
        self.latched.is_none() && self.lost.is_none()
    }

    fn holds_address(&self) -> bool {
        matches!(self.setting.lease.state(), Address::Held { .. })
    }

    /// The gate opens with the address and not before.
    fn gate_for(&self, wanted: Hold) -> Hold {
        match wanted {
            _ if !self.may_hold() => Hold::No,
            Hold::Yes if !self.holds_address() => Hold::Keep,
            wanted => wanted,
        }
    }

    /// One heartbeat: lease first, then the datagram (SAFETY B6). Without the core's blessing nothing is renewed, sent or fed.
    fn turn(&mut self, order: &Order, now: Ms) {
        if now > order.blessed_until_ms {
            return;
        }
        let claims = order.vip == Hold::Yes || order.say.state.holds();
        if claims {
            self.guard(|guard| guard.arm(now));
        }
        if order.vip == Hold::Yes && self.may_hold() {
            // Up to half a gate while the last one still stands: the heartbeat that follows must leave before it has ended by itself.
            let (left, gate) = ((self.sent_ms + self.setting.gate_ms).saturating_sub(now), self.setting.gate_ms);
            let patience = left.clamp(gate / 4, gate / 2);
            let renewed = self.setting.lease.renew(now, patience);
            let late = clock::now_ms().saturating_sub(now);
            if let (Err(_), _) | (_, true) = (renewed, late > patience) {
                self.let_go(late, order.order);
            }
        }
        self.send(order, self.gate_for(order.gate));
        // After the gate: removing an address may wait for the kernel's network lock.
        if order.vip == Hold::No || !self.may_hold() {
            self.tell_callers();
            self.setting.lease.remove(now);
        }
        let gone = self.setting.lease.state() == Address::Absent && matches!(self.gate, Gate::Shut | Gate::None);
        if !claims && gone {
            self.guard(|guard| {
                guard.rest();
                Ok(())
            });
        }
        // Last: a heartbeat does not wait for a slow device.
        self.guard(|guard| guard.feed(now));
    }

    /// Before the address goes: afterwards no reset leaves.
    fn tell_callers(&self) {
        if self.setting.lease.state() != Address::Absent {
            self.setting.callers.have_told(TELL_LIMIT);
        }
    }

    /// Without the device nothing is held: what is held is let go at once.
    fn guard(&mut self, act: impl FnOnce(&mut Guard) -> Result<()>) {
        let Some(guard) = self.setting.watchdog.as_mut().filter(|_| self.lost.is_none()) else { return };
        let (before, outcome) = (guard.timer(), act(guard));
        let timer = guard.timer();
        if timer != before {
            self.noted().watchdog = Some(timer);
        }
        if let Err(why) = outcome {
            self.lost = Some(Lost { why, told: false });
            self.shut();
            self.setting.lease.remove(clock::now_ms());
        }
    }

    fn send(&mut self, order: &Order, gate: Hold) {
        let header = self.setting.sessions.next(order.say.version, clock::now_us());
        let bytes = codec::encode(&header, &order.say, &order.keys);
        let mark = match gate {
            Hold::Yes => MARK_OPEN,
            Hold::No => MARK_SHUT,
            Hold::Keep => 0,
        };
        self.ajar |= mark == MARK_OPEN;
        let mut passed = false;
        for path in &mut self.setting.paths {
            passed |= path.socket.send_marked(mark, path.peer, &bytes).is_ok();
        }
        // A heartbeat without a route has passed no hook of the kernel; loopback always has one. Even where it counts as shut: one that was to open
        // it may have failed behind the hook (ENOBUFS).
        passed |= gate == Hold::No && self.gate != Gate::None && self.shut();
        self.sent_version = order.say.version;
        self.answer_now = false;
        let now = clock::now_ms();
        let expired = now.saturating_sub(self.opened_ms) > self.setting.gate_ms + self.setting.gate_ms / 100;
        self.gate = match (self.gate, gate, passed) {
            (Gate::None, _, _) => Gate::None,
            (before, Hold::Keep, _) => before,
            (_, Hold::Yes, true) => {
                self.opened_ms = now;
                Gate::Open
            }
            (_, Hold::No, true) => Gate::Shut,
            (_, _, false) if expired => Gate::Shut,
            (before, _, false) => before,
        };
    }

    fn read(&mut self, keys: &Authkeys, now_us: u64) {
        for at in 0..self.setting.paths.len() {
            for _ in 0..READ_AT_MOST {
                let Ok(Some((datagram, _))) = self.setting.paths[at].socket.receive() else { break };
                self.take(at, &datagram, keys, now_us);
            }
        }
    }

    fn take(&mut self, path: usize, bytes: &[u8], keys: &Authkeys, now_us: u64) {
        let opened = match codec::open(bytes) {
            Ok(opened) => opened,
            Err(refusal) => return self.noted().count(refusal),
        };
        let verdict = self.setting.sessions.judge(&opened.header, now_us);
        if verdict == Verdict::Ignore {
            return self.count_ignored(path, &opened, keys, now_us);
        }
        let beat = match opened.verify(keys) {
            Ok(beat) => beat,
            Err(refusal) => return self.noted().count(refusal),
        };
        let proof = self.setting.sessions.accept(&opened.header, verdict, now_us);
        self.noted().heard_on(path, now_us / 1000, proof.round_trip_us);
        if verdict == Verdict::Unproved {
            self.answer_now = true;
            return;
        }
        let heard = Heard {
            beat: Arc::new(beat),
            new_session: verdict == Verdict::NewSession,
            echo_sent_ms: proof.echo_sent_us.map(|sent| sent / 1000),
            echo_version: proof.echo_version,
        };
        self.answer_now |= heard.new_session;
        self.heard = true;
        self.post(Event::Beat(Box::new(heard)));
    }

    /// The same datagram on a second path is no replay: the path is alive.
    fn count_ignored(&mut self, path: usize, opened: &codec::Unverified<'_>, keys: &Authkeys, now_us: u64) {
        if self.setting.paths.len() > 1 && opened.verify(keys).is_ok() {
            self.noted().heard_on(path, now_us / 1000, None);
        } else {
            self.noted().replayed += 1;
        }
    }

    fn noted(&self) -> MutexGuard<'_, Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases as they are, whenever they differ from what the core was last told. What does not fit the channel is told next time.
    fn report(&mut self) {
        if let Some(lost) = self.lost.as_mut().filter(|lost| !lost.told) {
            lost.told = self.events.offer(Message::Lost(lost.why.clone()));
        }
        if let Some(gap_ms) = self.stood_still_ms
            && self.post(Event::Woke { gap_ms })
        {
            self.stood_still_ms = None;
        }
        let seen = LeaseSeen { address: self.setting.lease.state(), gate: self.gate };
        if self.reported == Some(seen) {
            return;
        }
        let renewed = |seen: LeaseSeen| matches!(seen, LeaseSeen { address: Address::Held { .. }, gate: Gate::Open | Gate::None });
        let told = match self.reported.is_some_and(renewed) && renewed(seen) {
            true => self.events.offer_quietly(Message::AsBefore(Event::Lease(seen))),
            false => self.post(Event::Lease(seen)),
        };
        if told {
            self.reported = Some(seen);
        }
    }

    fn post(&self, event: Event) -> bool {
        self.events.offer(Message::Event(event))
    }
}
