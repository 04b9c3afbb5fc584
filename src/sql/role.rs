//! What the service does to a server, apart from closing it (`fence`): open, semi-sync, start and stop replication, wait, fetch back
//! a lost tail. Each function is straight-line, safe to repeat and bounded; none decides whether it is wise.

use std::time::{Duration, Instant};

use crate::sql::dialect::{
    Dialect, SHOW_REPLICA_STATUS, START_APPLIER, START_EVENTS, START_RECEIVER, START_REPLICATION, STOP_RECEIVER, STOP_REPLICATION,
};
use crate::sql::fence::{Spare, kill_all_clients, sessions};
use crate::sql::quote::literal;
use crate::sql::{ApplierState, Family, History, Login, ReceiverState, Record, Replica, Session, SqlError, status};

/// How long one wait inside the server lasts. It sits through a stopped applier, so status is looked at in between.
const SLICE_S: f32 = 0.05;
/// Old sessions are killed before a server opens; one that is rolling back may take longer and can write nothing.
const KILL_OLD_SESSIONS: Duration = Duration::from_millis(500);

/// How a server opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SemiSync {
    Off,
    /// Commits wait this long for the peer's acknowledgement before the server gives up on it by itself.
    On(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    Leave,
    Start,
}

/// Opens the server for writes, unless `permitted` says at the last moment that it must not be opened any more. Sessions left over from before
/// are killed first: they may hold writes their clients gave up on. `semi_sync`: `None` where it is as it should be.
pub fn open_writes(
    session: &mut Session,
    login: &Login,
    spare: &Spare,
    semi_sync: Option<SemiSync>,
    events: Events,
    permitted: impl Fn() -> bool,
) -> Result<(), SqlError> {
    kill_all_clients(session, login, spare, KILL_OLD_SESSIONS)?;
    semi_sync.map_or(Ok(()), |wanted| semi_sync_source(session, wanted))?;
    for statement in Dialect::of(session).open() {
        if !permitted() {
            return Err(SqlError::other("not opened: the order to open has been withdrawn"));
        }
        session.run(statement)?;
    }
    if events == Events::Start && session.family() == Family::MariaDb {
        session.run(START_EVENTS)?;
    }
    Ok(())
}

/// Semi-sync's source side. Only the active writer may have it on: on a standby the applier itself waits for acknowledgements.
pub fn semi_sync_source(session: &mut Session, semi_sync: SemiSync) -> Result<(), SqlError> {
    let dialect = Dialect::of(session);
    match semi_sync {
        SemiSync::On(timeout) => {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX));
            session.run(&dialect.semi_sync_source_on(timeout_ms))
        }
        SemiSync::Off => match session.run(dialect.semi_sync_source_off()) {
            // MySQL without the plugin: nothing to switch off.
            Err(error) if error.code == Some(1193) => Ok(()),
            outcome => outcome,
        },
    }
}

