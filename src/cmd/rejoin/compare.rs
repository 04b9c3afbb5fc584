//! Whether a row was changed on both nodes since they parted. Replication would not notice: it writes the one value over the other, on each
//! node the other's. Both binlogs are read with the servers' own tool.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::act::quarantine::{changes_in, print};
use crate::config::{Config, NodeIndex};
use crate::error::{Error, Result};
use crate::report::QUARANTINE;
use crate::sql::changes::{Changes, Keys};
use crate::sql::{Family, History, Login, Session, SqlError, binlog, bounded, observe};

const LOOK: Duration = Duration::from_secs(10);
const SHOWN: usize = 5;

/// How many rows the extra transactions in `file` have changed, when the holder has touched none of them.
pub fn compare(config: &Config, me: NodeIndex, file: &Path, extra: &str) -> Result<usize> {
    let extra = History::parse(extra).ok_or_else(|| Error::failed(format!("the service says \"{extra}\", which nobody can read")))?;
    let tables = changes_in(file, &Keys::new(), &History::default())?.tables;
    let (mine, keys) = here(config, me, tables.into_iter().collect())?;
    let known = mine.minus(&extra);
    let ours = changes_in(file, &keys, &known)?;
    let (here, peer) = (&config.node(me).name, &config.node(me.other()).name);
    if let Some(lack) = lack(&ours, &extra) {
        return Err(Error::refused(format!("{lack}: {peer} cannot fetch it, {here} has to be filled anew, see `mmha rejoin --discard`")));
    }
    let theirs = theirs(config, me, &known, &keys)?;
    judge(&ours, &theirs, peer)
}

/// What of the extra transactions nobody can fetch from this server.
fn lack(ours: &Changes, extra: &History) -> Option<String> {
    if ours.unfinished > 0 {
        return Some("the server has left a transaction half written in its binlog, for instance on a full disk".to_owned());
    }
    let (seen, count) = (ours.transactions, extra.count());
    (seen != count).then(|| {
        format!("the server's binlogs show {seen} of {count} transactions; the rest was purged, or counted and never written (a full disk)")
    })
}

/// What this server has, and the key columns of the tables.
fn here(config: &Config, me: NodeIndex, tables: Vec<String>) -> Result<(History, Keys)> {
    let login = Login::local(config);
    let (own, peer) = (config.node(me).server_id.to_string(), config.node(me.other()).server_id.to_string());
    let looked = bounded("looking at the own server", LOOK, move || {
        let mut session = Session::open(&login)?;
        let history = observe(&mut session, &own, &peer)?.history;
        Ok((history, keys(&mut session, &tables)?))
    });
    looked.map_err(|fault| Error::failed(fault.text))
}

fn keys(session: &mut Session, tables: &[String]) -> std::result::Result<Keys, SqlError> {
    let mut keys = Keys::new();
    let rows = session.rows(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION FROM information_schema.COLUMNS WHERE COLUMN_KEY='PRI' \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
    )?;
    for row in rows {
        let name = format!("`{}`.`{}`", row.at(0).unwrap_or_default(), row.at(1).unwrap_or_default());
        if let (true, Some(Ok(at))) = (tables.contains(&name), row.at(2).map(str::parse)) {
            match keys.iter_mut().find(|(table, _): &&mut (String, Vec<usize>)| *table == name) {
                Some((_, columns)) => columns.push(at),
                None => keys.push((name, vec![at])),
            }
        }
    }
    Ok(keys)
}

/// What the holder has changed beyond `known`, read over the network as its replica.
fn theirs(config: &Config, me: NodeIndex, known: &History, keys: &Keys) -> Result<Changes> {
    let login = Login::remote(config, me.other());
    let (own, peer) = (config.node(me.other()).server_id.to_string(), config.node(me).server_id.to_string());
    let known_there = known.clone();
    let looked = bounded("looking at the holder's server", LOOK, move || {
        let mut session = Session::open(&login)?;
        let newer = observe(&mut session, &own, &peer)?.history.minus(&known_there);
        let files = binlog::files_with(&mut session, &newer)?;
        Ok((session.family(), files, newer))
    });
    let (family, files, newer) = looked.map_err(|fault| Error::failed(fault.text))?;
    // The server is asked for them by name, and sends on to its newest file.
    let first = files.paths.first().and_then(|file| file.file_name()).map(|name| name.to_string_lossy().into_owned());
    let first = first.ok_or_else(|| Error::failed("the holder's server keeps no binlog"))?;
    let mut options = vec![
        binlog::ROWS_ONLY.to_owned(),
        "--read-from-remote-server".to_owned(),
        "--to-last-log".to_owned(),
        format!("--host={}", config.node(me.other()).address),
        format!("--port={}", config.mysql.port),
    ];
    // MariaDB's tool wants to see where each domain stands before it prints any of it: there what is known is passed over afterwards.
    if family == Family::MySql {
        options.extend(binlog::only(family, &newer, &newer));
    }
    let secrets = binlog::option_file(&config.replication.user, config.replication.password.reveal());
    let file = Path::new(QUARANTINE).join(format!(".holder-{}", std::process::id()));
    let read = print(family, &options, &[first], Some(&secrets), &file).and_then(|()| changes_in(&file, keys, known));
    let _ = fs::remove_file(&file);
    read.map_err(|fault| fault.context("what the holder has changed cannot be compared"))
}

