//! Reads my.cnf the way the server does, to say where a later file overrides our fragment. Pure: files come from a `Files`.
//! Refuses to judge values; the running server is asked for those.

use std::path::{Path, PathBuf};

use crate::sql::{Dialect, Family};

/// How deep `!include` may nest; the servers stop at ten too (mysys/my_default.c).
const DEEPEST: usize = 10;
/// Files that include each other several times would be read 3^10 times over; nobody has that many.
const MOST_FILES: usize = 1_000;

/// Where files come from: the disk, or a table in a test.
pub trait Files {
    fn read(&self, path: &Path) -> Option<String>;
    /// The names in a directory, in any order.
    fn list(&self, directory: &Path) -> Vec<PathBuf>;
}

/// One option line that the server takes, in the order it takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// With underscores, in lower case, `replica`/`source` as the older `slave`/`master`.
    pub name: String,
    pub value: Option<String>,
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

/// The files a server reads by itself, in order (`mysqld --verbose --help` lists them).
pub const MAIN_FILES: [&str; 2] = ["/etc/my.cnf", "/etc/mysql/my.cnf"];

/// Every line that reaches the server, first to last; the last of a name wins.
pub fn read(files: &dyn Files, dialect: Dialect) -> Vec<Line> {
    let mut reading = Reading { files, groups: server_groups(dialect), left: MOST_FILES, lines: Vec::new() };
    for main in MAIN_FILES {
        reading.file(Path::new(main), 0);
    }
    reading.lines
}

/// The lines of other files that come after `ours` and set what `ours` sets, except lists, which add up.
pub fn overrides<'a>(lines: &'a [Line], ours: &Path) -> Vec<&'a Line> {
    let Some(last_of_ours) = lines.iter().rposition(|line| line.file == ours) else { return Vec::new() };
    let set_by_us = |name: &str| lines.iter().any(|line| line.file == ours && line.name == name);
    lines[last_of_ours..].iter().filter(|line| line.file != ours && !is_list(&line.name) && set_by_us(&line.name)).collect()
}

/// The last value the operator's own files give an option.
pub fn theirs<'a>(lines: &'a [Line], ours: &Path, name: &str) -> Option<&'a Line> {
    lines.iter().rev().find(|line| line.file != ours && line.name == name)
}

fn is_list(name: &str) -> bool {
    name.starts_with("replicate_") || ["plugin_load_add", "binlog_do_db"].contains(&name)
}

fn server_groups(dialect: Dialect) -> Vec<String> {
    let release = format!("{}.{}", dialect.version.0, dialect.version.1);
    let names: &[&str] = match dialect.family {
        Family::MariaDb => &["mysqld", "server", "mariadb", "mariadbd"],
        Family::MySql => &["mysqld", "server"],
    };
    names.iter().flat_map(|name| [(*name).to_owned(), format!("{name}-{release}")]).collect()
}

struct Reading<'a> {
    files: &'a dyn Files,
    groups: Vec<String>,
    left: usize,
    lines: Vec<Line>,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path, depth: usize) {
        if depth > DEEPEST || self.left == 0 {
            return;
        }
        self.left -= 1;
        let Some(text) = self.files.read(path) else { return };
        let mut in_our_group = false;
        for (number, raw) in text.lines().enumerate() {
            let line = raw.trim();
            if let Some(directory) = directive(line, "!includedir") {
                let mut inside: Vec<PathBuf> =
                    self.files.list(&directory).into_iter().filter(|path| path.extension().is_some_and(|end| end == "cnf")).collect();
                inside.sort();
                for file in inside {
                    self.file(&file, depth + 1);
                }
            } else if let Some(file) = directive(line, "!include") {
                self.file(&file, depth + 1);
            } else if let Some(group) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                in_our_group = self.groups.iter().any(|name| name == group.0.trim());
            } else if in_our_group && !line.is_empty() && !line.starts_with(['#', ';']) {
                let (name, value) = option(line);
                self.lines.push(Line { name, value, file: path.to_owned(), line: number + 1 });
            }
        }
    }
}

fn directive(line: &str, word: &str) -> Option<PathBuf> {
    let rest = line.strip_prefix(word)?;
    rest.starts_with(char::is_whitespace).then(|| PathBuf::from(rest.trim()))
}

/// `name = value # comment`, with the many spellings of one name folded into one.
fn option(line: &str) -> (String, Option<String>) {
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(unquote(value.trim()))),
        None => (line.split('#').next().unwrap_or_default(), None),
    };
    let name = name.trim().to_ascii_lowercase().replace('-', "_");
    let name = name
        .strip_prefix("loose_")
        .unwrap_or(&name)
        .replace("replica_", "slave_")
        .replace("_replica", "_slave")
        .replace("source_", "master_");
    for (prefix, says) in [("disable_", "0"), ("enable_", "1")] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return (rest.to_owned(), Some(says.to_owned()));
        }
    }
    match name.as_str() {
        "skip_log_bin" => ("log_bin".into(), Some("0".into())),
        "expire_logs_days" => ("binlog_expire_logs_seconds".into(), value.map(|days| format!("{days} days"))),
        _ => (name, value),
    }
}

