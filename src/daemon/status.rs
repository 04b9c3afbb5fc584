//! What the running service tells `mmha status`: a picture of the core's beliefs, and what is worth a warning.

use std::net::Ipv4Addr;

use crate::act::quarantine::Kept;
use crate::act::watchdog::Timer;
use crate::config::duration::show;
use crate::config::{Config, NodeIndex};
use crate::core::event::{self, Address, ArbiterSeen, Ms, ServerSeen};
use crate::core::fact::Fact;
use crate::core::state::State;
use crate::core::{Core, View};
use crate::daemon::limits;
use crate::daemon::link::Statistics;
use crate::report::{Agent, Arbiter, ArbiterLease, Gate, Health, Link, Mysql, Peer, Quarantine, Replication, Status, Thread, Vip};
use crate::sys::clock;

/// What is known outside the core.
pub struct Around<'a> {
    pub config: &'a Config,
    pub me: NodeIndex,
    pub interface: &'a str,
    pub version: Option<String>,
    pub links: &'a [[Ipv4Addr; 2]],
    pub statistics: &'a Statistics,
    /// Troubles of the guard: firewall, write gate.
    pub troubles: &'a [String],
    pub kept: Option<&'a Kept>,
    pub unprotected_since: Option<String>,
}

pub fn picture(core: &Core, around: &Around<'_>) -> Status {
    let view = core.view();
    let (me, peer) = (around.config.node(around.me), around.config.node(around.me.other()));
    let held = matches!(view.lease().address, Address::Held { .. });
    let peer_active = view.has(Fact::PeerHeard) && view.peer().is_some_and(|beat| beat.state == State::Active);
    let holder = if held { Some(me.name.clone()) } else { peer_active.then(|| peer.name.clone()) };
    Status {
        cluster: around.config.cluster.clone(),
        node: me.name.clone(),
        agent: Agent::Running,
        state: Some(core.state().name().to_owned()),
        since_ms: Some(view.since_ms()),
        epoch: Some(view.epoch()),
        rule: Some(view.rule()),
        sentence: view.sentence(),
        vip: vip(around, held, holder),
        gate: Some(gate(view.lease().gate)),
        watchdog: around.statistics.watchdog.map(|timer| watchdog(timer, around.config)),
        cut_off: Some(view.has(Fact::Cut)),
        peer: peer_part(&view, around, &peer.name),
        mysql: mysql_part(&view, around),
        replication: replication_part(&view, around),
        quarantine: (core.state() == State::Quarantined).then(|| quarantine_part(&view, around)),
        arbiter: around.config.arbiter.as_ref().map(|_| arbiter(&view)),
        warnings: warnings(core, around),
    }
}

fn vip(around: &Around<'_>, held: bool, holder: Option<String>) -> Vip {
    let addresses: Vec<String> = around.config.vip.ips().iter().map(Ipv4Addr::to_string).collect();
    Vip { address: addresses[0].clone(), addresses, interface: Some(around.interface.to_owned()), held, holder }
}

fn quarantine_part(view: &View<'_>, around: &Around<'_>) -> Quarantine {
    let extra = view.extra();
    let kept = around.kept.filter(|kept| kept.extra.contains(&extra));
    Quarantine {
        transactions: extra.count(),
        extra: extra.to_string(),
        file: kept.and_then(|kept| kept.file.as_ref()).map(|file| file.display().to_string()),
        trouble: kept.and_then(|kept| kept.trouble.clone()),
        merging: view.has(Fact::Merging),
    }
}

fn gate(gate: event::Gate) -> Gate {
    match gate {
        event::Gate::Open => Gate::Open,
        event::Gate::Shut | event::Gate::Unknown => Gate::Closed,
        event::Gate::None => Gate::None,
    }
}

fn watchdog(timer: Timer, config: &Config) -> String {
    match timer {
        Timer::Armed => format!("armed, {}", show(config.heartbeat.watchdog_timeout)),
        Timer::Stopped => "at rest".to_owned(),
        Timer::Unstoppable { seconds } => format!("at rest, {seconds}s: it cannot be stopped"),
    }
}

fn peer_part(view: &View<'_>, around: &Around<'_>, name: &str) -> Peer {
    let now = clock::now_ms();
    let links = around.links.iter().enumerate().map(|(at, [local, remote])| {
        let seen = around.statistics.paths.get(at).copied().unwrap_or_default();
        let heard_ms = seen.heard_ms.map(|heard: Ms| now.saturating_sub(heard));
        Link { local: local.to_string(), remote: remote.to_string(), heard_ms, rtt_us: seen.round_trip_us }
    });
    Peer {
        name: name.to_owned(),
        state: view.peer().map(|beat| beat.state.name().to_owned()),
        heard_ms: view.peer_heard_ms(),
        echo: view.has(Fact::PeerEcho),
        epoch: view.peer().map(|beat| beat.epoch),
        links: links.collect(),
    }
}

fn mysql_part(view: &View<'_>, around: &Around<'_>) -> Mysql {
    let health = match view.server() {
        Some(ServerSeen::Ok(_)) => Health::Ok,
        Some(ServerSeen::Dead) => Health::Dead,
        Some(ServerSeen::Hung) => Health::Hung,
        Some(ServerSeen::Refuses(_)) | None => Health::Unknown,
    };
    let sample = view.sample().filter(|_| health == Health::Ok);
    Mysql {
        health,
        version: around.version.clone(),
        read_only: sample.map(|sample| sample.read_only),
        position: sample.map(|sample| sample.history.to_string()),
    }
}

