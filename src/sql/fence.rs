//! Closes a server to its clients, here or at the peer: read-only, their sessions killed, the position standing still.
//! Decides nothing about whether that is wise; never opens anything.

use std::collections::BTreeSet;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::sql::dialect::{Dialect, GIVE_UP_WAITING, START_EVENTS, STOP_EVENTS};
use crate::sql::observe::semi_sync_waiting;
use crate::sql::session::own_connections;
use crate::sql::worker::Job;
use crate::sql::{Family, Fault, History, Login, Observation, Record, Session, SqlError, observe};

/// How long the fence may take by itself; most of the time nobody stands in its way.
const ALONE: Duration = Duration::from_millis(20);
/// Whether it is through is looked at after so many kills; each costs half a millisecond.
const KILLS_AT_ONCE: usize = 50;
const BETWEEN_KILLS: Duration = Duration::from_millis(2);
/// For the sessions that are left when it is through. They can write nothing.
const LEFTOVERS: Duration = Duration::from_secs(10);
/// A position that reads the same this far apart stands still.
const STILL_FOR: Duration = Duration::from_millis(2);
/// How long MySQL's killed commits may wait for an acknowledgement before they are let go, and how long nobody is killed who may come to wait.
const WAITERS_AFTER: Duration = Duration::from_millis(100);

/// Who keeps its sessions. This process's own, the server's threads and replicas are always spared.
#[derive(Debug, Clone, Default)]
pub struct Spare {
    pub connections: Vec<u64>,
    /// The replication account and the peer agents' account.
    pub users: Vec<String>,
}

/// What to do with commits that wait for the peer's acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiters {
    /// Fail with `Fault::Unacknowledged` when they hold the fence up: to end their sessions would commit them.
    Spare,
    /// End their sessions, and switch semi-sync off for those that outlive that (MySQL): they commit here, unacknowledged, and nobody is told
    /// "committed".
    Free,
}

/// A server that takes no more writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Everything it has, read twice alike after it was closed.
    pub history: History,
    /// Sessions that stood in the way. All others are told to end as well, but nobody waits for that.
    pub killed: u32,
    /// MariaDB's event scheduler ran and was stopped: give this to `open_writes` when the server opens again.
    pub events_stopped: bool,
}

/// The keys of the server's own and its peer's transactions, as `observe` takes them.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    pub own: &'a str,
    pub peer: &'a str,
}

/// Read-only alone waits for running writes, and KILL alone lets new ones in: so the fence is issued on one connection, and when it is not
/// through at once, everybody is killed on another until it is. Then nobody can write; who is left is told to end, and not waited for: with
/// thousands of sessions that takes seconds. A failure to close leaves the server as open as before, only without its old sessions.
pub fn close_writes(login: &Login, keys: Keys, spare: &Spare, waiters: Waiters, limit: Duration) -> Result<Closed, SqlError> {
    let deadline = Instant::now() + limit;
    let login = login.within(limit + Duration::from_secs(1));
    let mut killer = open_in_time(&login, deadline, || Ok(()))?;
    let dialect = Dialect::of(&killer);
    // MySQL has no crash recovery that drops them.
    let waiters = if dialect.family == Family::MySql { Waiters::Free } else { waiters };
    let events_stopped = stop_events(&mut killer, dialect)?;
    let killed = match fence_and_kill(&mut killer, dialect, &login, spare, waiters, deadline) {
        Ok(killed) => u32::try_from(killed.len()).unwrap_or(u32::MAX),
        Err(error) => {
            if events_stopped {
                let _ = killer.run(START_EVENTS); // the first error says more
            }
            return Err(error);
        }
    };
    let newest = newest(&mut killer, dialect)?;
    let history = standing_still(&mut killer, keys, deadline)?;
    tidy_up(killer, dialect, login, spare.clone(), newest)?;
    Ok(Closed { history, killed, events_stopped })
}

