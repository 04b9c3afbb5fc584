//! The timing inequalities: which combinations of keepalive, deadtime, warntime, leases and isolation limit keep "one writer" true by the clock.
//! Each fault names the rule, the numbers and the reason.

use std::time::Duration;

use super::diagnostic::Faults;
use super::duration::show;
use super::raw::{Raw, RawHeartbeat};
use super::reader::At;

/// How late the link thread may run under its real-time priority (J; measured up to 0.6 ms under load, 5 ms assumed).
pub const LINK_LATENESS: Duration = Duration::from_millis(5);
/// Closing the gate and removing the address (F).
pub const CLOSING: Duration = Duration::from_millis(20);
/// How late the kernel may remove an address whose lease has ended.
pub const ADDRESS_LATENESS: Duration = Duration::from_millis(1300);
/// A probe of the floating address needs at least this long between warntime and deadtime.
const SHORTEST_PROBE: Duration = Duration::from_millis(40);
/// Without a write gate deadtime has to cover the address lease and its lateness.
const SHORTEST_DEADTIME_WITHOUT_GATE: Duration = Duration::from_millis(2500);

/// A rule that must hold: `left` at most `right`, else `sentence` at the key.
struct Rule<'a> {
    key: &'a At<Duration>,
    left: Duration,
    right: Duration,
    sentence: String,
}

pub fn check(raw: &Raw, faults: &Faults<'_>) {
    let heartbeat = &raw.heartbeat;
    let used = [
        &heartbeat.keepalive,
        &heartbeat.deadtime,
        &heartbeat.warntime,
        &heartbeat.initdead,
        &heartbeat.lease,
        &heartbeat.gate,
        &heartbeat.isolation,
        &heartbeat.watchdog_timeout,
    ];
    if used.iter().any(|value| !value.sound) {
        return; // judged together, so judged only when each is right
    }
    for rule in rules(heartbeat).into_iter().chain(lease_rules(heartbeat)).chain(gate_rules(raw)).chain(watchdog_rules(heartbeat)) {
        if rule.left > rule.right {
            faults.add(&rule.key.span, rule.sentence);
        }
    }
    if heartbeat.lease.value.subsec_nanos() != 0 {
        faults.add(&heartbeat.lease.span, "lease must be whole seconds: the kernel's address lifetimes have no finer unit");
    }
    if heartbeat.watchdog.value.is_some() && heartbeat.watchdog_timeout.value.subsec_nanos() != 0 {
        faults.add(&heartbeat.watchdog_timeout.span, "watchdog_timeout must be whole seconds: watchdog devices have no finer unit");
    }
}

/// The device must have reset the box before the peer may take over, and drivers count whole seconds (SAFETY B14).
pub fn longest_watchdog(deadtime: Duration) -> Duration {
    deadtime.saturating_sub(Duration::from_secs(1))
}

/// It is fed with the heartbeats; a few late turns are no reason to reset a box.
pub fn shortest_watchdog(keepalive: Duration) -> Duration {
    Duration::from_secs(u64::try_from((4 * keepalive).as_millis().div_ceil(1000)).unwrap_or(u64::MAX))
}

fn watchdog_rules(heartbeat: &RawHeartbeat) -> Vec<Rule<'_>> {
    if heartbeat.watchdog.value.is_none() {
        return Vec::new();
    }
    let (keepalive, deadtime, timeout) = (heartbeat.keepalive.value, heartbeat.deadtime.value, heartbeat.watchdog_timeout.value);
    vec![
        Rule {
            key: &heartbeat.watchdog_timeout,
            left: timeout,
            right: longest_watchdog(deadtime),
            sentence: format!(
                "watchdog_timeout {} is too long for deadtime {}: it must end 1s before that, because a watchdog counts whole seconds and this box must be down before its peer may take over",
                show(timeout),
                show(deadtime)
            ),
        },
        Rule {
            key: &heartbeat.watchdog_timeout,
            left: 4 * keepalive,
            right: timeout,
            sentence: format!(
                "watchdog_timeout {} is too short for keepalive {}: the device is fed with the heartbeats and must last 4 of them ({})",
                show(timeout),
                show(keepalive),
                show(4 * keepalive)
            ),
        },
    ]
}

