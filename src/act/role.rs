//! Makes the own server what the core wants: open or closed for writes, receiving or not, waiting for acknowledgements or not.
//! A server may hang, so every conversation runs on a disposable thread with a bound; a hung one costs a thread, never the address.

mod eye;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use eye::Eye;

use crate::core::event::{Ms, RoleOutcome, Sample};
use crate::core::history::History;
use crate::core::want::{Receiver, Want, Writes};
use crate::sql::fence::{Keys, Spare, Waiters, close_writes};
use crate::sql::role::{self, Events, SemiSync};
use crate::sql::{ApplierState, Family, Fault, Login, Observation, ReceiverState, Replica, Session, SqlError, bounded, observe};
use crate::sys::slot::{Glance, Reader};
use crate::sys::{clock, timer};

/// The server is compared with the order this often while it is not as ordered.
const RECONCILE_MS: Ms = 1_500;
/// So much later while the observer finds that it is, for what only this thread looks at.
const AT_REST_MS: Ms = 15_000;
const SWITCHING_MS: Ms = 3_000;
/// Between two attempts to connect a stalled receiver anew, or to start an applier again.
const RESTART_MS: Ms = 5_000;
const LOOK: Duration = Duration::from_millis(1_500);
const CLOSE: Duration = Duration::from_millis(2_500);
const OPEN: Duration = Duration::from_millis(2_500);
/// One slice of fetching back: short, so that no other order waits for it; what is missing then is fetched by the next.
const RECOVER: Duration = Duration::from_secs(2);
/// For a new session in place of a worn one.
const RENEW: Duration = Duration::from_millis(100);
/// "For ever": the agent gives semi-sync up itself, knowingly.
const SEMI_SYNC_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The part of a `Want` that is about the own server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub order: u64,
    pub writes: Writes,
    pub receiver: Receiver,
    pub recover_to: Option<History>,
    pub semi_sync: bool,
    pub applied_first: bool,
    pub spare_waiting: bool,
}

impl Order {
    pub fn of(want: &Want) -> Order {
        Order {
            order: want.order,
            writes: want.writes,
            receiver: want.receiver,
            recover_to: want.recover_to.clone(),
            semi_sync: want.semi_sync,
            applied_first: want.applied_first,
            spare_waiting: want.spare_waiting,
        }
    }

    /// Nothing is to be done about a server that looks like this.
    pub fn is_met_by(&self, seen: &Sample) -> bool {
        let writes = match self.writes {
            Writes::Keep => true,
            Writes::Closed => seen.read_only && !seen.semi_sync_on,
            Writes::Open => !seen.read_only && seen.semi_sync_on == self.semi_sync,
        };
        let receiver = seen.replica.as_ref().is_none_or(|replica| match self.receiver {
            Receiver::Keep => true,
            Receiver::On => replica.receiver_running && replica.applier_running,
            Receiver::Off => !replica.receiver_running,
            Receiver::Restart | Receiver::Recover => false,
        });
        writes && receiver
    }
}

/// What does not change while the service runs.
#[derive(Debug, Clone)]
pub struct Setting {
    pub login: Login,
    pub own_key: String,
    pub peer_key: String,
    pub server_id: u32,
    pub spare: Spare,
    /// Raised before a statement that makes the server slow to answer for a second; the observer reads it.
    pub patience_until: Arc<AtomicU64>,
}

struct Actor<F> {
    setting: Setting,
    report: F,
    session: Option<Session>,
    reported: u64,
    /// The order under which the server was opened: it is opened once for each.
    opened: u64,
    orders: Glance<Order>,
    events_stopped: bool,
    restarted_ms: Ms,
}

/// The role thread, until the process ends.
pub fn run(setting: Setting, eye: &Eye, mut orders: Reader<Order>, report: impl Fn(u64, RoleOutcome)) {
    let mut actor =
        Actor { setting, report, session: None, reported: 0, opened: 0, orders: orders.glance(), events_stopped: false, restarted_ms: 0 };
    loop {
        let order = orders.get();
        let outcome = actor.follow(&order);
        // Else it has to come back, whatever the server looks like: something has not been said or written down.
        let done = outcome.is_ok();
        if let Err(fault) = outcome {
            actor.session = None;
            (actor.report)(order.order, RoleOutcome::Failed(fault.text));
        }
        actor.renew();
        let rung = |pause_ms: Ms| timer::wait_readable(&[orders.as_fd()], clock::now_ms() + pause_ms).is_ok_and(|ready| ready[0]);
        if rung(RECONCILE_MS) || done && eye.finds_met(&order) && rung(AT_REST_MS) {
            orders.take_bell();
        }
    }
}

impl<F: Fn(u64, RoleOutcome)> Actor<F> {
    /// Semi-sync is about to be switched, or the server closed, which does the same. Only MySQL answers late then.
    fn ask_patience(&self) {
        if self.session.as_ref().is_some_and(|session| session.family() == Family::MariaDb) {
            return;
        }
        self.setting.patience_until.store(clock::now_ms() + SWITCHING_MS, Ordering::Relaxed);
    }

