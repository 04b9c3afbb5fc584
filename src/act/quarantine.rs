//! What a quarantined node keeps on disk: its extra transactions, printed once by the server's own binlog tool, and which of them its
//! operator lets flow. It only reads the server's files. A full disk or a missing tool is a sentence, and stops nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::event::Ms;
use crate::core::history::History;
use crate::core::want::Want;
use crate::error::{Error, Result};
use crate::sql::changes::{Changes, Keys};
use crate::sql::{Family, Login, Session, binlog, bounded, changes};
use crate::sys::run::{self, Output};
use crate::sys::slot::Reader;
use crate::sys::{clock, file, timer};

/// What may flow; one line.
const ACCEPTED: &str = "accepted";
const ACCEPTED_LIMIT: usize = 64 * 1024;
const WHOLE: &str = "the whole binlogs, not these transactions alone";
const UNFINISHED: &str =
    "a transaction that the server has left half written, for instance on a full disk: nobody can fetch it, see `mmha rejoin --discard`";
const NAME_LIMIT: usize = 120;
const RETRY_MS: Ms = 30_000;
const LIST: Duration = Duration::from_secs(10);
/// The tool prints tens of megabytes a second; it is killed when it takes longer.
const PRINT: Duration = Duration::from_secs(300);

/// The part of a `Want` that is about extra transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub extra: History,
    pub merge: Option<History>,
    /// The node's last epoch: after a set-up from scratch the same GTIDs may name other transactions.
    pub epoch: u64,
}

impl Order {
    pub fn of(want: &Want) -> Order {
        Order { extra: want.extra.clone(), merge: want.merge.clone(), epoch: want.save.map_or(0, |record| record.epoch) }
    }
}

#[derive(Debug, Clone)]
pub enum Seen {
    /// These may flow: accepted earlier, or found to be nobody's data.
    Accepted(History),
    Kept(Kept),
}

/// What has become of the attempt to save them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub extra: History,
    pub file: Option<PathBuf>,
    pub trouble: Option<String>,
}

/// The quarantine's thread, until the process ends.
pub fn run(directory: &Path, login: &Login, mut orders: Reader<Order>, report: impl Fn(Seen)) {
    let mut accepted = read_accepted(directory);
    report(Seen::Accepted(accepted.clone()));
    let (mut kept, mut tried_ms): (Option<Kept>, Ms) = (None, 0);
    loop {
        let _ = timer::wait_readable(&[orders.as_fd()], clock::now_ms() + RETRY_MS);
        orders.take_bell();
        let order = orders.get();
        if let Some(wanted) = order.merge.filter(|wanted| *wanted != accepted) {
            match write_accepted(directory, &wanted) {
                Ok(()) => accepted = wanted,
                Err(fault) => log::warn!("{fault}: after a restart the operator has to accept the merge again"),
            }
        }
        let early = clock::now_ms() < tried_ms + RETRY_MS;
        let done = |kept: &Kept| kept.extra.contains(&order.extra) && (kept.file.is_some() || early);
        if order.extra.is_empty() || kept.as_ref().is_some_and(done) {
            continue;
        }
        tried_ms = clock::now_ms();
        let mut now = keep(directory, login, &order.extra, order.epoch);
        let saved = now.file.as_ref().filter(|_| now.trouble.is_none());
        let changes = saved.and_then(|path| changes_in(path, &Keys::default(), &History::default()).ok()).unwrap_or_default();
        if changes.unfinished > 0 {
            now.trouble = Some(UNFINISHED.to_owned());
        }
        if kept.as_ref() != Some(&now) {
            tell(&now);
        }
        if changes.is_ours_alone() {
            log::info!("the extra transactions {} hold nobody's data (maintenance, or mmha's own rows): they may flow", now.extra);
            report(Seen::Accepted(now.extra.clone()));
        }
        report(Seen::Kept(now.clone()));
        kept = Some(now);
    }
}

fn tell(kept: &Kept) {
    let Kept { extra, file, trouble } = kept;
    match (file, trouble) {
        (Some(path), None) => log::warn!("{} extra transactions ({extra}) are saved in \"{}\"", extra.count(), path.display()),
        (Some(path), Some(trouble)) => log::warn!("extra transactions ({extra}) are saved in \"{}\": {trouble}", path.display()),
        (None, trouble) => log::error!("extra transactions ({extra}) are not saved: {}", trouble.as_deref().unwrap_or("nobody said why")),
    }
}