fn judge(ours: &Changes, theirs: &Changes, peer: &str) -> Result<usize> {
    let by_hand = "nothing was merged and nothing is lost: apply what shall count by hand at the holder, from the saved file, and then see `mmha rejoin --discard`";
    let refused = |why: String| Err(Error::refused(format!("{why}; {by_hand}")));
    if ours.cut || theirs.cut {
        return refused("too much was changed to be compared row by row".to_owned());
    }
    if let Some(statement) = ours.statements.first() {
        return refused(format!("the extra transactions hold a statement whose rows are not known (\"{}\")", short(statement)));
    }
    let mut both: Vec<&String> = ours.rows.intersection(&theirs.rows).collect();
    both.sort_unstable();
    if !both.is_empty() {
        let shown: Vec<&str> = both.iter().take(SHOWN).map(|row| row.as_str()).collect();
        let more = if both.len() > SHOWN { format!(" and {} more", both.len() - SHOWN) } else { String::new() };
        return refused(format!("conflict: {peer} has changed what was changed here too: {}{more}", shown.join("; ")));
    }
    let names = |statement: &str, table: &str| {
        let bare = table.rsplit("`.`").next().unwrap_or(table).trim_matches('`').to_lowercase();
        statement.to_lowercase().contains(&bare)
    };
    let touches = theirs.statements.iter().find(|statement| ours.tables.iter().any(|table| names(statement, table)));
    if let Some(statement) = touches {
        return refused(format!("{peer} has run a statement on a table that was changed here (\"{}\")", short(statement)));
    }
    Ok(ours.rows.len())
}

fn short(statement: &str) -> String {
    let start: String = statement.chars().take(120).collect();
    if start.len() < statement.len() { format!("{start} ...") } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(rows: &[&str], statements: &[&str]) -> Changes {
        Changes {
            transactions: 1,
            unfinished: 0,
            tables: rows.iter().filter_map(|row| row.split(" of ").nth(1)).map(str::to_owned).collect(),
            rows: rows.iter().map(|row| (*row).to_owned()).collect(),
            statements: statements.iter().map(|text| (*text).to_owned()).collect(),
            cut: false,
        }
    }

    #[test]
    fn what_nobody_can_fetch() {
        let extra = History::parse("1:20-21").expect("a history");
        let ours = |transactions, unfinished| Changes { transactions, unfinished, ..Changes::default() };
        assert_eq!(lack(&ours(2, 0), &extra), None);
        for (changes, part) in
            [(ours(2, 1), "half written"), (ours(1, 1), "half written"), (ours(1, 0), "show 1 of 2"), (ours(3, 0), "show 3 of 2")]
        {
            let said = lack(&changes, &extra).expect("something lacks");
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn only_what_cannot_collide_is_merged() {
        let (one, two) = ("row (1) of `shop`.`t`", "row (2) of `shop`.`t`");
        let whole = Changes { cut: true, ..changes(&[one], &[]) };
        for (ours, theirs, expect) in [
            (changes(&[one], &[]), changes(&[two], &[]), Ok(1)),
            (changes(&[one, two], &[]), Changes::default(), Ok(2)),
            (
                changes(&[one], &[]),
                changes(&[one, two], &[]),
                Err("conflict: db-02 has changed what was changed here too: row (1) of `shop`.`t`;"),
            ),
            (changes(&[one], &["TRUNCATE x"]), changes(&[two], &[]), Err("(\"TRUNCATE x\")")),
            (changes(&[one], &[]), changes(&[two], &["ALTER TABLE T ADD c INT"]), Err("db-02 has run a statement on a table")),
            (changes(&["row (1) of `shop`.`orders`"], &[]), changes(&[], &["ALTER TABLE u ADD c INT"]), Ok(1)),
            (whole, changes(&[two], &[]), Err("too much")),
        ] {
            match (judge(&ours, &theirs, "db-02"), expect) {
                (Ok(rows), Ok(expected)) => assert_eq!(rows, expected),
                (Err(fault), Err(part)) => {
                    assert_eq!(fault.exit_code(), 5);
                    assert!(fault.to_string().contains(part) && fault.to_string().contains("nothing is lost"), "{fault}");
                }
                (outcome, expected) => panic!("{outcome:?}, not {expected:?}"),
            }
        }
    }
}
