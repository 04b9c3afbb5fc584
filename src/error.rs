//! The one error type. `Display` is what the operator reads: what failed, on what, why, and what to do next.

use std::fmt;

/// Why a command ends; decides its exit code in one place (`Error::exit_code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something did not work: exit 1.
    Failed,
    /// The command line makes no sense: exit 2.
    Usage,
    /// A configuration or secret file is wrong or unsafe: exit 3.
    Config,
    /// `status` or `check` found trouble: exit 4.
    Degraded,
    /// Refused because it could lose data or make a second writer: exit 5.
    Refused,
}

/// One fault in one sentence, with its remedy in the same sentence or after a line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    text: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, text: impl Into<String>) -> Error {
        Error { kind, text: text.into() }
    }
    pub fn failed(text: impl Into<String>) -> Error {
        Error::new(Kind::Failed, text)
    }
    pub fn config(text: impl Into<String>) -> Error {
        Error::new(Kind::Config, text)
    }
    pub fn refused(text: impl Into<String>) -> Error {
        Error::new(Kind::Refused, text)
    }
    /// The same fault, said from further out: "`context`: `text`".
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Error {
        Error { kind: self.kind, text: format!("{context}: {}", self.text) }
    }
    /// Exit codes as mmha(8) lists them.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Config => 3,
            Kind::Degraded => 4,
            Kind::Refused => 5,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
