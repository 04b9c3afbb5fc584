//! The arbiter's lease: taken, kept alive and given back as the core wants it, by a thread of its own. Reports what the lease is worth and until
//! when; concludes nothing from it.
//!
//! One key per pair, written only where there is none, under an etcd lease that ends by itself. Two things are easy to get wrong:
//! - etcd renews a lease on the word of one member, which may have lost its majority a moment ago. A renewal counts only when a majority
//!   confirms afterwards that the key is still under this lease, in the same raft term.
//! - A question that was given up may still be carried out later. A lease that was ever asked to be revoked is never believed in again, by no
//!   run of this program either: the file that carries it over a restart is removed first.

pub mod etcd;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Arbiter;
use crate::core::event::{ArbiterSeen, Ms};
use crate::core::want::{ArbiterOrder, Hold};
use crate::sys::slot::Reader;
use crate::sys::{clock, file, timer};
use etcd::{Etcd, Fault, Granted, Held};

/// The lease of an earlier run that was never given back.
const MEMORY_LIMIT: usize = 64;

#[derive(Debug, Clone)]
pub struct Setting {
    pub arbiter: Arbiter,
    pub cluster: String,
    /// This node, as the key's value names it.
    pub name: String,
    /// How long clients may still get through after the last heartbeat of a node that freezes.
    pub fence: Duration,
    /// Survives this process, not this boot.
    pub memory: PathBuf,
}

/// The key that the holder of the pair's lease has written.
pub fn key(cluster: &str) -> String {
    format!("/mmha/{cluster}/holder")
}

/// The thread: until the process ends.
pub fn run(setting: Setting, mut wanted: Reader<ArbiterOrder>, report: impl Fn(u64, ArbiterSeen)) {
    let mut keeper = Keeper::new(setting);
    let mut answered = true;
    loop {
        let order = wanted.get();
        let begun_ms = clock::now_ms();
        let seen = keeper.turn(order);
        let answers = !matches!(seen, ArbiterSeen::Unreachable(_));
        match (&seen, answered) {
            (ArbiterSeen::Unreachable(why), true) => log::warn!("arbiter: {why}"),
            (_, false) if answers => log::info!("arbiter: it answers again"),
            _ => {}
        }
        answered = answers;
        let pause = keeper.pause(order.hold, &seen);
        report(order.turn, seen);
        let until = begun_ms + u64::try_from(pause.as_millis()).unwrap_or(Ms::MAX);
        // However slow the answers were, etcd is not asked in a tight loop.
        let _ = timer::wait_readable(&[wanted.as_fd()], until.max(clock::now_ms() + 50));
        wanted.take_bell();
    }
}

struct Keeper {
    setting: Setting,
    etcd: Etcd,
    /// Mine, or perhaps mine: the answer to writing the key may have been lost.
    lease: Option<i64>,
    /// Given up, and perhaps still there: ended as soon as etcd hears it, so that nobody has to wait for it.
    stale: Option<i64>,
    /// What stands in `memory`.
    written: Option<i64>,
}

