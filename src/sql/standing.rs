//! Whether a server takes writes, and since when it runs. Only looks.

use std::time::Duration;

use crate::sql::{Dialect, Session, SqlError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub writable: bool,
    pub up: Duration,
}

pub fn standing(session: &mut Session) -> Result<Standing, SqlError> {
    let dialect = Dialect::of(session);
    let closed = session.value(dialect.is_closed())?;
    let up = session.value(dialect.uptime())?.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Standing { writable: closed.as_deref() == Some("0"), up: Duration::from_secs(up) })
}
