//! The service: threads, channel and clock meet here. One thread owns the core by `&mut`; the others send it events and read what it wants.

mod actors;
pub mod callers;
mod guard;
mod journal;
pub mod limits;
pub mod link;
mod start;
mod status;
mod threads;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::act::quarantine::Kept;
use crate::act::watchdog::Timer;
use crate::config::{Config, NodeIndex};
use crate::control::{Answer, Request};
use crate::core::event::{Event, Ms};
use crate::core::fact::Fact;
use crate::core::history::History;
use crate::core::state::State;
use crate::core::{Core, Decision};
use crate::error::{Error, Kind, Result};
use crate::report;
use crate::sys::queue::Receiver;
use crate::sys::{clock, notify};

use actors::Actors;
use journal::Journal;
use link::Statistics;

/// What reaches the core's thread.
pub enum Message {
    Event(Event),
    /// All goes on as before: comes without waking this thread, which finds it before it next judges by the clock.
    AsBefore(Event),
    Ask(Request, SyncSender<Answer>),
    /// SIGHUP.
    Reload,
    /// The server's version, for `status`.
    Version(String),
    /// What the guard of firewall and gate finds wrong; empty = nothing.
    Troubles(Vec<String>),
    /// What has become of extra transactions.
    Kept(Kept),
    /// The link thread holds nothing any more: it has lost its watchdog device.
    Lost(Error),
}

/// Messages that wait for the core's thread; heartbeats beyond it are dropped, reports are repeated by their senders.
const QUEUE: usize = 4096;
/// How long the last heartbeat, "I am gone", has to leave before the process ends.
const FAREWELL: Duration = Duration::from_millis(60);
const START_AGAIN: Duration = Duration::from_secs(1);
const REMIND_MS: Ms = 60_000;

/// Runs the service until it is asked to stop, or has lost what it needs; everything is let go of by then.
pub fn run(config_path: &Path) -> Result<()> {
    let (mut service, messages) = start::start(config_path).inspect_err(pace)?;
    service.serve(&messages);
    service.last_words();
    service.lost.map_or(Ok(()), Err)
}

/// systemd starts a service that ends again at once: a start that fails for a reason that may pass is tried once a second.
fn pace(fault: &Error) {
    if fault.kind != Kind::Config && notify::is_awaited() {
        std::thread::sleep(START_AGAIN);
    }
}

struct Service {
    path: PathBuf,
    config: Config,
    me: NodeIndex,
    interface: String,
    links: Vec<[Ipv4Addr; 2]>,
    core: Core,
    actors: Actors,
    journal: Journal,
    statistics: Arc<Mutex<Statistics>>,
    version: Option<String>,
    troubles: Vec<String>,
    kept: Option<Kept>,
    unprotected_since: Option<String>,
    watchdog_ms: Option<Ms>,
    watched_ms: Ms,
    told_ms: Ms,
    /// When this thread last took something up, and the shorter of its two leases.
    turn_ms: Ms,
    lease_ms: Ms,
    /// Why the service ends by itself.
    lost: Option<Error>,
}

impl Service {
    fn serve(&mut self, messages: &Receiver<Message>) {
        self.publish();
        while !self.core.want().exit {
            // However calm it is: the link thread acts, and systemd is content, only while this one has been seen alive a moment ago.
            let often = (self.actors.blessing_ms.min(self.lease_ms) / 2).min(self.watchdog_ms.unwrap_or(Ms::MAX) / 3);
            let wait = self.core.deadline().saturating_sub(clock::now_ms()).min(often);
            let message = messages.receive(Duration::from_millis(wait));
            self.notice_gap();
            match message {
                Some(message) => self.take(message),
                None => self.core.step(Event::Tick, clock::now_ms()),
            }
            self.publish();
        }
        notify::stopping();
        std::thread::sleep(FAREWELL);
    }

