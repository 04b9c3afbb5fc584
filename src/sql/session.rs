//! One connection to one server, text protocol only. Refuses to wait without a bound wherever the client library lets it;
//! run it inside `worker::bounded` for the rest. Knows no statement but the two it greets with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql::prelude::Queryable;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::config::Secret;
use crate::sql::error::SqlError;
use crate::sql::worker::bounded;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Socket(path) => write!(f, "{}", path.display()),
            Target::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Where and as whom.
#[derive(Debug, Clone)]
pub struct Login {
    pub target: Target,
    pub user: String,
    /// `None`: authentication by unix user over the socket.
    pub password: Option<Secret>,
    /// Bound of connecting by TCP.
    pub connect: Duration,
    /// Bound of each read and write on the connection; a statement may take this long.
    pub io: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    MariaDb,
    MySql,
}

/// One row of an answer, by column name as the server spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    columns: Arc<[String]>,
    values: Vec<Option<String>>,
}

impl Record {
    /// `None` when the column is absent or NULL.
    pub fn get(&self, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.values.get(at)?.as_deref()
    }

    /// The value in the `at`th column, counted from 0.
    pub fn at(&self, at: usize) -> Option<&str> {
        self.values.get(at)?.as_deref()
    }

    /// A row made by hand, for tests and for other readers of the same form.
    pub fn of(pairs: &[(&str, &str)]) -> Record {
        Record {
            columns: pairs.iter().map(|(name, _)| (*name).to_owned()).collect(),
            values: pairs.iter().map(|(_, value)| Some((*value).to_owned())).collect(),
        }
    }
}

pub struct Session {
    connection: mysql::Conn,
    place: String,
    user: String,
    id: u64,
    family: Family,
    version: (u16, u16, u16),
    version_text: String,
    /// About so many bytes have come in.
    received: usize,
}

/// The client library sets 4 MB aside for answers, writes them one behind the other to the end, and then begins anew: all of that becomes
/// resident, for each session that is kept.
const WORN: usize = 512 << 10;
/// What one column of an answer takes beside its value: its name, its table's, its type.
const COLUMN: usize = 80;

/// Sessions of this process that are open now, so that closing a server to its clients spares them.
static OWN: Mutex<BTreeSet<(String, u64)>> = Mutex::new(BTreeSet::new());

/// Places where the last attempt to connect failed or is still under way. Only these are knocked at first: a server writes a warning
/// into its log for everybody who knocks and goes.
static SUSPECT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Connection ids this process has open at that place.
pub fn own_connections(target: &Target) -> Vec<u64> {
    let place = target.to_string();
    OWN.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|(at, _)| *at == place).map(|(_, id)| *id).collect()
}

impl Session {
    pub fn open(login: &Login) -> Result<Session, SqlError> {
        let place = login.target.to_string();
        let suspect = !SUSPECT.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone());
        if let (Target::Socket(path), true) = (&login.target, suspect) {
            knock(path, &place)?;
        }
        let mut connection = mysql::Conn::new(options(login)).map_err(|error| SqlError::from_client(&error, &place, &login.user))?;
        let greeting: Option<(u64, String)> = connection
            .query_first("SELECT CONNECTION_ID(), @@version")
            .map_err(|error| SqlError::from_client(&error, &place, &login.user))?;
        let (id, version_text) = greeting.ok_or_else(|| SqlError::other(format!("server at {place} does not say its version")))?;
        SUSPECT.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
        let (family, version) = (family_of(&version_text), triple(&version_text));
        OWN.lock().unwrap_or_else(PoisonError::into_inner).insert((place.clone(), id));
        Ok(Session { connection, place, user: login.user.clone(), id, family, version, version_text, received: 0 })
    }

    /// Itself while it is good; worn, another one that is had within `limit`. Else it stays for as long again: a server full of clients
    /// may have no place for another, and a slow one must not be taken for a hung one.
    pub fn unworn(mut self, login: &Login, limit: Duration) -> Session {
        if !self.is_worn() {
            return self;
        }
        let login = login.clone();
        bounded("replacing a worn session", limit, move || Session::open(&login)).unwrap_or_else(|_| {
            self.received = 0;
            self
        })
    }

    /// So much has come in that another session would take less memory.
    pub fn is_worn(&self) -> bool {
        self.received > WORN
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn version(&self) -> (u16, u16, u16) {
        self.version
    }

    /// `@@version` in full.
    pub fn version_text(&self) -> &str {
        &self.version_text
    }

    /// Socket path or address, as in error texts.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// Runs a statement and drops what it returns.
    pub fn run(&mut self, statement: &str) -> Result<(), SqlError> {
        self.connection.query_drop(statement).map_err(|error| SqlError::from_client(&error, &self.place, &self.user))
    }

    pub fn rows(&mut self, query: &str) -> Result<Vec<Record>, SqlError> {
        let answer = read_rows(&mut self.connection, query);
        let (records, bytes) = answer.map_err(|error| SqlError::from_client(&error, &self.place, &self.user))?;
        self.received = self.received.saturating_add(bytes);
        Ok(records)
    }

    /// First column of the first row; `None` when there is no row or it is NULL.
    pub fn value(&mut self, query: &str) -> Result<Option<String>, SqlError> {
        Ok(self.rows(query)?.first().and_then(|row| row.at(0)).map(str::to_owned))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        OWN.lock().unwrap_or_else(PoisonError::into_inner).remove(&(self.place.clone(), self.id));
    }
}

