//! Two bootstraps find each other and keep in step: each writes a row about itself at its own server and reads the other's over TCP.
//! A phase counts only within one meeting of the same two runs, so whatever an interrupted run left behind means nothing.

use std::time::{Duration, Instant};

use crate::cmd::bootstrap::facts::{self, Facts};
use crate::cmd::bootstrap::interrupt;
use crate::cmd::bootstrap::prepare::{local, step};
use crate::config::{Config, NodeIndex};
use crate::error::{Error, Result};
use crate::sql::dialect::{LOG_AGAIN, LOG_NOTHING};
use crate::sql::{Fault, Login, Record, Session, SqlError, bounded, schema};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Prepared; its facts can be read.
    Met = 1,
    /// Its tables are counted.
    Counted = 2,
    /// It follows nobody.
    Detached = 3,
    /// Its history is empty.
    Blank = 4,
    /// It follows the other.
    Following = 5,
}

/// Why a round ends.
pub enum Stop {
    /// The other side began anew: so do we, from the facts.
    Again(String),
    Fail(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Fail(error)
    }
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Stop {
        Stop::Fail(error.into())
    }
}

const EVERY: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_secs(8);
/// The peer should have seen us in this time once we see it.
const UNSEEN: Duration = Duration::from_secs(3);

pub struct Meeting<'a> {
    pub config: &'a Config,
    pub me: NodeIndex,
    pub deadline: Instant,
    /// Holds the lock that says "a bootstrap runs here".
    pub here: Session,
    there: Option<Session>,
    run: String,
    peer_run: String,
    /// The last trouble that was told, so that each is told once.
    told: String,
}

impl<'a> Meeting<'a> {
    /// Refused when another bootstrap runs on this node. Statements here may take as long as the whole bootstrap.
    pub fn open(config: &'a Config, me: NodeIndex, timeout: Duration) -> Result<Meeting<'a>> {
        let mut here = local(config, timeout)?;
        if here.value(schema::TAKE_LOCK)?.as_deref() != Some("1") {
            return Err(Error::failed("another `mmha bootstrap` runs on this node: wait for it or end it"));
        }
        let run = here.value("SELECT UUID()")?.unwrap_or_default();
        Ok(Meeting { config, me, deadline: Instant::now() + timeout, here, there: None, run, peer_run: String::new(), told: String::new() })
    }

    pub fn peer(&self) -> &'a str {
        &self.config.node(self.me.other()).name
    }

    /// A new meeting: both know each other's run. Returns the peer's facts.
    pub fn form(&mut self, mine: &Facts) -> std::result::Result<Facts, Stop> {
        self.peer_run.clear();
        self.publish(Phase::Met, mine)?;
        let mut seen = Instant::now();
        loop {
            if let Some(row) = self.look()? {
                let (run, running) = (row.get("run").unwrap_or_default().to_owned(), row.get("running") == Some("1"));
                if running && run != self.peer_run {
                    self.peer_run = run;
                    self.publish(Phase::Met, mine)?;
                    seen = Instant::now();
                } else if !self.peer_run.is_empty() && run == self.peer_run && row.get("peer_run") == Some(&self.run) {
                    return Ok(facts::read(row.get("facts").unwrap_or_default(), self.peer())?);
                } else if !running {
                    self.tell(format!("waiting for `mmha bootstrap` on {}: it does not run there yet", self.peer()));
                } else if seen.elapsed() > UNSEEN {
                    let (port, address) = (self.config.mysql.port, self.config.node(self.me).address);
                    self.tell(format!(
                        "{} is there but cannot read from here; it says why. It must reach tcp {port} on {address}",
                        self.peer()
                    ));
                }
            }
            self.pause(self.deadline)?;
        }
    }

    /// Says that this side has come to `phase`.
    pub fn publish(&mut self, phase: Phase, mine: &Facts) -> std::result::Result<(), Stop> {
        let facts = serde_json::to_string(mine).map_err(|error| Error::failed(format!("facts as text: {error}")))?;
        self.here.run(LOG_NOTHING)?;
        self.here.run(&schema::write_meeting(self.me.0, &self.run, &self.peer_run, phase as u8, &facts))?;
        Ok(self.here.run(LOG_AGAIN)?)
    }

    /// Waits until the peer's side of this meeting has come to `phase`, and returns its facts of then.
    pub fn wait_for(&mut self, phase: Phase, what: &str) -> std::result::Result<Facts, Stop> {
        loop {
            if let Some(row) = self.look()? {
                let reached = row.get("phase").and_then(|text| text.parse::<u8>().ok()).unwrap_or(0);
                if row.get("run") != Some(&self.peer_run) || row.get("peer_run") != Some(&self.run) {
                    return Err(Stop::Again(format!("{} began its bootstrap anew; so does this one", self.peer())));
                }
                if reached >= phase as u8 {
                    return Ok(facts::read(row.get("facts").unwrap_or_default(), self.peer())?);
                }
                if row.get("running") == Some("1") {
                    self.tell(format!("waiting for {} to {what}", self.peer()));
                } else {
                    self.tell(format!("the bootstrap on {} ended before its time: see what it said, and run it again there", self.peer()));
                }
            }
            self.pause(self.deadline)?;
        }
    }

