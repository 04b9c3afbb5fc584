//! Closes a server to its clients, here or at the peer: read-only, their sessions killed, the position standing still.
//! Decides nothing about whether that is wise; never opens anything.

use std::collections::BTreeSet;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::sql::dialect::{Dialect, GIVE_UP_WAITING, START_EVENTS, STOP_EVENTS};
use crate::sql::session::own_connections;
use crate::sql::worker::Job;
use crate::sql::{Family, History, Login, Observation, Record, Session, SqlError, observe};

/// How often sessions are listed and killed while the fence waits for them.
const KILL_EVERY: Duration = Duration::from_millis(20);
/// A position that reads the same this far apart stands still.
const STILL_FOR: Duration = Duration::from_millis(2);
/// How long MySQL's killed commits may wait for an acknowledgement before they are let go.
const WAITERS_AFTER: Duration = Duration::from_millis(100);

/// Who keeps its sessions. This process's own, the server's threads and replicas are always spared.
#[derive(Debug, Clone, Default)]
pub struct Spare {
    pub connections: Vec<u64>,
    /// The replication account and the peer agents' account.
    pub users: Vec<String>,
}

/// What to do with commits that wait for the peer's acknowledgement and outlive the KILL of their session (MySQL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiters {
    /// Let them hold the fence up: it fails at its limit.
    Keep,
    /// Switch semi-sync off after the kills: they commit here, unacknowledged, and nobody is told "committed".
    Free,
}

/// A server that takes no more writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Everything it has, read twice alike after the last session was gone.
    pub history: History,
    pub killed: u32,
    /// Who was still there at the end, if anybody.
    pub blocker: Option<String>,
    /// MariaDB's event scheduler ran and was stopped: give this to `open_writes` when the server opens again.
    pub events_stopped: bool,
}

/// The keys of the server's own and its peer's transactions, as `observe` takes them.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    pub own: &'a str,
    pub peer: &'a str,
}

/// Read-only alone waits for running writes, and KILL alone lets new ones in: so the fence is issued on one connection and, at once
/// and again and again, everybody is killed on another until the fence is through. A failure to close leaves
/// the server as open as before, only without its old sessions.
pub fn close_writes(login: &Login, keys: Keys, spare: &Spare, waiters: Waiters, limit: Duration) -> Result<Closed, SqlError> {
    let deadline = Instant::now() + limit;
    let login = login.within(limit + Duration::from_secs(1));
    let mut killer = open_in_time(&login, deadline, || Ok(()))?;
    let dialect = Dialect::of(&killer);
    let events_stopped = stop_events(&mut killer, dialect)?;
    let killed = match fence_and_kill(&mut killer, dialect, &login, spare, waiters, deadline) {
        Ok(killed) => killed,
        Err(error) => {
            if events_stopped {
                killer.run(START_EVENTS)?;
            }
            return Err(error);
        }
    };
    let (more, blocker) = kill_all(&mut killer, dialect, &login, spare, deadline)?;
    let history = standing_still(&mut killer, keys, deadline)?;
    switch_semi_sync_off(killer, dialect)?;
    let killed = u32::try_from(killed.union(&more).count()).unwrap_or(u32::MAX);
    Ok(Closed { history, killed, blocker, events_stopped })
}

/// The fence on its own connection, kills on this one until it is through. Returns whom it killed.
fn fence_and_kill(
    killer: &mut Session,
    dialect: Dialect,
    login: &Login,
    spare: &Spare,
    waiters: Waiters,
    deadline: Instant,
) -> Result<BTreeSet<u64>, SqlError> {
    let (started, mut killed, mut freed) = (Instant::now(), BTreeSet::new(), false);
    // A server full of clients has one place left for an administrator, and that is taken: the kills make room.
    let fencer =
        open_in_time(login, deadline, || kill_once(killer, dialect, login, spare, None).map(|mut round| killed.append(&mut round.killed)))?;
    let fencer_id = fencer.connection_id();
    let fence = Job::start("closing to writes", move || fence(fencer, dialect, deadline))?;
    loop {
        killed.append(&mut kill_once(killer, dialect, login, spare, None)?.killed);
        match fence.answer.recv_timeout(KILL_EVERY) {
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
        if waiters == Waiters::Free && !freed && started.elapsed() > WAITERS_AFTER {
            killer.run(dialect.semi_sync_source_off())?;
            freed = true;
        }
    }
    let blocker = kill_once(killer, dialect, login, spare, None)?.left.unwrap_or_else(|| "nobody that can be seen".to_owned());
    Err(SqlError::timeout(format!(
        "server at {}: not read-only after {} ms; {blocker} holds it up",
        login.target,
        started.elapsed().as_millis()
    )))
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
    let dialect = Dialect::of(session);
    let (killed, left) = kill_all(session, dialect, login, spare, Instant::now() + limit)?;
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

struct Round {
    /// Everybody who counted.
    there: BTreeSet<u64>,
    /// Connection ids told to end in this round; one that lingers is told again.
    killed: BTreeSet<u64>,
    /// The longest-running session that is still there.
    left: Option<String>,
}

fn kill_all(
    session: &mut Session,
    dialect: Dialect,
    login: &Login,
    spare: &Spare,
    deadline: Instant,
) -> Result<(BTreeSet<u64>, Option<String>), SqlError> {
    let mut killed = BTreeSet::new();
    let mut round = kill_once(session, dialect, login, spare, None)?;
    let there = round.there.clone();
    loop {
        killed.append(&mut round.killed);
        if round.left.is_none() || Instant::now() >= deadline {
            return Ok((killed, round.left));
        }
        std::thread::sleep(STILL_FOR);
        // Whoever comes later finds the server read-only, and may look at it.
        round = kill_once(session, dialect, login, spare, Some(&there))?;
    }
}

/// `among`: only sessions with these ids count; `None`: all clients.
fn kill_once(
    session: &mut Session,
    dialect: Dialect,
    login: &Login,
    spare: &Spare,
    among: Option<&BTreeSet<u64>>,
) -> Result<Round, SqlError> {
    let rows = session.rows(dialect.sessions())?;
    let own = own_connections(&login.target);
    let counts = |row: &Record| among.is_none_or(|ids| id_of(row).is_some_and(|id| ids.contains(&id)));
    let mut clients: Vec<&Record> = rows.iter().filter(|row| is_client(row, &own, spare) && counts(row)).collect();
    clients.sort_by_key(|row| std::cmp::Reverse(row.get("TIME").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)));
    let (mut killed, mut refused) = (BTreeSet::new(), None);
    for row in &clients {
        let Some(id) = id_of(row).filter(|_| row.get("COMMAND") != Some("Killed")) else { continue };
        match session.run(&format!("KILL {id}")) {
            Ok(()) => drop(killed.insert(id)),
            // 1094: it went by itself.
            Err(error) if error.code == Some(1094) => {}
            Err(error) if error.code == Some(1095) => refused = Some(describe(row)),
            Err(error) => return Err(error),
        }
    }
    let there = clients.iter().filter_map(|row| id_of(row)).collect();
    Ok(Round { there, killed, left: refused.or_else(|| clients.first().map(|row| describe(row))) })
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

/// A closed server commits nothing that could wait, so nobody waits for this: MySQL takes up to a second, until its acknowledgement
/// thread looks up. A failure shows in the next observation.
fn switch_semi_sync_off(mut session: Session, dialect: Dialect) -> Result<(), SqlError> {
    if dialect.family == Family::MariaDb {
        return session.run(dialect.semi_sync_source_off());
    }
    Job::start("switching semi-sync off", move || session.run(dialect.semi_sync_source_off())).map(Job::abandon)
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