/// And about how many bytes that were.
fn read_rows(connection: &mut mysql::Conn, query: &str) -> mysql::Result<(Vec<Record>, usize)> {
    let answer = connection.query_iter(query)?;
    let columns: Arc<[String]> = answer.columns().as_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let (mut records, mut bytes) = (Vec::new(), columns.len() * COLUMN);
    for row in answer {
        let values: Vec<Option<String>> = row?.unwrap().into_iter().map(text_of).collect();
        bytes += values.iter().flatten().map(String::len).sum::<usize>();
        records.push(Record { columns: Arc::clone(&columns), values });
    }
    Ok((records, bytes))
}

/// In the text protocol every value is bytes or NULL.
fn text_of(value: mysql::Value) -> Option<String> {
    match value {
        mysql::Value::NULL => None,
        mysql::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

fn options(login: &Login) -> mysql::OptsBuilder {
    let options = mysql::OptsBuilder::new()
        .user(Some(&login.user))
        .pass(login.password.as_ref().map(Secret::reveal))
        // Otherwise a TCP connection silently moves to the server's socket.
        .prefer_socket(false)
        .stmt_cache_size(0)
        .max_allowed_packet(Some(16 << 20))
        .tcp_connect_timeout(Some(login.connect))
        .read_timeout(Some(login.io))
        .write_timeout(Some(login.io));
    match &login.target {
        Target::Socket(path) => options.socket(path.to_str()),
        Target::Tcp(address) => options.ip_or_hostname(Some(address.ip().to_string())).tcp_port(address.port()),
    }
}

/// connect(2) on a unix socket has no timeout: with a hung server's backlog full it sleeps for ever, so try it non-blocking first.
fn knock(path: &Path, place: &str) -> Result<(), SqlError> {
    let io = |error: nix::errno::Errno| SqlError::from_io(std::io::Error::from(error).kind(), error.desc(), place);
    let probe = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).map_err(io)?;
    let address = UnixAddr::new(path).map_err(io)?;
    connect(probe.as_raw_fd(), &address).map_err(io)
}

/// By the word in it, never by the number alone: MariaDB's number reaches past MySQL's.
pub(super) fn family_of(version: &str) -> Family {
    if version.to_ascii_lowercase().contains("mariadb") { Family::MariaDb } else { Family::MySql }
}

pub(super) fn triple(version: &str) -> (u16, u16, u16) {
    let digits = version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut parts = digits.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_the_servers_print_them() {
        for (text, family, version) in [
            ("10.11.19-MariaDB-0+deb12u1-log", Family::MariaDb, (10, 11, 19)),
            ("11.8.6-MariaDB-0+deb13u1 from Debian-log", Family::MariaDb, (11, 8, 6)),
            ("9.7.4-2", Family::MySql, (9, 7, 4)),
            ("8.0.36", Family::MySql, (8, 0, 36)),
            ("8.4.0-0ubuntu0.24.04.1", Family::MySql, (8, 4, 0)),
            ("", Family::MySql, (0, 0, 0)),
        ] {
            assert_eq!((family_of(text), triple(text)), (family, version), "{text}");
        }
    }

    #[test]
    fn records_by_name_and_place() {
        let record = Record::of(&[("A", "1"), ("B", "2")]);
        assert_eq!((record.get("B"), record.get("b"), record.at(0), record.at(2)), (Some("2"), None, Some("1"), None));
    }

    #[test]
    fn a_missing_socket_is_refused_at_once() {
        let login = Login {
            target: Target::Socket("/nonexistent/mysqld.sock".into()),
            user: "root".into(),
            password: None,
            connect: Duration::from_secs(1),
            io: Duration::from_secs(1),
        };
        let error = Session::open(&login).err().expect("nothing listens there");
        assert_eq!(error.fault, crate::sql::Fault::Refused);
    }
}
