//! Watches the own server: its death is an event (the process's descriptor), a hang is a look that did not come back in time.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::core::event::{Ms, ReplicaSample, Sample, ServerSeen};
use crate::sql::{ApplierState, Fault, Login, Observation, ReceiverState, Session, SqlError, bounded, observe};
use crate::sys::file;
use crate::sys::pidfd::Process;
use crate::sys::slot::Reader;
use crate::sys::{clock, timer};

/// Between looks while something moves.
const WATCHING_MS: Ms = 5;
/// How long after the end of its connection a server's process may still be seen alive.
const DEATH_MS: Ms = 30;
/// MySQL's acknowledgement receiver notices only every second that it is to end, and status queries wait for it.
const SWITCHING: Duration = Duration::from_millis(1_200);
/// Between attempts to reach a server that is not there.
const ABSENT_MS: Ms = 100;

#[derive(Debug, Clone)]
pub struct Setting {
    pub login: Login,
    pub own_key: String,
    pub peer_key: String,
    /// A look that takes longer means "hung".
    pub hang: Duration,
    /// Between looks when nothing moves.
    pub interval_ms: Ms,
    /// Until then (boot milliseconds) looks may take `SWITCHING` longer: MySQL blocks them while semi-sync is switched off.
    pub patience_until: Arc<AtomicU64>,
    /// Where the server's process is kept while it lives, for whoever must end it.
    pub process: Held,
}

/// The server's process, held by descriptor since it last answered.
pub type Held = Arc<Mutex<Option<Arc<Process>>>>;

/// The observer thread. `watch` says that every millisecond counts; `version` hears which server it is, once per connection.
pub fn run(setting: &Setting, mut watch: Reader<bool>, report: impl Fn(ServerSeen), version: impl Fn(String)) {
    let (mut session, mut process, mut died): (Option<Session>, Option<Arc<Process>>, bool) = (None, None, false);
    loop {
        let started = clock::now_ms();
        let fresh = session.is_none();
        let seen = look(setting, &mut session, process.as_deref(), started);
        if let Some(session) = session.as_mut().filter(|_| fresh) {
            version(session.version_text().to_owned());
            process = process_of(session).map(Arc::new);
            *setting.process.lock().unwrap_or_else(PoisonError::into_inner) = process.clone();
            died = false;
        }
        let alive = matches!(seen, ServerSeen::Ok(_));
        let took_ms = clock::now_ms().saturating_sub(started);
        if alive && Duration::from_millis(took_ms) > setting.hang / 4 {
            log::warn!("the server took {took_ms} ms to answer a look; at {} ms it counts as hung", setting.hang.as_millis());
        }
        // Behind systemd's socket activation a dead server's socket still takes connections: that is no hang.
        report(if died && seen == ServerSeen::Hung { ServerSeen::Dead } else { seen });
        if !watch.get() {
            session = session.map(|session| session.unworn(&setting.login, setting.hang / 8));
        }
        let pause = match (alive, watch.get()) {
            (false, _) => ABSENT_MS,
            (true, true) => WATCHING_MS,
            (true, false) => setting.interval_ms,
        };
        if wait(&mut watch, process.as_deref(), started + pause) {
            (process, session, died) = (None, None, true);
            *setting.process.lock().unwrap_or_else(PoisonError::into_inner) = None;
            report(ServerSeen::Dead);
            pause_until(&watch, clock::now_ms() + ABSENT_MS);
        }
    }
}

/// By its pid file: the socket's listener may be systemd. Only a process that is called like a server is one.
fn process_of(session: &mut Session) -> Option<Process> {
    let pid_file = session.value("SELECT IF(@@pid_file LIKE '/%', @@pid_file, CONCAT(@@datadir, @@pid_file))").ok()??;
    let pid: i32 = String::from_utf8(file::read_limited(Path::new(&pid_file), 64).ok()?).ok()?.trim().parse().ok()?;
    let process = Process::open(pid).ok()?;
    let name = file::read_limited(Path::new(&format!("/proc/{pid}/comm")), 64).ok()?;
    matches!(name.as_slice(), b"mariadbd\n" | b"mysqld\n").then_some(process)
}

/// Waits for the next look; true = the server's process has died meanwhile.
fn wait(watch: &mut Reader<bool>, process: Option<&Process>, until: Ms) -> bool {
    let mut fds = vec![watch.as_fd()];
    fds.extend(process.map(AsFd::as_fd));
    let ready = timer::wait_readable(&fds, until).unwrap_or_default();
    let (rung, died) = (ready.first() == Some(&true), ready.get(1) == Some(&true));
    if rung {
        watch.take_bell();
    }
    died
}

fn pause_until(watch: &Reader<bool>, until: Ms) {
    let _ = timer::wait_readable(&[watch.as_fd()], until);
}

fn look(setting: &Setting, kept: &mut Option<Session>, process: Option<&Process>, taken_ms: Ms) -> ServerSeen {
    for _ in 0..2 {
        let (task, session) = (setting.clone(), kept.take());
        let had_one = session.is_some();
        let patient = clock::now_ms() < setting.patience_until.load(Ordering::Relaxed);
        let limit = if patient { setting.hang + SWITCHING } else { setting.hang };
        let outcome = bounded("looking at the server", limit, move || {
            let mut session = match session {
                Some(session) => session,
                None => Session::open(&task.login)?,
            };
            let seen = observe(&mut session, &task.own_key, &task.peer_key)?;
            Ok((session, seen))
        });
        match outcome {
            Ok((session, seen)) => {
                *kept = Some(session);
                return ServerSeen::Ok(Arc::new(sample(seen, taken_ms)));
            }
            // Killed by an operator, or timed out in the server: a new session tells more.
            Err(fault) if fault.fault == Fault::Lost && had_one && !dies(process) => {}
            Err(fault) if fault.fault == Fault::Lost && had_one => return ServerSeen::Dead,
            Err(fault) => return judge(fault),
        }
    }
    ServerSeen::Dead
}

/// The connection ended: because the process did? Both happen within the same millisecond.
fn dies(process: Option<&Process>) -> bool {
    process.is_some_and(|process| timer::wait_readable(&[process.as_fd()], clock::now_ms() + DEATH_MS).is_ok_and(|ready| ready[0]))
}

fn judge(fault: SqlError) -> ServerSeen {
    match fault.fault {
        Fault::Refused | Fault::Lost => ServerSeen::Dead,
        Fault::Timeout => ServerSeen::Hung,
        Fault::HostNotAllowed | Fault::WrongPassword | Fault::ReadOnly | Fault::Unacknowledged | Fault::Other => {
            ServerSeen::Refuses(fault.text)
        }
    }
}

fn sample(seen: Observation, taken_ms: Ms) -> Sample {
    let replica = seen.replica.map(|replica| ReplicaSample {
        receiver_running: replica.receiver != ReceiverState::Stopped,
        receiver_connected: replica.receiver == ReceiverState::Running,
        applier_running: replica.applier == ApplierState::Running,
        error: replica.error().unwrap_or_default(),
        lag_s: replica.lag_s,
        received: replica.received,
    });
    Sample {
        taken_ms,
        read_only: seen.read_only,
        server_key: seen.server_key.into(),
        history: seen.history,
        replica,
        semi_sync_on: seen.semi_sync_source_on,
        semi_sync_active: seen.semi_sync_active && seen.semi_sync_clients > 0,
        semi_sync_waiting: seen.semi_sync_waiting,
    }
}