fn replication_part(view: &View<'_>, around: &Around<'_>) -> Replication {
    let sample = view.sample().filter(|_| matches!(view.server(), Some(ServerSeen::Ok(_))));
    let replica = sample.and_then(|sample| sample.replica.as_ref());
    let state = |running: bool, connected: bool| match (running, connected) {
        (_, true) => Thread::Running,
        (true, false) => Thread::Connecting,
        (false, false) => Thread::Stopped,
    };
    let unset = if sample.is_some() { Thread::None } else { Thread::Unknown };
    let protected = match view.peer() {
        Some(beat) if beat.state == State::Active && !view.holds() && view.has(Fact::PeerHeard) => beat.protected,
        _ => view.protects(),
    };
    Replication {
        receiver: replica.map_or(unset, |replica| state(replica.receiver_running, replica.receiver_connected)),
        applier: replica.map_or(unset, |replica| state(false, replica.applier_running)),
        lag_s: replica.and_then(|replica| replica.lag_s),
        error: replica.map(|replica| replica.error.clone()).filter(|error| !error.is_empty()),
        protected,
        unprotected_since: around.unprotected_since.clone(),
    }
}

fn arbiter(view: &View<'_>) -> Arbiter {
    let (lease, why) = match view.arbiter() {
        None => (ArbiterLease::Unknown, String::new()),
        Some(ArbiterSeen::Mine { .. }) => (ArbiterLease::Here, String::new()),
        Some(ArbiterSeen::Free) => (ArbiterLease::Free, String::new()),
        Some(ArbiterSeen::Taken { by }) => (ArbiterLease::Taken, format!("{by} has the lease")),
        Some(ArbiterSeen::Unreachable(why)) => (ArbiterLease::Unreachable, why.clone()),
    };
    Arbiter { lease, left_ms: view.arbiter_left_ms(), why }
}

/// What an arbiter that cannot be relied on means for this pair now.
fn arbiter_warning(view: &View<'_>, around: &Around<'_>, peer: &str) -> Option<String> {
    around.config.arbiter.as_ref()?;
    let vip = &around.config.vip;
    let seen = view.arbiter()?;
    match (view.holds(), seen) {
        (true, ArbiterSeen::Mine { .. }) | (false, ArbiterSeen::Free | ArbiterSeen::Taken { .. } | ArbiterSeen::Mine { .. }) => None,
        (true, _) => Some(format!("without the arbiter's lease this node lets go of {vip} as soon as it no longer hears {peer}")),
        (false, _) => Some(format!("without the arbiter this node does not take over {vip} when {peer} falls silent")),
    }
}

fn warnings(core: &Core, around: &Around<'_>) -> Vec<String> {
    let (view, peer) = (core.view(), &around.config.node(around.me.other()).name);
    let mut warnings: Vec<String> = around.config.warnings();
    warnings.extend(around.troubles.iter().cloned());
    let mut warn = |holds: bool, text: String| {
        if holds {
            warnings.push(text);
        }
    };
    let heard = view.has(Fact::PeerHeard);
    let trouble = matches!(core.state(), State::Quarantined | State::Failed | State::Isolated | State::Boot);
    warn(trouble, format!("this node is {}: {}", core.state().name(), view.sentence()));
    warn(!heard, format!("{peer} is not heard: if its service runs, see `mmha check` on both nodes"));
    warn(heard && !view.has(Fact::PeerEcho), format!("{peer} is heard but does not hear this node: a one-way cut"));
    warn(
        view.peer().is_some_and(|beat| beat.config != around.config.digest),
        format!("{peer} runs with another mmha.toml: make them the same"),
    );
    warn(view.unprotected_ms().is_some_and(|ms| ms > 3_000), "unprotected: acknowledged writes exist on this node only".to_owned());
    for link in peer_part(&view, around, peer).links.iter().filter(|_| heard && around.links.len() > 1) {
        let dead = link.heard_ms.is_none_or(|ms| ms > limits::millis(around.config.heartbeat.deadtime));
        warn(dead, format!("the link {} - {} is dead: no heartbeat of {peer} arrives on it", link.local, link.remote));
    }
    if let Some(mac) = view.stranger() {
        warn(true, format!("another host, {mac}, has announced {} too: find it and remove the address there", around.config.vip));
    }
    warn(!view.ping_ok() && !around.config.heartbeat.ping.is_empty(), "no ping target answers".to_owned());
    warn(view.has(Fact::Paused), format!("paused for {} min more: nothing moves by itself; `mmha resume` ends that", view.pause_minutes()));
    warn(
        view.has(Fact::Flapping),
        "the address has left this node too often lately: it moves only for a dead server; `mmha resume` releases this brake".to_owned(),
    );
    if let Some(text) = arbiter_warning(&view, around, peer) {
        warn(true, text);
    }
    if let Some(ServerSeen::Refuses(text)) = view.server() {
        warn(true, format!("the server refuses to work: {text}"));
    }
    let replica = view.sample().and_then(|sample| sample.replica.as_ref());
    warn(
        replica.is_some_and(|replica| !replica.error.is_empty()),
        format!("replication: {}", replica.map_or("", |replica| replica.error.as_str())),
    );
    warn(view.sample().is_some() && replica.is_none(), "replication is not set up: run `mmha bootstrap` on both nodes".to_owned());
    let statistics = around.statistics;
    warn(
        statistics.wrong_mac > 0 && !heard,
        format!("{} datagrams had a wrong signature: are the authkeys of both nodes the same?", statistics.wrong_mac),
    );
    if let Some(version) = statistics.other_version {
        warn(true, format!("{peer} speaks version {version} of the heartbeat protocol: upgrade the older mmha"));
    }
    warnings
}
