//! Starts each thread with what it needs of the configuration, and wires it to the one channel. Nothing runs here.

use std::fs::{self};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::act::role::Eye;
use crate::act::watchdog::Guard;
use crate::act::{arbiter, fence, lease::Lease, quarantine, remote, role, store};
use crate::config::authkeys::Authkeys;
use crate::config::{Config, NodeIndex};
use crate::control::{self, Answer};
use crate::core::Core;
use crate::core::event::{Event, ServerSeen};
use crate::core::want::{ArbiterOrder, Remote};
use crate::daemon::Message;
use crate::daemon::actors::Actors;
use crate::daemon::callers;
use crate::daemon::guard::{self, Guarded};
use crate::daemon::limits::{self, millis};
use crate::daemon::link::{self, Statistics};
use crate::error::{Error, Result};
use crate::peer::codec::cluster_id;
use crate::peer::session::Sessions;
use crate::probe::lan::{LanConfig, LanEvent};
use crate::probe::server::Held;
use crate::probe::{disk, lan, server};
use crate::report::QUARANTINE;
use crate::sql::Login;
use crate::sql::fence::Spare;
use crate::sys::netlink::Callers;
use crate::sys::queue::Sender;
use crate::sys::rt::{self, Rank};
use crate::sys::slot::{Writer, slot};
use crate::sys::{clock, signal, sysctl, udp::LinkSocket};

const EPOCH: &str = "/var/lib/mmha/epoch";
/// The arbiter's lease that this run, or the one before, has not given back.
const ARBITER: &str = "/run/mmha/arbiter";
/// For a module of the kernel to be found and loaded.
const LOAD_LIMIT: Duration = Duration::from_secs(2);
/// Threads of ours do little; locked memory counts.
const STACK: usize = 256 * 1024;
/// For the first word of the peer's server; a healthy one speaks within a millisecond.
const LONGEST_PATIENCE: Duration = Duration::from_secs(1);
/// One statement at the own server; the observer's own limit is shorter.
const OWN_ANSWER: Duration = Duration::from_secs(3);
/// A client of the control socket waits no longer than this for the core's thread.
const ANSWER: Duration = Duration::from_millis(400);

pub(super) fn cannot(what: &str, fault: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("cannot {what}: {fault}"))
}

pub(super) struct Starter<'a> {
    pub config: &'a Config,
    pub me: NodeIndex,
    pub interface: &'a str,
    pub messages: &'a Sender<Message>,
    pub gate_available: bool,
}