    fn follow(&mut self, order: &Order) -> Result<(), SqlError> {
        if order.writes == Writes::Keep && order.receiver == Receiver::Keep {
            return Ok(());
        }
        let seen = self.look()?;
        if seen.server_id != self.setting.server_id && order.receiver != Receiver::Recover {
            let id = self.setting.server_id;
            log::warn!("server_id is {}, left by an interrupted recovery or set by somebody: setting it to {id} again", seen.server_id);
            self.with("restoring server_id", LOOK, move |session, _, _| role::restore_server_id(session, id))?;
        }
        match order.writes {
            Writes::Closed => self.close(order, &seen)?,
            Writes::Open => self.open(order, &seen)?,
            Writes::Keep => {}
        }
        self.receive(order, &seen)
    }

    fn close(&mut self, order: &Order, seen: &Observation) -> Result<(), SqlError> {
        if seen.read_only {
            if seen.semi_sync_source_on {
                self.ask_patience();
                self.with("semi-sync off", LOOK, |session, _, _| role::semi_sync_source(session, SemiSync::Off))?;
            }
            self.done(order, RoleOutcome::Closed(seen.history.clone()));
            return Ok(());
        }
        self.ask_patience();
        let setting = self.setting.clone();
        let waiters = if order.spare_waiting { Waiters::Spare } else { Waiters::Free };
        let attempt = bounded("closing the server for writes", CLOSE + Duration::from_millis(500), move || {
            let keys = Keys { own: &setting.own_key, peer: &setting.peer_key };
            close_writes(&setting.login, keys, &setting.spare, waiters, CLOSE)
        });
        let closed = match attempt {
            // It may not even have been let in.
            Err(fault) if fault.fault == Fault::Unacknowledged || order.spare_waiting && seen.semi_sync_waiting > 0 => {
                log::warn!("{}", fault.text);
                (self.report)(order.order, RoleOutcome::Waiting);
                return Ok(());
            }
            outcome => outcome?,
        };
        self.events_stopped |= closed.events_stopped;
        log::info!("server closed for writes at {}; {} sessions stood in the way", closed.history, closed.killed);
        self.done(order, RoleOutcome::Closed(closed.history));
        Ok(())
    }

    fn open(&mut self, order: &Order, seen: &Observation) -> Result<(), SqlError> {
        if seen.read_only && self.opened == order.order {
            (self.report)(order.order, RoleOutcome::FoundClosed);
            return Ok(());
        }
        let semi_sync = if order.semi_sync { SemiSync::On(SEMI_SYNC_WAIT) } else { SemiSync::Off };
        if seen.read_only {
            let waiting = seen.unapplied();
            if order.applied_first && !waiting.is_empty() {
                return Err(SqlError::other(format!("{waiting} has been received and is not applied yet: not opening the server")));
            }
            let events = if self.events_stopped { Events::Start } else { Events::Leave };
            let semi_sync = Some(semi_sync).filter(|_| order.semi_sync || seen.semi_sync_source_on);
            let (orders, number) = (self.orders.clone(), order.order);
            self.with("opening the server for writes", OPEN, move |session, setting, wanted| {
                let permitted = || wanted() && orders.get().order == number;
                role::open_writes(session, &setting.login, &setting.spare, semi_sync, events, permitted)
            })?;
            self.events_stopped = false;
        } else if seen.semi_sync_source_on != order.semi_sync {
            self.ask_patience();
            self.with("switching semi-sync", LOOK, move |session, setting, _| {
                role::semi_sync_source(session, semi_sync)?;
                if semi_sync == SemiSync::Off { role::end_streams(session, &setting.spare.users) } else { Ok(()) }
            })?;
            log::info!(
                "semi-sync {}",
                if order.semi_sync { "on: commits wait for the peer" } else { "off: commits do not wait for the peer" }
            );
        }
        self.opened = order.order;
        self.done(order, RoleOutcome::Opened);
        Ok(())
    }

    fn receive(&mut self, order: &Order, seen: &Observation) -> Result<(), SqlError> {
        let Some(replica) = &seen.replica else { return Ok(()) };
        match order.receiver {
            Receiver::Keep => Ok(()),
            Receiver::On => self.receive_on(order, replica),
            Receiver::Restart => self.receive_anew(order, replica),
            Receiver::Recover => self.recover(order, seen),
            Receiver::Off if replica.receiver == ReceiverState::Stopped => Ok(()),
            // A stream to a peer that is gone would hold up the next one until its last packet is given up, a minute later.
            Receiver::Off => {
                let alone = order.writes == Writes::Open && !order.semi_sync;
                self.with("ending replication with the peer", LOOK, move |session, setting, _| {
                    let ended = if alone { role::end_streams(session, &setting.spare.users) } else { Ok(()) };
                    role::stop_receiver(session).and(ended)
                })
            }
        }
    }

