//! Which of a server's binlog files hold given transactions, and how its own tool is asked to print them. Looks and words only: it starts
//! no program.

use std::path::PathBuf;

use crate::sql::quote::literal;
use crate::sql::{Dialect, Family, History, Session, SqlError};

/// More files than this are not looked into one by one.
const FILES_AT_MOST: usize = 1_000;

/// The tool that comes with the server, and its older name.
pub fn tools(family: Family) -> &'static [&'static str] {
    match family {
        Family::MariaDb => &["mariadb-binlog", "mysqlbinlog"],
        Family::MySql => &["mysqlbinlog"],
    }
}

/// The names of the server's binlog files, oldest first.
pub fn names(session: &mut Session) -> Result<Vec<String>, SqlError> {
    let rows = session.rows("SHOW BINARY LOGS")?;
    Ok(rows.iter().filter_map(|row| row.at(0)).map(str::to_owned).collect())
}

/// Some of a server's binlog files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Oldest first, without a gap.
    pub paths: Vec<PathBuf>,
    /// What the files before them hold.
    pub before: History,
}

/// The server's files from the last one on that begins before all of `wanted`.
pub fn files_with(session: &mut Session, wanted: &History) -> Result<Files, SqlError> {
    let base = session.value("SELECT @@log_bin_basename")?.ok_or_else(|| SqlError::other("the server keeps no binlog"))?;
    let directory = PathBuf::from(base).parent().map(PathBuf::from).unwrap_or_default();
    let mut found = Files::default();
    for name in names(session)?.iter().rev().take(FILES_AT_MOST) {
        found.paths.push(directory.join(name));
        // A file that does not say where it begins, or not to this account, is taken, and the one before it too.
        let before = begins_after(session, name).ok().flatten();
        found.before = before.clone().unwrap_or_default();
        if before.is_some_and(|before| wanted.minus(&before) == *wanted) {
            break;
        }
    }
    found.paths.reverse();
    Ok(found)
}

/// What all files before this one hold.
fn begins_after(session: &mut Session, name: &str) -> Result<Option<History>, SqlError> {
    let dialect = Dialect::of(session);
    let name = literal(name)?;
    let text = match dialect.family {
        Family::MariaDb => session.value(&format!("SELECT BINLOG_GTID_POS({name}, 4)"))?,
        Family::MySql => {
            let events = session.rows(&format!("SHOW BINLOG EVENTS IN {name} LIMIT 3"))?;
            let row = events.iter().find(|row| row.get("Event_type") == Some("Previous_gtids"));
            row.map(|row| row.get("Info").unwrap_or_default().to_owned())
        }
    };
    Ok(text.and_then(|text| dialect.history(&text)))
}

/// Options that make the tool print exactly `wanted` from files before which the server has written `before`.
pub fn only(family: Family, wanted: &History, before: &History) -> Vec<String> {
    match family {
        Family::MySql => vec![format!("--include-gtids={wanted}")],
        Family::MariaDb => {
            // In this product a server writes its own domain only, and domain and server_id are the same number.
            let gtid = |domain: &str, number: u64| format!("{domain}-{domain}-{number}");
            // Of the other domains nothing is wanted, yet the tool insists on where each stands when the files begin, and on no other number.
            let others = before.keys().filter(|domain| wanted.last(domain).is_none());
            let ends = others.filter_map(|domain| before.last(domain).map(|last| gtid(domain, last)));
            let start: Vec<String> = wanted.firsts().map(|(domain, first)| gtid(domain, first - 1)).chain(ends).collect();
            let stop: Vec<String> = wanted.keys().filter_map(|domain| wanted.last(domain).map(|last| gtid(domain, last))).collect();
            vec![format!("--start-position={}", start.join(",")), format!("--stop-position={}", stop.join(","))]
        }
    }
}

/// Decoded rows beside what can be replayed.
pub const READABLE: &str = "--verbose";
/// Decoded rows only.
pub const ROWS_ONLY: &str = "--base64-output=decode-rows";
/// Stands near the end of whatever the tool has printed to its end.
pub const END: &str = "# End of log file";

/// What the tool reads as its option file, so that the password stands in no argument.
pub fn option_file(user: &str, password: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\");
    format!("[client]\nuser=\"{}\"\npassword=\"{}\"\n", quoted(user), quoted(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "7b287223-e6e1-11f1-bbe8-8ed5aabbccdd";

    fn history(text: &str) -> History {
        History::parse(text).unwrap()
    }

    #[test]
    fn options_name_what_is_wanted() {
        assert_eq!(
            only(Family::MariaDb, &history("1:15-18"), &history("1:1-11,2:1-9")),
            ["--start-position=1-1-14,2-2-9", "--stop-position=1-1-18"]
        );
        assert_eq!(only(Family::MariaDb, &history("1:1-3"), &History::default()), ["--start-position=1-1-0", "--stop-position=1-1-3"]);
        assert_eq!(only(Family::MySql, &history(&format!("{A}:3-6")), &History::default()), [format!("--include-gtids={A}:3-6")]);
    }

    #[test]
    fn an_option_file_says_the_password_as_it_is() {
        assert_eq!(option_file("u", "a#b\\c\"d"), "[client]\nuser=\"u\"\npassword=\"a#b\\\\c\"d\"\n");
    }
}