    /// Before anything is believed or judged by the clock: after standing still for longer than a lease the core hears that first.
    fn notice_gap(&mut self) {
        let now = clock::now_ms();
        let gap_ms = now.saturating_sub(std::mem::replace(&mut self.turn_ms, now));
        if gap_ms >= self.lease_ms {
            self.core.step(Event::Woke { gap_ms }, now);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.core.step(event, clock::now_ms()),
            Message::AsBefore(event) => self.core.absorb(event, clock::now_ms()),
            Message::Ask(request, answer) => {
                let _ = answer.try_send(self.answer(request));
            }
            Message::Reload => self.reload(),
            Message::Version(version) => self.version = Some(version),
            Message::Troubles(troubles) => self.troubles = troubles,
            Message::Kept(kept) => self.kept = Some(kept),
            Message::Lost(why) => {
                log::error!("{why}; the service ends, and systemd starts it anew");
                self.lost = Some(why);
                self.core.step(Event::Stop, clock::now_ms());
            }
        }
    }

    /// A timer that nobody can stop ends the box when nobody feeds it.
    fn last_words(&self) {
        let watchdog = self.statistics.lock().unwrap_or_else(PoisonError::into_inner).watchdog;
        if let Some(Timer::Unstoppable { seconds }) = watchdog {
            log::warn!("the watchdog cannot be stopped: this box is reset in {seconds}s unless the service is started again by then");
        }
    }

    /// Tells everybody what is wanted now, and the world what was decided.
    fn publish(&mut self) {
        let now = clock::now_ms();
        self.actors.publish(self.core.want(), now);
        for decision in self.core.take_decisions() {
            self.proclaim(&decision);
            self.told_ms = now;
        }
        self.remind(now);
        let unprotected = self.core.view().unprotected_ms().is_some();
        if !unprotected {
            self.unprotected_since = None;
        } else if self.unprotected_since.is_none() {
            self.unprotected_since = Some(clock::wall_rfc3339());
        }
        if let Some(period) = self.watchdog_ms
            && now.saturating_sub(self.watched_ms) >= period / 3
        {
            self.watched_ms = now;
            notify::watchdog();
        }
    }

    fn proclaim(&self, decision: &Decision) {
        let (from, to) = (decision.from.name(), decision.to.name());
        let line = if from == to { to.to_owned() } else { format!("{from} → {to}") };
        log::info!("{line} (rule {}, epoch {}): {}", decision.rule, decision.epoch, decision.sentence);
        notify::status(&format!("{to}: {}", decision.sentence));
        self.journal.add(report::Event {
            time: clock::wall_rfc3339(),
            epoch: decision.epoch,
            from: from.to_owned(),
            to: to.to_owned(),
            rule: decision.rule,
            sentence: decision.sentence.clone(),
        });
    }

    /// Nobody may overlook that nothing goes on here, however long ago the reason was given.
    fn remind(&mut self, now: Ms) {
        let view = self.core.view();
        let alone = !view.holds() && !view.has(Fact::PeerHeard);
        let stuck = alone || matches!(self.core.state(), State::Failed | State::Isolated | State::Quarantined | State::Boot);
        if stuck && now.saturating_sub(self.told_ms) >= REMIND_MS {
            log::warn!("still {} (rule {}): {}", self.core.state().name(), view.rule(), view.sentence());
            self.told_ms = now;
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Switchover { to, force, who } => self.switchover(to.as_deref(), force, &who),
            Request::Pause { minutes, who } => self.pause(minutes, &who),
            Request::Resume { who } => self.resume(&who),
            Request::Rejoin { merge, extra, who } => self.rejoin(merge, &extra, &who),
            Request::Release { who } => self.switchover(Some(&self.config.node(self.me.other()).name.clone()), false, &who),
        }
    }

    fn status(&self) -> report::Status {
        let statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let around = status::Around {
            config: &self.config,
            me: self.me,
            interface: &self.interface,
            version: self.version.clone(),
            links: &self.links,
            statistics: &statistics,
            troubles: &self.troubles,
            kept: self.kept.as_ref(),
            unprotected_since: self.unprotected_since.clone(),
        };
        status::picture(&self.core, &around)
    }