impl Keeper {
    fn new(setting: Setting) -> Keeper {
        let remembered = file::read_limited(&setting.memory, MEMORY_LIMIT).ok();
        let lease = remembered.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok());
        Keeper { etcd: Etcd::new(&setting.arbiter), setting, lease, stale: None, written: lease }
    }

    fn pause(&self, hold: Hold, seen: &ArbiterSeen) -> Duration {
        let arbiter = &self.setting.arbiter;
        match (hold, seen) {
            (Hold::No, ArbiterSeen::Unreachable(_)) | (_, ArbiterSeen::Mine { .. }) => arbiter.period(),
            (Hold::No, _) | (Hold::Keep, ArbiterSeen::Free | ArbiterSeen::Taken { .. }) => arbiter.ttl,
            (Hold::Yes, _) | (Hold::Keep, ArbiterSeen::Unreachable(_)) => arbiter.call(),
        }
    }

    fn turn(&mut self, order: ArbiterOrder) -> ArbiterSeen {
        if order.hold == Hold::No && self.forget() {
            self.stale = self.lease.take().or(self.stale);
        }
        let outcome = self.end_stale().and_then(|()| match order.hold {
            Hold::Yes => self.have(order.epoch),
            Hold::Keep => self.renew().and_then(|seen| seen.map_or_else(|| self.look(), Ok)),
            Hold::No => self.look(),
        });
        outcome.unwrap_or_else(|fault| ArbiterSeen::Unreachable(fault.text()))
    }

    fn have(&mut self, epoch: u64) -> Result<ArbiterSeen, Fault> {
        if let Some(seen) = self.renew()? {
            return Ok(seen);
        }
        // No lease is made that could not be used.
        let seen = self.look()?;
        if seen != ArbiterSeen::Free {
            return Ok(seen);
        }
        let granted = self.etcd.grant(self.setting.arbiter.ttl)?;
        self.lease = Some(granted.id);
        let value = format!("{} {epoch}", self.setting.name);
        match self.etcd.take(&key(&self.setting.cluster), &value, granted.id)? {
            Some(held) if held.lease == granted.id => Ok(self.mine(granted)),
            held => {
                self.lease = None;
                Ok(self.seen(held))
            }
        }
    }

    /// `None`: there is nothing to renew.
    fn renew(&mut self) -> Result<Option<ArbiterSeen>, Fault> {
        let Some(id) = self.lease else { return Ok(None) };
        let Some(granted) = self.etcd.keep_alive(id)? else {
            self.forget();
            self.lease = None;
            return Ok(None);
        };
        let (held, term) = self.etcd.read(&key(&self.setting.cluster))?;
        match held {
            Some(held) if held.lease == id && term == granted.term => Ok(Some(self.mine(granted))),
            Some(held) if held.lease == id => Err(Fault::unreachable("the arbiter has just elected another leader")),
            held => {
                self.forget();
                self.lease = None;
                Ok(held.is_some().then(|| self.seen(held)))
            }
        }
    }

    fn look(&mut self) -> Result<ArbiterSeen, Fault> {
        let (held, _) = self.etcd.read(&key(&self.setting.cluster))?;
        Ok(self.seen(held))
    }

    fn seen(&self, held: Option<Held>) -> ArbiterSeen {
        let Some(held) = held else { return ArbiterSeen::Free };
        match held.value.split(' ').next().unwrap_or_default() {
            own if own == self.setting.name => ArbiterSeen::Taken { by: format!("an earlier lease of {own} has not ended yet and") },
            "" => ArbiterSeen::Taken { by: "somebody without a name".to_owned() },
            other => ArbiterSeen::Taken { by: other.to_owned() },
        }
    }

    fn mine(&mut self, granted: Granted) -> ArbiterSeen {
        if self.written != Some(granted.id) {
            let memory = &self.setting.memory;
            match file::write_atomic(memory, granted.id.to_string().as_bytes(), 0o600) {
                Ok(()) => self.written = Some(granted.id),
                Err(fault) => log::warn!("cannot write \"{}\": {fault}; a restarted agent has to wait for its lease", memory.display()),
            }
        }
        let ttl = self.setting.arbiter.ttl.min(Duration::from_millis(granted.ttl_ms));
        let belief = Arbiter { ttl, ..self.setting.arbiter.clone() }.belief(self.setting.fence);
        let asked_ms = granted.sent_ms;
        ArbiterSeen::Mine { asked_ms, until_ms: asked_ms + u64::try_from(belief.as_millis()).unwrap_or(0) }
    }

    fn end_stale(&mut self) -> Result<(), Fault> {
        let Some(id) = self.stale else { return Ok(()) };
        match self.etcd.revoke(id) {
            Err(fault @ Fault::Unreachable { .. }) => return Err(fault),
            Err(fault) => log::warn!("arbiter: the lease could not be given back and ends by itself ({})", fault.text()),
            Ok(()) => {}
        }
        self.stale = None;
        Ok(())
    }

    /// Whether no later run can find the lease.
    fn forget(&mut self) -> bool {
        self.written = None;
        match std::fs::remove_file(&self.setting.memory) {
            Ok(()) => true,
            Err(fault) => fault.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests;
