//! Which transactions a server has: GTID sets of both families in one form. Pure set arithmetic; asks no server, decides nothing.

use std::fmt;
use std::sync::Arc;

/// Sorted, disjoint, never adjacent, inclusive intervals per key. The key is a MariaDB domain as decimal text,
/// a MySQL server UUID in lower case, or `uuid:tag` for MySQL's tagged GTIDs. The keys are in order and none has an empty list. Copies share
/// one table, and an empty history has none: it travels in every look at a server and in every heartbeat.
#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct History(Option<Arc<Vec<Entry>>>);

/// A key and its intervals.
type Entry = (String, Vec<(u64, u64)>);

impl History {
    /// MariaDB's `gtid_binlog_pos` or `gtid_slave_pos`: `1-1-22,2-2-9`. A position stands for everything before it in its domain;
    /// the server id is dropped. `None` on garbage.
    pub fn parse_mariadb(text: &str) -> Option<History> {
        let mut found = History::default();
        for gtid in text.split(',').map(str::trim).filter(|gtid| !gtid.is_empty()) {
            let mut parts = gtid.split('-');
            let domain: u32 = parts.next()?.parse().ok()?;
            let _server: u32 = parts.next()?.parse().ok()?;
            let sequence: u64 = parts.next()?.parse().ok()?;
            if parts.next().is_some() {
                return None;
            }
            if sequence > 0 {
                found.add(&domain.to_string(), 1, sequence);
            }
        }
        Some(found)
    }

    /// MySQL's `gtid_executed`: `uuid:1-5:7,uuid2:1`, with tags as `uuid:1-5:tag:1-3`. `None` on garbage.
    pub fn parse_mysql(text: &str) -> Option<History> {
        Self::parse_sets(text, is_uuid)
    }

    /// What `Display` prints.
    pub fn parse(text: &str) -> Option<History> {
        Self::parse_sets(text, |key| is_uuid(key) || key.parse::<u32>().is_ok())
    }

    fn parse_sets(text: &str, is_key: impl Fn(&str) -> bool) -> Option<History> {
        let mut found = History::default();
        for set in text.split(',').map(str::trim).filter(|set| !set.is_empty()) {
            let mut parts = set.split(':').map(str::trim);
            let base = parts.next().filter(|key| is_key(key))?.to_ascii_lowercase();
            let (mut tagged, mut intervals) = (None, 0);
            for part in parts {
                if part.starts_with(|c: char| c.is_ascii_digit()) {
                    let (first, last) = parse_interval(part)?;
                    found.add(tagged.as_deref().unwrap_or(&base), first, last);
                    intervals += 1;
                } else if is_tag(part) {
                    tagged = Some(format!("{base}:{}", part.to_ascii_lowercase()));
                } else {
                    return None;
                }
            }
            if intervals == 0 {
                return None;
            }
        }
        Some(found)
    }

    /// Everything in `self` that `other` lacks.
    #[must_use]
    pub fn minus(&self, other: &History) -> History {
        let mut left = Vec::new();
        for (key, mine) in self.entries().iter().filter(|(key, mine)| !covers(other.list(key), mine)) {
            left.push((key.clone(), subtract(mine, other.list(key))));
        }
        History::of(left)
    }

    /// Whether `self` has everything `other` has.
    pub fn contains(&self, other: &History) -> bool {
        self.contains_where(other, |_| true)
    }

    /// Whether `self` has everything of `other` that the server of `key` wrote.
    pub fn contains_of(&self, other: &History, key: &str) -> bool {
        self.contains_where(other, |name| belongs(name, key))
    }

    /// Whether `self` has everything of `other` that anybody but the server of `key` wrote.
    pub fn contains_without(&self, other: &History, key: &str) -> bool {
        self.contains_where(other, |name| !belongs(name, key))
    }

    fn contains_where(&self, other: &History, counts: impl Fn(&str) -> bool) -> bool {
        // As a rule both have the same keys.
        let mine = |at: usize, name: &str| match self.entries().get(at) {
            Some((key, list)) if key == name => list,
            _ => self.list(name),
        };
        let has = |(at, (name, list)): (usize, &Entry)| !counts(name) || covers(mine(at, name), list);
        self.is_same(other) || other.entries().iter().enumerate().all(has)
    }

    /// Whether both have the same of what the server of `key` wrote.
    pub fn agrees_on(&self, other: &History, key: &str) -> bool {
        self.contains_of(other, key) && other.contains_of(self, key)
    }