impl Starter<'_> {
    fn thread(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        builder.spawn(body).map(drop).map_err(|fault| cannot(&format!("start the {name} thread"), &fault))
    }

    pub fn threads(
        &self,
        core: &Core,
        keys: &Arc<Authkeys>,
        links: &[[Ipv4Addr; 2]],
        statistics: &Arc<Mutex<Statistics>>,
        watchdog: Option<Guard>,
    ) -> Result<Actors> {
        let broken = |fault: std::io::Error| cannot("make a mailbox", &fault);
        let want = core.want();
        let first = link::Order {
            order: want.order,
            vip: want.vip,
            gate: want.gate,
            say: want.say.clone(),
            blessed_until_ms: 0,
            keys: Arc::clone(keys),
        };
        let (link, link_orders) = slot(first).map_err(broken)?;
        let (role, role_orders) = slot(role::Order::of(want)).map_err(broken)?;
        let (watch, watched) = slot(true).map_err(broken)?;
        let (remote, remote_wanted) = slot(Remote::No).map_err(broken)?;
        let (store, stored) = slot(None).map_err(broken)?;
        let (guard, guarded) = slot(Guarded { config: Arc::new(self.config.clone()), me: self.me }).map_err(broken)?;
        self.link(link_orders, links, statistics, watchdog)?;
        let patience = Arc::new(AtomicU64::new(0));
        let eye = Eye::on(role.clone());
        self.role(role_orders, eye.clone(), Arc::clone(&patience))?;
        let server = Held::default();
        self.observer(watched, eye, Arc::clone(&server), Arc::clone(&patience))?;
        self.disk()?;
        self.remote(remote_wanted)?;
        let (fence, fence_wanted) = slot(false).map_err(broken)?;
        self.fence(fence_wanted)?;
        let events = self.events();
        self.thread("store", move || store::run(EPOCH.into(), stored, |seen| events(Event::Store(seen))))?;
        let (quarantine, quarantined) = slot(quarantine::Order::of(want)).map_err(broken)?;
        self.quarantine(quarantined)?;
        let (messages, available) = (self.messages.clone(), self.gate_available);
        self.thread("guard", move || {
            guard::run(guarded, available, |troubles| {
                let _ = messages.offer(Message::Troubles(troubles));
            });
        })?;
        Ok(Actors {
            link,
            role,
            watch,
            remote,
            fence,
            store,
            quarantine,
            guard,
            arbiter: self.arbiter(want.arbiter)?,
            lan: self.lan()?,
            keys: Arc::clone(keys),
            server: Arc::clone(&server),
            blessing_ms: millis(self.config.heartbeat.gate) / 2,
            probe_spacing: limits::probe_spacing(self.config),
            last: None,
        })
    }

    /// Reports wait for room: a full queue means that the core's thread is late, and then waiting is right.
    fn events(&self) -> impl Fn(Event) + Send + 'static {
        let messages = self.messages.clone();
        move |event| {
            messages.send(Message::Event(event));
        }
    }

    fn link(
        &self,
        orders: crate::sys::slot::Reader<link::Order>,
        links: &[[Ipv4Addr; 2]],
        statistics: &Arc<Mutex<Statistics>>,
        watchdog: Option<Guard>,
    ) -> Result<()> {
        let heartbeat = &self.config.heartbeat;
        let mut paths = Vec::new();
        for [own, peer] in links {
            let socket = LinkSocket::bind(*own, heartbeat.port, None)
                .map_err(|fault| cannot(&format!("listen for heartbeats on {own} port {} (udp)", heartbeat.port), &fault))?;
            paths.push(link::Path { socket, peer: SocketAddrV4::new(*peer, heartbeat.port) });
        }
        let session = random().map_err(|fault| cannot("read /dev/urandom", &fault))?;
        let callers = Callers { ips: self.config.vip.ips(), port: self.config.mysql.port };
        if let Err(fault) = callers.count(LOAD_LIMIT) {
            log::warn!("the kernel does not say who is connected ({fault}): clients are not told when the address leaves");
        }
        let (asker, teller) = callers::pair(callers);
        self.thread("callers", move || {
            // As the link thread, which waits for it; that one warns.
            let _ = rt::make_real_time(Rank::Link);
            teller.run();
        })?;
        let setting = link::Setting {
            paths,
            sessions: Sessions::new(cluster_id(&self.config.cluster), self.me.0 + 1, session, millis(heartbeat.deadtime)),
            lease: Lease::find(self.interface, self.config.vip.ips(), heartbeat.lease),
            callers: asker,
            watchdog,
            gate_available: self.gate_available,
            keepalive_ms: millis(heartbeat.keepalive),
            gate_ms: millis(heartbeat.gate),
            lease_ms: millis(heartbeat.lease),
        };
        let (messages, statistics) = (self.messages.clone(), Arc::clone(statistics));
        // Each address is a /32 of its own; should an operator add one with its prefix, losing it must not take the node's address along.
        if let Err(fault) = sysctl::write(self.interface, sysctl::Setting::PromoteSecondaries, 1) {
            log::warn!("cannot set promote_secondaries on {}: {fault}", self.interface);
        }
        self.thread("link", move || {
            if let Err(fault) = rt::make_real_time(Rank::Link) {
                log::warn!("the link thread has no real-time priority ({fault}): under load heartbeats may be late");
            }
            link::run(setting, orders, messages, statistics);
        })
    }

    fn role(&self, orders: crate::sys::slot::Reader<role::Order>, eye: Eye, patience_until: Arc<AtomicU64>) -> Result<()> {
        let setting = role::Setting {
            login: Login::local(self.config).within(OWN_ANSWER),
            own_key: limits::key(self.config, self.me),
            peer_key: limits::key(self.config, self.me.other()),
            server_id: self.config.node(self.me).server_id,
            spare: Spare::of(self.config),
            patience_until,
        };
        let events = self.events();
        self.thread("role", move || role::run(setting, &eye, orders, |order, outcome| events(Event::Role { order, outcome })))
    }

    fn observer(&self, watched: crate::sys::slot::Reader<bool>, eye: Eye, process: Held, patience_until: Arc<AtomicU64>) -> Result<()> {
        let setting = server::Setting {
            login: Login::local(self.config).within(OWN_ANSWER),
            own_key: limits::key(self.config, self.me),
            peer_key: limits::key(self.config, self.me.other()),
            hang: self.config.mysql.hang,
            process,
            patience_until,
            interval_ms: (millis(self.config.heartbeat.deadtime) / 4).clamp(100, 500),
        };
        let (events, messages) = (self.events(), self.messages.clone());
        self.thread("observer", move || {
            server::run(
                &setting,
                watched,
                |seen: ServerSeen| {
                    eye.see(&seen);
                    events(Event::Server(seen));
                },
                |version| {
                    let _ = messages.offer(Message::Version(version));
                },
            );
        })
    }

    fn disk(&self) -> Result<()> {
        let (login, events) = (Login::local(self.config), self.events());
        self.thread("disk", move || disk::run(&login, |seen| events(Event::Disk(seen))))
    }

    fn quarantine(&self, orders: crate::sys::slot::Reader<quarantine::Order>) -> Result<()> {
        let login = Login::local(self.config);
        let messages = self.messages.clone();
        self.thread("quarantine", move || {
            quarantine::run(Path::new(QUARANTINE), &login, orders, |seen| {
                let message = match seen {
                    quarantine::Seen::Accepted(extra) => Message::Event(Event::Merge(extra)),
                    quarantine::Seen::Kept(kept) => Message::Kept(kept),
                };
                messages.send(message);
            });
        })
    }

    fn remote(&self, wanted: crate::sys::slot::Reader<Remote>) -> Result<()> {
        let setting = remote::Setting {
            address: limits::peer_server(self.config, self.me),
            login: Login::remote(self.config, self.me.other()),
            own_key: limits::key(self.config, self.me.other()),
            peer_key: limits::key(self.config, self.me),
            spare: Spare::of(self.config),
            patience: (self.config.heartbeat.deadtime.saturating_sub(self.config.heartbeat.warntime)).min(LONGEST_PATIENCE),
        };
        let events = self.events();
        self.thread("remote", move || remote::run(&setting, wanted, |seen| events(Event::Remote(seen))))
    }

    fn fence(&self, wanted: crate::sys::slot::Reader<bool>) -> Result<()> {
        let peer = self.config.node(self.me.other());
        let setting = fence::Setting {
            command: self.config.heartbeat.fence_command.clone(),
            peer_name: peer.name.clone(),
            peer_address: peer.address.to_string(),
            limit: self.config.heartbeat.fence_timeout,
        };
        if setting.command.is_empty() {
            return Ok(()); // the core never wants it then
        }
        let events = self.events();
        self.thread("fence", move || fence::run(&setting, wanted, |seen| events(Event::Fence(seen))))
    }

    fn arbiter(&self, first: ArbiterOrder) -> Result<Option<Writer<ArbiterOrder>>> {
        let Some(arbiter) = &self.config.arbiter else { return Ok(None) };
        let (writer, wanted) = slot(first).map_err(|fault| cannot("make a mailbox", &fault))?;
        let heartbeat = &self.config.heartbeat;
        let setting = arbiter::Setting {
            arbiter: arbiter.clone(),
            cluster: self.config.cluster.clone(),
            name: self.config.node(self.me).name.clone(),
            fence: crate::config::fence(self.gate_available.then_some(heartbeat.gate), heartbeat.lease),
            memory: ARBITER.into(),
        };
        let events = self.events();
        self.thread("arbiter", move || arbiter::run(setting, wanted, |turn, seen| events(Event::Arbiter { turn, seen })))?;
        Ok(Some(writer))
    }

    fn lan(&self) -> Result<lan::Lan> {
        let heartbeat = &self.config.heartbeat;
        let setting = LanConfig {
            interface: self.interface.to_owned(),
            own: self.config.node(self.me).address,
            vips: self.config.vip.ips(),
            ping: heartbeat.ping.clone(),
            interval: heartbeat.isolation / 4,
        };
        let (events, messages) = (self.events(), self.messages.clone());
        let answered = move |as_before| {
            let event = Event::PingAnswered { at_ms: clock::now_ms() };
            match as_before {
                // Should there be no room, the next answer is as good.
                true => drop(messages.offer_quietly(Message::AsBefore(event))),
                false => messages.send(Message::Event(event)),
            }
        };
        let report = move |seen: LanEvent| match seen {
            LanEvent::Carrier(carrier) => events(Event::Link { carrier }),
            LanEvent::InterfaceMissing => events(Event::Link { carrier: false }),
            LanEvent::PingAnswered { as_before, .. } => answered(as_before),
            LanEvent::VipClaimed { mac } => events(Event::VipClaimed { mac }),
            LanEvent::VipProbedBy { .. } => events(Event::VipProbed),
            LanEvent::ProbeSent { .. } => events(Event::ProbeSent),
        };
        lan::spawn(setting, report).map_err(|fault| cannot("watch the network", &fault))
    }

    /// One client at a time, each bounded; a second one waits in the socket's queue.
    pub fn control(&self, listener: UnixListener) -> Result<()> {
        let messages = self.messages.clone();
        self.thread("control", move || {
            for stream in listener.incoming().flatten() {
                let outcome = control::handle(stream, |request| {
                    let (answer, answered) = sync_channel(1);
                    if !messages.offer(Message::Ask(request, answer)) {
                        return Answer::Failed("the service is too busy to answer: look at its log".to_owned());
                    }
                    answered
                        .recv_timeout(ANSWER)
                        .unwrap_or_else(|_| Answer::Failed("the service did not answer in time: look at its log".to_owned()))
                });
                if let Err(fault) = outcome {
                    log::debug!("control socket: {fault}");
                }
            }
        })
    }

    pub fn signals(&self) -> Result<()> {
        let messages = self.messages.clone();
        let report = move |seen| {
            let message = match seen {
                signal::Signal::Stop => Message::Event(Event::Stop),
                signal::Signal::Reload => Message::Reload,
            };
            messages.send(message);
        };
        signal::spawn(report).map_err(|fault| cannot("watch signals", &fault))
    }
}

/// A session number nobody can guess or repeat.
fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes) | 1)
}
