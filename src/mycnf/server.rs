//! Finds the installed server: its program, family, include directory, systemd unit. Looks only; changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::mycnf::fragment::{OLDEST_MYSQL, Theirs};
use crate::mycnf::reader::{self, Files, Line};
use crate::sql::{Dialect, Family};
use crate::sys::file::read_limited;
use crate::sys::run::run;

const FRAGMENT: &str = "zz-mmha.cnf";
const PROGRAMS: [&str; 4] = ["/usr/sbin/mariadbd", "/usr/sbin/mysqld", "/usr/libexec/mariadbd", "/usr/libexec/mysqld"];
const ASK: Duration = Duration::from_secs(20);
/// A my.cnf file longer than this is not one.
const LONGEST_FILE: usize = 1 << 20;

/// The server installed on this box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub program: PathBuf,
    pub dialect: Dialect,
    /// systemd unit, without ".service".
    pub unit: String,
    /// Where our fragment is, or would be.
    pub fragment: PathBuf,
    /// All my.cnf lines that reach it, ours included, first to last.
    pub lines: Vec<Line>,
}

impl Server {
    pub fn find(config: &Config) -> Result<Server> {
        let program = PROGRAMS
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or_else(|| Error::failed("no MySQL or MariaDB server is installed: `apt install mariadb-server` (or mysql-server)"))?;
        let said = run(&program.to_string_lossy(), &["--no-defaults", "--version"], None, ASK)?;
        let dialect = parse_version(&said.stdout).ok_or_else(|| {
            Error::failed(format!("\"{} --version\" says nothing this program understands: {}", program.display(), said.stdout.trim()))
        })?;
        if dialect.family == Family::MySql && dialect.version < OLDEST_MYSQL {
            return Err(Error::failed(format!(
                "\"{}\" is older than MySQL 8.0.26, the oldest this program works with: upgrade it",
                program.display()
            )));
        }
        let fragment = match &config.mysql.config_file {
            Some(path) => path.clone(),
            None => include_directory(dialect.family)?.join(FRAGMENT),
        };
        let unit = match &config.mysql.service {
            Some(unit) => unit.trim_end_matches(".service").to_owned(),
            None => find_unit(dialect.family)?,
        };
        let lines = reader::read(&Disk, dialect);
        Ok(Server { program, dialect, unit, fragment, lines })
    }

    /// What the operator's own files already say well.
    pub fn theirs(&self) -> Theirs {
        let value = |name| reader::theirs(&self.lines, &self.fragment, name).map(|line| line.value.as_deref());
        Theirs {
            log_bin: matches!(value("log_bin"), Some(Some(name)) if !["", "0", "1", "OFF", "ON"].contains(&name)),
            listens_everywhere: matches!(value("bind_address"), Some(Some("*" | "::" | "0.0.0.0"))),
        }
    }

    /// Where the server writes its errors, if its files say so.
    pub fn error_log(&self) -> Option<PathBuf> {
        self.lines
            .iter()
            .rev()
            .find(|line| line.name == "log_error")
            .and_then(|line| line.value.as_deref())
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }
}

/// The files as they are on this box.
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Option<String> {
        read_limited(path, LONGEST_FILE).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }
}

/// "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64", "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64".
fn parse_version(said: &str) -> Option<Dialect> {
    let version = said.split_once(" Ver ")?.1.split_whitespace().next()?;
    let dialect = Dialect::from_version(version);
    (dialect.version.0 > 0).then_some(dialect)
}

fn include_directory(family: Family) -> Result<PathBuf> {
    let candidates: &[&str] = match family {
        Family::MariaDb => &["/etc/mysql/mariadb.conf.d", "/etc/my.cnf.d"],
        Family::MySql => &["/etc/mysql/mysql.conf.d", "/etc/my.cnf.d", "/etc/mysql/conf.d"],
    };
    candidates.iter().map(PathBuf::from).find(|path| path.is_dir()).ok_or_else(|| {
        Error::failed(format!(
            "none of the server's include directories exists ({}): set mysql.config_file to a file your my.cnf includes last",
            candidates.join(", ")
        ))
    })
}

fn find_unit(family: Family) -> Result<String> {
    let candidates = match family {
        Family::MariaDb => ["mariadb", "mysql", "mysqld"],
        Family::MySql => ["mysql", "mysqld", "mariadb"],
    };
    for name in candidates {
        let said = run("systemctl", &["show", "--property=LoadState", "--value", &format!("{name}.service")], None, ASK)?;
        if said.stdout.trim() == "loaded" {
            return Ok(name.to_owned());
        }
    }
    Err(Error::failed(format!("systemd knows none of {}: set mysql.service to the server's unit", candidates.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_the_programs_print_them() {
        for (said, expect) in [
            ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", Some((Family::MariaDb, (10, 11, 19)))),
            ("mariadbd from 11.8.6-MariaDB, client 15.2", None),
            ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", Some((Family::MySql, (9, 7, 4)))),
            ("", None),
        ] {
            assert_eq!(parse_version(said).map(|dialect| (dialect.family, dialect.version)), expect, "{said}");
        }
    }
}
