//! Fills a rule's sentence with names and numbers.

use super::Core;
use super::event::{FenceSeen, RemoteSeen, ServerSeen};
use super::history::History;
use super::state::State;

/// A name in braces and what it stands for.
type Name = (&'static str, fn(&Core) -> String);

/// Only those that a sentence has are worked out.
const NAMES: [Name; 15] = [
    ("{peer}", |core| core.id.peer_name.clone()),
    ("{vip}", |core| core.id.vip.clone()),
    ("{epoch}", |core| core.belief.want_record.epoch.max(core.belief.record.epoch).to_string()),
    ("{peer_epoch}", |core| core.belief.peer.as_ref().map_or(0, |peer| peer.beat.epoch).to_string()),
    ("{gap}", |core| core.belief.gap_ms.to_string()),
    ("{mac}", |core| core.belief.vip_claim.map_or_else(|| "another host".to_owned(), |(mac, _)| mac_text(mac))),
    ("{why}", Core::why),
    ("{peer_why}", Core::peer_why),
    ("{extra}", |core| transactions(&core.raw_extra())),
    ("{closed}", |core| core.belief.closed.as_ref().map_or_else(|| "an unknown position".to_owned(), |(_, at)| at.to_string())),
    ("{behind}", Core::behind),
    ("{risk}", Core::risk),
    ("{remote}", Core::remote_why),
    ("{fence}", Core::fence_why),
    ("{arbiter}", Core::arbiter_why),
];

impl Core {
    pub(super) fn render(&self, template: &str) -> String {
        let mut text = template.to_owned();
        for (name, value) in NAMES.iter().filter(|(name, _)| template.contains(name)) {
            text = text.replace(name, &value(self));
        }
        text
    }

    /// What is wrong on this node.
    pub(super) fn why(&self) -> String {
        if let Some(error) = &self.belief.store_error {
            return error.clone();
        }
        match &self.belief.server {
            Some(ServerSeen::Dead) => "dead".to_owned(),
            Some(ServerSeen::Hung) => "hung".to_owned(),
            Some(ServerSeen::Refuses(text)) => format!("refusing to work: {text}"),
            None => "not looked at yet".to_owned(),
            Some(ServerSeen::Ok(_)) if self.belief.disk_error.is_some() => {
                format!("on a disk that fails ({})", self.belief.disk_error.as_deref().unwrap_or_default())
            }
            Some(ServerSeen::Ok(_)) if !self.belief.role_error.is_empty() => self.belief.role_error.clone(),
            Some(ServerSeen::Ok(_)) => "answering".to_owned(),
        }
    }

    pub(super) fn peer_why(&self) -> String {
        let name = &self.id.peer_name;
        match &self.belief.peer {
            None => format!("{name} has never been heard"),
            Some(_) if !self.peer_heard() => format!("{name} is silent"),
            Some(_) if !self.peer_echo() => format!("{name} does not hear me"),
            Some(_) if self.flapping() && self.state == State::Active => {
                format!("{} has left this node too often lately: `mmha resume` releases the brake", self.id.vip)
            }
            Some(peer) if !peer.beat.why.is_empty() => format!("{name}: {}", &*peer.beat.why),
            Some(peer) if peer.beat.leaving => format!("{name} is stopping"),
            Some(peer) if !peer.beat.current => format!("{name} has not applied everything it received, or does not receive"),
            Some(_) if !self.belief.synced && self.state.holds() => format!("{name} is not in sync"),
            Some(_) => format!("{name} is ready"),
        }
    }

    fn remote_why(&self) -> String {
        match &self.belief.remote {
            None => "looking".to_owned(),
            Some((RemoteSeen::Down, _)) => "it does not answer".to_owned(),
            Some((RemoteSeen::Up, _)) => "it answers: closing it".to_owned(),
            Some((RemoteSeen::Fenced(history), _)) => format!("closed at {history}"),
            Some((RemoteSeen::Failed(text), _)) => text.clone(),
            Some((RemoteSeen::Mute, _)) => "it stands still, and has no write gate that has ended".to_owned(),
        }
    }

    fn fence_why(&self) -> String {
        match &self.belief.fence {
            None => "the fencing command has not ended yet".to_owned(),
            Some(FenceSeen::Done) => "done".to_owned(),
            Some(FenceSeen::Failed(text)) => text.clone(),
        }
    }

    fn behind(&self) -> String {
        let applied = self.belief.sample.as_ref().map(|sample| sample.history.clone()).unwrap_or_default();
        transactions(&self.belief.marks.received.union(&self.belief.marks.own).minus(&applied))
    }

    /// What a takeover now would leave behind: the peer's last announced position less what is here.
    fn risk(&self) -> String {
        let theirs = self.belief.peer.as_ref().and_then(|peer| peer.beat.history.clone()).unwrap_or_default();
        let mine = self.belief.sample.as_ref().map(|sample| sample.history.clone()).unwrap_or_default();
        let known = transactions(&theirs.minus(&mine));
        if self.belief.alone { known } else { format!("{known} known, and whatever was committed after the last heartbeat") }
    }
}

fn transactions(history: &History) -> String {
    match history.count() {
        0 => "nothing".to_owned(),
        1 => format!("1 transaction ({history})"),
        count => format!("{count} transactions ({history})"),
    }
}

pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
