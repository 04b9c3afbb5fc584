//! The watchdog device, without opening it: to open one is to start its timer, and some timers nobody stops again.

use std::io;
use std::path::Path;

use super::Findings;
use crate::act::watchdog::Refusal;
use crate::config::Heartbeat;
use crate::config::duration::show;
use crate::sys::watchdog::{Described, describe};

pub fn check(heartbeat: &Heartbeat, service_runs: bool, findings: &mut Findings) {
    if let Some(path) = &heartbeat.watchdog {
        judge(heartbeat, path, describe(path), service_runs, findings);
    }
}

fn judge(heartbeat: &Heartbeat, path: &Path, seen: io::Result<Option<Described>>, service_runs: bool, findings: &mut Findings) {
    let (shown, timeout) = (path.display(), heartbeat.watchdog_timeout);
    let seen = match seen {
        Ok(Some(seen)) => seen,
        Ok(None) => {
            findings.ok("watchdog", format!("\"{shown}\" is there; what it can do is seen when the service starts"));
            return;
        }
        Err(fault) => {
            let refusal = Refusal::of(path, &fault);
            findings.fail("watchdog", refusal.why, refusal.remedy);
            return;
        }
    };
    let identity = &seen.identity;
    if let Some(shortest) = seen.shortest.filter(|shortest| u64::from(*shortest) > timeout.as_secs()) {
        findings.fail(
            "watchdog",
            format!("\"{shown}\" ({identity}) cannot be set to {}: {shortest}s at least", show(timeout)),
            format!("watchdog_timeout = \"{shortest}s\" and a deadtime of {}s at least, or another device", shortest + 1),
        );
    } else if seen.active && !service_runs {
        findings.warn(
            "watchdog",
            format!("the timer of \"{shown}\" ({identity}) runs, and the service does not: another program has it, or nothing stops it"),
            "look for RuntimeWatchdogSec= in systemd's system.conf and for a watchdog daemon: a watchdog serves one program only",
        );
    } else {
        let end = if seen.nowayout { "; it cannot be stopped: this box is reset when the service stops for long" } else { "" };
        findings.ok("watchdog", format!("\"{shown}\" ({identity}) is there{end}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::Level;

    #[test]
    fn devices_as_sysfs_tells_of_them() {
        fn check(seen: io::Result<Option<Described>>, service_runs: bool, level: Level, expect: &str) {
            let heartbeat = crate::mycnf::fragment::tests::config().heartbeat;
            let mut findings = Findings::default();
            judge(&heartbeat, Path::new("/dev/watchdog0"), seen, service_runs, &mut findings);
            let [found] = findings.0.as_slice() else { panic!("{findings:?}") };
            assert!(found.level == level && format!("{}; {}", found.why, found.remedy).contains(expect), "{found:?}");
        }
        let good = Described { identity: "iTCO_wdt".into(), active: false, nowayout: false, shortest: Some(1) };
        let fault = |code| Err(io::Error::from_raw_os_error(code));
        check(Ok(Some(good.clone())), false, Level::Ok, "(iTCO_wdt) is there");
        check(Ok(Some(Described { shortest: Some(2), ..good.clone() })), false, Level::Fail, "a deadtime of 3s at least");
        check(Ok(Some(Described { active: true, ..good.clone() })), false, Level::Warn, "another program has it");
        check(Ok(Some(Described { active: true, ..good.clone() })), true, Level::Ok, "is there");
        check(Ok(Some(Described { nowayout: true, shortest: None, ..good })), true, Level::Ok, "cannot be stopped");
        check(Ok(None), false, Level::Ok, "is there; what it can do");
        check(fault(libc::ENOENT), false, Level::Fail, "is missing; load the module");
        check(fault(libc::ENOTTY), false, Level::Fail, "is not a watchdog; name one");
    }
}
