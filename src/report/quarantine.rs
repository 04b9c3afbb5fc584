//! The part of `status` that a quarantined node has.

use serde::{Deserialize, Serialize};

/// What a quarantined node has and the writer lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub transactions: u64,
    /// Their GTIDs; empty while they cannot be compared, the writer not being heard.
    pub extra: String,
    /// Where they are saved.
    pub file: Option<String>,
    /// Why they are not, or not as they should be.
    pub trouble: Option<String>,
    /// They were accepted and flow to the writer.
    pub merging: bool,
}

impl Quarantine {
    pub(super) fn text(&self) -> String {
        let what = match self.transactions {
            0 => "extra transactions, not compared now".to_owned(),
            1 => format!("1 extra transaction ({})", self.extra),
            many => format!("{many} extra transactions ({})", self.extra),
        };
        let place = match (&self.file, &self.trouble) {
            (Some(file), None) => format!("saved in {file}"),
            (Some(file), Some(trouble)) => format!("saved in {file}: {trouble}"),
            (None, Some(trouble)) => format!("NOT SAVED: {trouble}"),
            (None, None) => "not saved yet".to_owned(),
        };
        format!("{what}, {place}; {}", if self.merging { "merging" } else { "`mmha rejoin` explains" })
    }
}
