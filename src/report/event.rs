//! One decision as the history has it.

use serde::{Deserialize, Serialize};

/// One line of events.jsonl, and of `mmha events --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339.
    pub time: String,
    pub epoch: u64,
    pub from: String,
    pub to: String,
    pub rule: u16,
    pub sentence: String,
}

impl Event {
    /// As `mmha events` prints it.
    pub fn text(&self) -> String {
        format!("{}  epoch {:<4} {:>11} → {:<11} rule {:<3} {}", self.time, self.epoch, self.from, self.to, self.rule, self.sentence)
    }
}
