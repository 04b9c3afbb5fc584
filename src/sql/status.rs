//! Reads SHOW REPLICA STATUS of both families. Pure: rows in, `Replica` out; asks nobody and judges nothing.

use crate::sql::dialect::Dialect;
use crate::sql::{History, Record};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiverState {
    Running,
    Connecting,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplierState {
    Running,
    Stopped,
}

/// One server's replication from its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub receiver: ReceiverState,
    /// "Waiting for master to send event" (MariaDB), "Waiting for source to send event" (MySQL) when all is well.
    pub receiver_says: String,
    pub applier: ApplierState,
    /// `None` while the server itself does not know (a thread is stopped).
    pub lag_s: Option<u64>,
    pub io_errno: u32,
    pub io_error: String,
    pub sql_errno: u32,
    pub sql_error: String,
    /// Received, applied or not. MariaDB: falls back to the applied position when both threads are started anew.
    pub received: History,
    pub source_host: String,
    pub source_port: u16,
    pub source_user: String,
    /// By GTID as this product sets it up: MariaDB's slave_pos, MySQL's auto-position.
    pub by_gtid: bool,
}

impl Replica {
    /// Both threads run and none reports an error.
    pub fn is_healthy(&self) -> bool {
        self.receiver == ReceiverState::Running && self.applier == ApplierState::Running && self.sql_errno == 0
    }

    /// The receiver has everything the source had and waits for more.
    pub fn waits_for_events(&self) -> bool {
        self.receiver == ReceiverState::Running
            && ["Waiting for master to send event", "Waiting for source to send event"].contains(&self.receiver_says.as_str())
    }

    /// The applier's error says nothing about the data and is over once there is room, or once a lock is free. 1964 only follows another one,
    /// which shows when the applier is started again.
    pub fn may_pass(&self) -> bool {
        const DISK_FULL: [u32; 3] = [1021, 1026, 1114];
        const LOCKED: [u32; 2] = [1205, 1213];
        const PRIOR_COMMIT: u32 = 1964;
        DISK_FULL.contains(&self.sql_errno) || LOCKED.contains(&self.sql_errno) || self.sql_errno == PRIOR_COMMIT
    }

    /// The first error there is, with its number, for people.
    pub fn error(&self) -> Option<String> {
        [(self.sql_errno, &self.sql_error), (self.io_errno, &self.io_error)]
            .into_iter()
            .find(|(number, _)| *number != 0)
            .map(|(number, text)| format!("{number}: {text}"))
    }
}

/// The default channel's row. `None`: no source is configured.
pub fn parse(rows: &[Record], dialect: Dialect) -> Option<Replica> {
    let row = rows.iter().find(|row| row.get("Channel_Name").or(row.get("Connection_name")).unwrap_or_default().is_empty())?;
    let either = |new: &str, old: &str| row.get(new).or_else(|| row.get(old)).unwrap_or_default().to_owned();
    let number = |name: &str| row.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let source_host = either("Source_Host", "Master_Host");
    if source_host.is_empty() {
        return None;
    }
    let received = row.get("Gtid_IO_Pos").or_else(|| row.get("Retrieved_Gtid_Set")).unwrap_or_default();
    Some(Replica {
        receiver: match either("Replica_IO_Running", "Slave_IO_Running").as_str() {
            "Yes" => ReceiverState::Running,
            // MariaDB also says "Preparing" on its way.
            "Connecting" | "Preparing" => ReceiverState::Connecting,
            _ => ReceiverState::Stopped,
        },
        receiver_says: either("Replica_IO_State", "Slave_IO_State"),
        applier: if either("Replica_SQL_Running", "Slave_SQL_Running") == "Yes" { ApplierState::Running } else { ApplierState::Stopped },
        lag_s: row.get("Seconds_Behind_Source").or_else(|| row.get("Seconds_Behind_Master")).and_then(|text| text.parse().ok()),
        io_errno: number("Last_IO_Errno"),
        io_error: row.get("Last_IO_Error").unwrap_or_default().to_owned(),
        sql_errno: number("Last_SQL_Errno"),
        sql_error: row.get("Last_SQL_Error").unwrap_or_default().to_owned(),
        received: dialect.history(received).unwrap_or_default(),
        source_host,
        source_port: u16::try_from(number("Source_Port").max(number("Master_Port"))).unwrap_or(0),
        source_user: either("Source_User", "Master_User"),
        by_gtid: row.get("Auto_Position") == Some("1") || row.get("Using_Gtid") == Some("Slave_Pos"),
    })
}