fn rules(heartbeat: &RawHeartbeat) -> Vec<Rule<'_>> {
    let (keepalive, deadtime, warntime) = (heartbeat.keepalive.value, heartbeat.deadtime.value, heartbeat.warntime.value);
    let shortest = 4 * keepalive + LINK_LATENESS;
    let probing = SHORTEST_PROBE.max(2 * keepalive);
    let boot = (2 * deadtime).max(deadtime + heartbeat.lease.value + ADDRESS_LATENESS + deadtime.saturating_sub(warntime));
    vec![
        Rule {
            key: &heartbeat.deadtime,
            left: shortest,
            right: deadtime,
            sentence: format!(
                "deadtime {} is too short for keepalive {}: it must be at least 4 keepalives and 5ms ({}), because a few lost datagrams are not a death",
                show(deadtime),
                show(keepalive),
                show(shortest)
            ),
        },
        Rule {
            key: &heartbeat.warntime,
            left: 3 * keepalive,
            right: warntime,
            sentence: format!(
                "warntime {} is too short for keepalive {}: it must be at least 3 keepalives ({})",
                show(warntime),
                show(keepalive),
                show(3 * keepalive)
            ),
        },
        Rule {
            key: &heartbeat.warntime,
            left: warntime + probing,
            right: deadtime,
            sentence: format!(
                "warntime {} leaves no time before deadtime {} to ask the network who has the address: it must be at most deadtime - {}",
                show(warntime),
                show(deadtime),
                show(probing)
            ),
        },
        Rule {
            key: &heartbeat.initdead,
            left: boot,
            right: heartbeat.initdead.value,
            sentence: format!(
                "initdead {} is too short: a node that restarts in its peer's shadow must wait at least {} (twice deadtime, and deadtime + lease + 1.3s + the time to probe)",
                show(heartbeat.initdead.value),
                show(boot)
            ),
        },
    ]
}

fn lease_rules(heartbeat: &RawHeartbeat) -> Vec<Rule<'_>> {
    let (keepalive, deadtime, lease) = (heartbeat.keepalive.value, heartbeat.deadtime.value, heartbeat.lease.value);
    let longest = deadtime.max(Duration::from_secs(1));
    vec![
        Rule {
            key: &heartbeat.lease,
            left: 4 * keepalive,
            right: lease,
            sentence: format!(
                "lease {} is too short for keepalive {}: it is renewed with every heartbeat and must last 4 of them ({})",
                show(lease),
                show(keepalive),
                show(4 * keepalive)
            ),
        },
        Rule {
            key: &heartbeat.lease,
            left: lease,
            right: longest,
            sentence: format!(
                "lease {} is longer than deadtime {}: a dead or frozen node would still have the address when its peer takes it",
                show(lease),
                show(deadtime)
            ),
        },
    ]
}

fn gate_rules(raw: &Raw) -> Vec<Rule<'_>> {
    let heartbeat = &raw.heartbeat;
    let (keepalive, deadtime, gate, isolation) =
        (heartbeat.keepalive.value, heartbeat.deadtime.value, heartbeat.gate.value, heartbeat.isolation.value);
    let shortest = 3 * keepalive + LINK_LATENESS;
    let claim = deadtime.saturating_sub(keepalive / 2);
    let mut rules = vec![
        Rule {
            key: &heartbeat.gate,
            left: gate + gate / 100 + LINK_LATENESS,
            right: claim,
            sentence: format!(
                "gate {} is too long: with 1 % and 5ms it must end half a keepalive before deadtime ({}), so that acknowledgements stop before the peer may take over",
                show(gate),
                show(claim)
            ),
        },
        Rule {
            key: &heartbeat.gate,
            left: shortest,
            right: gate,
            sentence: format!(
                "gate {} is too short: two lost turns must not close it, so it must be at least 3 keepalives and 5ms ({})",
                show(gate),
                show(shortest)
            ),
        },
        Rule {
            key: &heartbeat.isolation,
            left: isolation + CLOSING + LINK_LATENESS,
            right: claim,
            sentence: format!(
                "isolation {} is too long: a node that is cut off needs 25ms to let go and must be done half a keepalive before deadtime ({})",
                show(isolation),
                show(claim)
            ),
        },
        Rule {
            key: &heartbeat.isolation,
            left: shortest,
            right: isolation,
            sentence: format!(
                "isolation {} is too short: two lost turns are no cut, so it must be at least 3 keepalives and 5ms ({})",
                show(isolation),
                show(shortest)
            ),
        },
    ];
    if !raw.firewall.manage.value {
        let lease = heartbeat.lease.value;
        rules.push(Rule {
            key: &heartbeat.lease,
            left: lease + ADDRESS_LATENESS,
            right: deadtime,
            sentence: format!(
                "lease {} is too long for deadtime {} without the write gate: the kernel may end it 1.3s late, and a frozen node must not have the address when its peer takes it",
                show(lease),
                show(deadtime)
            ),
        });
        rules.push(Rule {
            key: &heartbeat.deadtime,
            left: SHORTEST_DEADTIME_WITHOUT_GATE,
            right: deadtime,
            sentence: format!("deadtime {} is too short without the write gate (firewall.manage = false): at least 2500ms, because only the address lease stops a frozen node and the kernel may end it 1.3s late", show(deadtime)),
        });
    }
    rules
}
