//! `mmha rejoin`: what a quarantined node's operator can do. It explains, compares what both nodes have changed since they parted, and asks
//! the service to let the extra transactions flow when no row was changed on both. It writes to no server.

mod compare;
mod words;

use std::path::Path;
use std::time::Duration;

use super::{say, who};
use crate::config::{Config, NodeIndex};
use crate::control::{self, Answer, Request, SOCKET};
use crate::core::state::State;
use crate::error::{Error, Kind, Result};
use crate::report::{Quarantine, Status};
use crate::sql::{ApplierState, Login, Session, bounded, role};
use crate::sys::clock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Explain,
    Merge,
    Discard,
}

pub struct Options {
    pub way: Way,
    pub dry_run: bool,
}

const ANSWER: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Without a transaction less to merge for so long, nothing moves any more.
const NO_PROGRESS: Duration = Duration::from_secs(30);
/// The merge itself goes on in the service.
const WATCHED: Duration = Duration::from_secs(15 * 60);
const PEER: Duration = Duration::from_secs(3);

pub fn run(config: &Config, me: NodeIndex, options: &Options) -> Result<()> {
    let status = status()?;
    let Some(quarantine) = &status.quarantine else {
        let state = status.state.as_deref().unwrap_or("in no known state");
        let here = &status.node;
        return Err(Error::refused(format!("{here} is not quarantined but {state}: it has nothing to merge and nothing to discard")));
    };
    match options.way {
        Way::Explain => {
            say(&words::explain(&status, quarantine));
            Err(Error::new(Kind::Degraded, ""))
        }
        Way::Merge => merge(config, me, &status, quarantine, options.dry_run),
        Way::Discard => discard(config, me, &status, quarantine, options.dry_run),
    }
}

fn merge(config: &Config, me: NodeIndex, status: &Status, quarantine: &Quarantine, dry_run: bool) -> Result<()> {
    let peer = &status.peer.name;
    let peer_serves = status.peer.echo && status.peer.state.as_deref() == Some(State::Active.name());
    if !peer_serves {
        let seen = status.peer.state.as_deref().unwrap_or("not heard");
        return Err(Error::refused(format!("{peer} does not serve ({seen}), so nobody could take the transactions: start it first")));
    }
    let file = match (&quarantine.file, &quarantine.trouble) {
        (Some(file), _) => file,
        (None, trouble) => {
            let why = trouble.as_deref().unwrap_or("that is still under way");
            return Err(Error::refused(format!("the extra transactions are not saved yet ({why}): nothing is merged before that")));
        }
    };
    if quarantine.merging {
        say(&format!("the merge was accepted already; {peer} still lacks {}", words::count(quarantine)));
    } else {
        let rows = compare::compare(config, me, Path::new(file), &quarantine.extra)?;
        say(&format!("{rows} changed rows in {}; {peer} has changed none of them since", words::count(quarantine)));
    }
    if dry_run {
        say(&format!("would let {peer} fetch them; nothing was changed"));
        return Ok(());
    }
    if !quarantine.merging {
        say(&ask(&Request::Rejoin { merge: true, extra: quarantine.extra.clone(), who: who() })?);
    }
    follow(config, me, peer)
}

/// Until this node has left the quarantine, or the holder has stopped at a conflict.
fn follow(config: &Config, me: NodeIndex, peer: &str) -> Result<()> {
    let started = clock::now();
    let (mut left, mut moved) = (u64::MAX, started);
    while clock::now() - started < WATCHED {
        std::thread::sleep(LOOK_EVERY);
        let Ok(now) = status() else { continue };
        let Some(quarantine) = now.quarantine else {
            let took = (clock::now() - started).as_millis();
            say(&format!("merged after {took} ms: {peer} has all of it, this node is {} again", now.state.as_deref().unwrap_or("back")));
            return Ok(());
        };
        if quarantine.transactions < left {
            (left, moved) = (quarantine.transactions, clock::now());
        }
        if let Some(conflict) = conflict(config, me) {
            return Err(Error::failed(words::conflict(peer, &conflict, &quarantine)));
        }
        if clock::now() - moved > NO_PROGRESS {
            let why = "`mmha status` on both nodes says why; the merge stays accepted";
            return Err(Error::failed(format!("{peer} has fetched nothing for {} s: {why}", NO_PROGRESS.as_secs())));
        }
    }
    Err(Error::failed("the merge goes on in the service; look at `mmha status`".to_owned()))
}

/// What has stopped the holder's applier.
fn conflict(config: &Config, me: NodeIndex) -> Option<String> {
    let login = Login::remote(config, me.other());
    let replica = bounded("asking the holder's applier", PEER, move || role::replica(&mut Session::open(&login)?)).ok()??;
    (replica.applier == ApplierState::Stopped && replica.sql_errno != 0).then(|| format!("{}: {}", replica.sql_errno, replica.sql_error))
}

/// Committed rows cannot be taken out of a server one by one: the node has to be filled anew. Half of that is worse than nothing.
fn discard(config: &Config, me: NodeIndex, status: &Status, quarantine: &Quarantine, dry_run: bool) -> Result<()> {
    say(&words::discard(config, me, status, quarantine));
    if quarantine.merging && !dry_run {
        say(&format!(
            "the merge that was accepted is withdrawn: {}",
            ask(&Request::Rejoin { merge: false, extra: String::new(), who: who() })?
        ));
    }
    Err(Error::new(Kind::Degraded, ""))
}

fn ask(request: &Request) -> Result<String> {
    match control::ask(Path::new(SOCKET), request, ANSWER)? {
        Answer::Accepted(sentence) => Ok(sentence),
        Answer::Refused(sentence) => Err(Error::refused(sentence)),
        Answer::Failed(sentence) => Err(Error::failed(sentence)),
        Answer::Status(_) => Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
    }
}

fn status() -> Result<Status> {
    match control::ask(Path::new(SOCKET), &Request::Status, ANSWER)? {
        Answer::Status(status) => Ok(*status),
        _ => Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
    }
}