/// Saves them under a name that says what they are; what has been saved under it is left as it is.
fn keep(directory: &Path, login: &Login, extra: &History, epoch: u64) -> Kept {
    let path = directory.join(name(extra, epoch));
    let whole = path.with_extension("whole.sql");
    let is_there = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
    if is_there(&path) {
        return Kept { extra: extra.clone(), file: Some(path), trouble: None };
    }
    if is_there(&whole) {
        return Kept { extra: extra.clone(), file: Some(whole), trouble: Some(WHOLE.to_owned()) };
    }
    match make_directory(directory).and_then(|()| save(&path, &whole, login, extra)) {
        Ok(None) => Kept { extra: extra.clone(), file: Some(path), trouble: None },
        Ok(trouble) => Kept { extra: extra.clone(), file: Some(whole), trouble },
        Err(fault) => Kept { extra: extra.clone(), file: None, trouble: Some(fault.to_string()) },
    }
}

fn name(extra: &History, epoch: u64) -> String {
    let gtids: String = extra.to_string().chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("epoch{epoch}-{}.sql", &gtids[..gtids.len().min(NAME_LIMIT)])
}

fn make_directory(directory: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|fault| cannot("make", directory, &fault))
}

fn cannot(what: &str, path: &Path, fault: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("cannot {what} \"{}\": {fault}", path.display()))
}

/// `Some`: the whole binlogs are in the other file, and why.
fn save(path: &Path, whole: &Path, login: &Login, extra: &History) -> Result<Option<String>> {
    let (login, wanted) = (login.clone(), extra.clone());
    let listed = bounded("listing the binlog files", LIST, move || {
        let mut session = Session::open(&login)?;
        Ok((session.family(), binlog::files_with(&mut session, &wanted)?))
    });
    let (family, found) = listed.map_err(|fault| Error::failed(fault.text))?;
    let files: Vec<String> = found.paths.iter().map(|file| file.display().to_string()).collect();
    let outcome = print(family, &binlog::only(family, extra, &found.before), &files, None, path).and_then(|()| counted(path, extra));
    let Err(fault) = outcome else { return Ok(None) };
    // A tool that does not know the selection, or binlogs with a gap, still print everything.
    match print(family, &[], &files, None, whole) {
        Ok(()) => Ok(Some(format!("{WHOLE} ({fault})"))),
        Err(_) => Err(fault),
    }
}

fn counted(path: &Path, extra: &History) -> Result<()> {
    let found = changes_in(path, &Keys::default(), &History::default())?.transactions;
    if found == extra.count() {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    Err(Error::failed(format!("the server's binlogs show {found} of the {} transactions", extra.count())))
}

/// Has the server's tool print into a new file at `path`, whole or not at all. `secrets` is its option file.
pub fn print(family: Family, options: &[String], files: &[String], secrets: Option<&str>, path: &Path) -> Result<()> {
    let part = path.with_extension("part");
    let outcome = print_part(family, options, files, secrets, &part)
        .and_then(|()| fs::rename(&part, path).map_err(|fault| cannot("rename into place", path, &fault)));
    if outcome.is_err() {
        let _ = fs::remove_file(&part);
    }
    outcome
}

fn print_part(family: Family, options: &[String], files: &[String], secrets: Option<&str>, part: &Path) -> Result<()> {
    let new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part);
    let new = new.map_err(|fault| cannot("write", part, &fault))?;
    let into = format!("--result-file={}", part.display());
    // An option file has to come first; nobody else's is read.
    let settings = if secrets.is_some() { "--defaults-file=/dev/stdin" } else { "--no-defaults" };
    let mut arguments = vec![settings, binlog::READABLE, &into];
    arguments.extend(options.iter().chain(files).map(String::as_str));
    let output = start(binlog::tools(family), &arguments, secrets)?;
    if !output.ok() {
        let said = output.stderr.lines().find(|line| line.contains("ERROR")).or(output.stderr.lines().last()).unwrap_or_default();
        return Err(Error::failed(format!("\"{}\" failed: {}", binlog::tools(family)[0], said.trim())));
    }
    if !ends_well(part) {
        return Err(cannot("write the whole of", part, &"is the disk full?"));
    }
    new.sync_all().map_err(|fault| cannot("write", part, &fault))
}

