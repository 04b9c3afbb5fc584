//! Hands each part of a `Want` to the thread that sees to it. A part goes out only when it differs from what that thread has.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::act::{quarantine, role};
use crate::config::authkeys::Authkeys;
use crate::config::{Config, NodeIndex};
use crate::core::event::{Ms, Record};
use crate::core::want::{Announce, ArbiterOrder, Remote, Want, Writes};
use crate::daemon::guard::Guarded;
use crate::daemon::link;
use crate::probe::lan::{Lan, LanCommand};
use crate::probe::server::Held;
use crate::sys::slot::Writer;

/// The writing ends of every thread's mailbox.
pub struct Actors {
    pub link: Writer<link::Order>,
    pub role: Writer<role::Order>,
    pub watch: Writer<bool>,
    pub remote: Writer<Remote>,
    pub fence: Writer<bool>,
    pub store: Writer<Option<Record>>,
    pub quarantine: Writer<quarantine::Order>,
    pub guard: Writer<Guarded>,
    /// `None`: there is no arbiter.
    pub arbiter: Option<Writer<ArbiterOrder>>,
    pub lan: Lan,
    pub keys: Arc<Authkeys>,
    pub server: Held,
    /// How long the link thread may act without hearing from the core's thread.
    pub blessing_ms: Ms,
    pub probe_spacing: Duration,
    pub last: Option<Want>,
}

impl Actors {
    pub fn publish(&mut self, want: &Want, now: Ms) {
        let last = self.last.take();
        let changed = |differs: fn(&Want, &Want) -> bool| last.as_ref().is_none_or(|last| differs(last, want));
        if want.kill_server && changed(|last, want| last.kill_server != want.kill_server) {
            self.kill_server();
        }
        let order = link::Order {
            order: want.order,
            vip: want.vip,
            gate: want.gate,
            say: want.say.clone(),
            blessed_until_ms: (now + self.blessing_ms).min(want.hold_until_ms),
            keys: Arc::clone(&self.keys),
        };
        match changed(|last, want| (last.order, last.vip, last.gate) != (want.order, want.vip, want.gate) || last.say != want.say) {
            true => self.link.put(order),
            false => self.link.put_quietly(order),
        }
        if changed(|last, want| role::Order::of(last) != role::Order::of(want)) {
            self.role.put(role::Order::of(want));
        }
        // What is decided in a new state rests on a look that is no older. A server that is being opened has enough to do.
        let afresh = |last: &Want, want: &Want| want.watch && last.order != want.order && want.writes == Writes::Closed;
        if last.as_ref().is_none_or(|last| last.watch != want.watch || afresh(last, want)) {
            self.watch.put(want.watch);
        }
        if changed(|last, want| last.remote != want.remote) {
            self.remote.put(want.remote);
        }
        if changed(|last, want| last.fence != want.fence) {
            self.fence.put(want.fence);
        }
        if changed(|last, want| last.save != want.save) {
            self.store.put(want.save);
        }
        if changed(|last, want| last.extra != want.extra || last.merge != want.merge) {
            self.quarantine.put(quarantine::Order::of(want));
        }
        if let Some(arbiter) = &self.arbiter
            && changed(|last, want| last.arbiter != want.arbiter)
        {
            arbiter.put(want.arbiter);
        }
        self.tell_lan(last.as_ref(), want);
        self.last = Some(want.clone());
    }

    /// Before anybody can end the sessions that wait in it: what they wait for would be committed, and nobody has it.
    fn kill_server(&self) {
        let process = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match process.map(|process| process.kill()) {
            Some(Ok(())) => {
                log::warn!("server killed: it hangs, or holds commits that nobody will acknowledge; crash recovery drops those")
            }
            Some(Err(fault)) => log::error!("cannot kill the server: {fault}"),
            None => log::error!("cannot kill the server: its process is not known"),
        }
    }

    fn tell_lan(&self, last: Option<&Want>, want: &Want) {
        if last.is_none_or(|last| last.probe != want.probe) {
            self.lan.tell(if want.probe { LanCommand::Probe { spacing: self.probe_spacing } } else { LanCommand::StopProbing });
        }
        let before = last.and_then(|last| last.announce);
        if before != want.announce {
            self.lan.tell(match want.announce {
                Some(Announce::InSight | Announce::Alone) => LanCommand::Announce,
                Some(Announce::Seldom) => LanCommand::AnnounceSeldom,
                None => LanCommand::StopAnnouncing,
            });
        }
    }

    pub fn reload(&mut self, config: &Config, me: NodeIndex) {
        match Authkeys::load(&config.heartbeat.authkeys) {
            Ok(keys) => self.keys = Arc::new(keys),
            Err(fault) => log::error!("keeping the keys as they were: {fault}"),
        }
        self.guard.put(Guarded { config: Arc::new(config.clone()), me });
    }
}
