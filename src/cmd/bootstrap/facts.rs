//! What one node tells the other about itself before they join, and what follows from both. Pure but for `gather`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Config, NodeIndex};
use crate::error::{Error, Result};
use crate::sql::{Family, History, Replica, Session, SqlError, observe, schema};

/// Everything the decision rests on. Both nodes see the same two of these and come to the same verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub mariadb: bool,
    pub version: (u16, u16, u16),
    pub server_id: u32,
    /// MariaDB's gtid_domain_id, MySQL's server_uuid.
    pub server_key: String,
    pub config_digest: u64,
    /// It is set up to follow its peer by GTID, running or not.
    pub follows: bool,
    /// `History` as text.
    pub history: String,
    /// "table shop.orders" to a digest of its definition.
    pub objects: BTreeMap<String, String>,
    /// "shop.orders" to its number of rows and checksum; filled only when both nodes have the same tables.
    pub contents: BTreeMap<String, String>,
    pub accounts: Vec<String>,
    /// The row it writes as proof, once it follows.
    pub marker: String,
}

/// What to do with two servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They follow each other already: start and prove.
    Resume,
    /// Nothing to lose on either side: begin both histories anew.
    Join,
    /// The same objects on both: compare what is in them first.
    Count,
    Refuse(String),
}

pub fn gather(session: &mut Session, config: &Config, me: NodeIndex) -> std::result::Result<Facts, SqlError> {
    let seen = observe(session, &config.node(me).server_id.to_string(), &config.node(me.other()).server_id.to_string())?;
    let databases = &config.replication.databases;
    let mut objects = BTreeMap::new();
    for row in session.rows(&schema::objects(databases)?)? {
        let text = |column| row.get(column).unwrap_or_default();
        let name = if text("name").is_empty() { text("holder").to_owned() } else { format!("{}.{}", text("holder"), text("name")) };
        objects.insert(format!("{} {name}", text("kind")), digest("", text("definition")));
    }
    for row in session.rows(&schema::columns(databases)?)? {
        let text = |column| row.get(column).unwrap_or_default();
        if let Some(table) = objects.get_mut(&format!("table {}.{}", text("holder"), text("name"))) {
            *table = digest(table, text("definition"));
        }
    }
    let accounts = session.rows(&schema::accounts(&config.replication.user)?)?;
    Ok(Facts {
        mariadb: session.family() == Family::MariaDb,
        version: session.version(),
        server_id: seen.server_id,
        server_key: seen.server_key,
        config_digest: config.digest,
        follows: seen.replica.as_ref().is_some_and(|replica| follows(replica, config, me)),
        history: seen.history.to_string(),
        objects,
        contents: BTreeMap::new(),
        accounts: accounts.iter().filter_map(|row| row.at(0)).map(str::to_owned).collect(),
        marker: String::new(),
    })
}

