//! What can go wrong when talking to a server, sorted by what the operator has to do about it.

use std::fmt;
use std::io::ErrorKind;

/// The cause, as far as it changes what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens there (the client's error 2003 with 111, on Windows 10061).
    Refused,
    /// 1130: the server has no account for the address we come from.
    HostNotAllowed,
    /// 1045 or 1698: account or password wrong, or the unix user may not use this account.
    WrongPassword,
    /// No answer within the bound: hung server, blocked port, dead host.
    Timeout,
    /// The connection ended in the middle.
    Lost,
    /// 1290 or 1836: the server is read-only.
    ReadOnly,
    /// Commits wait for an acknowledgement, and were not to be ended.
    Unacknowledged,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// The server's error number, when the server answered.
    pub code: Option<u16>,
    pub fault: Fault,
    /// What failed, where, why, and what to do next.
    pub text: String,
}

impl SqlError {
    pub fn other(text: impl Into<String>) -> SqlError {
        SqlError { code: None, fault: Fault::Other, text: text.into() }
    }

    pub fn timeout(text: impl Into<String>) -> SqlError {
        SqlError { code: None, fault: Fault::Timeout, text: text.into() }
    }

    /// The same fault, said from further out.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> SqlError {
        SqlError { text: format!("{context}: {}", self.text), ..self }
    }

    /// Sorts what the client library reports. `place` is the address or socket, `user` the account used.
    pub(super) fn from_client(error: &mysql::Error, place: &str, user: &str) -> SqlError {
        use mysql::{DriverError, Error as Client};
        match error {
            Client::MySqlError(error) => Self::from_server(error.code, &error.message, place, user),
            Client::IoError(error) => Self::from_io(error.kind(), &error.to_string(), place),
            Client::DriverError(DriverError::CouldNotConnect(Some((_, text, kind)))) => Self::from_io(*kind, text, place),
            Client::DriverError(DriverError::ConnectTimeout | DriverError::Timeout) => Self::from_io(ErrorKind::TimedOut, "", place),
            Client::CodecError(codec) => {
                match std::error::Error::source(codec).and_then(|source| source.downcast_ref::<std::io::Error>()) {
                    Some(error) => Self::from_io(error.kind(), &error.to_string(), place),
                    None => SqlError::other(format!("server at {place}: {codec}")),
                }
            }
            other => SqlError::other(format!("server at {place}: {other}")),
        }
    }

    pub(super) fn from_io(kind: ErrorKind, text: &str, place: &str) -> SqlError {
        let (fault, text) = match kind {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => (
                Fault::Refused,
                format!("no server listens at {place} (the classic 10061): start it, and check bind-address, port and socket"),
            ),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => (
                Fault::Timeout,
                format!("no answer from {place} in time: the server hangs, the host is down, or a firewall drops the packets"),
            ),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                (Fault::Timeout, format!("{place} cannot be reached ({text}): the host is down or there is no route to it"))
            }
            ErrorKind::PermissionDenied => (Fault::Other, format!("no permission to connect to {place}: run as root")),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                (Fault::Lost, format!("the connection to {place} ended ({text}): the server stopped or the session was killed"))
            }
            _ => (Fault::Other, format!("{place}: {text}")),
        };
        SqlError { code: None, fault, text }
    }

    pub(super) fn from_server(code: u16, message: &str, place: &str, user: &str) -> SqlError {
        let (fault, advice) = match code {
            1130 => (
                Fault::HostNotAllowed,
                "it has no account for the address this node comes from: run `mmha bootstrap` there, and check `address` of both nodes"
                    .to_owned(),
            ),
            1045 => (
                Fault::WrongPassword,
                format!(
                    "account '{user}' is missing there or its password differs: run `mmha bootstrap` on both nodes with the same password file"
                ),
            ),
            1698 => (Fault::WrongPassword, format!("account '{user}' belongs to another unix user: run as root")),
            1290 | 1836 => (Fault::ReadOnly, "the server is read-only; write through the floating address".to_owned()),
            1040 => (Fault::Other, "all its connections are in use: raise max_connections".to_owned()),
            1129 => (Fault::Other, "it blocks this host after failed connections: run `mariadb-admin flush-hosts` there".to_owned()),
            1053 | 1317 | 1927 | 3169 => (Fault::Lost, String::new()),
            1205 => (Fault::Timeout, String::new()),
            1227 => (Fault::Other, format!("account '{user}' lacks a privilege")),
            _ => (Fault::Other, String::new()),
        };
        let message = message.trim().trim_end_matches(['.', ';']);
        let advice = if advice.is_empty() { advice } else { format!("; {advice}") };
        SqlError { code: Some(code), fault, text: format!("server at {place} answers {code}: {message}{advice}") }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SqlError {}

impl From<SqlError> for crate::error::Error {
    fn from(error: SqlError) -> crate::error::Error {
        crate::error::Error::failed(error.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_by_server_number() {
        for (code, fault) in [
            (1130, Fault::HostNotAllowed),
            (1045, Fault::WrongPassword),
            (1698, Fault::WrongPassword),
            (1290, Fault::ReadOnly),
            (1836, Fault::ReadOnly),
            (1317, Fault::Lost),
            (1205, Fault::Timeout),
            (1064, Fault::Other),
        ] {
            let error = SqlError::from_server(code, "Some words.", "192.0.2.1:3306", "replication");
            assert_eq!((error.fault, error.code), (fault, Some(code)));
            assert!(error.text.contains("192.0.2.1:3306") && error.text.contains(&code.to_string()), "{error}");
        }
    }

    #[test]
    fn faults_by_io_kind() {
        for (kind, fault) in [
            (ErrorKind::ConnectionRefused, Fault::Refused),
            (ErrorKind::NotFound, Fault::Refused),
            (ErrorKind::WouldBlock, Fault::Timeout),
            (ErrorKind::TimedOut, Fault::Timeout),
            (ErrorKind::HostUnreachable, Fault::Timeout),
            (ErrorKind::UnexpectedEof, Fault::Lost),
            (ErrorKind::InvalidData, Fault::Other),
        ] {
            let error = SqlError::from_io(kind, "words", "/run/mysqld/mysqld.sock");
            assert_eq!(error.fault, fault, "{kind}");
            assert!(error.text.contains("/run/mysqld/mysqld.sock"));
        }
    }
}