/// The hosts followed, over all channels.
pub fn sources(rows: &[Record]) -> Vec<String> {
    let host = |row: &Record| row.get("Source_Host").or_else(|| row.get("Master_Host")).unwrap_or_default().to_owned();
    rows.iter().map(host).filter(|host| !host.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Family;

    const MARIADB: Dialect = Dialect { family: Family::MariaDb, version: (10, 11, 19) };
    const MYSQL: Dialect = Dialect { family: Family::MySql, version: (9, 7, 4) };

    fn mariadb(changes: &[(&str, &str)]) -> Record {
        let mut row = vec![
            ("Slave_IO_State", "Waiting for master to send event"),
            ("Master_Host", "192.0.2.242"),
            ("Master_User", "replication"),
            ("Master_Port", "3306"),
            ("Slave_IO_Running", "Yes"),
            ("Slave_SQL_Running", "Yes"),
            ("Seconds_Behind_Master", "0"),
            ("Last_IO_Errno", "0"),
            ("Last_IO_Error", ""),
            ("Last_SQL_Errno", "0"),
            ("Last_SQL_Error", ""),
            ("Using_Gtid", "Slave_Pos"),
            ("Gtid_IO_Pos", "1-1-22,2-2-9"),
        ];
        for &(name, value) in changes {
            row.retain(|(column, _)| *column != name);
            row.push((name, value));
        }
        Record::of(&row)
    }

    #[test]
    fn mariadb_healthy() {
        let replica = parse(&[mariadb(&[])], MARIADB).unwrap();
        assert!(replica.is_healthy() && replica.waits_for_events() && replica.by_gtid && replica.error().is_none());
        assert_eq!((replica.lag_s, replica.received.to_string().as_str(), replica.source_port), (Some(0), "1:1-22,2:1-9", 3306));
    }

    #[test]
    fn mysql_healthy_and_other_channels_ignored() {
        let row = |channel| {
            Record::of(&[
                ("Replica_IO_State", "Waiting for source to send event"),
                ("Source_Host", "192.0.2.241"),
                ("Source_User", "replication"),
                ("Source_Port", "3307"),
                ("Replica_IO_Running", "Yes"),
                ("Replica_SQL_Running", "Yes"),
                ("Seconds_Behind_Source", "3"),
                ("Last_IO_Errno", "0"),
                ("Last_SQL_Errno", "0"),
                ("Retrieved_Gtid_Set", "00000000-0000-0000-0000-000000000002:1-5:7"),
                ("Auto_Position", "1"),
                ("Channel_Name", channel),
            ])
        };
        let replica = parse(&[row("other"), row("")], MYSQL).unwrap();
        assert!(replica.is_healthy() && replica.waits_for_events() && replica.by_gtid);
        assert_eq!((replica.lag_s, replica.received.count(), replica.source_port), (Some(3), 6, 3307));
        assert_eq!(parse(&[row("other")], MYSQL), None);
        assert_eq!(sources(&[row("other"), mariadb(&[("Master_Host", "")]), mariadb(&[])]), ["192.0.2.241", "192.0.2.242"]);
    }

    #[test]
    fn troubles() {
        for (changes, receiver, applier, healthy, error) in [
            (
                &[("Slave_IO_Running", "Connecting"), ("Last_IO_Errno", "2003"), ("Last_IO_Error", "error connecting")][..],
                ReceiverState::Connecting,
                ApplierState::Running,
                false,
                Some("2003: error connecting"),
            ),
            (&[("Slave_IO_Running", "Preparing")], ReceiverState::Connecting, ApplierState::Running, false, None),
            (
                &[("Slave_IO_Running", "No"), ("Last_IO_Errno", "1236"), ("Last_IO_Error", "not in the master's binlog")],
                ReceiverState::Stopped,
                ApplierState::Running,
                false,
                Some("1236: not in the master's binlog"),
            ),
            (
                &[("Slave_SQL_Running", "No"), ("Last_SQL_Errno", "1062"), ("Last_SQL_Error", "Duplicate")],
                ReceiverState::Running,
                ApplierState::Stopped,
                false,
                Some("1062: Duplicate"),
            ),
            (&[("Slave_IO_State", "Queueing master event to the relay log")], ReceiverState::Running, ApplierState::Running, true, None),
        ] {
            let replica = parse(&[mariadb(changes)], MARIADB).unwrap();
            assert_eq!((replica.receiver, replica.applier, replica.is_healthy()), (receiver, applier, healthy), "{changes:?}");
            assert_eq!(replica.error().as_deref(), error);
        }
    }

    #[test]
    fn nothing_configured() {
        assert_eq!(parse(&[], MARIADB), None);
        assert_eq!(parse(&[mariadb(&[("Master_Host", "")])], MARIADB), None);
    }
}
