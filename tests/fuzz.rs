//! Damaged input of every kind that comes from outside: key files, configuration, positions and status rows of servers, my.cnf, requests on
//! the control socket. (The datagram has its own test beside its codec.) Deterministic: the same cases in every run. Nothing may panic, hang or
//! show a secret, and what is accepted must mean the same when it is written and read again. `MMHA_FUZZ=100000` tries more of each.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mmha::config::authkeys::Authkeys;
use mmha::config::{Config, Secret};
use mmha::control::{self, Answer, Request};
use mmha::core::history::History;
use mmha::mycnf::reader::{self, Files};
use mmha::sql::{Dialect, Family, Record, status};

const CASES: usize = 2_000;
const MARIADB: Dialect = Dialect { family: Family::MariaDb, version: (10, 11, 19) };
const MYSQL: Dialect = Dialect { family: Family::MySql, version: (9, 7, 4) };

fn cases() -> usize {
    std::env::var("MMHA_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

/// Xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).expect("small")
    }
}

/// What parsers trip over: limits of numbers, quotes, breaks, half characters, the words of all these formats.
const PIECES: &[&str] = &[
    "18446744073709551616",
    "-1",
    "0",
    "4294967295",
    "\"",
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "=",
    "[",
    "]",
    "[[",
    "{",
    "}",
    ",",
    ":",
    "-",
    "#",
    "!include ",
    "!includedir ",
    "/etc/my.cnf",
    "é",
    "\u{feff}",
    "auth 1\n",
    "1 sha1 ",
    "250ms",
    "1e9",
    "nan",
    "true",
    "null",
    "[mysqld]\n",
    "server_id=",
    "..",
    "1-1-1,",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let (at, length) = (random.below(bytes.len() + 1), random.below(40));
        let end = (at + length).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 if !bytes.is_empty() => {
                let at = at % bytes.len();
                bytes[at] ^= 1 << random.below(8);
            }
            4 => {
                let moved: Vec<u8> = bytes.drain(at..end).collect();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, moved));
            }
            _ => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls `check` with every seed as it is and then with damaged ones; says how many of them it took for good.
fn damage(seeds: &[&str], check: impl Fn(&str) -> bool) -> usize {
    for seed in seeds {
        assert!(check(seed), "a good one is refused: {seed}");
    }
    let mut random = Random(0x6d6d_6861);
    (0..cases()).filter(|_| check(&mutate(seeds[random.below(seeds.len())], &mut random))).count()
}

#[test]
fn authkeys() {
    let seeds =
        ["auth 1\n1 sha1 a-secret-of-good-length\n", "# keys\nauth 2\n1 sha1 a-secret-of-good-length\n2 sha256 another-secret-of-length\n"];
    let good = damage(&seeds, |text| match Authkeys::parse(text, "authkeys") {
        Ok(keys) => !format!("{keys:?}").contains("secret-of"),
        Err(error) => {
            assert!(!error.to_string().contains("secret-of"), "shows a key: {error}");
            false
        }
    });
    assert!(good > 0, "nothing survived: the damage is too great to reach the end of the parser");
}

#[test]
fn configuration() {
    let shipped = include_str!("../etc/mmha.toml");
    let read = |text: &str| Config::parse(Path::new("mmha.toml"), text, |_, _| Ok(Secret::new("hunter2-hunter2")));
    let files = "ca_file = \"/ca.pem\"\ncert_file = \"/node.pem\"\nkey_file = \"/node.key\"\n";
    let arbiter = format!("{shipped}\n[arbiter]\nendpoints = [\"https://etcd-1:2379\", \"http://[2001:db8::1]\"]\n{files}");
    let good = damage(&[shipped, &arbiter], |text| match read(text) {
        Ok(config) => {
            for endpoint in config.arbiter.iter().flat_map(|arbiter| &arbiter.endpoints) {
                assert!(!endpoint.host.is_empty() && !endpoint.host.starts_with('-'), "would be an option of a program: {endpoint}");
            }
            assert!(!format!("{config:?}").contains("hunter2"), "Debug shows a password");
            let timing = &config.heartbeat;
            assert!(timing.gate < timing.deadtime && timing.isolation < timing.deadtime && timing.warntime < timing.deadtime, "{text}");
            assert!(config.nodes[0].address != config.nodes[1].address && config.nodes[0].server_id != config.nodes[1].server_id, "{text}");
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("mmha.toml:") && !said.contains("hunter2"), "{said}");
            false
        }
    });
    assert!(good > 0);
}

