//! `mmha firewall show|apply|remove`: the rules of act::firewall by hand. The service applies and repairs the same ones by itself.

use std::path::Path;
use std::time::Duration;

use super::say;
use crate::act::firewall::{self, Change};
use crate::act::gate;
use crate::config::{Config, NodeIndex};
use crate::control::{self, Request, SOCKET, Unanswered};
use crate::error::Result;

const ANSWER: Duration = Duration::from_secs(1);

pub fn show(config: &Config, me: NodeIndex) -> Result<()> {
    say(&firewall::render(config, me));
    let state = match (config.firewall.manage, firewall::verify(config, me)?) {
        (false, _) => "# firewall.manage is false: these rules are not put in force",
        (true, true) => "# in force",
        (true, false) => "# NOT in force: `mmha firewall apply`",
    };
    say(state);
    Ok(())
}

pub fn apply(config: &Config, me: NodeIndex, dry_run: bool) -> Result<()> {
    if !config.firewall.manage {
        say("firewall.manage is false: nothing to do");
        return Ok(());
    }
    if dry_run {
        return preview(&firewall::changes(config, me)?);
    }
    let changed = firewall::apply(config, me)?;
    say(if changed { "rules put in force" } else { "rules were in force already; nothing was changed" });
    Ok(())
}

pub fn remove(_config: &Config, _me: NodeIndex, dry_run: bool) -> Result<()> {
    if dry_run {
        say("# and, when the service does not run: nft delete table inet mmha");
        return preview(&firewall::removals()?);
    }
    let changed = firewall::remove()?;
    say(if changed { "rules removed" } else { "there were none of ours; nothing was changed" });
    // Left behind by a service that has ended, it would keep every client out for good.
    if let Err(Unanswered::NotRunning) = control::ask(Path::new(SOCKET), &Request::Status, ANSWER) {
        gate::remove()?;
        say("no write gate either, until the service starts");
    } else {
        say("the write gate stays, and the service puts the rules back: stop it first");
    }
    Ok(())
}

fn preview(changes: &[Change]) -> Result<()> {
    for change in changes {
        say(&change.text());
    }
    say(if changes.is_empty() { "nothing to change" } else { "nothing was changed" });
    Ok(())
}
