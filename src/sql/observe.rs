//! Looks at a server: read-only state, position, replication, semi-sync, in three round trips at most. Only looks.

use crate::sql::dialect::{Dialect, SHOW_REPLICA_STATUS};
use crate::sql::status::{self, Replica};
use crate::sql::{Family, History, Record, Session, SqlError};

/// How the status variable's name ends that counts the commits waiting for an acknowledgement, in both families.
const WAITING: &str = "_wait_sessions";

/// A server as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Nobody writes: `read_only` on MariaDB, `super_read_only` on MySQL.
    pub read_only: bool,
    /// What it has: its own writes as its own binlog has them, everybody else's as applied.
    pub history: History,
    /// `None`: no source is configured.
    pub replica: Option<Replica>,
    pub semi_sync_source_on: bool,
    /// On and not degraded.
    pub semi_sync_active: bool,
    pub semi_sync_clients: u32,
    /// Commits waiting for an acknowledgement now.
    pub semi_sync_waiting: u32,
    pub events_on: bool,
    pub server_id: u32,
    pub version: String,
    /// Its own key in histories: MariaDB's gtid_domain_id, MySQL's server_uuid.
    pub server_key: String,
}

impl Observation {
    /// What has arrived and waits for the applier.
    pub fn unapplied(&self) -> History {
        self.replica.as_ref().map(|replica| self.history.unapplied(&replica.received, &self.server_key)).unwrap_or_default()
    }
}

/// `peer_key` tells MariaDB which domain is the peer's. For MySQL the keys change nothing.
pub fn observe(session: &mut Session, own_key: &str, peer_key: &str) -> Result<Observation, SqlError> {
    let dialect = Dialect::of(session);
    let answer = session.rows(dialect.observation())?;
    let row = answer.first().ok_or_else(|| SqlError::other(format!("server at {} answers an empty observation", session.place())))?;
    let replica = status::parse(&session.rows(SHOW_REPLICA_STATUS)?, dialect);
    let semi_sync_source_on = is_on(row, "semi_enabled");
    // A server goes through all its status variables for these, and where nobody waits for a replica they say nothing.
    let semi_sync = if semi_sync_source_on { session.rows(dialect.semi_sync_state())? } else { Vec::new() };
    let semi = |end| ending_in(&semi_sync, end);
    let counted = |end| semi(end).and_then(|text| text.parse().ok()).unwrap_or(0);
    let parsed = |column: &str| {
        let text = row.get(column).unwrap_or_default();
        dialect
            .history(text)
            .ok_or_else(|| SqlError::other(format!("server at {} has a position nobody can read: {text:?}", session.place())))
    };
    let history = match dialect.family {
        Family::MariaDb => mariadb_history(&parsed("logged")?, &parsed("applied")?, own_key, peer_key),
        Family::MySql => parsed("logged")?,
    };
    Ok(Observation {
        read_only: is_on(row, "read_only"),
        history,
        replica,
        semi_sync_source_on,
        semi_sync_active: semi("master_status").or(semi("source_status")) == Some("ON"),
        semi_sync_clients: counted("_clients"),
        semi_sync_waiting: counted(WAITING),
        events_on: is_on(row, "events"),
        server_id: row.get("server_id").and_then(|text| text.parse().ok()).unwrap_or(0),
        version: session.version_text().to_owned(),
        server_key: row.get("server_key").unwrap_or_default().to_ascii_lowercase(),
    })
}

/// How many commits wait for an acknowledgement now.
pub(super) fn semi_sync_waiting(session: &mut Session, dialect: Dialect) -> Result<u32, SqlError> {
    let rows = session.rows(dialect.semi_sync_state())?;
    Ok(ending_in(&rows, WAITING).and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// The value of the status variable whose name ends so.
fn ending_in<'a>(rows: &'a [Record], end: &str) -> Option<&'a str> {
    rows.iter().find(|row| row.at(0).is_some_and(|name| name.ends_with(end))).and_then(|row| row.at(1))
}

/// A server's own domain counts as far as its own binlog goes: its gtid_slave_pos there is an echo that jumps over a lost tail.
/// The peer's domain counts as far as it is applied: filtered events never reach the own binlog. Anybody else's counts either way.
fn mariadb_history(logged: &History, applied: &History, own_key: &str, peer_key: &str) -> History {
    let others = logged.without(own_key).without(peer_key).union(&applied.without(own_key).without(peer_key));
    logged.only(own_key).union(&applied.only(peer_key)).union(&others)
}

fn is_on(row: &Record, column: &str) -> bool {
    matches!(row.get(column), Some("1" | "ON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_from_where_it_is_true() {
        for (logged, applied, expect) in [
            // A lost tail: the slave position claims what the binlog does not have.
            ("1-1-12,2-2-5", "1-1-22,2-2-5", "1:1-12,2:1-5"),
            // Filtered events of the peer are applied but not in the own binlog.
            ("1-1-12,2-2-3", "2-2-9", "1:1-12,2:1-9"),
            // The echo of own writes lags: normal.
            ("1-1-2558", "1-1-629", "1:1-2558"),
            // A third domain, written here or received.
            ("1-1-1,7-1-4", "7-1-3", "1:1,7:1-4"),
            ("", "", ""),
        ] {
            let parse = |text| History::parse_mariadb(text).unwrap();
            assert_eq!(mariadb_history(&parse(logged), &parse(applied), "1", "2").to_string(), expect);
        }
    }
}