    /// A thread that stopped with an error of the applier stays stopped: starting it again would hide the error. Unless the error passes.
    fn receive_on(&mut self, order: &Order, replica: &Replica) -> Result<(), SqlError> {
        if replica.applier == ApplierState::Stopped && replica.may_pass() && self.is_time_to_restart() {
            log::warn!("the applier stopped with {}: starting it again", replica.error().unwrap_or_default());
            return self.with("starting the applier", LOOK, |session, _, _| role::start_applier(session));
        }
        match (replica.receiver, replica.applier) {
            (ReceiverState::Stopped, ApplierState::Stopped) if replica.sql_errno == 0 => {
                self.with("starting replication", LOOK, |session, _, _| role::start_replication(session))?;
            }
            (ReceiverState::Stopped, _) => self.with("starting the receiver", LOOK, |session, _, _| role::start_receiver(session))?,
            (_, ApplierState::Stopped) if replica.sql_errno == 0 => {
                return self.with("starting the applier", LOOK, |session, _, _| role::start_applier(session));
            }
            _ => return Ok(()),
        }
        (self.report)(order.order, RoleOutcome::Reconnected);
        Ok(())
    }

    fn is_time_to_restart(&mut self) -> bool {
        let now = clock::now_ms();
        let due = now.saturating_sub(self.restarted_ms) >= RESTART_MS;
        if due {
            self.restarted_ms = now;
        }
        due
    }

    /// The applier goes on meanwhile, so that nothing received is thrown away.
    fn receive_anew(&mut self, order: &Order, replica: &Replica) -> Result<(), SqlError> {
        if replica.receiver == ReceiverState::Stopped || replica.applier == ApplierState::Stopped {
            return self.receive_on(order, replica);
        }
        if !self.is_time_to_restart() {
            return Ok(());
        }
        log::info!("connecting the receiver anew: the peer was silent, or the writer is ahead and nothing comes");
        self.with("restarting the receiver", LOOK, |session, _, _| {
            role::stop_receiver(session).and_then(|()| role::start_receiver(session))
        })?;
        (self.report)(order.order, RoleOutcome::Reconnected);
        Ok(())
    }

    fn recover(&mut self, order: &Order, seen: &Observation) -> Result<(), SqlError> {
        let Some(target) = order.recover_to.clone() else { return Ok(()) };
        let missing = target.minus(&seen.history);
        if missing.is_empty() {
            return Ok(());
        }
        log::warn!("this server has lost {missing} of its own history: fetching it back from the peer");
        self.with("fetching back lost transactions", RECOVER + LOOK, move |session, setting, _| {
            let own_key = setting.own_key_here(session)?;
            role::recover_lost_tail(session, &own_key, setting.server_id, &target, RECOVER)
        })
    }

    fn done(&mut self, order: &Order, outcome: RoleOutcome) {
        if self.reported != order.order {
            self.reported = order.order;
            (self.report)(order.order, outcome);
        }
    }

    fn look(&mut self) -> Result<Observation, SqlError> {
        let first = self.with("looking at the server", LOOK, look_at);
        match first {
            // The session was killed or the server restarted since: once more, on a new one.
            Err(fault) if fault.fault == Fault::Lost => self.with("looking at the server", LOOK, look_at),
            outcome => outcome,
        }
    }

    /// Runs `work` on the persistent session, in a thread that is left behind when it takes longer than `limit`.
    fn with<T: Send + 'static>(
        &mut self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&mut Session, &Setting, &dyn Fn() -> bool) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let (setting, kept) = (self.setting.clone(), self.session.take());
        // Whoever is left behind must not begin anything when the server wakes up.
        let given_up = Arc::new(AtomicBool::new(false));
        let seen_by_worker = Arc::clone(&given_up);
        let attempt = bounded(what, limit, move || {
            let mut session = match kept {
                Some(session) => session,
                None => Session::open(&setting.login)?,
            };
            let wanted = || !seen_by_worker.load(Ordering::SeqCst);
            let outcome = if wanted() { work(&mut session, &setting, &wanted) } else { Err(SqlError::timeout(what)) };
            Ok((session, outcome))
        });
        given_up.store(attempt.is_err(), Ordering::SeqCst);
        let (session, outcome) = attempt?;
        if outcome.is_ok() {
            self.session = Some(session);
        }
        outcome
    }

    /// After the report: nobody waits for this.
    fn renew(&mut self) {
        self.session = self.session.take().map(|session| session.unworn(&self.setting.login, RENEW));
    }
}

fn look_at(session: &mut Session, setting: &Setting, _wanted: &dyn Fn() -> bool) -> Result<Observation, SqlError> {
    observe(session, &setting.own_key, &setting.peer_key)
}

impl Setting {
    /// The server's own key in histories: the configured domain on MariaDB, its UUID on MySQL.
    fn own_key_here(&self, session: &mut Session) -> Result<String, SqlError> {
        Ok(observe(session, &self.own_key, &self.peer_key)?.server_key)
    }
}
