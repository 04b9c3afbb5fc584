//! `mmha recovery`: runs before a MariaDB server starts (packaging/mariadb.conf) and tells its crash recovery what to do with commits that stand in
//! the binary log and were not written down by the engine. If the peer has taken over, it serves without those it never acknowledged, and they
//! must go; if not, they are kept, because their clients may have been told "committed". A node that is cut off serves nobody, so its server
//! waits for the answer until the network is back. Bounded; the server starts whatever becomes of this.

use std::path::Path;
use std::time::{Duration, Instant};

use super::say;
use crate::config::{Config, Durability, NodeIndex, Writer};
use crate::control::{self, Answer, Request, SOCKET};
use crate::error::Result;
use crate::mycnf::recovery::{self, Recovery};
use crate::mycnf::server::Server;
use crate::sql::standing::{Standing, standing};
use crate::sql::{Family, Fault, Login, Session, bounded};
use crate::sys::netlink;

/// One look at the peer's server, and how often it is asked when it does not answer: a first SYN can be lost.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 2;
const AGAIN: Duration = Duration::from_millis(100);
/// A peer that came up just now has not been standing by: both nodes are starting, and it takes over from nobody.
const FRESH: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(10);
/// Below the start limit of the server's unit (15 minutes as packaged).
const CUT_OFF: Duration = Duration::from_secs(600);
const KERNEL: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(1);

/// With `done`, after the server's start: the decision was for that start alone.
pub fn run(file: &Path, done: bool) -> Result<()> {
    if !file.exists() {
        return Ok(()); // the package is installed and not configured
    }
    let config = Config::load(file)?;
    let me = config.me()?;
    let server = Server::find(&config)?;
    // What an earlier start was told must not stand when this one is cut short.
    recovery::set(&server, Recovery::Keep)?;
    if done || server.dialect.family == Family::MySql {
        return Ok(());
    }
    let (recovery, why) = decide(&config, me);
    recovery::set(&server, recovery)?;
    let what = match recovery {
        Recovery::Keep => "crash recovery keeps every commit",
        Recovery::Drop => "crash recovery drops what was not acknowledged",
    };
    say(&format!("{what}: {why}"));
    Ok(())
}

fn decide(config: &Config, me: NodeIndex) -> (Recovery, String) {
    if config.mysql.writer == Writer::Both || config.replication.durability == Durability::Async {
        return (Recovery::Keep, "commits here wait for no acknowledgement".into());
    }
    let peer = &config.node(me.other()).name;
    let (mut until, give_up) = (Instant::now() + (config.heartbeat.deadtime * 2).min(LONGEST), Instant::now() + CUT_OFF);
    let (mut unanswered, mut was_cut_off) = (0, false);
    loop {
        let waits = Instant::now() < until;
        match look(config, me) {
            Ok(seen) if seen.writable => return (Recovery::Drop, format!("{peer} has taken over")),
            Ok(seen) if seen.up < FRESH || !waits || (is_served() && !was_cut_off) => {
                return (Recovery::Keep, format!("{peer} has not taken over"));
            }
            Ok(_) => {} // it is about to, or it may not
            // The agent that lives here has killed this server for its commits that wait, or it died by itself: nobody is served by it now.
            Err(_) if Instant::now() < give_up && is_cut_off() => {
                if !was_cut_off {
                    say(&format!(
                        "this node is cut off: the server starts when {peer} can be asked what to keep, in 10 minutes at the latest"
                    ));
                }
                // A carrier comes back before a neighbour can be reached, and a peer that was cut off too takes over only then.
                (was_cut_off, until) = (true, Instant::now() + LONGEST);
            }
            Err(_) if waits && (was_cut_off || !has_address(config, me)) => {}
            Err(error) => {
                unanswered += 1;
                if unanswered == LOOKS || error.fault == Fault::Refused {
                    return (Recovery::Keep, format!("{peer} cannot be asked ({})", error.text));
                }
            }
        }
        std::thread::sleep(AGAIN);
    }
}

fn is_cut_off() -> bool {
    let answer = control::ask(Path::new(SOCKET), &Request::Status, ANSWER);
    matches!(answer, Ok(Answer::Status(status)) if status.cut_off == Some(true))
}

fn look(config: &Config, me: NodeIndex) -> std::result::Result<Standing, crate::sql::SqlError> {
    let mut login = Login::remote(config, me.other()).within(LOOK);
    login.connect = LOOK / 2;
    bounded("asking the peer's server", LOOK, move || standing(&mut Session::open(&login)?))
}

/// An agent that lives here has let the peer take over, or has seen that it may not, long before the server starts again.
fn is_served() -> bool {
    control::ask(Path::new(SOCKET), &Request::Status, ANSWER).is_ok()
}

/// At boot a server may start before the network is up.
fn has_address(config: &Config, me: NodeIndex) -> bool {
    let own = config.node(me).address;
    netlink::addresses(KERNEL).map_or(true, |all| all.iter().any(|addr| addr.ip == own))
}
