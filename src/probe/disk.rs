//! Whether the server's disk still takes writes: a synced file in its data and binlog directories on either node, and at the writer a row
//! of our own, unlogged. A server answers questions long after its disk is full, read-only or stuck; this is what then tells.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::core::event::{DiskSeen, Ms};
use crate::sql::{Fault, Login, Session, SqlError, bounded, schema};
use crate::sys::{clock, disk, timer};

const EVERY_MS: Ms = 2_000;
/// Slower than any disk that a server could live on; several times a storage path's failover.
const LIMIT: Duration = Duration::from_secs(10);
/// Of that, for each statement of a new session.
const OPEN: Duration = Duration::from_secs(3);
/// Below this a server's next binlog or log write may fail at any moment.
const LEAST_BYTES: u64 = 16 << 20;
/// Once it was too little: enough again.
const ENOUGH_BYTES: u64 = 2 * LEAST_BYTES;

/// What one look finds and the next one needs.
#[derive(Default)]
struct Known {
    session: Option<Session>,
    directories: Vec<PathBuf>,
    full: bool,
}

/// The thread, until the process ends. Every look is told.
pub fn run(login: &Login, report: impl Fn(DiskSeen)) {
    let mut known = Known::default();
    let busy = Arc::new(AtomicBool::new(false));
    loop {
        // A look that hangs in the kernel is left where it is; a second one would only hang too.
        let seen = if busy.load(Ordering::SeqCst) { Err(stuck()) } else { look(login, &mut known, &busy) };
        report(match seen {
            Ok(()) => DiskSeen::Ok,
            Err(text) => DiskSeen::Failed(text),
        });
        let _ = timer::wait_readable(&[], clock::now_ms() + EVERY_MS);
    }
}

/// Set while a look is under way, however it ends: also when it panics, or is never begun.
struct UnderWay(Arc<AtomicBool>);

impl UnderWay {
    fn begin(busy: &Arc<AtomicBool>) -> UnderWay {
        busy.store(true, Ordering::SeqCst);
        UnderWay(Arc::clone(busy))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn stuck() -> String {
    format!("a write to its disk has not ended for {} s", LIMIT.as_secs())
}

fn look(login: &Login, known: &mut Known, busy: &Arc<AtomicBool>) -> Result<(), String> {
    let (login, mut mine, under_way) = (login.clone(), std::mem::take(known), UnderWay::begin(busy));
    let directories = mine.directories.clone();
    let outcome = bounded("writing to the server's disk", LIMIT, move || {
        let verdict = judge(&login, &mut mine);
        drop(under_way);
        Ok((mine, verdict))
    });
    match outcome {
        Ok((mine, verdict)) => {
            *known = mine;
            verdict
        }
        Err(_) => {
            known.directories = directories;
            // Not begun, because too many calls hang in the server already: that says nothing about the disk.
            if busy.load(Ordering::SeqCst) { Err(stuck()) } else { Ok(()) }
        }
    }
}

/// The directories first: they are known even while the server is down.
fn judge(login: &Login, known: &mut Known) -> Result<(), String> {
    let least = if known.full { ENOUGH_BYTES } else { LEAST_BYTES };
    for directory in &known.directories {
        let shown = directory.display();
        let free = disk::free_bytes(directory).map_err(|fault| format!("\"{shown}\" cannot be looked at: {fault}"))?;
        known.full = free < least;
        if known.full {
            return Err(format!("\"{shown}\" has only {} MiB left: free some space", free >> 20));
        }
        disk::write_synced(directory).map_err(|fault| format!("\"{shown}\" takes no writes: {fault}"))?;
    }
    match ask(login, known) {
        Err(fault) if tells_of_disk(&fault) => Err(fault.text),
        Err(_) => {
            known.session = None;
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whoever cannot be reached, is closed or locked, or has not been set up, says nothing about its disk.
fn tells_of_disk(fault: &SqlError) -> bool {
    fault.fault == Fault::Other && !matches!(fault.code, None | Some(1205 | 1146 | 1049 | 1142 | 1227))
}

fn ask(login: &Login, known: &mut Known) -> Result<(), SqlError> {
    let worn = known.session.as_ref().is_some_and(Session::is_worn);
    if known.session.is_none() || worn {
        match prepare(&login.within(OPEN)) {
            Ok((session, directories)) => (known.session, known.directories) = (Some(session), directories),
            Err(fault) if !worn => return Err(fault),
            Err(_) => {} // a server full of clients may have no place for another
        }
    }
    let Some(session) = &mut known.session else { return Ok(()) };
    if session.value("SELECT @@global.read_only")?.as_deref() == Some("0") {
        session.run(schema::WRITE_PROBE)?;
    }
    Ok(())
}

fn prepare(login: &Login) -> Result<(Session, Vec<PathBuf>), SqlError> {
    let mut session = Session::open(login)?;
    schema::PREPARE_PROBE.iter().try_for_each(|statement| session.run(statement))?;
    let directories = directories_of(&mut session)?;
    Ok((session, directories))
}

fn directories_of(session: &mut Session) -> Result<Vec<PathBuf>, SqlError> {
    let data = session.value("SELECT @@datadir")?.map(PathBuf::from);
    let logs = session.value("SELECT @@log_bin_basename")?.and_then(|base| Path::new(&base).parent().map(Path::to_path_buf));
    // Of a server in a container the paths are not ours; what is not here is not looked at.
    let mut here: Vec<PathBuf> = [data, logs].into_iter().flatten().filter(|path| path.is_absolute() && path.is_dir()).collect();
    let same = here.len() == 2 && here[0].components().eq(here[1].components());
    here.truncate(if same { 1 } else { 2 });
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Target;

    fn nobody() -> Login {
        let target = Target::Socket("/nonexistent/mysqld.sock".into());
        Login { target, user: "root".into(), password: None, connect: LIMIT, io: LIMIT }
    }

    #[test]
    fn a_directory_that_went_away_is_a_failure_even_without_a_server() {
        let mut known = Known { directories: vec!["/nonexistent/mysql".into()], ..Known::default() };
        let busy = Arc::new(AtomicBool::new(true));
        let text = look(&nobody(), &mut known, &busy).expect_err("no such directory");
        assert!(text.contains("/nonexistent/mysql") && !busy.load(Ordering::SeqCst), "{text}");
        known.directories.clear();
        assert_eq!(look(&nobody(), &mut known, &busy), Ok(()), "a server that is down says nothing about its disk");
    }

    /// A look that is never begun must not count as one that hangs, now or later.
    #[test]
    fn whatever_becomes_of_a_look_it_is_over() {
        let busy = Arc::new(AtomicBool::new(false));
        let never_begun = UnderWay::begin(&busy);
        assert!(busy.load(Ordering::SeqCst));
        drop(move || never_begun);
        assert!(!busy.load(Ordering::SeqCst));
        let under_way = UnderWay::begin(&busy);
        let panicked = std::thread::spawn(move || {
            let _under_way = under_way;
            panic!("in a look");
        });
        assert!(panicked.join().is_err() && !busy.load(Ordering::SeqCst));
    }

    #[test]
    fn what_tells_of_the_disk() {
        let fault = |fault, code| SqlError { code, fault, text: String::new() };
        assert!(tells_of_disk(&fault(Fault::Other, Some(1021))) && tells_of_disk(&fault(Fault::Other, Some(1026))));
        for (kind, code) in [(Fault::Refused, None), (Fault::ReadOnly, Some(1290)), (Fault::Other, Some(1205)), (Fault::Other, None)] {
            assert!(!tells_of_disk(&fault(kind, code)));
        }
    }
}
