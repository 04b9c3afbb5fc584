//! Brings the service up: reads what is configured, finds the interface, puts the gate up, starts the threads. What fails here ends the
//! service with one sentence; systemd tries again.

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::act::gate;
use crate::act::watchdog::Guard;
use crate::config::authkeys::Authkeys;
use crate::config::{Config, NodeIndex};
use crate::control::{self};
use crate::core::Core;
use crate::daemon::journal::Journal;
use crate::daemon::limits::{self, millis};
use crate::daemon::link::Statistics;
use crate::daemon::threads::{Starter, cannot};
use crate::daemon::{Message, QUEUE, Service};
use crate::error::{Error, Result};
use crate::report::EVENTS;
use crate::sys::queue::{Receiver, queue};
use crate::sys::rt::{self, Rank};
use crate::sys::{clock, log as syslog, netlink, notify};

const STATE: &str = "/var/lib/mmha";
const RUNTIME: &str = "/run/mmha";
const NETLINK: Duration = Duration::from_secs(2);

pub(super) fn start(path: &Path) -> Result<(Service, Receiver<Message>)> {
    let config = Config::load(path)?;
    let me = config.me()?;
    let keys = Arc::new(Authkeys::load(&config.heartbeat.authkeys)?);
    syslog::init(!notify::is_awaited())?;
    end_on_panic();
    make_directories()?;
    let listener = control::listen(Path::new(control::SOCKET))?;
    // A timer that a killed agent has left running ends now: before anything that takes time, and only in the one process that owns the socket.
    let watchdog = Guard::open(&config.heartbeat)?;
    let interface = interface_of(&config, me)?;
    let gate_available = put_gate_up(&config, me);
    rt::share_heaps();
    if let Err(fault) = rt::lock_memory() {
        log::warn!("memory is not locked ({fault}): under memory pressure heartbeats may be late");
    }
    let (messages, inbox) = queue(QUEUE);
    let core = Core::new(limits::identity(&config, me), limits::limits(&config), clock::now_ms());
    let links = links(&config, me);
    let timer = watchdog.as_ref().inspect(|guard| log::info!("{}", guard.text())).map(Guard::timer);
    let statistics = Statistics { paths: vec![Default::default(); links.len()], watchdog: timer, ..Statistics::default() };
    let statistics = Arc::new(Mutex::new(statistics));
    let starter = Starter { config: &config, me, interface: &interface, messages: &messages, gate_available };
    let actors = starter.threads(&core, &keys, &links, &statistics, watchdog)?;
    starter.control(listener)?;
    starter.signals()?;
    let journal = Journal::start(EVENTS.into()).map_err(|fault| cannot("start the journal", &fault))?;
    log::info!("mmha {} on {}: {} is {}", env!("CARGO_PKG_VERSION"), interface, config.node(me).name, config.node(me).address);
    // The link holds only what this thread has blessed a moment ago. The link's thread warns if it is refused.
    let _ = rt::make_real_time(Rank::Core);
    notify::ready();
    let service = Service {
        path: path.to_owned(),
        me,
        interface,
        links,
        core,
        actors,
        journal,
        statistics,
        version: None,
        troubles: Vec::new(),
        kept: None,
        unprotected_since: None,
        lost: None,
        watchdog_ms: notify::watchdog_interval().map(millis),
        watched_ms: 0,
        told_ms: clock::now_ms(),
        turn_ms: clock::now_ms(),
        lease_ms: millis(config.heartbeat.gate.min(config.heartbeat.lease)),
        config,
    };
    Ok((service, inbox))
}

/// A half-dead agent is worse than a restarted one: any panic outside a disposable server call ends the process.
fn end_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log::error!("panic: {panic}");
        if std::thread::current().name() != Some("mysql") {
            before(panic);
            std::process::abort();
        }
    }));
}

fn make_directories() -> Result<()> {
    for (path, mode) in [(STATE, 0o700), (RUNTIME, 0o755)] {
        DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|fault| cannot(&format!("make \"{path}\""), &fault))?;
    }
    Ok(())
}

fn interface_of(config: &Config, me: NodeIndex) -> Result<String> {
    if let Some(name) = &config.vip.interface {
        return Ok(name.clone());
    }
    let address = config.node(me).address;
    let found = netlink::interface_with(IpAddr::V4(address), NETLINK).map_err(|fault| cannot("list interfaces", &fault))?;
    found.map(|link| link.name).ok_or_else(|| {
        Error::failed(format!(
            "no interface has this node's address {address}: bring the network up, or correct [[node]] address in mmha.toml"
        ))
    })
}

fn put_gate_up(config: &Config, me: NodeIndex) -> bool {
    match gate::install(config, me) {
        Ok(()) => gate::wanted(config),
        Err(fault) => {
            log::warn!("{fault}");
            false
        }
    }
}

/// [own, peer's] of each path, the nodes' own addresses first.
fn links(config: &Config, me: NodeIndex) -> Vec<[Ipv4Addr; 2]> {
    let first = [config.node(me).address, config.node(me.other()).address];
    let more = config.heartbeat.links.iter().map(|pair| [pair[me.at()], pair[me.other().at()]]);
    std::iter::once(first).chain(more).collect()
}
