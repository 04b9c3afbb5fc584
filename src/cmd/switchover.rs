//! `mmha switchover`: asks the service to move the address, then tells what happens until it has moved or was refused. It moves nothing itself.

use std::path::Path;
use std::time::Duration;

use super::{say, who};
use crate::config::{Config, NodeIndex};
use crate::control::{self, Answer, Request, SOCKET};
use crate::error::{Error, Result};
use crate::report::Status;
use crate::sys::clock;

pub struct Options {
    pub to: Option<String>,
    pub force: bool,
    pub dry_run: bool,
}

/// The service answers in a few milliseconds; this is for a loaded box.
const ANSWER: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// When nothing at all has happened by then, nothing will.
const NOTHING: Duration = Duration::from_secs(10);
/// Closing, opening and adding the address, besides the time to catch up.
const MOVING: Duration = Duration::from_secs(15);

pub fn run(config: &Config, me: NodeIndex, options: &Options) -> Result<()> {
    let before = status()?;
    let to = target(config, me, options, &before)?;
    let name = &config.node(to).name;
    let vip = &config.vip;
    if holder(config, &before) == Some(to) {
        say(&format!("\"{name}\" has {vip} already"));
        return Ok(());
    }
    if options.dry_run {
        let from = holder(config, &before).map_or("nobody", |node| &config.node(node).name);
        say(&format!("would move {vip} from {from} to {name}; nothing was changed"));
        say(&before.text());
        return Ok(());
    }
    let request = Request::Switchover { to: Some(name.clone()), force: options.force, who: who() };
    match control::ask(Path::new(SOCKET), &request, ANSWER)? {
        Answer::Accepted(sentence) => say(&sentence),
        Answer::Refused(sentence) => return Err(Error::refused(sentence)),
        Answer::Failed(sentence) => return Err(Error::failed(sentence)),
        Answer::Status(_) => return Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
    };
    follow(config, to, &before)
}

/// Watch until the address has moved, the move was rolled back, or its bound has passed.
fn follow(config: &Config, to: NodeIndex, before: &Status) -> Result<()> {
    let (name, vip) = (&config.node(to).name, &config.vip);
    let limit = MOVING + config.replication.catch_up;
    let started = clock::now();
    let (mut shown, mut moved) = (before.sentence.clone(), false);
    while clock::now() - started < limit {
        std::thread::sleep(LOOK_EVERY);
        let Ok(now) = status() else { continue };
        if now.sentence != shown {
            say(&now.sentence);
            shown.clone_from(&now.sentence);
        }
        if holder(config, &now) == Some(to) {
            say(&format!("{vip} is on {name} after {} ms", (clock::now() - started).as_millis()));
            return Ok(());
        }
        let is_back = moved && now.state == before.state && now.peer.state == before.peer.state;
        if is_back {
            return Err(Error::failed(format!("{vip} did not move: {}", now.sentence)));
        }
        moved |= now.state != before.state || now.peer.state != before.peer.state;
        if !moved && clock::now() - started > NOTHING {
            let why = "the holder does not move it: `mmha status` and `mmha events` there say why";
            return Err(Error::failed(format!("{vip} did not move to \"{name}\" within {} s; {why}", NOTHING.as_secs())));
        }
    }
    Err(Error::failed(format!("{vip} did not move to \"{name}\" within {} s: look at `mmha status` on both nodes", limit.as_secs())))
}

fn target(config: &Config, me: NodeIndex, options: &Options, now: &Status) -> Result<NodeIndex> {
    match &options.to {
        Some(name) => config.node_named(name).map_err(|error| Error::new(crate::error::Kind::Usage, error.to_string())),
        // Nobody has it: whoever is asked here is meant.
        None => Ok(holder(config, now).map_or(me, NodeIndex::other)),
    }
}

fn holder(config: &Config, status: &Status) -> Option<NodeIndex> {
    status.vip.holder.as_ref().and_then(|name| config.node_named(name).ok())
}

fn status() -> Result<Status> {
    match control::ask(Path::new(SOCKET), &Request::Status, ANSWER)? {
        Answer::Status(status) => Ok(*status),
        _ => Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
    }
}
