//! `mmha pause` and `mmha resume`: ask the service; it tells its peer. They do nothing without it, and decide nothing.

use std::path::Path;
use std::time::Duration;

use super::{say, who};
use crate::control::{self, Answer, Request, SOCKET};
use crate::error::{Error, Kind, Result};

const ANSWER: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn pause(length: Duration, dry_run: bool) -> Result<()> {
    if length.is_zero() || length > DAY {
        return Err(Error::new(Kind::Usage, "a pause lasts between 1m and 24h: one that somebody forgets must end"));
    }
    let minutes = length.as_secs().div_ceil(60);
    if dry_run {
        say(&format!("would pause both nodes for {minutes} min; nothing was changed"));
        return Ok(());
    }
    ask(&Request::Pause { minutes, who: who() })
}

pub fn resume(dry_run: bool) -> Result<()> {
    if dry_run {
        say("would end the pause and release the flap brake on both nodes; nothing was changed");
        return Ok(());
    }
    ask(&Request::Resume { who: who() })
}

fn ask(request: &Request) -> Result<()> {
    match control::ask(Path::new(SOCKET), request, ANSWER)? {
        Answer::Accepted(sentence) => {
            say(&sentence);
            Ok(())
        }
        Answer::Refused(sentence) => Err(Error::refused(sentence)),
        Answer::Failed(sentence) => Err(Error::failed(sentence)),
        Answer::Status(_) => Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
    }
}