/// One spelling for each option name.
pub fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    name.strip_prefix("loose_").unwrap_or(&name).replace("replica_", "slave_").replace("_replica", "_slave").replace("source_", "master_")
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside.to_owned();
        }
    }
    // A comment needs a blank before it inside a value.
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Table(BTreeMap<PathBuf, &'static str>);

    impl Files for Table {
        fn read(&self, path: &Path) -> Option<String> {
            self.0.get(path).map(|text| (*text).to_owned())
        }
        fn list(&self, directory: &Path) -> Vec<PathBuf> {
            self.0.keys().rev().filter(|path| path.parent() == Some(directory)).cloned().collect()
        }
    }

    fn table(files: &[(&str, &'static str)]) -> Table {
        Table(files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect())
    }

    const MARIADB: Dialect = Dialect { family: Family::MariaDb, version: (10, 11, 19) };
    const MYSQL: Dialect = Dialect { family: Family::MySql, version: (9, 7, 4) };
    const OURS: &str = "/etc/mysql/d/zz-mmha.cnf";

    fn debian(extra: &[(&'static str, &'static str)]) -> Table {
        let mut files = vec![
            ("/etc/mysql/my.cnf", "[client]\nport=1\n!includedir /etc/mysql/d/\n"),
            (
                "/etc/mysql/d/50-server.cnf",
                "[server]\n# nothing\n[mysqld]\nbind-address = 127.0.0.1 # local\nexpire_logs_days=10\nlog-bin\n[embedded]\nserver-id=9",
            ),
            (
                OURS,
                "[mysqld]\nserver_id = 1\nbind_address = 0.0.0.0\nlog_slave_updates = 1\nplugin-load-add = a.so\nbinlog_expire_logs_seconds = 9\n",
            ),
            ("/etc/mysql/d/zz-mmha.cnf.bak", "[mysqld]\nserver_id = 7\n"),
        ];
        files.extend(extra);
        table(&files)
    }

    fn clashes(extra: &[(&'static str, &'static str)], dialect: Dialect) -> Vec<String> {
        let lines = read(&debian(extra), dialect);
        overrides(&lines, Path::new(OURS))
            .iter()
            .map(|line| format!("{}:{} {}={}", line.file.display(), line.line, line.name, line.value.as_deref().unwrap_or("-")))
            .collect()
    }

    #[test]
    fn the_order_of_files_decides() {
        let none: [String; 0] = [];
        assert_eq!(clashes(&[], MARIADB), none);
        assert_eq!(clashes(&[("/etc/mysql/d/aa.cnf", "[mysqld]\nserver_id=9")], MARIADB), none);
        assert_eq!(clashes(&[("/etc/my.cnf", "[mysqld]\nserver_id=9")], MARIADB), none);
        assert_eq!(
            clashes(
                &[("/etc/mysql/d/zzz.cnf", "[mysqld]\n\nserver-id=9\nLOOSE-log-replica-updates=0\nplugin-load-add=b.so\nport=1\n")],
                MARIADB
            ),
            ["/etc/mysql/d/zzz.cnf:3 server_id=9", "/etc/mysql/d/zzz.cnf:4 log_slave_updates=0"]
        );
        assert_eq!(
            clashes(&[("/etc/mysql/d/zzz.cnf", "[mariadb-10.11]\nexpire-logs-days = '3'")], MARIADB),
            ["/etc/mysql/d/zzz.cnf:2 binlog_expire_logs_seconds=3 days"]
        );
        assert_eq!(clashes(&[("/etc/mysql/d/zzz.cnf", "[mariadb]\nserver_id=9\n[mysqld-8.0]\nserver_id=8")], MYSQL), none);
        assert_eq!(
            clashes(&[("/etc/mysql/d/zzz.cnf", "!include /opt/x"), ("/opt/x", "[mysqld-9.7]\nserver_id=9")], MYSQL),
            ["/opt/x:2 server_id=9"]
        );
    }

    #[test]
    fn what_the_operator_says() {
        let lines = read(&debian(&[]), MARIADB);
        let value = |name| theirs(&lines, Path::new(OURS), name).map(|line| line.value.clone());
        assert_eq!(value("bind_address"), Some(Some("127.0.0.1".into())));
        assert_eq!(value("log_bin"), Some(None));
        assert_eq!(value("server_id"), None);
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let lines = read(&table(&[("/etc/my.cnf", "[mysqld]\na=1\n!include /etc/my.cnf\n")]), MYSQL);
        assert_eq!(lines.len(), DEEPEST + 1);
    }

    #[test]
    fn spellings_of_one_option() {
        for (line, name, value) in [
            ("server-id=1", "server_id", Some("1")),
            ("Server_ID = 1", "server_id", Some("1")),
            ("skip-log-bin", "log_bin", Some("0")),
            ("log-bin # named after the host", "log_bin", None),
            ("replica_net_timeout=\"4\" # four", "slave_net_timeout", Some("4")),
            ("rpl_semi_sync_replica_enabled=1", "rpl_semi_sync_slave_enabled", Some("1")),
            ("rpl_semi_sync_source_wait_point=AFTER_SYNC", "rpl_semi_sync_master_wait_point", Some("AFTER_SYNC")),
            ("skip_replica_start", "skip_slave_start", None),
            ("disable-gtid-strict-mode", "gtid_strict_mode", Some("0")),
            ("init_connect='SET NAMES utf8'", "init_connect", Some("SET NAMES utf8")),
        ] {
            assert_eq!(option(line), (name.to_owned(), value.map(str::to_owned)), "{line}");
        }
    }
}