/// FNV-1a over both, so that a table of a hundred columns says no more than one of two. Tells apart what differs by accident.
fn digest(before: &str, more: &str) -> String {
    let hash = before
        .bytes()
        .chain([0])
        .chain(more.bytes())
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// Rows and checksum of every table. Reads all data once.
pub fn count(session: &mut Session, facts: &Facts) -> std::result::Result<BTreeMap<String, String>, SqlError> {
    let mut contents = BTreeMap::new();
    for table in facts.objects.keys().filter_map(|object| object.strip_prefix("table ")) {
        let Some((holder, name)) = table.split_once('.') else { continue };
        let rows = session.value(&schema::count(holder, name)?)?.unwrap_or_default();
        let answer = session.rows(&schema::checksum(holder, name)?)?;
        // Two tables that cannot be read are not two equal ones.
        let sum = answer.first().and_then(|row| row.at(1)).ok_or_else(|| {
            SqlError::other(format!("server at {} gives no checksum of {table}: is it damaged? See CHECK TABLE", session.place()))
        })?;
        contents.insert(table.to_owned(), format!("{rows} rows, checksum {sum}"));
    }
    Ok(contents)
}

/// Whether a replica is what this product sets up: this peer, this account, by GTID.
pub fn follows(replica: &Replica, config: &Config, me: NodeIndex) -> bool {
    let peer = config.node(me.other());
    replica.by_gtid
        && replica.source_host == peer.address.to_string()
        && replica.source_port == config.mysql.port
        && replica.source_user == config.replication.user
}

/// `mine` and `theirs` as gathered; `contents` empty until counted. Symmetric: the peer comes to the same answer.
pub fn judge(mine: &Facts, theirs: &Facts, here: &str, there: &str, counted: Counted) -> Verdict {
    if let Some(reason) = misfit(mine, theirs, here, there) {
        return Verdict::Refuse(reason);
    }
    if mine.follows && theirs.follows {
        return lost_tail(mine, theirs, here, there).map_or(Verdict::Resume, Verdict::Refuse);
    }
    match (mine.objects.is_empty(), theirs.objects.is_empty(), counted) {
        (true, true, _) => Verdict::Join,
        (true, false, _) => Verdict::Refuse(seed(theirs, there, here)),
        (false, true, _) => Verdict::Refuse(seed(mine, here, there)),
        (false, false, Counted::No) if mine.objects == theirs.objects => Verdict::Count,
        (false, false, Counted::No) => Verdict::Refuse(differ(&differences(&mine.objects, &theirs.objects, here, there))),
        (false, false, Counted::Yes) if mine.contents == theirs.contents => Verdict::Join,
        (false, false, Counted::Yes) => Verdict::Refuse(differ(&differences(&mine.contents, &theirs.contents, here, there))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    No,
    Yes,
}

/// Accounts only one node has: not data, but a failover shows them missing.
pub fn lonely_accounts(mine: &Facts, theirs: &Facts, here: &str, there: &str) -> Vec<String> {
    let only = |left: &Facts, right: &Facts, place: &str| -> Vec<String> {
        left.accounts.iter().filter(|name| !right.accounts.contains(name)).map(|name| format!("{name} only on {place}")).collect()
    };
    [only(mine, theirs, here), only(theirs, mine, there)].concat()
}

fn misfit(mine: &Facts, theirs: &Facts, here: &str, there: &str) -> Option<String> {
    if mine.config_digest != theirs.config_digest {
        return Some(format!(
            "mmha.toml differs between {here} and {there}: copy /etc/mmha from one to the other and run bootstrap again on both"
        ));
    }
    if mine.mariadb != theirs.mariadb {
        return Some(format!("one of {here} and {there} runs MariaDB and the other MySQL; they do not replicate to each other by GTID"));
    }
    if mine.server_id == theirs.server_id {
        return Some(format!(
            "{here} and {there} both run with server_id {}; each would drop the other's changes as its own. `mmha mycnf check` names the file that overrides ours",
            mine.server_id
        ));
    }
    (mine.server_key == theirs.server_key).then(|| {
        let what = if mine.mariadb {
            format!("gtid_domain_id {}; `mmha mycnf check` names the file that overrides ours", mine.server_key)
        } else {
            format!("server_uuid {}: the datadir was copied. Delete auto.cnf in the datadir of one of them and restart it", mine.server_key)
        };
        format!("{here} and {there} both run with {what}")
    })
}

/// Both follow, but one lacks the end of what it wrote itself: joining would leave it without, silently.
fn lost_tail(mine: &Facts, theirs: &Facts, here: &str, there: &str) -> Option<String> {
    let lost = |own: &Facts, other: &Facts, place: &str, keeper: &str| {
        let (own_history, other_history) = (History::parse(&own.history)?, History::parse(&other.history)?);
        let lost = other_history.only(&own.server_key).minus(&own_history);
        (!lost.is_empty()).then(|| {
            format!("{place} lost {lost} of its own transactions, which {keeper} has: start the service on both, it fetches them back")
        })
    };
    lost(mine, theirs, here, there).or_else(|| lost(theirs, mine, there, here))
}

fn seed(full: &Facts, from: &str, to: &str) -> String {
    let mut schemas: Vec<&str> = full.objects.keys().filter_map(|object| object.strip_prefix("schema ")).collect();
    schemas.sort_unstable();
    let (dump, client) = if full.mariadb {
        ("mariadb-dump --single-transaction".to_owned(), "mariadb".to_owned())
    } else {
        // The empty side is read-only even for root, and its history is begun anew anyway.
        (
            "mysqldump --single-transaction --set-gtid-purged=OFF".to_owned(),
            "mysql --init-command=\\\"SET GLOBAL super_read_only=0\\\"".to_owned(),
        )
    };
    format!(
        "{from} has data and {to} is empty. Stop what writes there, copy it, then run bootstrap again on both; on {from}:\n  {dump} --routines --events --triggers --databases {} | ssh root@{to} \"{client}\"",
        schemas.join(" ")
    )
}

fn differ(lines: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = "the two servers hold different data; none of it was touched. Decide which one counts, empty the other, run bootstrap again. What differs:".to_owned();
    for line in lines.iter().take(SHOWN) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    if lines.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", lines.len() - SHOWN));
    }
    text
}

fn differences(mine: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>, here: &str, there: &str) -> Vec<String> {
    let mut names: Vec<&String> = mine.keys().chain(theirs.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let line = |name: &String| match (mine.get(name), theirs.get(name)) {
        (Some(_), None) => Some(format!("{name}: only on {here}")),
        (None, Some(_)) => Some(format!("{name}: only on {there}")),
        (Some(left), Some(right)) if left != right && left.contains("checksum") => {
            Some(format!("{name}: {left} on {here}; {right} on {there}"))
        }
        (Some(left), Some(right)) if left != right => Some(format!("{name}: defined differently")),
        _ => None,
    };
    names.into_iter().filter_map(line).collect()
}

pub fn read(text: &str, from: &str) -> Result<Facts> {
    serde_json::from_str(text).map_err(|_| Error::refused(format!("{from} runs another version of mmha: install the same on both")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(server_id: u32, objects: &[(&str, &str)]) -> Facts {
        Facts {
            mariadb: true,
            version: (10, 11, 19),
            server_id,
            server_key: server_id.to_string(),
            config_digest: 7,
            follows: false,
            history: String::new(),
            objects: objects.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect(),
            contents: BTreeMap::new(),
            accounts: vec![],
            marker: String::new(),
        }
    }

    fn verdict(mine: &Facts, theirs: &Facts, counted: Counted) -> Verdict {
        let (one, other) = (judge(mine, theirs, "db-01", "db-02", counted), judge(theirs, mine, "db-02", "db-01", counted));
        // The refusals name both nodes in the order of who asks; everything else must be the same word.
        assert_eq!(matches!(one, Verdict::Refuse(_)), matches!(other, Verdict::Refuse(_)));
        if !matches!(one, Verdict::Refuse(_)) {
            assert_eq!(one, other);
        }
        one
    }

    fn refused(mine: &Facts, theirs: &Facts, counted: Counted, words: &[&str]) {
        let Verdict::Refuse(text) = verdict(mine, theirs, counted) else { panic!("not refused") };
        for word in words {
            assert!(text.contains(word), "{word:?} missing in {text:?}");
        }
    }

    #[test]
    fn empty_and_equal_servers_join() {
        assert_eq!(verdict(&facts(1, &[]), &facts(2, &[]), Counted::No), Verdict::Join);
        let shop = [("schema shop", ""), ("table shop.t", "x")];
        let (mut mine, mut theirs) = (facts(1, &shop), facts(2, &shop));
        assert_eq!(verdict(&mine, &theirs, Counted::No), Verdict::Count);
        mine.contents.insert("shop.t".into(), "2 rows, checksum 9".into());
        theirs.contents.insert("shop.t".into(), "2 rows, checksum 9".into());
        assert_eq!(verdict(&mine, &theirs, Counted::Yes), Verdict::Join);
        theirs.contents.insert("shop.t".into(), "3 rows, checksum 8".into());
        refused(&mine, &theirs, Counted::Yes, &["shop.t: 2 rows", "3 rows", "none of it was touched"]);
    }

    #[test]
    fn different_or_lonely_data_is_refused() {
        let shop = facts(1, &[("schema shop", ""), ("table shop.t", "x")]);
        refused(
            &shop,
            &facts(2, &[]),
            Counted::No,
            &["db-01 has data and db-02 is empty", "mariadb-dump", "--databases shop | ssh root@db-02"],
        );
        refused(&shop, &facts(2, &[("schema blog", "")]), Counted::No, &["schema blog: only on db-02", "table shop.t: only on db-01"]);
        refused(&shop, &facts(2, &[("schema shop", ""), ("table shop.t", "y")]), Counted::No, &["table shop.t: defined differently"]);
    }

    #[test]
    fn misfits_are_refused_before_anything_else() {
        let mut other = facts(2, &[]);
        other.config_digest = 8;
        refused(&facts(1, &[]), &other, Counted::No, &["mmha.toml differs"]);
        refused(&facts(1, &[]), &facts(1, &[]), Counted::No, &["server_id 1", "mmha mycnf check"]);
        let mut cloned = facts(2, &[]);
        cloned.server_key = "1".into();
        refused(&facts(1, &[]), &cloned, Counted::No, &["gtid_domain_id 1"]);
        let mut mysql = facts(2, &[]);
        mysql.mariadb = false;
        refused(&facts(1, &[]), &mysql, Counted::No, &["MariaDB", "MySQL"]);
    }

    #[test]
    fn a_pair_that_follows_resumes_unless_a_tail_is_lost() {
        let shop = [("schema shop", ""), ("table shop.t", "x")];
        let (mut mine, mut theirs) = (facts(1, &shop), facts(2, &[]));
        (mine.follows, theirs.follows) = (true, true);
        (mine.history, theirs.history) = ("1:1-9".into(), "1:1-7".into());
        assert_eq!(verdict(&mine, &theirs, Counted::No), Verdict::Resume);
        theirs.history = "1:1-12".into();
        refused(&mine, &theirs, Counted::No, &["db-01 lost 1:10-12"]);
    }

    #[test]
    fn accounts_on_one_side_are_named() {
        let (mut mine, theirs) = (facts(1, &[]), facts(2, &[]));
        mine.accounts.push("app@%".into());
        assert_eq!(lonely_accounts(&mine, &theirs, "db-01", "db-02"), ["app@% only on db-01"]);
        assert!(read("{}", "db-02").is_err());
        assert_eq!(read(&serde_json::to_string(&mine).unwrap(), "db-02"), Ok(mine));
    }
}
