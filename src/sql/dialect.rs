//! The one table of statements that differ between the families and versions. Text only; names follow MySQL's newer words.
//! Statements that all supported servers share (START REPLICA, SHOW REPLICA STATUS, KILL ...) stand here too, so that one file shows them all.

use crate::sql::quote::{account, literal};
use crate::sql::session::{Family, Session, family_of, triple};
use crate::sql::{History, SqlError};

pub const SHOW_REPLICA_STATUS: &str = "SHOW REPLICA STATUS";
pub const START_REPLICATION: &str = "START REPLICA";
pub const START_RECEIVER: &str = "START REPLICA IO_THREAD";
pub const START_APPLIER: &str = "START REPLICA SQL_THREAD";
pub const STOP_REPLICATION: &str = "STOP REPLICA";
pub const STOP_RECEIVER: &str = "STOP REPLICA IO_THREAD";
pub const FORGET_SOURCE: &str = "RESET REPLICA ALL";
/// Makes a statement that waits for a lock give up with 1205 after a second instead of a year.
pub const GIVE_UP_WAITING: &str = "SET SESSION lock_wait_timeout=1";
pub const STOP_EVENTS: &str = "SET GLOBAL event_scheduler=OFF";
pub const START_EVENTS: &str = "SET GLOBAL event_scheduler=ON";
pub const LOG_NOTHING: &str = "SET SESSION sql_log_bin=0";
pub const LOG_AGAIN: &str = "SET SESSION sql_log_bin=1";

/// Which words a server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    pub family: Family,
    pub version: (u16, u16, u16),
}

/// Where a receiver connects to and as whom.
pub struct Source<'a> {
    pub host: &'a str,
    pub port: u16,
    pub user: &'a str,
    pub password: &'a str,
}

impl Dialect {
    pub fn of(session: &Session) -> Dialect {
        Dialect { family: session.family(), version: session.version() }
    }

    /// From what `@@version` or `--version` says.
    pub fn from_version(text: &str) -> Dialect {
        Dialect { family: family_of(text), version: triple(text) }
    }

    fn is_mariadb(self) -> bool {
        self.family == Family::MariaDb
    }

    /// MySQL 9.x and 8.4 dropped the words MASTER and SLAVE; 8.0 and 8.1 know no others for these.
    fn has_new_words(self) -> bool {
        self.version >= (8, 2, 0)
    }