/// By the tool's present name, or the older one.
fn start(names: &[&str], arguments: &[&str], secrets: Option<&str>) -> Result<Output> {
    let mut outcome = Err(Error::failed("the server's binlog tool has no name"));
    for name in names {
        outcome = run::run(name, arguments, secrets, PRINT);
        if !outcome.as_ref().is_err_and(|fault| fault.to_string().contains("is not installed")) {
            break;
        }
    }
    outcome
}

/// The tool does not notice that its file could not be written: its last words must be there.
fn ends_well(path: &Path) -> bool {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
        let mut tail = Vec::new();
        file.take(2048).read_to_end(&mut tail)?;
        Ok(tail)
    };
    tail().is_ok_and(|tail| String::from_utf8_lossy(&tail).contains(binlog::END))
}

/// What a file that the tool has printed says was changed, but for what is `known`.
pub fn changes_in(path: &Path, keys: &Keys, known: &History) -> Result<Changes> {
    File::open(path).and_then(|file| changes::read(BufReader::new(file), keys, known)).map_err(|fault| cannot("read", path, &fault))
}

/// An unreadable file accepts nothing: the operator is asked again.
fn read_accepted(directory: &Path) -> History {
    let bytes = file::read_limited(&directory.join(ACCEPTED), ACCEPTED_LIMIT).unwrap_or_default();
    History::parse(String::from_utf8_lossy(&bytes).trim()).unwrap_or_default()
}

fn write_accepted(directory: &Path, accepted: &History) -> Result<()> {
    let path = directory.join(ACCEPTED);
    if accepted.is_empty() {
        return match fs::remove_file(&path) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => Err(cannot("remove", &path, &fault)),
            _ => Ok(()),
        };
    }
    make_directory(directory)?;
    file::write_atomic(&path, format!("{accepted}\n").as_bytes(), 0o600).map_err(|fault| cannot("write", &path, &fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("mmha-quarantine-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    #[test]
    fn names_are_plain_and_short() {
        assert_eq!(name(&History::parse("1:15-18,2:7").unwrap(), 3), "epoch3-1_15-18_2_7.sql");
        let many = (1..99).map(|at| format!(":{}", 2 * at)).collect::<String>();
        assert!(name(&History::parse(&format!("1{many}")).unwrap(), 3).len() < NAME_LIMIT + 20);
    }

    #[test]
    fn what_is_accepted_is_read_back_and_forgotten() {
        let directory = place("accepted");
        assert_eq!(read_accepted(&directory), History::default());
        let extra = History::parse("1:15-18").unwrap();
        write_accepted(&directory, &extra).unwrap();
        assert_eq!(read_accepted(&directory), extra);
        for _ in 0..2 {
            write_accepted(&directory, &History::default()).unwrap();
            assert_eq!(read_accepted(&directory), History::default());
        }
        fs::write(directory.join(ACCEPTED), "1:15-\n").unwrap();
        assert_eq!(read_accepted(&directory), History::default());
        fs::remove_dir_all(directory).unwrap();
    }

    /// A tool that is missing, fails, or writes half a file leaves nothing that looks saved.
    #[test]
    fn half_a_file_is_none() {
        let directory = place("half");
        make_directory(&directory).unwrap();
        let (good, bad) = (directory.join("good"), directory.join("bad"));
        fs::write(&good, format!("DELIMITER ;\n{}\nROLLBACK;\n", binlog::END)).unwrap();
        fs::write(&bad, "DELIMITER ;\n").unwrap();
        assert!(ends_well(&good) && !ends_well(&bad) && !ends_well(&directory.join("none")));
        let fault = start(&["no-such-tool-of-mmha", "nor-this-one"], &[], None).unwrap_err();
        assert!(fault.to_string().contains("\"nor-this-one\": it is not installed"), "{fault}");
        assert_eq!(start(&["no-such-tool-of-mmha", "true"], &[], None).unwrap().code, Some(0));
        fs::remove_dir_all(directory).unwrap();
    }
}
