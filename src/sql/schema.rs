//! Our own schema `mmha` in each server, and what bootstrap asks about everybody else's. Text only.

use crate::sql::SqlError;
use crate::sql::quote::{expression, identifier, literal};

/// Held by a running bootstrap on its own server: it goes when the process goes, so the peer sees who is really there.
pub const TAKE_LOCK: &str = "SELECT GET_LOCK('mmha_bootstrap', 0)";
/// Enough to read what the other side wrote about itself: one row per node, never replicated.
pub const READ_MEETING: &str =
    "SELECT run, peer_run, phase, facts, IS_USED_LOCK('mmha_bootstrap') IS NOT NULL AS running FROM `mmha`.bootstrap WHERE node=";

pub const CREATE: [&str; 4] = [
    "CREATE DATABASE IF NOT EXISTS `mmha`",
    "CREATE TABLE IF NOT EXISTS `mmha`.bootstrap (node TINYINT UNSIGNED NOT NULL PRIMARY KEY, run VARCHAR(64) NOT NULL, \
     peer_run VARCHAR(64) NOT NULL, phase TINYINT UNSIGNED NOT NULL, facts LONGTEXT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE IF NOT EXISTS `mmha`.marker (node TINYINT UNSIGNED NOT NULL PRIMARY KEY, token VARCHAR(64) NOT NULL) \
     ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    "CREATE TABLE IF NOT EXISTS `mmha`.probe (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, turn BIGINT UNSIGNED NOT NULL) \
     ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
];

/// The disk probe's row is written unlogged, so that it is nobody's transaction, and never waits long for somebody's lock.
pub const PREPARE_PROBE: [&str; 3] =
    ["SET SESSION sql_log_bin=0", "SET SESSION lock_wait_timeout=1", "SET SESSION innodb_lock_wait_timeout=1"];
pub const WRITE_PROBE: &str = "INSERT INTO `mmha`.probe (id, turn) VALUES (1, 1) ON DUPLICATE KEY UPDATE turn=turn+1";

pub fn write_meeting(node: u8, run: &str, peer_run: &str, phase: u8, facts: &str) -> String {
    format!(
        "REPLACE INTO `mmha`.bootstrap (node, run, peer_run, phase, facts) VALUES ({node}, {}, {}, {phase}, {})",
        expression(run),
        expression(peer_run),
        expression(facts)
    )
}

/// The proof that a write here arrives there.
pub fn write_marker(node: u8, token: &str) -> String {
    format!("REPLACE INTO `mmha`.marker (node, token) VALUES ({node}, {})", expression(token))
}

/// Unlogged, while both histories are blank: an old proof proves nothing.
pub const FORGET_MARKERS: &str = "DELETE FROM `mmha`.marker";

pub fn read_marker(node: u8) -> String {
    format!("SELECT token FROM `mmha`.marker WHERE node={node}")
}

const SYSTEM_SCHEMAS: &str = "'mysql','information_schema','performance_schema','sys','mmha'";

/// Kind, schema, name and definition of everything that is not the server's own. `databases` restricts it to
/// the replicated schemas; empty means all.
pub fn objects(databases: &[String]) -> Result<String, SqlError> {
    let only = |column: &str| restrict(column, databases);
    let parts = [
        // MariaDB has more kinds than BASE TABLE: SYSTEM VERSIONED and SEQUENCE hold data too.
        ("table", "TABLE_SCHEMA", "TABLE_NAME", "COALESCE(ENGINE, '')", "TABLES", " AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW')"),
        ("view", "TABLE_SCHEMA", "TABLE_NAME", "VIEW_DEFINITION", "VIEWS", ""),
        ("routine", "ROUTINE_SCHEMA", "ROUTINE_NAME", "CONCAT(ROUTINE_TYPE, COALESCE(ROUTINE_DEFINITION, ''))", "ROUTINES", ""),
        ("trigger", "TRIGGER_SCHEMA", "TRIGGER_NAME", "ACTION_STATEMENT", "TRIGGERS", ""),
        ("event", "EVENT_SCHEMA", "EVENT_NAME", "EVENT_DEFINITION", "EVENTS", ""),
        ("schema", "SCHEMA_NAME", "''", "''", "SCHEMATA", ""),
    ];
    let selects: Result<Vec<String>, SqlError> = parts
        .iter()
        .map(|(kind, schema, name, definition, table, and)| {
            Ok(format!(
                "SELECT '{kind}' AS kind, {schema} AS holder, {name} AS name, {definition} AS definition FROM information_schema.{table} \
                 WHERE {schema} NOT IN ({SYSTEM_SCHEMAS}){and}{}",
                only(schema)?
            ))
        })
        .collect();
    Ok(selects?.join(" UNION ALL "))
}

/// Schema, table and one line for each of its columns, in order.
pub fn columns(databases: &[String]) -> Result<String, SqlError> {
    Ok(format!(
        "SELECT TABLE_SCHEMA AS holder, TABLE_NAME AS name, CONCAT_WS(' ', COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_KEY, EXTRA, \
         COALESCE(CHARACTER_SET_NAME, '')) AS definition FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA NOT IN ({SYSTEM_SCHEMAS}){} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        restrict("TABLE_SCHEMA", databases)?
    ))
}

fn restrict(column: &str, databases: &[String]) -> Result<String, SqlError> {
    if databases.is_empty() {
        return Ok(String::new());
    }
    let names: Result<Vec<String>, SqlError> = databases.iter().map(|name| literal(name)).collect();
    Ok(format!(" AND {column} IN ({})", names?.join(",")))
}

pub fn checksum(schema: &str, table: &str) -> Result<String, SqlError> {
    Ok(format!("CHECKSUM TABLE {}.{}", identifier(schema)?, identifier(table)?))
}

pub fn count(schema: &str, table: &str) -> Result<String, SqlError> {
    Ok(format!("SELECT COUNT(*) FROM {}.{}", identifier(schema)?, identifier(table)?))
}

/// Accounts people made. Those of the packages, ours, and MariaDB's roles and PUBLIC are not among them.
pub fn accounts(ours: &str) -> Result<String, SqlError> {
    Ok(format!(
        "SELECT CONCAT(User, '@', Host) FROM mysql.user WHERE User NOT IN ('', 'root', 'mysql', 'mariadb.sys', 'debian-sys-maint', 'PUBLIC', \
         'mmha_peer', {}) AND User NOT LIKE 'mysql.%' AND Host<>'' ORDER BY 1",
        literal(ours)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_replicated_schemas_count() {
        assert!(!objects(&[]).unwrap().contains(" IN ('shop')"));
        let some = objects(&["shop".into(), "it's".into()]).unwrap();
        assert_eq!(some.matches(" IN ('shop','it''s')").count(), 6);
        assert!(objects(&["\\".into()]).is_err());
        assert!(!objects(&[]).unwrap().contains("BASE TABLE"), "system versioned tables and sequences are data too");
    }

    #[test]
    fn what_the_other_side_wrote_cannot_break_out() {
        let statement = write_meeting(1, "a'b", "", 3, "{\"x\":\"\\\\'\"}");
        assert!(!statement.contains("a'b") && !statement.contains('\\') && statement.contains("''"), "{statement}");
    }
}