    /// The peer's server as its agent account sees it; `None` after saying why not. Trouble ends the connection, not the bootstrap.
    pub fn ask<T>(&mut self, question: impl FnOnce(&mut Session) -> std::result::Result<T, SqlError>) -> Option<T> {
        if self.there.is_none() {
            let login = Login::remote(self.config, self.me.other());
            match bounded("connecting to the peer", CONNECT, move || Session::open(&login)) {
                Ok(session) => self.there = Some(session),
                Err(error) => {
                    self.tell(cause(&error, self.config, self.me));
                    return None;
                }
            }
        }
        let answer = question(self.there.as_mut()?);
        answer
            .inspect_err(|error| {
                self.there = None;
                // 1146 and 1142: its bootstrap has not made the schema yet.
                let early = matches!(error.code, Some(1146 | 1142 | 1044 | 1049));
                let text = if early {
                    format!("waiting for `mmha bootstrap` on {}: it does not run there yet", self.peer())
                } else {
                    error.to_string()
                };
                self.tell(text);
            })
            .ok()
    }

    /// A short breath; an error once the whole time is over, with the last trouble in it.
    pub fn pause(&mut self, deadline: Instant) -> Result<()> {
        interrupt::check()?;
        if Instant::now() >= deadline {
            let last = if self.told.is_empty() { format!("{} did not answer", self.peer()) } else { self.told.clone() };
            return Err(Error::failed(format!("gave up waiting for the peer; what was missing last: {last}")));
        }
        std::thread::sleep(EVERY);
        Ok(())
    }

    /// Each trouble once, not once per try.
    pub fn tell(&mut self, text: String) {
        if self.told != text {
            step("peer", &text);
            self.told = text;
        }
    }

    /// Remembered for the end, not told: it passes by itself most of the time.
    pub fn note(&mut self, text: String) {
        self.told = text;
    }

    fn look(&mut self) -> std::result::Result<Option<Record>, Stop> {
        let query = format!("{}{}", schema::READ_MEETING, self.me.other().0);
        Ok(self.ask(|session| session.rows(&query)).and_then(|rows| rows.into_iter().next()))
    }
}

/// The classic reasons why a peer cannot be reached, each with its remedy.
fn cause(error: &SqlError, config: &Config, me: NodeIndex) -> String {
    let peer = config.node(me.other());
    let (name, place) = (&peer.name, format!("{}:{}", peer.address, config.mysql.port));
    match error.fault {
        Fault::Refused => format!(
            "waiting for {name}: nobody listens on {place} (error 10061); its server is down or listens on 127.0.0.1 only until `mmha bootstrap` has run there"
        ),
        Fault::HostNotAllowed => format!(
            "waiting for {name}: it has no account for this node (error 1130); run `mmha bootstrap` there, and check both addresses in mmha.toml"
        ),
        Fault::WrongPassword => format!(
            "waiting for {name}: it refuses our login (error {}); either `mmha bootstrap` has not run there yet, or \
             the two nodes' replication.password differ: copy it from one to the other and run bootstrap again on both",
            error.code.unwrap_or(1045)
        ),
        Fault::Timeout => format!(
            "waiting for {name}: no answer from {place}; the box is down, or a firewall between the nodes drops tcp {}: open it for {}",
            config.mysql.port,
            config.node(me).address
        ),
        Fault::Lost | Fault::ReadOnly | Fault::Unacknowledged | Fault::Other => format!("waiting for {name}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mycnf::fragment::tests::config;

    #[test]
    fn each_cause_has_its_number_and_remedy() {
        for (fault, code, words) in [
            (Fault::Refused, None, &["10061", "192.0.2.242:3306"][..]),
            (Fault::HostNotAllowed, Some(1130), &["1130", "mmha bootstrap"][..]),
            (Fault::WrongPassword, Some(1045), &["1045", "replication.password"][..]),
            (Fault::Timeout, None, &["firewall", "tcp 3306", "192.0.2.241"][..]),
            (Fault::Other, Some(1040), &["in full"][..]),
        ] {
            let said = cause(&SqlError { code, fault, text: "in full".into() }, &config(), NodeIndex(0));
            for word in words {
                assert!(said.contains(word), "{word} missing in {said}");
            }
        }
    }
}
