//! The history of decisions: /var/lib/mmha/events.jsonl, one JSON object per line. Written by its own thread; a full disk loses lines,
//! never a heartbeat.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::report::Event;

/// The file is turned over at this size; one old file is kept.
const TURN_OVER: u64 = 8 << 20;
const QUEUE: usize = 1024;

#[derive(Clone)]
pub struct Journal {
    queue: SyncSender<Event>,
}

impl Journal {
    pub fn start(path: PathBuf) -> std::io::Result<Journal> {
        let (queue, events) = sync_channel(QUEUE);
        std::thread::Builder::new().name("journal".into()).spawn(move || write_all(&path, &events))?;
        Ok(Journal { queue })
    }

    /// Never waits: an event that does not fit is lost here, and stands in syslog all the same.
    pub fn add(&self, event: Event) {
        if let Err(TrySendError::Full(event)) = self.queue.try_send(event) {
            log::warn!("history not written, its queue is full: {}", event.sentence);
        }
    }
}

fn write_all(path: &Path, events: &Receiver<Event>) {
    let mut complained = false;
    for event in events {
        match append(path, &event) {
            Ok(()) => complained = false,
            Err(fault) if !complained => {
                complained = true;
                log::warn!("cannot write the history \"{}\": {fault}", path.display());
            }
            Err(_) => {}
        }
    }
}

fn append(path: &Path, event: &Event) -> std::io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() >= TURN_OVER) {
        fs::rename(path, path.with_extension("jsonl.1"))?;
    }
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    OpenOptions::new().append(true).create(true).open(path)?.write_all(&line)
}
