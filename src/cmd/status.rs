//! `mmha status`: asks the service; when it is down or hangs, tells what the kernel and the history know. Under 100 ms in every case, so
//! it asks no server and waits for nobody.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{events, say};
use crate::config::{Config, NodeIndex};
use crate::control::{self, Answer, Request, SOCKET, Unanswered};
use crate::error::{Error, Kind, Result};
use crate::report::{Agent, EVENTS, Health, Mysql, Peer, Replication, Status, Vip};
use crate::sys::netlink;

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
    let address = IpAddr::V4(config.vip.address);
    let found = netlink::addresses(KERNEL).unwrap_or_default().into_iter().find(|addr| addr.ip == address);
    let interface = found.as_ref().and_then(|addr| nix::net::if_::if_indextoname(addr.index).ok()).and_then(|name| name.into_string().ok());
    let name = &config.node(me).name;
    let last = events::last(Path::new(EVENTS));
    let mut warnings = vec![Error::from(why).to_string()];
    if let Some(addr) = &found {
        warnings.push(match addr.valid_lft_s {
            Some(seconds) => format!("{address} is still here; its lease ends within {seconds} s unless the service comes back"),
            None => format!("{address} is here without a lease: mmha did not add it so; `mmha release` removes it"),
        });
    }
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
            address: config.vip.address.to_string(),
            interface: interface.or_else(|| config.vip.interface.clone()),
            held: found.is_some(),
            holder: found.map(|_| name.clone()),
        },
        gate: None,
        watchdog: None,
        peer: Peer { name: config.node(me.other()).name.clone(), ..Peer::default() },
        mysql: Mysql { health: server(&config.mysql.socket), ..Mysql::default() },
        replication: Replication::default(),
        quarantine: None,
        arbiter: None,
        warnings,
    }
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