/// The fence on its own connection, kills on this one when it is not through at once. Returns whom it killed.
fn fence_and_kill(
    killer: &mut Session,
    dialect: Dialect,
    login: &Login,
    spare: &Spare,
    waiters: Waiters,
    deadline: Instant,
) -> Result<BTreeSet<u64>, SqlError> {
    let (started, mut killed, mut freed, mut wait) = (Instant::now(), BTreeSet::new(), false, ALONE);
    // A server full of clients has one place left for an administrator, and that is taken: the kills make room.
    let fencer = open_in_time(login, deadline, || {
        end_some(killer, dialect, login, spare, (waiters, started)).map(|mut round| killed.append(&mut round.killed))
    })?;
    let fencer_id = fencer.connection_id();
    let fence = Job::start("closing to writes", move || fence(fencer, dialect, deadline))?;
    loop {
        match fence.answer.recv_timeout(wait) {
            Ok(Err(error)) if error.code == Some(1205) => break,
            Ok(outcome) => return outcome.map(|()| killed),
            Err(RecvTimeoutError::Disconnected) => return Err(SqlError::other("closing to writes: the worker vanished")),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                let _ = killer.run(&format!("KILL {fencer_id}"));
                fence.abandon();
                break;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        match end_some(killer, dialect, login, spare, (waiters, started)) {
            Ok(mut round) => killed.append(&mut round.killed),
            Err(error) => {
                let _ = killer.run(&format!("KILL {fencer_id}"));
                fence.abandon();
                return Err(error);
            }
        }
        wait = BETWEEN_KILLS;
        if waiters == Waiters::Free && !freed && started.elapsed() > WAITERS_AFTER {
            killer.run(dialect.semi_sync_source_off())?;
            freed = true;
        }
    }
    let blocker = end_some(killer, dialect, login, spare, (waiters, started))?.left.unwrap_or_else(|| "nobody that can be seen".to_owned());
    Err(SqlError::timeout(format!(
        "server at {}: not read-only after {} ms; {blocker} holds it up",
        login.target,
        started.elapsed().as_millis()
    )))
}

/// A fence that is through has met nobody who waits; one that is not may be held up by them, or by who is in the middle of a commit and about to
/// wait: nobody is killed at first.
fn end_some(
    killer: &mut Session,
    dialect: Dialect,
    login: &Login,
    spare: &Spare,
    (waiters, started): (Waiters, Instant),
) -> Result<Round, SqlError> {
    if waiters == Waiters::Spare {
        let waiting = semi_sync_waiting(killer, dialect)?;
        if waiting > 0 {
            let text = format!("server at {}: not closed: {waiting} commits wait for an acknowledgement that cannot come", login.target);
            return Err(SqlError { code: None, fault: Fault::Unacknowledged, text });
        }
        if started.elapsed() < WAITERS_AFTER {
            return Ok(Round::default());
        }
    }
    kill_some(killer, login, spare)
}

/// A closed server commits nothing that could wait, so nobody waits for this: MySQL takes up to a second to switch semi-sync off, until its
/// acknowledgement thread looks up, and sessions take theirs to end. A failure shows in the next observation.
fn tidy_up(mut killer: Session, dialect: Dialect, login: Login, spare: Spare, newest: u64) -> Result<(), SqlError> {
    if dialect.family == Family::MariaDb {
        killer.run(dialect.semi_sync_source_off())?;
    }
    let rest = move || {
        if dialect.family == Family::MySql {
            killer.run(dialect.semi_sync_source_off())?;
        }
        kill_all(&mut killer, &login, &spare, Some(newest), Instant::now() + LEFTOVERS)
    };
    Job::start("ending the sessions that are left", rest).map(Job::abandon)
}

/// A connection, although for the moment others have all of them (1040): `make_room`, and try again.
fn open_in_time(login: &Login, deadline: Instant, mut make_room: impl FnMut() -> Result<(), SqlError>) -> Result<Session, SqlError> {
    loop {
        match Session::open(login) {
            Err(error) if error.code == Some(1040) && Instant::now() < deadline => make_room()?,
            outcome => return outcome,
        }
        std::thread::sleep(STILL_FOR);
    }
}

/// `close_writes` at the peer, whose agent is silent while its server answers. `login` is the peer agents' account over TCP; `keys` are
/// seen from the peer: its own key is `keys.own`.
pub fn fence_remote(login: &Login, keys: Keys, spare: &Spare, limit: Duration) -> Result<Closed, SqlError> {
    close_writes(login, keys, spare, Waiters::Free, limit).map_err(|error| error.context("closing the peer's server"))
}

/// Kills every client session, again until none is left or the limit is reached. Returns how many, and who is left.
pub fn kill_all_clients(session: &mut Session, login: &Login, spare: &Spare, limit: Duration) -> Result<(u32, Option<String>), SqlError> {
    let (killed, left) = kill_all(session, login, spare, None, Instant::now() + limit)?;
    Ok((u32::try_from(killed.len()).unwrap_or(u32::MAX), left))
}

fn fence(mut session: Session, dialect: Dialect, deadline: Instant) -> Result<(), SqlError> {
    session.run(GIVE_UP_WAITING)?;
    loop {
        match session.run(dialect.close()) {
            // 1205: somebody holds a lock; the killing goes on meanwhile.
            Err(error) if error.code == Some(1205) && Instant::now() < deadline => {}
            outcome => return outcome,
        }
    }
}

/// Events of privileged definers go on writing under read_only on MariaDB; super_read_only stops MySQL's.
fn stop_events(session: &mut Session, dialect: Dialect) -> Result<bool, SqlError> {
    if dialect.family == Family::MySql || session.value("SELECT @@event_scheduler")?.as_deref() != Some("ON") {
        return Ok(false);
    }
    session.run(STOP_EVENTS)?;
    Ok(true)
}

#[derive(Default)]
struct Round {
    /// Connection ids told to end in this round; one that lingers is told again.
    killed: BTreeSet<u64>,
    /// The longest-running session that is still there.
    left: Option<String>,
}

/// The connection that was made last: ids only grow. Whoever comes later finds the server read-only, and may look at it.
fn newest(session: &mut Session, dialect: Dialect) -> Result<u64, SqlError> {
    let rows = from_process_list(session, dialect, "MAX(ID)")?;
    Ok(rows.first().and_then(|row| row.at(0)).and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// ID, USER, HOST, COMMAND, TIME, STATE, INFO of every session.
pub(super) fn sessions(session: &mut Session) -> Result<Vec<Record>, SqlError> {
    let dialect = Dialect::of(session);
    from_process_list(session, dialect, "ID, USER, HOST, COMMAND, TIME, STATE, LEFT(INFO, 80) AS INFO")
}

fn from_process_list(session: &mut Session, dialect: Dialect, columns: &str) -> Result<Vec<Record>, SqlError> {
    let mut rows = Vec::new();
    for list in dialect.process_lists() {
        rows = session.rows(&format!("SELECT {columns} FROM {list}"))?;
        if rows.first().is_some_and(|row| row.at(0).is_some()) {
            break;
        }
    }
    Ok(rows)
}

/// Those up to `newest`, or, without it, all that the first look finds.
fn kill_all(
    session: &mut Session,
    login: &Login,
    spare: &Spare,
    newest: Option<u64>,
    deadline: Instant,
) -> Result<(BTreeSet<u64>, Option<String>), SqlError> {
    let mut rows = sessions(session)?;
    let newest = newest.or_else(|| rows.iter().filter_map(id_of).max()).unwrap_or(0);
    let mut killed = BTreeSet::new();
    loop {
        let mut round = kill_once(session, &rows, login, spare, newest, usize::MAX)?;
        killed.append(&mut round.killed);
        if round.left.is_none() || Instant::now() >= deadline {
            return Ok((killed, round.left));
        }
        std::thread::sleep(STILL_FOR);
        rows = sessions(session)?;
    }
}

fn kill_some(session: &mut Session, login: &Login, spare: &Spare) -> Result<Round, SqlError> {
    let rows = sessions(session)?;
    kill_once(session, &rows, login, spare, u64::MAX, KILLS_AT_ONCE)
}

/// Of the connections up to `newest`, whoever is busy first, and the longest first.
fn kill_once(session: &mut Session, rows: &[Record], login: &Login, spare: &Spare, newest: u64, at_most: usize) -> Result<Round, SqlError> {
    let own = own_connections(&login.target);
    let counts = |row: &Record| id_of(row).is_some_and(|id| id <= newest);
    let mut clients: Vec<&Record> = rows.iter().filter(|row| is_client(row, &own, spare) && counts(row)).collect();
    let lasts = |row: &Record| row.get("TIME").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    clients.sort_by_key(|row| (row.get("COMMAND") == Some("Sleep"), std::cmp::Reverse(lasts(row))));
    let (mut killed, mut refused) = (BTreeSet::new(), None);
    for row in clients.iter().filter(|row| row.get("COMMAND") != Some("Killed")).take(at_most) {
        let Some(id) = id_of(row) else { continue };
        match session.run(&format!("KILL {id}")) {
            Ok(()) => drop(killed.insert(id)),
            // 1094: it went by itself.
            Err(error) if error.code == Some(1094) => {}
            Err(error) if error.code == Some(1095) => refused = Some(describe(row)),
            Err(error) => return Err(error),
        }
    }
    Ok(Round { killed, left: refused.or_else(|| clients.first().map(|row| describe(row))) })
}

/// Whether a session belongs to a client. Sessions still logging in are left alone: a fenced server lets them write nothing,
/// and they are listed by name next time.
fn is_client(row: &Record, own: &[u64], spare: &Spare) -> bool {
    let Some(id) = id_of(row) else { return false };
    let (user, command) = (row.get("USER").unwrap_or_default(), row.get("COMMAND").unwrap_or_default());
    !own.contains(&id)
        && !spare.connections.contains(&id)
        && !spare.users.iter().any(|name| name == user)
        && !["", "system user", "event_scheduler", "unauthenticated user"].contains(&user)
        && !command.starts_with("Binlog Dump")
        && !command.starts_with("Slave_")
        && command != "Daemon"
}

fn id_of(row: &Record) -> Option<u64> {
    row.get("ID").and_then(|id| id.parse().ok())
}

/// For people; statements that set passwords are not shown.
fn describe(row: &Record) -> String {
    let part = |name| row.get(name).unwrap_or_default();
    let statement = part("INFO");
    let lower = statement.to_ascii_lowercase();
    let shown = if lower.contains("password") || lower.contains("identified") { "(a statement about passwords)" } else { statement };
    let what = if shown.is_empty() { part("STATE") } else { shown };
    format!("session {} of '{}'@'{}' ({}, {} s: {})", part("ID"), part("USER"), part("HOST"), part("COMMAND"), part("TIME"), what)
}

/// Two observations alike, a moment apart: even root's last commit is in.
fn standing_still(session: &mut Session, keys: Keys, deadline: Instant) -> Result<History, SqlError> {
    let mut last: Observation = observe(session, keys.own, keys.peer)?;
    loop {
        std::thread::sleep(STILL_FOR);
        let now = observe(session, keys.own, keys.peer)?;
        // What the applier adds from the peer is no client's write.
        if now.history.without(keys.peer) == last.history.without(keys.peer) {
            if !now.read_only {
                return Err(SqlError::other(format!(
                    "server at {} was opened again by somebody else while it was being closed",
                    session.place()
                )));
            }
            return Ok(now.history);
        }
        if Instant::now() >= deadline {
            return Err(SqlError::timeout(format!(
                "server at {} is read-only, yet its position moves: {} more",
                session.place(),
                now.history.minus(&last.history)
            )));
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_killed() {
        let spare = Spare { connections: vec![40], users: vec!["replication".into(), "mmha_peer".into()] };
        for (id, user, command, expect) in [
            ("7", "app", "Sleep", true),
            ("8", "root", "Query", true),
            ("9", "debian-sys-maint", "Sleep", true),
            ("30", "root", "Query", false),
            ("40", "root", "Sleep", false),
            ("10", "replication", "Sleep", false),
            ("11", "mmha_peer", "Query", false),
            ("12", "dba", "Binlog Dump GTID", false),
            ("13", "system user", "Slave_SQL", false),
            ("14", "system user", "Connect", false),
            ("5", "event_scheduler", "Daemon", false),
            ("15", "unauthenticated user", "Connect", false),
            ("x", "app", "Sleep", false),
        ] {
            let row = Record::of(&[("ID", id), ("USER", user), ("COMMAND", command)]);
            assert_eq!(is_client(&row, &[30], &spare), expect, "{id} {user} {command}");
        }
    }

    #[test]
    fn blockers_are_named_without_secrets() {
        let row = |info| {
            Record::of(&[
                ("ID", "7"),
                ("USER", "app"),
                ("HOST", "192.0.2.9:4000"),
                ("COMMAND", "Query"),
                ("TIME", "30"),
                ("STATE", "updating"),
                ("INFO", info),
            ])
        };
        assert_eq!(describe(&row("UPDATE t SET a=1")), "session 7 of 'app'@'192.0.2.9:4000' (Query, 30 s: UPDATE t SET a=1)");
        assert!(!describe(&row("ALTER USER x IDENTIFIED BY 'secret'")).contains("secret"));
        assert!(describe(&row("")).contains("updating"));
    }
}
