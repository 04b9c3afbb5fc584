//! `mmha events`: the last decisions, oldest first. Reads the end of the history file and nothing else.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::say;
use crate::error::{Error, Result};
use crate::report::{EVENTS, Event};

/// About 5000 events; what lies further back is for less(1).
const LOOKED_AT: u64 = 1 << 20;

pub fn run(lines: usize, json: bool) -> Result<()> {
    let path = Path::new(EVENTS);
    let events = match tail(path, LOOKED_AT) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            super::complain("no decision is recorded: the service has not run here yet");
            return Ok(());
        }
        Err(error) => return Err(Error::failed(format!("cannot read \"{EVENTS}\": {error}"))),
    };
    for event in &events[events.len().saturating_sub(lines)..] {
        let line = if json { serde_json::to_string(event).unwrap_or_default() } else { event.text() };
        if !say(&line) {
            break;
        }
    }
    Ok(())
}

/// The last decision there is a record of.
pub fn last(path: &Path) -> Option<Event> {
    parse(&tail(path, 16 << 10).ok()?).pop()
}

fn tail(path: &Path, most: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line that a crash left half-written, or the cut first one, is skipped.
fn parse(text: &str) -> Vec<Event> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_lines_are_skipped() {
        let line =
            |rule| format!(r#"{{"time":"2026-01-02T03:04:05.678Z","epoch":3,"from":"boot","to":"standby","rule":{rule},"sentence":"x"}}"#);
        fn check(text: &str, expect: &[u16]) {
            assert_eq!(parse(text).iter().map(|event| event.rule).collect::<Vec<_>>(), expect, "{text}");
        }
        check("", &[]);
        check(&format!("{}\n{}\n", line(12), line(29)), &[12, 29]);
        check(&format!("epoch\":3}}\n{}\n{{\"time\":\"2026", line(12)), &[12]);
    }
}