    /// What of `received` waits for the applier of the server of `key`, which has `self`. Its own writes come back as an echo that is not applied.
    #[must_use]
    pub fn unapplied(&self, received: &History, key: &str) -> History {
        // As a rule nothing waits.
        if self.contains_without(received, key) { History::default() } else { received.without(key).minus(self) }
    }

    /// What one server wrote: its key, and for MySQL the tags under it.
    #[must_use]
    pub fn only(&self, key: &str) -> History {
        self.filtered(|name| belongs(name, key))
    }

    /// Everything but what one server wrote.
    #[must_use]
    pub fn without(&self, key: &str) -> History {
        self.filtered(|name| !belongs(name, key))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> History {
        if self.entries().iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        History::of(self.entries().iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    #[must_use]
    pub fn union(&self, other: &History) -> History {
        let mut both = self.clone();
        for (key, list) in other.entries().iter().filter(|(key, list)| !covers(self.list(key), list)) {
            for &(first, last) in list {
                both.add(key, first, last);
            }
        }
        both
    }

    fn list(&self, key: &str) -> &[(u64, u64)] {
        let entries = self.entries();
        entries.binary_search_by(|(name, _)| name.as_str().cmp(key)).map_or(&[][..], |at| entries[at].1.as_slice())
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_ref().map_or(&[][..], |entries| entries.as_slice())
    }

    fn of(entries: Vec<Entry>) -> History {
        History(Some(Arc::new(entries)).filter(|entries| !entries.is_empty()))
    }

    /// Known to be equal without a look at it.
    fn is_same(&self, other: &History) -> bool {
        match (&self.0, &other.0) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many transactions.
    pub fn count(&self) -> u64 {
        self.entries().iter().map(|(_, list)| length(list)).fold(0, u64::saturating_add)
    }

    /// How many the server of `key` wrote.
    pub fn count_of(&self, key: &str) -> u64 {
        self.entries().iter().filter(|(name, _)| belongs(name, key)).map(|(_, list)| length(list)).fold(0, u64::saturating_add)
    }

    /// The highest sequence number under exactly this key.
    pub fn last(&self, key: &str) -> Option<u64> {
        self.list(key).last().map(|&(_, last)| last)
    }

    /// The lowest sequence number under each key.
    pub fn firsts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.entries().iter().filter_map(|(key, list)| list.first().map(|&(first, _)| (key.as_str(), first)))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries().iter().map(|(key, _)| key.as_str())
    }

    fn add(&mut self, key: &str, first: u64, last: u64) {
        debug_assert!(0 < first && first <= last);
        let entries = Arc::make_mut(self.0.get_or_insert_default());
        let at = entries.binary_search_by(|(name, _)| name.as_str().cmp(key)).unwrap_or_else(|at| {
            entries.insert(at, (key.to_owned(), Vec::new()));
            at
        });
        let list = &mut entries[at].1;
        // As a rule it comes in order.
        if list.last().is_none_or(|end| end.1 < first && first - end.1 > 1) {
            return list.push((first, last));
        }
        list.push((first, last));
        list.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(list.len());
        for &(first, last) in list.iter() {
            match merged.last_mut() {
                Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        *list = merged;
    }
}

impl From<History> for String {
    fn from(history: History) -> String {
        history.to_string()
    }
}

impl TryFrom<String> for History {
    type Error = String;

    fn try_from(text: String) -> Result<History, String> {
        History::parse(&text).ok_or_else(|| format!("\"{text}\" is not a GTID history"))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (key, list)) in self.entries().iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(key)?;
            for &(first, last) in list {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

fn belongs(name: &str, key: &str) -> bool {
    name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
        None => text.parse().ok().map(|only| (only, only))?,
    };
    (0 < first && first <= last).then_some((first, last))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// MySQL 8.3 manual, "GTID format": a letter or underscore, then up to 31 letters, digits, underscores.
fn is_tag(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn length(list: &[(u64, u64)]) -> u64 {
    list.iter().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}

/// Whether every interval of `list` lies in one of `mine`; neither has adjacent ones.
fn covers(mine: &[(u64, u64)], list: &[(u64, u64)]) -> bool {
    list.iter().all(|(first, last)| mine.iter().any(|(from, to)| from <= first && last <= to))
}

fn subtract(mine: &[(u64, u64)], theirs: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    for &(mut first, last) in mine {
        let mut used_up = false;
        for &(from, to) in theirs {
            if to < first || from > last {
                continue;
            }
            if from > first {
                rest.push((first, from - 1));
            }
            if to >= last {
                used_up = true;
                break;
            }
            first = to + 1;
        }
        if !used_up {
            rest.push((first, last));
        }
    }
    rest
}

#[cfg(test)]
mod tests;