#[test]
fn positions() {
    type Parse = fn(&str) -> Option<History>;
    let forms: [(&str, Parse); 3] = [
        ("1-1-22,2-2-9,7-3-18446744073709551615", History::parse_mariadb),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7-9,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:1", History::parse_mysql),
        ("1:1-22:25,2:1-9", History::parse),
    ];
    for (seed, parse) in forms {
        let good = damage(&[seed], |text| {
            let Some(history) = parse(text) else { return false };
            assert_eq!(History::parse(&history.to_string()).as_ref(), Some(&history), "{text:?}");
            assert!(history.contains(&history) && history.minus(&history).is_empty() && history.union(&history) == history, "{text:?}");
            true
        });
        assert!(good > 0, "{seed}");
    }
}

/// Rows as a server of another version, or a broken one, might send them: columns renamed, doubled, missing, full of anything.
#[test]
fn replica_status() {
    let mariadb = "Slave_IO_State=Waiting for master to send event|Master_Host=192.0.2.242|Master_User=replication|Master_Port=3306|Slave_IO_Running=Yes\
                   |Slave_SQL_Running=Yes|Seconds_Behind_Master=0|Last_IO_Errno=0|Last_IO_Error=|Last_SQL_Errno=0|Last_SQL_Error=|Using_Gtid=Slave_Pos|Gtid_IO_Pos=1-1-22";
    let mysql = "Replica_IO_State=Waiting for source to send event|Source_Host=192.0.2.242|Source_User=replication|Source_Port=3306|Replica_IO_Running=Yes\
                 |Replica_SQL_Running=Yes|Seconds_Behind_Source=0|Last_IO_Errno=0|Auto_Position=1|Retrieved_Gtid_Set=3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5|Channel_Name=";
    for (seed, dialect) in [(mariadb, MARIADB), (mysql, MYSQL)] {
        let good = damage(&[seed], |text| {
            let pairs: Vec<(&str, &str)> = text.split('|').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
            let rows = [Record::of(&pairs), Record::of(&pairs[..pairs.len() / 2])];
            let sources = status::sources(&rows);
            let Some(replica) = status::parse(&rows, dialect) else { return false };
            assert!(sources.contains(&replica.source_host), "{text}");
            let says_yes = text.contains("_IO_Running=Yes") && text.contains("_SQL_Running=Yes");
            assert!(says_yes || !replica.is_healthy(), "healthy although nobody said so: {text}");
            true
        });
        assert!(good > 0);
    }
}

/// Files that include each other and themselves, without end.
struct Disk<'a> {
    text: &'a str,
    reads: Cell<usize>,
}

impl Files for Disk<'_> {
    fn read(&self, path: &Path) -> Option<String> {
        self.reads.set(self.reads.get() + 1);
        path.starts_with("/etc").then(|| self.text.to_owned())
    }
    fn list(&self, _: &Path) -> Vec<PathBuf> {
        vec!["/etc/mysql/one.cnf".into()]
    }
}

#[test]
fn my_cnf() {
    let seed = "[client]\nport=3306\n[mysqld]\nserver-id = 7 # seven\nskip_name_resolve\nloose_x=\"a # b\"\n!include /etc/other.cnf\n";
    let good = damage(&[seed], |text| {
        let disk = Disk { text, reads: Cell::new(0) };
        let lines = reader::read(&disk, MARIADB);
        assert!(disk.reads.get() <= 1_000, "{} files read for {text:?}", disk.reads.get());
        let ours = Path::new("/etc/mysql/one.cnf");
        assert!(reader::overrides(&lines, ours).iter().all(|line| line.file != ours));
        lines.iter().any(|line| line.name == "server_id")
    });
    assert!(good > 0);
}

/// What is no request is answered as nonsense or dropped; nothing but a whole request is obeyed.
#[test]
fn control_requests() {
    let seeds = [
        "{\"command\":\"status\"}\n",
        "{\"command\":\"switchover\",\"to\":\"db-02\",\"force\":true,\"who\":\"dba\"}\n",
        "{\"command\":\"pause\",\"minutes\":10}\n",
        "{\"command\":\"resume\"}\n",
    ];
    let good = damage(&seeds, |text| {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        theirs.write_all(text.as_bytes()).expect("sent");
        theirs.shutdown(Shutdown::Write).expect("closed");
        let obeyed = Cell::new(false);
        let outcome = control::handle(ours, |request| {
            obeyed.set(true);
            let line = text.split('\n').next().unwrap_or_default();
            assert_eq!(serde_json::from_str::<Request>(line).ok(), Some(request), "{text:?}");
            Answer::Accepted("yes".into())
        });
        let mut said = String::new();
        theirs.read_to_string(&mut said).expect("an answer or an end");
        assert!(outcome.is_err() || said.ends_with('\n'), "{text:?} answered {said:?}");
        obeyed.get()
    });
    assert!(good > 0);
}
