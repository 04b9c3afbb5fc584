//! Renders our one my.cnf fragment. Pure; every setting stands here once, with how to see it on a running server.
//! Never the semi-sync source side: on a standby it would stall the takeover, so the service owns it at run time.

use crate::config::{Config, Filter, NodeIndex, Writer};
use crate::sql::{Dialect, Family};

/// How `check` sees a setting on the running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// By this global variable, which must have the fragment's value.
    As(&'static str),
    /// Not: the server has no variable for it, or the service changes it at run time.
    Not,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub value: String,
    pub seen: Seen,
}

/// Settings that belong together, and why they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub why: &'static str,
    pub settings: Vec<Setting>,
}

/// What the operator's own files already say well; the fragment then leaves it alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Theirs {
    /// They name the binary log.
    pub log_bin: bool,
    /// The server listens on every address.
    pub listens_everywhere: bool,
}

/// The first MySQL with the words used here (semisync_source.so, replica_*); older ones are refused.
pub const OLDEST_MYSQL: (u16, u16, u16) = (8, 0, 26);

pub fn render(config: &Config, me: NodeIndex, dialect: Dialect, theirs: Theirs) -> String {
    let mut text = format!(
        "# written by mmha for node \"{}\" from {}\n# Do not edit: `mmha mycnf write` replaces it. Put your own settings into other files; `mmha mycnf check` tells where they clash.\n\n[mysqld]\n",
        config.node(me).name,
        config.path.display()
    );
    for group in groups(config, me, dialect, theirs) {
        text.push_str(&format!("# {}\n", group.why));
        for setting in group.settings {
            text.push_str(&format!("{} = {}\n", setting.name, value_text(&setting.value)));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

pub fn groups(config: &Config, me: NodeIndex, dialect: Dialect, theirs: Theirs) -> Vec<Group> {
    let mariadb = dialect.family == Family::MariaDb;
    let mut all = vec![identity(config, me, mariadb), logging(config, mariadb, theirs)];
    all.push(if mariadb { mariadb_start(config) } else { mysql_start(config) });
    all.push(applying(mariadb));
    all.push(if mariadb { mariadb_semi_sync() } else { mysql_semi_sync() });
    all.push(network(config, mariadb, theirs));
    if !mariadb {
        all.push(x_protocol());
    }
    if !config.replication.databases.is_empty() {
        all.push(filter(config));
    }
    all
}

fn identity(config: &Config, me: NodeIndex, mariadb: bool) -> Group {
    let id = config.node(me).server_id;
    let mut settings = vec![same("server_id", id)];
    if mariadb {
        settings.push(same("gtid_domain_id", id));
        settings.push(same("gtid_strict_mode", 1));
    } else {
        settings.push(seen("gtid_mode", "ON", "gtid_mode"));
        settings.push(seen("enforce_gtid_consistency", "ON", "enforce_gtid_consistency"));
    }
    settings.push(same("auto_increment_increment", 2));
    settings.push(same("auto_increment_offset", me.at() + 1));
    Group { why: "Who this node is; the two never number a row or a transaction alike.", settings }
}

fn logging(config: &Config, mariadb: bool, theirs: Theirs) -> Group {
    let mut settings = Vec::new();
    if !theirs.log_bin {
        settings.push(Setting { name: "log_bin", value: "mysql-bin".into(), seen: Seen::Not });
    }
    // Without a value the relay log's name follows the host name, and a renamed host loses it.
    settings.push(Setting { name: "relay_log", value: "relay-bin".into(), seen: Seen::Not });
    settings.push(seen("binlog_format", "ROW", "binlog_format"));
    settings.push(seen("binlog_row_image", "FULL", "binlog_row_image"));
    settings.push(if mariadb { same("log_slave_updates", 1) } else { same("log_replica_updates", 1) });
    settings.push(same("sync_binlog", 1));
    settings.push(same("innodb_flush_log_at_trx_commit", 1));
    settings.push(same("binlog_expire_logs_seconds", config.replication.binlog_expire.as_secs()));
    settings.push(same("max_binlog_size", config.replication.binlog_size));
    Group { why: "What this node wrote must be on its disk before anybody is told, and be kept for the peer.", settings }
}

fn mariadb_start(config: &Config) -> Group {
    let mut settings = read_only(config, &["read_only"]);
    settings.push(hidden("skip_slave_start", 1));
    settings.push(same("relay_log_recovery", 1));
    Group { why: "A starting server writes nothing and replicates nothing until the service has compared it with its peer.", settings }
}

fn mysql_start(config: &Config) -> Group {
    let mut settings = read_only(config, &["read_only", "super_read_only"]);
    settings.push(same("skip_replica_start", 1));
    settings.push(same("relay_log_recovery", 1));
    Group { why: "A starting server writes nothing and replicates nothing until the service has compared it with its peer.", settings }
}

fn read_only(config: &Config, names: &[&'static str]) -> Vec<Setting> {
    match config.mysql.writer {
        Writer::Vip => names.iter().map(|name| hidden(name, 1)).collect(),
        Writer::Both => Vec::new(),
    }
}

fn applying(mariadb: bool) -> Group {
    let settings = if mariadb {
        vec![same("slave_parallel_threads", 4)]
    } else {
        vec![same("replica_parallel_workers", 4), same("replica_preserve_commit_order", 1)]
    };
    Group { why: "A takeover waits for what was received to be applied: several threads keep that short.", settings }
}

fn mariadb_semi_sync() -> Group {
    let settings = vec![
        same("rpl_semi_sync_slave_enabled", 1),
        // A receiver that stops calls its source first to say so, seconds long if that is dead.
        same("rpl_semi_sync_slave_kill_conn_timeout", 1),
        // Crash recovery keeps every commit, unless the peer is found to have taken over when the server starts (mycnf/recovery.rs).
        Setting { name: "init_rpl_role", value: "MASTER".into(), seen: Seen::Not },
        seen("rpl_semi_sync_master_wait_point", "AFTER_SYNC", "rpl_semi_sync_master_wait_point"),
    ];
    Group { why: "Acknowledge what is received; the service alone switches the source side on, at the active writer.", settings }
}

fn mysql_semi_sync() -> Group {
    let settings = vec![
        Setting { name: "plugin-load-add", value: "semisync_source.so".into(), seen: Seen::Not },
        Setting { name: "plugin-load-add", value: "semisync_replica.so".into(), seen: Seen::Not },
        same("rpl_semi_sync_replica_enabled", 1),
        seen("rpl_semi_sync_source_wait_point", "AFTER_SYNC", "rpl_semi_sync_source_wait_point"),
    ];
    Group { why: "Acknowledge what is received; the service alone switches the source side on, at the active writer.", settings }
}

fn network(config: &Config, mariadb: bool, theirs: Theirs) -> Group {
    let timeout = (config.heartbeat.deadtime.as_secs() * 2).clamp(2, 5);
    let mut settings = vec![if mariadb { same("slave_net_timeout", timeout) } else { same("replica_net_timeout", timeout) }];
    if !theirs.listens_everywhere {
        settings.push(seen("bind_address", "0.0.0.0", "bind_address"));
    }
    settings.push(same("port", config.mysql.port));
    // The peer's agent knocks here twice a second while this one is silent; at the default, 100 knocks without a login shut the peer out
    // altogether, replication included (1129).
    settings.push(same("max_connect_errors", u32::MAX));
    Group { why: "Reachable on this node's address and on the floating one; a silent source is noticed in seconds.", settings }
}

/// "loose-": a server without the plugin does not know the option.
fn x_protocol() -> Group {
    let settings = vec![Setting { name: "loose-mysqlx_bind_address", value: "127.0.0.1".into(), seen: Seen::Not }];
    Group { why: "The X protocol has a port of its own, which the write gate does not guard: for this box only.", settings }
}

/// The agent's own schema always comes along: the proof that replication works is a row in it.
fn filter(config: &Config) -> Group {
    let names = config.replication.databases.iter().map(String::as_str).chain(["mmha"]);
    match config.replication.filter {
        Filter::Replica => Group {
            why: "Only these schemas are applied here. Accounts, grants and everything else are not replicated.",
            settings: names
                .map(|name| Setting { name: "replicate-wild-do-table", value: format!("{}.%", escape_wild(name)), seen: Seen::Not })
                .collect(),
        },
        Filter::Binlog => Group {
            why: "Only these schemas are logged. A trap: statements whose default database is another one are silently not replicated.",
            settings: names.map(|name| Setting { name: "binlog-do-db", value: name.to_owned(), seen: Seen::Not }).collect(),
        },
    }
}

/// `_` and `%` are wild in the pattern, and a backslash is an escape in the file too.
fn escape_wild(name: &str) -> String {
    name.replace('_', "\\\\_").replace('%', "\\\\%")
}

fn value_text(value: &str) -> String {
    if value.contains(['#', ' ', ';']) { format!("\"{value}\"") } else { value.to_owned() }
}

fn same(name: &'static str, value: impl std::fmt::Display) -> Setting {
    Setting { name, value: value.to_string(), seen: Seen::As(name) }
}

fn seen(name: &'static str, value: &str, variable: &'static str) -> Setting {
    Setting { name, value: value.to_owned(), seen: Seen::As(variable) }
}

fn hidden(name: &'static str, value: u8) -> Setting {
    Setting { name, value: value.to_string(), seen: Seen::Not }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::vip::Floating;
    use crate::config::{Durability, Firewall, Heartbeat, Mysql, Node, Replication, Secret, Vip};
    use std::net::Ipv4Addr;
    use std::time::Duration;

    pub(crate) fn config() -> Config {
        let node = |name: &str, last, server_id| Node { name: name.into(), address: Ipv4Addr::new(192, 0, 2, last), server_id };
        Config {
            path: "/etc/mmha/mmha.toml".into(),
            cluster: "shop".into(),
            nodes: [node("db-01", 241, 1), node("db-02", 242, 2)],
            vip: Vip {
                addresses: vec![Floating { ip: Ipv4Addr::new(192, 0, 2, 243), prefix: 24 }],
                interface: None,
                preferred: NodeIndex(0),
            },
            heartbeat: Heartbeat {
                port: 694,
                keepalive: Duration::from_millis(250),
                deadtime: Duration::from_secs(2),
                warntime: Duration::from_secs(1),
                initdead: Duration::from_secs(20),
                auto_failback: true,
                failback_delay: Duration::from_secs(5),
                flap_count: 3,
                flap_window: Duration::from_secs(600),
                fence_command: vec![],
                fence_timeout: Duration::from_secs(10),
                authkeys: "/etc/mmha/authkeys".into(),
                links: vec![],
                ping: vec![],
                lease: Duration::from_secs(1),
                gate: Duration::from_millis(1500),
                isolation: Duration::from_millis(1500),
                watchdog: None,
                watchdog_timeout: Duration::from_secs(1),
            },
            mysql: Mysql {
                socket: "/run/mysqld/mysqld.sock".into(),
                port: 3306,
                user: "root".into(),
                password: None,
                service: None,
                config_file: None,
                writer: Writer::Vip,
                hang: Duration::from_secs(1),
                kill_hung: true,
            },
            replication: Replication {
                user: "replication".into(),
                password: Secret::new("secret"),
                databases: vec![],
                filter: Filter::Replica,
                durability: Durability::Lossless,
                catch_up: Duration::from_secs(30),
                binlog_expire: Duration::from_secs(864_000),
                binlog_size: 100 << 20,
            },
            firewall: Firewall { manage: true, clients: vec![], close: false },
            arbiter: None,
            digest: 0,
        }
    }

    const MARIADB: Dialect = Dialect { family: Family::MariaDb, version: (10, 11, 19) };
    const MYSQL: Dialect = Dialect { family: Family::MySql, version: (9, 7, 4) };

    fn lines(config: &Config, me: u8, dialect: Dialect) -> Vec<String> {
        render(config, NodeIndex(me), dialect, Theirs::default()).lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_family_gets_its_own_options() {
        for (dialect, has, has_not) in [
            (
                MARIADB,
                &[
                    "server_id = 2",
                    "gtid_domain_id = 2",
                    "gtid_strict_mode = 1",
                    "log_slave_updates = 1",
                    "read_only = 1",
                    "skip_slave_start = 1",
                    "slave_net_timeout = 4",
                    "init_rpl_role = MASTER",
                    "auto_increment_offset = 2",
                    "bind_address = 0.0.0.0",
                    "max_binlog_size = 104857600",
                ][..],
                &["gtid_mode", "super_read_only", "plugin-load", "replica_"][..],
            ),
            (
                MYSQL,
                &[
                    "server_id = 2",
                    "gtid_mode = ON",
                    "super_read_only = 1",
                    "skip_replica_start = 1",
                    "plugin-load-add = semisync_replica.so",
                    "rpl_semi_sync_replica_enabled = 1",
                    "binlog_expire_logs_seconds = 864000",
                ][..],
                &["gtid_domain_id", "slave", "init_rpl_role", "expire_logs_days"][..],
            ),
        ] {
            let lines = lines(&config(), 1, dialect);
            for line in has {
                assert!(lines.iter().any(|have| have == line), "{line} missing in {lines:#?}");
            }
            for word in has_not {
                assert!(!lines.iter().any(|have| !have.starts_with('#') && have.contains(word)), "{word} in {lines:#?}");
            }
            // Never in the file: a standby with it on stalls its own takeover.
            assert!(!lines.iter().any(|line| line.contains("master_enabled") || line.contains("source_enabled")));
            assert!(lines[0].starts_with("# written by mmha") && lines[1].starts_with("# Do not edit") && lines[3] == "[mysqld]");
        }
    }

    #[test]
    fn what_the_operator_says_well_is_left_alone() {
        let theirs = Theirs { log_bin: true, listens_everywhere: true };
        let text = render(&config(), NodeIndex(0), MARIADB, theirs);
        assert!(!text.contains("\nlog_bin") && !text.contains("bind_address"));
    }

    #[test]
    fn both_writers_start_writable() {
        let mut both = config();
        both.mysql.writer = Writer::Both;
        for dialect in [MARIADB, MYSQL] {
            assert!(!lines(&both, 0, dialect).iter().any(|line| line.contains("read_only")));
        }
    }

    #[test]
    fn filters_escape_the_wild_and_take_our_schema_along() {
        let mut filtered = config();
        filtered.replication.databases = vec!["my_application".into(), "shop".into()];
        let rendered = lines(&filtered, 0, MARIADB);
        for line in
            ["replicate-wild-do-table = my\\\\_application.%", "replicate-wild-do-table = shop.%", "replicate-wild-do-table = mmha.%"]
        {
            assert!(rendered.iter().any(|have| have == line), "{line} missing in {rendered:#?}");
        }
        filtered.replication.filter = Filter::Binlog;
        let rendered = lines(&filtered, 0, MYSQL);
        assert!(
            rendered.iter().any(|line| line == "binlog-do-db = my_application")
                && rendered.iter().any(|line| line == "binlog-do-db = mmha")
        );
        assert!(!rendered.iter().any(|line| line.contains("wild")));
    }
}