/// Ends the connections by which replicas read the binary log, each by an account in `users`: one whose replica has gone without a word would
/// stand in the way of the replica's next, until TCP gives it up (the server waits for its end first).
pub fn end_streams(session: &mut Session, users: &[String]) -> Result<(), SqlError> {
    let rows = sessions(session)?;
    let streams = |row: &&Record| {
        let user = row.get("USER").unwrap_or_default();
        row.get("COMMAND").unwrap_or_default().starts_with("Binlog Dump") && users.iter().any(|name| name == user)
    };
    for id in rows.iter().filter(streams).filter_map(|row| row.get("ID")).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())) {
        match session.run(&format!("KILL {id}")) {
            // 1094: it went by itself.
            Err(error) if error.code != Some(1094) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The server's replication as it is now. `None`: no source is configured.
pub fn replica(session: &mut Session) -> Result<Option<Replica>, SqlError> {
    Ok(status::parse(&session.rows(SHOW_REPLICA_STATUS)?, Dialect::of(session)))
}

/// Starts both threads. With both stopped MariaDB throws received rows away and fetches them again: only while the source is alive.
pub fn start_replication(session: &mut Session) -> Result<(), SqlError> {
    session.run(START_REPLICATION)
}

pub fn start_receiver(session: &mut Session) -> Result<(), SqlError> {
    session.run(START_RECEIVER)
}

/// Starts the applier alone, refused where that would throw away what was received: MariaDB keeps it only under a running receiver.
pub fn start_applier(session: &mut Session) -> Result<(), SqlError> {
    let now = replica(session)?.ok_or_else(|| no_source(session))?;
    let would_discard =
        session.family() == Family::MariaDb && now.receiver == ReceiverState::Stopped && now.applier == ApplierState::Stopped;
    if would_discard && !applied(session)?.contains(&now.received) {
        return Err(SqlError::other(format!(
            "server at {}: starting its applier now would discard rows it received and has not applied",
            session.place()
        )));
    }
    session.run(START_APPLIER)
}

/// Stops receiving and leaves the applier at work.
pub fn stop_receiver(session: &mut Session) -> Result<(), SqlError> {
    session.run(STOP_RECEIVER)
}

/// Waits until what the peer wrote is applied here up to `target` (other servers' parts of it are ignored).
pub fn wait_applied(session: &mut Session, peer_key: &str, target: &History, limit: Duration) -> Result<(), SqlError> {
    let deadline = Instant::now() + limit;
    let target = target.only(peer_key);
    loop {
        let missing = target.minus(&applied(session)?);
        if missing.is_empty() {
            return Ok(());
        }
        let now = replica(session)?.ok_or_else(|| no_source(session))?;
        if now.applier == ApplierState::Stopped {
            let error = now.error().unwrap_or_else(|| "nobody said why".to_owned());
            return Err(SqlError::other(format!(
                "server at {}: its applier is stopped with {missing} to apply ({error})",
                session.place()
            )));
        }
        if Instant::now() >= deadline {
            return Err(SqlError::timeout(format!(
                "server at {}: {missing} still to apply after {} ms",
                session.place(),
                limit.as_millis()
            )));
        }
        let wait = Dialect::of(session).wait_applied(&missing, SLICE_S);
        session.value(&wait)?;
    }
}

/// Fetches the end of the server's own history back from the peer, up to `target`, and leaves both replication threads running.
/// The server must be read-only and its threads stopped. Waits on the position, never on time alone.
pub fn recover_lost_tail(session: &mut Session, own_key: &str, server_id: u32, target: &History, limit: Duration) -> Result<(), SqlError> {
    let deadline = Instant::now() + limit;
    let dialect = Dialect::of(session);
    if session.value(dialect.is_closed())?.as_deref() != Some("1") {
        return Err(SqlError::other(format!("server at {} must be read-only while it fetches its own history back", session.place())));
    }
    if dialect.family == Family::MySql {
        return recover_under_another_id(session, own_key, server_id, &target.only(own_key), deadline);
    }
    session.run(STOP_REPLICATION)?;
    resume_from_binlog(session, own_key)?;
    if session.value(dialect.takes_back_own_history())?.as_deref() != Some("1") {
        return recover_under_another_id(session, own_key, server_id, &target.only(own_key), deadline);
    }
    session.run(START_REPLICATION)?;
    wait_logged(session, own_key, &target.only(own_key), deadline)
}

/// MariaDB asks the peer for what follows gtid_slave_pos. In the own domain that is an echo which may lag (then own history is applied
/// twice, 1950) or have jumped over the lost tail (then nothing comes): the binlog knows where it really ends.
fn resume_from_binlog(session: &mut Session, own_key: &str) -> Result<(), SqlError> {
    let own = format!("{own_key}-");
    let (logged, applied) = (session.value("SELECT @@gtid_binlog_pos")?, session.value("SELECT @@gtid_slave_pos")?);
    let (logged, applied) = (logged.unwrap_or_default(), applied.unwrap_or_default());
    let ours = logged.split(',').filter(|gtid| gtid.starts_with(&own));
    let position: Vec<&str> = ours.chain(applied.split(',').filter(|gtid| !gtid.is_empty() && !gtid.starts_with(&own))).collect();
    session.run(&format!("SET GLOBAL gtid_slave_pos={}", literal(&position.join(","))?))
}

/// A receiver drops what carries its own server_id, so it borrows another one for the time. `restore_server_id` undoes an interruption.
fn recover_under_another_id(
    session: &mut Session,
    own_key: &str,
    server_id: u32,
    target: &History,
    deadline: Instant,
) -> Result<(), SqlError> {
    session.run(STOP_REPLICATION)?;
    session.run(&format!("SET GLOBAL server_id={}", borrowed_id(server_id)))?;
    let outcome = session.run(START_REPLICATION).and_then(|()| wait_logged(session, own_key, target, deadline));
    restore_server_id(session, server_id)?;
    outcome?;
    session.run(START_REPLICATION)
}

/// Gives the server its configured id back, with replication stopped, if an interrupted recovery left another.
pub fn restore_server_id(session: &mut Session, server_id: u32) -> Result<(), SqlError> {
    if session.value("SELECT @@global.server_id")? == Some(server_id.to_string()) {
        return Ok(());
    }
    session.run(STOP_REPLICATION)?;
    session.run(&format!("SET GLOBAL server_id={server_id}"))
}

/// An id neither node has by any sane configuration, and still a valid one.
fn borrowed_id(server_id: u32) -> u32 {
    if server_id < u32::MAX - 1_000_000 { server_id + 1_000_000 } else { server_id - 1_000_000 }
}

fn wait_logged(session: &mut Session, own_key: &str, target: &History, deadline: Instant) -> Result<(), SqlError> {
    let dialect = Dialect::of(session);
    loop {
        let text = session.value(dialect.position())?.unwrap_or_default();
        let missing = target.minus(&dialect.history(&text).unwrap_or_default().only(own_key));
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(now) = replica(session)?.filter(|now| now.applier == ApplierState::Stopped || now.receiver == ReceiverState::Stopped) {
            let error = now.error().unwrap_or_else(|| "replication is stopped".to_owned());
            return Err(SqlError::other(format!("server at {}: {missing} of its own history not fetched back ({error})", session.place())));
        }
        if Instant::now() >= deadline {
            return Err(SqlError::timeout(format!("server at {}: {missing} of its own history not fetched back in time", session.place())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn applied(session: &mut Session) -> Result<History, SqlError> {
    let dialect = Dialect::of(session);
    let text = session.value(dialect.applied())?.unwrap_or_default();
    dialect.history(&text).ok_or_else(|| SqlError::other(format!("server at {} has a position nobody can read: {text:?}", session.place())))
}

fn no_source(session: &Session) -> SqlError {
    SqlError::other(format!("server at {} has no replication source: run `mmha bootstrap` on both nodes", session.place()))
}

#[cfg(test)]
mod tests {
    use super::borrowed_id;

    #[test]
    fn a_borrowed_id_is_another_valid_one() {
        for id in [1, 2, 1_000_001, u32::MAX - 1_000_000, u32::MAX] {
            assert!(borrowed_id(id) != id && borrowed_id(id) > 0, "{id}");
        }
    }
}
