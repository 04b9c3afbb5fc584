//! The epoch file: what must survive a crash. Written whole, synced, then believed. Never guesses: an unreadable file is an error.

use std::path::{Path, PathBuf};

use crate::core::event::{Record, StoreSeen};
use crate::sys::slot::Reader;
use crate::sys::{clock, file, timer};

const LIMIT: usize = 4096;
/// A failed write is tried again so often.
const RETRY_MS: u64 = 1_000;

/// Reads the file; a missing one is a node that has never held anything.
pub fn read(path: &Path) -> StoreSeen {
    match file::read_limited(path, LIMIT) {
        Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)).map_or_else(|| damaged(path), StoreSeen::Saved),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => StoreSeen::Saved(Record::default()),
        Err(fault) => StoreSeen::Failed(format!("cannot read \"{}\": {fault}", path.display())),
    }
}

fn damaged(path: &Path) -> StoreSeen {
    StoreSeen::Failed(format!(
        "\"{}\" is damaged; if the peer serves or holds newer data, remove the file and restart mmha here",
        path.display()
    ))
}

fn write(path: &Path, record: Record) -> StoreSeen {
    match file::write_atomic(path, render(record).as_bytes(), 0o600) {
        Ok(()) => StoreSeen::Saved(record),
        Err(fault) => StoreSeen::Failed(format!("cannot write \"{}\": {fault}", path.display())),
    }
}

fn render(record: Record) -> String {
    format!("epoch {}\nheld {}\nend\n", record.epoch, record.held)
}

fn parse(text: &str) -> Option<Record> {
    let mut lines = text.lines();
    let epoch = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
    let held = match lines.next()? {
        // As written before the number was kept.
        "holder 0" => 0,
        "holder 1" => epoch,
        line => line.strip_prefix("held ")?.parse().ok()?,
    };
    (lines.next() == Some("end")).then_some(Record { epoch, held })
}

/// The store's thread: writes what is wanted whenever it differs from what is there, until the process ends.
pub fn run(path: PathBuf, mut wanted: Reader<Option<Record>>, report: impl Fn(StoreSeen)) {
    let mut seen = read(&path);
    // Written back at once: a disk that takes no writes must show before the first claim, not in it.
    if let StoreSeen::Saved(record) = seen {
        seen = write(&path, record);
        report(StoreSeen::Saved(record));
    }
    report(seen.clone());
    loop {
        let retry = matches!(seen, StoreSeen::Failed(_));
        let until = clock::now_ms() + if retry { RETRY_MS } else { 60_000 };
        let _ = timer::wait_readable(&[std::os::fd::AsFd::as_fd(&wanted)], until);
        wanted.take_bell();
        let Some(record) = wanted.get() else {
            if retry {
                seen = read(&path);
                report(seen.clone());
            }
            continue;
        };
        if seen != StoreSeen::Saved(record) {
            seen = write(&path, record);
            report(seen.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_nothing_else() {
        for record in [Record::default(), Record { epoch: 7, held: 5 }, Record { epoch: u64::MAX, held: 0 }] {
            assert_eq!(parse(&render(record)), Some(record));
        }
        assert_eq!(parse("epoch 7\nholder 1\nend\n"), Some(Record { epoch: 7, held: 7 }));
        assert_eq!(parse("epoch 7\nholder 0\nend\n"), Some(Record { epoch: 7, held: 0 }));
        for broken in
            ["", "epoch 7\n", "epoch 7\nheld 1\n", "epoch x\nheld 1\nend\n", "epoch 7\nholder 2\nend\n", "epoch 7\nheld \nend\n", "\0\0\0"]
        {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }
}
