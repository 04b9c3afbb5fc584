//! Reads what the servers' binlog tool prints with --verbose: which rows and tables were changed, and by which statements. Pure: lines in,
//! `Changes` out. It compares rows by their keys; values mean nothing to it.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use crate::sql::History;

/// Of a longer line only this much counts: two keys that agree so far are taken for one.
const LINE: usize = 4096;
const ROWS_AT_MOST: usize = 1_000_000;
const STATEMENTS_AT_MOST: usize = 100;

/// "`shop`.`orders`" to the numbers of its key columns, counted from 1. A table that is not in it is compared by whole rows.
pub type Keys = Vec<(String, Vec<usize>)>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub transactions: u64,
    /// Those of them that begin and have no end: a server left them half written, for instance on a full disk, and no replica can take them.
    pub unfinished: u64,
    /// As the tool prints them: "`shop`.`orders`".
    pub tables: BTreeSet<String>,
    /// "row (5) of `shop`.`orders`", one each for the row before and after its change.
    pub rows: BTreeSet<String>,
    /// What changes anything without naming rows; the first ones, without maintenance of tables.
    pub statements: Vec<String>,
    /// There was more than is kept.
    pub cut: bool,
}

impl Changes {
    /// Nothing of anybody's data: only this product's own rows, and maintenance of tables.
    pub fn is_ours_alone(&self) -> bool {
        let whole = self.transactions > 0 && self.unfinished == 0 && !self.cut;
        whole && self.statements.is_empty() && self.tables.iter().all(|table| table.starts_with("`mmha`."))
    }

    fn add_statement(&mut self, statement: &str) {
        let first = statement.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let first = first.trim_end_matches([';', '/', '*', '!']);
        let is_data = !matches!(
            first,
            "" | "BEGIN" | "COMMIT" | "ROLLBACK" | "START" | "XA" | "SAVEPOINT" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECKSUM"
        );
        if is_data && self.statements.len() < STATEMENTS_AT_MOST {
            self.statements.push(statement.to_owned());
        } else {
            self.cut |= is_data;
        }
    }

    fn add_row(&mut self, row: &Row, keys: &Keys) {
        let images = [&row.before, &row.after];
        for (image, other) in [(images[0], images[1]), (images[1], images[0])] {
            if image.is_empty() {
                continue;
            }
            let column = |at: usize| image.iter().chain(other).find(|(number, _)| *number == at).map(|(_, value)| value.as_str());
            let values: Vec<&str> = match keys.iter().find(|(table, _)| *table == row.table) {
                // With a minimal image the row after the change names only what has changed.
                Some((_, columns)) => columns.iter().filter_map(|at| column(*at)).collect(),
                None => image.iter().map(|(_, value)| value.as_str()).collect(),
            };
            if self.rows.len() >= ROWS_AT_MOST {
                self.cut = true;
                return;
            }
            self.rows.insert(format!("row ({}) of {}", values.join(", "), row.table));
        }
    }
}

/// One row event while its lines come in.
#[derive(Default)]
struct Row {
    table: String,
    before: Vec<(usize, String)>,
    after: Vec<(usize, String)>,
    in_after: bool,
}

/// Transactions in `known` are passed over.
pub fn read(mut lines: impl BufRead, keys: &Keys, known: &History) -> io::Result<Changes> {
    let mut changes = Changes::default();
    let (mut row, mut statement): (Option<Row>, Option<String>) = (None, None);
    let (mut line, mut is_known, mut is_open) = (Vec::new(), false, false);
    while next_line(&mut lines, &mut line)? {
        let text = String::from_utf8_lossy(&line);
        if let Some(gtid) = transaction(&text) {
            is_known = known.contains(&gtid);
            changes.transactions += u64::from(!is_known);
            changes.unfinished += u64::from(std::mem::take(&mut is_open));
        }
        if is_known {
            continue;
        }
        // Of the next file; the server may begin it with a ROLLBACK.
        if text.contains("\tStart: binlog v") {
            changes.unfinished += u64::from(std::mem::take(&mut is_open));
        }
        if statement.as_ref().is_none_or(String::is_empty) {
            is_open = begins(&text).unwrap_or(is_open);
        }
        if let Some(said) = text.strip_prefix("### ") {
            follow_row(said, &mut row, &mut changes, keys);
            continue;
        }
        if let Some(done) = row.take() {
            changes.add_row(&done, keys);
        }
        match &mut statement {
            _ if text.starts_with('#') => {
                let begins = text.contains("\tQuery\t") || text.contains("Execute_load_query");
                statement = begins.then(String::new);
            }
            Some(said) if text.starts_with("/*!*/;") => {
                changes.add_statement(said.trim());
                statement = None;
            }
            // What the session is set to before the statement itself.
            Some(said) if said.is_empty() && (text.ends_with("/*!*/;") || text.starts_with("/*!\\C")) => {}
            Some(said) if said.len() < LINE => said.push_str(&format!("{text} ")),
            _ => {}
        }
    }
    if let Some(done) = row {
        changes.add_row(&done, keys);
    }
    changes.unfinished += u64::from(is_open);
    Ok(changes)
}

/// Whether a transaction of several events begins or ends with this line; `None`: neither.
fn begins(text: &str) -> Option<bool> {
    match text.split_once("/*!*/").map_or(text, |(said, _)| said) {
        "BEGIN" | "START TRANSACTION" => Some(true),
        "COMMIT" | "ROLLBACK" => Some(false),
        said if said.starts_with("XA PREPARE ") => Some(false),
        _ => None,
    }
}

/// What begins here: "#... GTID 1-1-5 trans" of MariaDB, "SET @@SESSION.GTID_NEXT= 'uuid:5'" of MySQL.
fn transaction(text: &str) -> Option<History> {
    if let Some(rest) = text.strip_prefix("SET @@SESSION.GTID_NEXT= '") {
        return rest.split('\'').next().filter(|gtid| *gtid != "AUTOMATIC").and_then(History::parse);
    }
    let header = text.starts_with('#') && !text.starts_with("#Q>");
    let gtid = text.split_once("\tGTID ").filter(|_| header)?.1.split_whitespace().next()?;
    let (domain, number) = (gtid.split('-').next()?, gtid.rsplit('-').next()?);
    History::parse(&format!("{domain}:{number}"))
}

/// "UPDATE `s`.`t`", "WHERE", "  @1=5", "SET", "  @1=6".
fn follow_row(said: &str, row: &mut Option<Row>, changes: &mut Changes, keys: &Keys) {
    let begins = ["INSERT INTO ", "UPDATE ", "DELETE FROM "].iter().find_map(|word| said.strip_prefix(word));
    if let Some(table) = begins {
        if let Some(done) = row.take() {
            changes.add_row(&done, keys);
        }
        changes.tables.insert(table.trim().to_owned());
        *row = Some(Row { table: table.trim().to_owned(), ..Row::default() });
    }
    let Some(row) = row else { return };
    match said {
        "WHERE" => row.in_after = false,
        "SET" => row.in_after = true,
        _ => {
            let value = said.trim_start().strip_prefix('@').and_then(|rest| rest.split_once('='));
            if let Some((Ok(at), value)) = value.map(|(at, value)| (at.parse(), value)) {
                if row.in_after { &mut row.after } else { &mut row.before }.push((at, value.to_owned()));
            }
        }
    }
}

/// The next line without its end, cut at `LINE`. False: there is none.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let chunk = lines.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE.saturating_sub(line.len()))]);
        let used = end.map_or(chunk.len(), |at| at + 1);
        lines.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;