    /// Only the holder moves the address: asked on the other node, the wish travels in the heartbeats.
    fn switchover(&mut self, to: Option<&str>, force: bool, who: &str) -> Answer {
        let (own, peer) = (self.config.node(self.me).name.clone(), self.config.node(self.me.other()).name.clone());
        let holds = self.core.state() == State::Active;
        let target = match to {
            Some(name) if name == own || name == peer => name.to_owned(),
            Some(name) => return Answer::Failed(format!("\"{name}\" is not a node of this pair; its nodes are \"{own}\" and \"{peer}\"")),
            None => {
                if holds {
                    peer.clone()
                } else {
                    own.clone()
                }
            }
        };
        if (target == own) == holds {
            let where_now =
                if holds { format!("{own} holds the address already") } else { format!("{own} does not hold the address; ask on {peer}") };
            return Answer::Refused(where_now);
        }
        log::warn!("switchover to {target} requested by {who}{}", if force { ", with --force" } else { "" });
        // Only a standby keeps the wish for a while; a holder goes now or not at all.
        let waits = force || matches!(self.core.state(), State::Standby | State::Gate);
        self.core.step(Event::Switch { force }, clock::now_ms());
        let goes = if holds { self.core.state() != State::Active } else { waits };
        let sentence = self.core.view().sentence();
        if goes { Answer::Accepted(sentence) } else { Answer::Refused(sentence) }
    }

    fn pause(&mut self, minutes: u64, who: &str) -> Answer {
        if minutes == 0 {
            return Answer::Failed("a pause of no length makes no sense".to_owned());
        }
        log::warn!("paused for {minutes} min by {who}");
        self.core.step(Event::Pause { minutes }, clock::now_ms());
        Answer::Accepted(format!("paused for {} min: nothing moves, not even when the holder dies", self.core.view().pause_minutes()))
    }

    fn resume(&mut self, who: &str) -> Answer {
        log::warn!("resumed by {who}");
        self.core.step(Event::Resume, clock::now_ms());
        Answer::Accepted("resumed; the flap brake is released".to_owned())
    }

    /// Exactly what was compared may flow, while this node is quarantined and the holder is there to take it.
    fn rejoin(&mut self, merge: bool, extra: &str, who: &str) -> Answer {
        let view = self.core.view();
        let peer = &self.config.node(self.me.other()).name;
        let serves = view.has(Fact::PeerEcho) && view.peer().is_some_and(|beat| beat.state == State::Active);
        let refused = |why: String| Answer::Refused(why);
        if self.core.state() != State::Quarantined {
            return refused(format!("this node is not quarantined but {}: there is nothing to decide", self.core.state().name()));
        }
        if !merge {
            log::warn!("{who} gives the extra transactions up: no merge");
            self.core.step(Event::Merge(History::default()), clock::now_ms());
            return Answer::Accepted(self.core.view().sentence());
        }
        if !serves {
            return refused(format!("{peer} is not heard as the holder of the address: nobody could take the transactions"));
        }
        if view.extra().to_string() != extra {
            return refused(format!("the extra transactions are {} now, not {extra}: run `mmha rejoin --merge` again", view.extra()));
        }
        log::warn!("merge of {extra} accepted by {who}");
        let extra = view.extra();
        self.core.step(Event::Merge(extra), clock::now_ms());
        Answer::Accepted(self.core.view().sentence())
    }

    /// SIGHUP: what can change while running changes; the rest is named.
    fn reload(&mut self) {
        notify::reloading();
        match Config::load(&self.path) {
            Ok(config) => {
                // Timing is shared with the peer and with running leases: it changes by a restart, which adopts them.
                self.config.firewall = crate::config::Firewall { manage: self.config.firewall.manage, ..config.firewall };
                self.config.heartbeat.auto_failback = config.heartbeat.auto_failback;
                self.config.heartbeat.failback_delay = config.heartbeat.failback_delay;
                self.actors.reload(&self.config, self.me);
                self.core.retune(config.heartbeat.auto_failback, limits::millis(config.heartbeat.failback_delay));
                let path = self.path.display();
                log::info!(
                    "\"{path}\" read again: keys, firewall clients and failback are in force; anything else needs `systemctl restart mmha`"
                );
            }
            Err(fault) => log::error!("keeping the configuration as it was: {fault}"),
        }
        notify::ready();
    }
}