    pub fn close(self) -> &'static str {
        if self.is_mariadb() { "SET GLOBAL read_only=1" } else { "SET GLOBAL super_read_only=1" }
    }

    /// On MySQL `read_only=0` clears super_read_only too; both are said so that a failure says which.
    pub fn open(self) -> &'static [&'static str] {
        if self.is_mariadb() { &["SET GLOBAL read_only=0"] } else { &["SET GLOBAL super_read_only=0", "SET GLOBAL read_only=0"] }
    }

    pub fn is_closed(self) -> &'static str {
        if self.is_mariadb() { "SELECT @@read_only" } else { "SELECT @@super_read_only" }
    }

    /// Tables with a row for every session, who asks included: the first that is not empty counts. MySQL's newer one is empty while
    /// performance_schema is off; the older one holds a lock that every connection needs, and is to go
    /// (manual, "The processlist Table").
    pub fn process_lists(self) -> &'static [&'static str] {
        if self.is_mariadb() {
            &["information_schema.PROCESSLIST"]
        } else {
            &["performance_schema.processlist", "information_schema.PROCESSLIST"]
        }
    }

    /// In one row: read_only, server_id, server_key, logged, applied, semi_enabled, events.
    pub fn observation(self) -> &'static str {
        // No aggregate and no table beside the variables: MariaDB 10.11 then answers 0 for @@read_only whatever it is.
        if self.is_mariadb() {
            "SELECT @@read_only AS read_only, @@server_id AS server_id, @@gtid_domain_id AS server_key, @@gtid_binlog_pos AS logged, \
             @@gtid_slave_pos AS applied, @@rpl_semi_sync_master_enabled AS semi_enabled, @@event_scheduler AS events"
        } else {
            "SELECT @@super_read_only AS read_only, @@server_id AS server_id, @@server_uuid AS server_key, @@gtid_executed AS logged, \
             '' AS applied, @@event_scheduler AS events, \
             (SELECT VARIABLE_VALUE FROM performance_schema.global_variables WHERE VARIABLE_NAME='rpl_semi_sync_source_enabled') AS semi_enabled"
        }
    }

    /// Variable_name and Value; the names end in `_status`, `_clients` and `_wait_sessions` in both families.
    pub fn semi_sync_state(self) -> &'static str {
        if self.is_mariadb() {
            "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master%'"
        } else {
            "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source%'"
        }
    }

    /// For how many seconds it has been running.
    pub fn uptime(self) -> &'static str {
        if self.is_mariadb() {
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='UPTIME'"
        } else {
            "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME='Uptime'"
        }
    }

    /// The server's own writes, to be read twice while they should stand still. Never gtid_current_pos: it hides a lost tail.
    pub fn position(self) -> &'static str {
        if self.is_mariadb() { "SELECT @@gtid_binlog_pos" } else { "SELECT @@gtid_executed" }
    }

    /// What has been applied from others.
    pub fn applied(self) -> &'static str {
        if self.is_mariadb() { "SELECT @@gtid_slave_pos" } else { "SELECT @@gtid_executed" }
    }

    pub fn history(self, text: &str) -> Option<History> {
        if self.is_mariadb() { History::parse_mariadb(text) } else { History::parse_mysql(text) }
    }

    /// Waits up to `seconds` until `target` is applied, and is no proof of anything: it sits through a stopped applier.
    /// MariaDB compares only domain and sequence, so the domain stands in for the server id the history does not keep.
    pub fn wait_applied(self, target: &History, seconds: f32) -> String {
        if !self.is_mariadb() {
            return format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{target}', {seconds:.3})");
        }
        let position: Vec<String> =
            target.keys().filter_map(|domain| target.last(domain).map(|last| format!("{domain}-{domain}-{last}"))).collect();
        format!("SELECT MASTER_GTID_WAIT('{}', {seconds:.3})", position.join(","))
    }

    pub fn semi_sync_source_off(self) -> &'static str {
        if self.is_mariadb() { "SET GLOBAL rpl_semi_sync_master_enabled=0" } else { "SET GLOBAL rpl_semi_sync_source_enabled=0" }
    }

    /// One statement, as clients wait for it; the server works through it from left to right.
    pub fn semi_sync_source_on(self, timeout_ms: u64) -> String {
        let (word, none) = if self.is_mariadb() { ("master", "slave") } else { ("source", "replica") };
        format!(
            "SET GLOBAL rpl_semi_sync_{word}_timeout={timeout_ms}, GLOBAL rpl_semi_sync_{word}_wait_point=AFTER_SYNC, \
             GLOBAL rpl_semi_sync_{word}_wait_no_{none}=1, GLOBAL rpl_semi_sync_{word}_enabled=1"
        )
    }

    /// Whether a server that lost the end of its own history accepts it back from the peer by itself (MariaDB only).
    pub fn takes_back_own_history(self) -> &'static str {
        if self.is_mariadb() { "SELECT @@gtid_strict_mode AND @@rpl_semi_sync_slave_enabled" } else { "SELECT 0" }
    }

    /// Empties binlog and GTID history. Destroys replication of everybody downstream: guard it.
    pub fn reset_history(self) -> &'static [&'static str] {
        match (self.is_mariadb(), self.has_new_words()) {
            (true, _) => &["RESET MASTER", "SET GLOBAL gtid_slave_pos=''"],
            (false, true) => &["RESET BINARY LOGS AND GTIDS"],
            (false, false) => &["RESET MASTER"],
        }
    }

    /// One row per source this server follows, whatever its channel.
    pub fn all_sources(self) -> &'static str {
        if self.is_mariadb() { "SHOW ALL REPLICAS STATUS" } else { SHOW_REPLICA_STATUS }
    }

    /// One row per replica attached.
    pub fn attached_replicas(self) -> &'static str {
        if self.is_mariadb() { "SHOW REPLICA HOSTS" } else { "SHOW REPLICAS" }
    }

    pub fn follow(self, source: &Source) -> Result<String, SqlError> {
        let (host, user, password) = (literal(source.host)?, literal(source.user)?, literal(source.password)?);
        let port = source.port;
        Ok(if self.is_mariadb() {
            format!(
                "CHANGE MASTER TO MASTER_HOST={host}, MASTER_PORT={port}, MASTER_USER={user}, MASTER_PASSWORD={password}, \
                 MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1"
            )
        } else {
            // Retry count 0 is for ever; the default makes the receiver give up for good after ten attempts.
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST={host}, SOURCE_PORT={port}, SOURCE_USER={user}, SOURCE_PASSWORD={password}, \
                 SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=1"
            )
        })
    }

    /// Makes the account, or gives it this password if it is there.
    pub fn make_account(self, user: &str, host: &str, password: &str) -> Result<Vec<String>, SqlError> {
        let (name, password) = (account(user, host)?, literal(password)?);
        let by = if self.is_mariadb() {
            format!("IDENTIFIED VIA mysql_native_password USING PASSWORD({password})")
        } else {
            format!("IDENTIFIED WITH caching_sha2_password BY {password}")
        };
        Ok(vec![format!("CREATE USER IF NOT EXISTS {name} {by}"), format!("ALTER USER {name} {by}")])
    }

    pub fn grant_replication(self, user: &str, host: &str) -> Result<Vec<String>, SqlError> {
        Ok(vec![format!("GRANT REPLICATION SLAVE ON *.* TO {}", account(user, host)?)])
    }

    /// What the peer's agent needs to close this server when the agent here is frozen: read-only, events off, kill, look.
    /// SUPER is for event_scheduler on MariaDB; SYSTEM_USER lets it kill root's sessions on MySQL.
    pub fn grant_fencing(self, user: &str, host: &str) -> Result<Vec<String>, SqlError> {
        let name = account(user, host)?;
        let privileges = if self.is_mariadb() {
            "SUPER, PROCESS, CONNECTION ADMIN, READ ONLY ADMIN, BINLOG MONITOR, SLAVE MONITOR, REPLICATION MASTER ADMIN, REPLICATION SLAVE ADMIN"
        } else {
            "PROCESS, REPLICATION CLIENT, REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, SYSTEM_VARIABLES_ADMIN, SYSTEM_USER"
        };
        let mut grants = vec![format!("GRANT {privileges} ON *.* TO {name}"), format!("GRANT SELECT ON `mmha`.* TO {name}")];
        if !self.is_mariadb() {
            grants.push(format!("GRANT SELECT ON performance_schema.* TO {name}"));
        }
        Ok(grants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: Dialect = Dialect { family: Family::MariaDb, version: (10, 11, 19) };
    const MYSQL: Dialect = Dialect { family: Family::MySql, version: (9, 7, 4) };
    const MYSQL80: Dialect = Dialect { family: Family::MySql, version: (8, 0, 36) };

    /// No statement uses a word its server does not know (facts from trials: 1064, 1193 and 1524).
    #[test]
    fn each_family_hears_its_own_words() {
        for (dialect, foreign) in [
            (
                MARIADB,
                &[
                    "SOURCE",
                    "super_read_only",
                    "REPLICATION SOURCE",
                    "caching_sha2",
                    "gtid_executed",
                    "RESET BINARY",
                    "_ADMIN",
                    "SHOW REPLICAS",
                ][..],
            ),
            (MYSQL, &["MASTER", "master", "slave_", "mysql_native", "gtid_slave", "gtid_binlog", "REPLICA HOSTS", "READ ONLY ADMIN"][..]),
        ] {
            let source = Source { host: "192.0.2.1", port: 3306, user: "replication", password: "p" };
            let mut all: Vec<String> = vec![
                dialect.close().into(),
                dialect.is_closed().into(),
                dialect.observation().into(),
                dialect.semi_sync_state().into(),
                dialect.uptime().into(),
                dialect.position().into(),
                dialect.applied().into(),
                dialect.semi_sync_source_off().into(),
                dialect.attached_replicas().into(),
                dialect.follow(&source).unwrap(),
            ];
            all.extend(dialect.open().iter().chain(dialect.reset_history()).map(|text| (*text).to_owned()));
            all.push(dialect.semi_sync_source_on(86_400_000));
            all.extend(dialect.make_account("u", "h", "p").unwrap());
            all.extend(dialect.grant_fencing("u", "h").unwrap());
            for statement in all {
                for word in foreign {
                    assert!(!statement.contains(word), "{word} in {statement}");
                }
            }
        }
    }

    #[test]
    fn statements_that_depend_on_the_version() {
        assert_eq!(MYSQL80.reset_history(), ["RESET MASTER"]);
        assert_eq!(MYSQL.reset_history(), ["RESET BINARY LOGS AND GTIDS"]);
        assert_eq!(MARIADB.reset_history().len(), 2);
    }

    #[test]
    fn waiting_names_the_position() {
        let target = History::parse_mariadb("2-7-9").unwrap();
        assert_eq!(MARIADB.wait_applied(&target, 0.05), "SELECT MASTER_GTID_WAIT('2-2-9', 0.050)");
        let target = History::parse_mysql("00000000-0000-0000-0000-000000000002:1-5:7").unwrap();
        assert_eq!(
            MYSQL.wait_applied(&target, 0.05),
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('00000000-0000-0000-0000-000000000002:1-5:7', 0.050)"
        );
    }

    #[test]
    fn hostile_values_are_refused_or_quoted() {
        let bad = Source { host: "h", port: 1, user: "u", password: "\\" };
        assert!(MARIADB.follow(&bad).is_err());
        let odd = Source { host: "h", port: 1, user: "u'", password: "p'" };
        assert!(MYSQL.follow(&odd).unwrap().contains("SOURCE_USER='u''', SOURCE_PASSWORD='p'''"));
        assert!(MARIADB.make_account("u", "h", "\\").is_err());
    }
}
