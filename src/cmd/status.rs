//! `mmha status`: asks the service; when it is down or hangs, tells what the kernel and the history know. Under 100 ms in every case, so
//! it asks no server and waits for nobody.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{events, say};
use crate::config::vip::brief;
use crate::config::{Config, NodeIndex};
use crate::control::{self, Answer, Request, SOCKET, Unanswered};
use crate::error::{Error, Kind, Result};
use crate::report::{Agent, EVENTS, Health, Mysql, Peer, Replication, Status, Vip};
use crate::sys::netlink::{self, Addr};

const SERVICE: Duration = Duration::from_millis(70);
const KERNEL: Duration = Duration::from_millis(15);

pub fn text(config: &Config, me: NodeIndex) -> Result<()> {
    let status = now(config, me);
    say(&status.text());
    judge(&status)
}

pub fn json(config: &Config, me: NodeIndex) -> Result<()> {
    let status = now(config, me);
    say(&as_json(&status));
    judge(&status)
}

/// Until the reader goes away or somebody presses Ctrl-C.
pub fn watch(config: &Config, me: NodeIndex) -> Result<()> {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let mut end = "";
    while say(&format!("{end}{clear}{}", now(config, me).text())) {
        std::thread::sleep(Duration::from_secs(1));
        end = if clear.is_empty() { "\n" } else { "" };
    }
    Ok(())
}

pub fn as_json(status: &Status) -> String {
    // Strings, numbers and lists only: cannot fail.
    serde_json::to_string_pretty(status).unwrap_or_default()
}

/// The report says it all: the code alone is added.
fn judge(status: &Status) -> Result<()> {
    if status.is_degraded() { Err(Error::new(Kind::Degraded, "")) } else { Ok(()) }
}

/// The service's own report, or the best that can be said without it.
pub fn now(config: &Config, me: NodeIndex) -> Status {
    let why = match control::ask(Path::new(SOCKET), &Request::Status, SERVICE) {
        Ok(Answer::Status(status)) => return *status,
        Ok(_) => Unanswered::Other("the service gave another answer than asked for; is it of another version?".to_string()),
        Err(why) => why,
    };
    without_service(config, me, why)
}

fn without_service(config: &Config, me: NodeIndex, why: Unanswered) -> Status {
    let agent = if matches!(why, Unanswered::NotRunning) { Agent::Stopped } else { Agent::Running };
    let found = found(&netlink::addresses(KERNEL).unwrap_or_default(), config);
    let place = found.first().and_then(|(_, addr)| nix::net::if_::if_indextoname(addr.index).ok());
    let interface = place.and_then(|name| name.into_string().ok());
    let name = &config.node(me).name;
    let last = events::last(Path::new(EVENTS));
    let mut warnings = vec![Error::from(why).to_string()];
    warnings.extend(leftovers(&found));
    warnings.extend(config.warnings());
    Status {
        cluster: config.cluster.clone(),
        node: name.clone(),
        agent,
        state: None,
        since_ms: None,
        epoch: last.as_ref().map(|event| event.epoch),
        rule: last.as_ref().map(|event| event.rule),
        sentence: last.map_or_else(|| "no decision is recorded".to_string(), |event| format!("{} ({})", event.sentence, event.time)),
        vip: Vip {
            address: config.vip.addresses[0].ip.to_string(),
            addresses: config.vip.ips().iter().map(Ipv4Addr::to_string).collect(),
            interface: interface.or_else(|| config.vip.interface.clone()),
            held: !found.is_empty(),
            holder: (!found.is_empty()).then(|| name.clone()),
        },
        gate: None,
        watchdog: None,
        cut_off: None,
        peer: Peer { name: config.node(me.other()).name.clone(), ..Peer::default() },
        mysql: Mysql { health: server(&config.mysql.socket), ..Mysql::default() },
        replication: Replication::default(),
        quarantine: None,
        arbiter: None,
        warnings,
    }
}

/// Which floating addresses the kernel has, in the order of the file.
fn found(here: &[Addr], config: &Config) -> Vec<(Ipv4Addr, Addr)> {
    let place = |ip: Ipv4Addr| Some((ip, here.iter().find(|addr| addr.ip == IpAddr::V4(ip))?.clone()));
    config.vip.ips().into_iter().filter_map(place).collect()
}

/// What becomes of them without a service: one sentence for those with a lease, one for each without.
fn leftovers(found: &[(Ipv4Addr, Addr)]) -> Vec<String> {
    let leased: Vec<Ipv4Addr> = found.iter().filter(|(_, addr)| addr.valid_lft_s.is_some()).map(|(ip, _)| *ip).collect();
    let longest = found.iter().filter_map(|(_, addr)| addr.valid_lft_s).max();
    let within = longest.map(|seconds| {
        let (is, its) = if leased.len() > 1 { ("are", "their leases end") } else { ("is", "its lease ends") };
        format!("{} {is} still here; {its} within {seconds} s unless the service comes back", brief(&leased))
    });
    let for_good = found.iter().filter(|(_, addr)| addr.valid_lft_s.is_none());
    let without = for_good.map(|(ip, _)| format!("{ip} is here without a lease: mmha did not add it so; `mmha release` removes it"));
    within.into_iter().chain(without).collect()
}

/// Whether anybody listens on the server's socket: all that can be known without waiting.
fn server(path: &Path) -> Health {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let knock = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .and_then(|end| UnixAddr::new(path).and_then(|address| connect(end.as_raw_fd(), &address)));
    match knock {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Health::Dead,
        _ => Health::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_without_a_service() {
        let left = |last: u8, valid_lft_s| {
            let ip = Ipv4Addr::new(192, 0, 2, last);
            (ip, Addr { index: 2, ip: ip.into(), prefix: 32, valid_lft_s, age_ms: None })
        };
        assert!(leftovers(&[]).is_empty());
        let ends = "still here; its lease ends within 1 s unless the service comes back";
        assert_eq!(leftovers(&[left(243, Some(1))]), [format!("192.0.2.243 is {ends}")]);
        let said = leftovers(&[left(243, Some(1)), left(244, None), left(245, Some(0))]);
        assert_eq!(said[0], "192.0.2.243 and 1 more are still here; their leases end within 1 s unless the service comes back");
        assert!(said.len() == 2 && said[1].starts_with("192.0.2.244 is here without a lease"));
    }
}
