//! Keeps the firewall rules and the write gate as the configuration wants them: looks when the kernel says that rules have changed, and
//! every few seconds, repairs what others flushed, and says so. Children only; nothing waits for this thread.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::act::{firewall, gate};
use crate::config::{Config, NodeIndex};
use crate::sys::netlink::Monitor;
use crate::sys::slot::Reader;
use crate::sys::{clock, timer};

/// Each look starts three children. The kernel tells of changes through nf_tables, not of those by the older iptables.
const LOOK_EVERY_MS: u64 = 60_000;
/// When the kernel tells nothing at all.
const LOOK_BLINDLY_EVERY_MS: u64 = 10_000;
/// Whoever changes rules all the time makes us look no more often than this.
const SPACING_MS: u64 = 1_000;

#[derive(Clone)]
pub struct Guarded {
    pub config: Arc<Config>,
    pub me: NodeIndex,
}

/// The thread; `report` gets the list of troubles whenever it changes.
pub fn run(mut wanted: Reader<Guarded>, gate_available: bool, report: impl Fn(Vec<String>)) {
    let mut told: Option<Vec<String>> = None;
    let changes = Monitor::rules().ok();
    loop {
        let guarded = wanted.get();
        let troubles: Vec<String> = [firewall_trouble(&guarded), gate_trouble(&guarded, gate_available)].into_iter().flatten().collect();
        if told.as_ref() != Some(&troubles) {
            for trouble in &troubles {
                log::warn!("{trouble}");
            }
            report(troubles.clone());
            told = Some(troubles);
        }
        wait(&wanted, changes.as_ref(), clock::now_ms());
        wanted.take_bell();
    }
}

/// Until the next look.
fn wait(wanted: &Reader<Guarded>, changes: Option<&Monitor>, now: u64) {
    let rung = |until: u64, changes: Option<&Monitor>| {
        let fds: Vec<_> = std::iter::once(wanted.as_fd()).chain(changes.map(AsFd::as_fd)).collect();
        timer::wait_readable(&fds, until).is_ok_and(|ready| ready.contains(&true))
    };
    let every = if changes.is_some() { LOOK_EVERY_MS } else { LOOK_BLINDLY_EVERY_MS };
    let _ = rung(now + SPACING_MS, None) || rung(now + every, changes);
    // Notices of what we have just put back ourselves are gone with the rest by the second look.
    if let Some(changes) = changes {
        let _ = changes.drain();
    }
}

fn firewall_trouble(guarded: &Guarded) -> Option<String> {
    if !guarded.config.firewall.manage {
        return None;
    }
    match firewall::apply(&guarded.config, guarded.me) {
        Ok(false) => None,
        Ok(true) => {
            log::warn!("firewall rules put in place");
            None
        }
        Err(fault) => Some(format!("firewall: {fault}")),
    }
}

fn gate_trouble(guarded: &Guarded, available: bool) -> Option<String> {
    if !gate::wanted(&guarded.config) {
        return Some("no write gate: firewall.manage is false or writer is \"both\"; a frozen agent does not stop writes".to_owned())
            .filter(|_| guarded.config.mysql.writer == crate::config::Writer::Vip);
    }
    if !available {
        return Some("no write gate: nftables does not work here; the address lease is the only fence".to_owned());
    }
    match gate::verify(&guarded.config, guarded.me) {
        Ok(true) => None,
        Ok(false) => {
            log::warn!("the write gate was flushed by somebody else: putting it back");
            gate::install(&guarded.config, guarded.me).err().map(|fault| fault.to_string())
        }
        Err(fault) => Some(fault.to_string()),
    }
}
