//! One thread that watches the local network on one interface: is it there, has it carrier, do the ping targets answer, who else claims or
//! probes for a floating address. It also carries out what needs the same ARP socket: probing and announcing. It decides nothing, waits for
//! nothing without a bound, and outlives the interface.

mod ping;
mod schedule;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use nix::errno::Errno;

use self::ping::Pings;
use self::schedule::{Announcing, Every, Limiter, Probing};
use crate::sys::arp::{ArpPacket, ArpSocket, Mac};
use crate::sys::netlink::{self, Conversation, Link, Monitor};
use crate::sys::rt::{self, Rank};
use crate::sys::{clock, timer};

/// The interface is looked at so often, besides at once when the kernel says that it changed: of a lost carrier it says so up to a second
/// late (net/core/link_watch.c). In between twice the pings' interval, half the time after which a node that is cut off must know it.
const LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(1);
/// What changes rarely: our addresses and the other interfaces. A new socket or interface looks at once.
const SURVEY_EVERY: Duration = Duration::from_secs(5);
/// But not more often than this: containers that come and go make a storm of such notices.
const LOOK_SPACING: Duration = Duration::from_millis(10);
/// While it cannot be used: how soon it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const NETLINK_LIMIT: Duration = Duration::from_millis(500);
/// Packets read in one turn: a storm of ARP must not keep the rest waiting.
const AT_ONCE: usize = 64;
/// The same host saying the same again sooner than this is not told again.
const REPEAT_AFTER: Duration = Duration::from_millis(5);
/// Commands come on changes of state only; more than these waiting means that the thread is gone.
const COMMANDS: usize = 64;
/// A holder whose address somebody else claims announces it again, but no more often than this.
const DEFEND_SPACING: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct LanConfig {
    pub interface: String,
    /// The node's own address: asks ping targets in its name.
    pub own: Ipv4Addr,
    /// One group: what is said of one of them is said of "the floating address".
    pub vips: Vec<Ipv4Addr>,
    pub ping: Vec<Ipv4Addr>,
    /// Between two questions to each ping target.
    pub interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanCommand {
    /// Probe for all floating addresses now and every `spacing`, counting from 1.
    Probe {
        spacing: Duration,
    },
    StopProbing,
    /// The floating addresses are ours: announce them now, at 0.1, 1 and 3 s, then every 5 s. Again: the series begins again.
    Announce,
    /// After the first second every 5 min only, and let others say otherwise.
    AnnounceSeldom,
    StopAnnouncing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanEvent {
    /// The interface is up and the cable alive, or not; told at the start and on every change.
    Carrier(bool),
    /// There is no interface of that name; told when it goes. `Carrier` follows when it is back.
    InterfaceMissing,
    /// This ping target answered us. `as_before`: so did one a moment ago, and nobody waits for it.
    PingAnswered { target: Ipv4Addr, as_before: bool },
    /// Another host says it has a floating address.
    VipClaimed { mac: Mac },
    /// Another host wants to know whether anybody has a floating address.
    VipProbedBy { mac: Mac },
    /// So often probes for all of them have left since `Probe`. A round of which one could not be sent does not count.
    ProbeSent { count: u32 },
}

/// The thread's handle; the thread ends when it is dropped.
#[derive(Debug)]
pub struct Lan {
    commands: SyncSender<LanCommand>,
    wake: UnixStream,
}

impl Lan {
    /// Never waits. False: the thread is gone.
    pub fn tell(&self, command: LanCommand) -> bool {
        let told = self.commands.try_send(command).is_ok();
        let _ = io::Write::write(&mut &self.wake, &[0]); // full: it is awake
        told
    }
}

/// Start watching. `report` is called on the thread and must not wait.
pub fn spawn(config: LanConfig, report: impl Fn(LanEvent) + Send + 'static) -> io::Result<Lan> {
    let (commands, inbox) = sync_channel(COMMANDS);
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let watcher = Watcher {
        pings: Pings::new(config.own, &config.ping),
        ping: Every::new(config.interval),
        look: Every::new((config.interval * 2).clamp(*LOOK_EVERY.start(), *LOOK_EVERY.end())),
        looked: Duration::ZERO,
        survey: Every::new(SURVEY_EVERY),
        monitor: Monitor::open()?,
        kernel: Conversation::default(),
        claims: Limiter::new(REPEAT_AFTER),
        probes: Limiter::new(REPEAT_AFTER),
        config,
        report,
        port: None,
        carrier: None,
        missing: false,
        own_macs: Vec::new(),
        probing: None,
        announcing: None,
        defended: Duration::ZERO,
        answered: Duration::ZERO,
    };
    let body = move || {
        // A holder whose pings wait for a processor would take itself for cut off. The link thread warns if this is refused.
        let _ = rt::make_real_time(Rank::Core);
        watcher.run(&inbox, &woken);
    };
    std::thread::Builder::new().name("lan".into()).spawn(body)?;
    Ok(Lan { commands, wake })
}

/// Who has something to say. At the start everybody is asked.
struct Ready {
    command: bool,
    change: bool,
    packet: bool,
    echo: bool,
}

const EVERYBODY: Ready = Ready { command: true, change: true, packet: true, echo: true };

/// The socket on the interface, and which incarnation of it that was.
struct Port {
    index: u32,
    mac: Mac,
    arp: ArpSocket,
}

struct Watcher<R> {
    config: LanConfig,
    report: R,
    monitor: Monitor,
    kernel: Conversation,
    port: Option<Port>,
    /// As last told.
    carrier: Option<bool>,
    missing: bool,
    /// Of every interface: with two on one segment each hears the other.
    own_macs: Vec<Mac>,
    pings: Pings,
    ping: Every,
    look: Every,
    looked: Duration,
    survey: Every,
    probing: Option<Probing>,
    announcing: Option<Announcing>,
    claims: Limiter,
    probes: Limiter,
    defended: Duration,
    /// When a ping target last answered.
    answered: Duration,
}

impl<R: Fn(LanEvent)> Watcher<R> {
    fn run(mut self, inbox: &Receiver<LanCommand>, woken: &UnixStream) {
        let mut ready = EVERYBODY;
        loop {
            if ready.command && !self.take_commands(inbox, woken) {
                return;
            }
            let now = clock::now();
            if ready.change && self.monitor.drain().unwrap_or(false) {
                self.look.hurry(now.max(self.looked + LOOK_SPACING));
            }
            if self.look.due(now) {
                self.looked = now;
                self.look_at_interface(now);
            }
            if ready.packet {
                self.hear_packets(now);
            }
            if ready.echo {
                self.hear_echoes(now);
            }
            self.speak(now);
            ready = self.sleep(woken);
        }
    }

    /// False: the handle was dropped.
    fn take_commands(&mut self, inbox: &Receiver<LanCommand>, woken: &UnixStream) -> bool {
        let _ = io::Read::read(&mut &*woken, &mut [0; COMMANDS]);
        loop {
            let now = clock::now();
            match inbox.try_recv() {
                Ok(LanCommand::Probe { spacing }) => self.probing = Some(Probing::new(spacing)),
                Ok(LanCommand::StopProbing) => self.probing = None,
                Ok(LanCommand::Announce) => self.announcing = Some(Announcing::from(now)),
                Ok(LanCommand::AnnounceSeldom) => self.announcing.get_or_insert(Announcing::from(now)).make_seldom(now),
                Ok(LanCommand::StopAnnouncing) => self.announcing = None,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Compare the interface with what we knew, and the socket with the interface. When the kernel does not answer, nothing is known anew.
    fn look_at_interface(&mut self, now: Duration) {
        match self.kernel.link_by_name(&self.config.interface, NETLINK_LIMIT) {
            Ok(link) => self.adopt(link, now),
            Err(fault) if fault.raw_os_error() == Some(Errno::ENODEV as i32) => {
                self.port = None;
                self.carrier = None;
                if !std::mem::replace(&mut self.missing, true) {
                    (self.report)(LanEvent::InterfaceMissing);
                }
            }
            Err(_) => self.look.hurry(now + RETRY_AFTER),
        }
    }

    fn adopt(&mut self, link: Link, now: Duration) {
        self.missing = false;
        if self.survey.due(now) {
            self.survey_box(link.index);
        }
        let alive = link.up && link.carrier;
        if !self.port.as_ref().is_some_and(|port| link.up && (port.index, port.mac) == (link.index, link.mac)) {
            self.port = None; // an interface that is down gives a socket that only fails
        }
        if link.up && self.port.is_none() {
            match ArpSocket::open(link.index, link.mac) {
                Ok(arp) => {
                    self.port = Some(Port { index: link.index, mac: link.mac, arp });
                    self.survey_box(link.index);
                    self.probing.iter_mut().for_each(Probing::begin_round);
                }
                Err(_) => self.look.hurry(now + RETRY_AFTER),
            }
        }
        if self.carrier != Some(alive) {
            self.carrier = Some(alive);
            (self.report)(LanEvent::Carrier(alive));
            self.probing.iter_mut().for_each(Probing::begin_round);
            if let Some(announcing) = self.announcing.as_mut().filter(|announcing| alive && announcing.insists()) {
                announcing.again(now); // whoever was cut off with us has not heard it
            }
        }
    }

    fn survey_box(&mut self, index: u32) {
        if let Ok(links) = netlink::links(NETLINK_LIMIT) {
            self.own_macs = links.iter().map(|link| link.mac).filter(|mac| *mac != [0; 6]).collect();
        }
        if let Ok(addresses) = netlink::addresses(NETLINK_LIMIT) {
            self.pings.locate(&addresses, index);
        }
    }

    fn hear_packets(&mut self, now: Duration) {
        for _ in 0..AT_ONCE {
            let Some(port) = &self.port else { break };
            let packet = match port.arp.read() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(_) => {
                    self.lose_socket(now);
                    break;
                }
            };
            if self.own_macs.contains(&packet.sender_mac) {
                continue;
            }
            let mac = packet.sender_mac;
            let (claims, probes) = self.about_vips(&packet);
            if let Some(announcing) =
                self.announcing.as_mut().filter(|announcing| claims && announcing.insists() && now >= self.defended + DEFEND_SPACING)
            {
                self.defended = now;
                announcing.again(now); // or clients go on believing the other one
            }
            if claims && self.claims.passes(mac, now) {
                (self.report)(LanEvent::VipClaimed { mac });
            }
            if probes && self.probes.passes(mac, now) {
                (self.report)(LanEvent::VipProbedBy { mac });
            }
            if let Some(target) = self.pings.answered_by_arp(&packet) {
                self.note_answer(target, now);
            }
        }
    }

    fn hear_echoes(&mut self, now: Duration) {
        for _ in 0..AT_ONCE {
            let Some(target) = self.pings.answered_by_echo() else { break };
            self.note_answer(target, now);
        }
    }

    fn note_answer(&mut self, target: Ipv4Addr, now: Duration) {
        let lately = now.saturating_sub(std::mem::replace(&mut self.answered, now)) < self.config.interval * 2;
        (self.report)(LanEvent::PingAnswered { target, as_before: lately && self.probing.is_none() });
    }

    fn speak(&mut self, now: Duration) {
        if self.ping.due(now) {
            self.pings.ask(self.port.as_ref().map(|port| &port.arp));
        }
        let Some(port) = &self.port else { return };
        let mut sent = Ok(());
        if let Some(announcing) = &mut self.announcing
            && announcing.due(now)
        {
            sent = self.config.vips.iter().try_for_each(|vip| port.arp.announce(*vip));
        }
        if let Some(probing) = &mut self.probing
            && probing.due(now)
        {
            match probing.ask(&self.config.vips, |vip| port.arp.send_probe(vip)) {
                Ok(()) if self.carrier == Some(true) => (self.report)(LanEvent::ProbeSent { count: probing.count() }),
                Ok(()) => {} // into a dead cable: proves nothing
                fault => sent = fault,
            }
        }
        // Too much at once for the queue of the interface is no fault of the socket; the next turn comes.
        let is_full = |fault: &io::Error| fault.kind() == io::ErrorKind::WouldBlock || fault.raw_os_error() == Some(Errno::ENOBUFS as i32);
        if sent.is_err_and(|fault| !is_full(&fault)) {
            self.lose_socket(now);
        }
    }

    /// Whether it says that its sender has one of the floating addresses, and whether it asks for one.
    fn about_vips(&self, packet: &ArpPacket) -> (bool, bool) {
        let vips = &self.config.vips;
        (vips.iter().any(|vip| packet.claims(*vip)), vips.iter().any(|vip| packet.probes(*vip)))
    }

    /// An error on the socket means that the interface went down or away: look soon, not at once again and again.
    fn lose_socket(&mut self, now: Duration) {
        self.port = None;
        self.look.hurry(now + RETRY_AFTER);
    }

    fn sleep(&self, woken: &UnixStream) -> Ready {
        let mut until = self.look.next().min(self.ping.next());
        if self.port.is_some() {
            let probe = self.probing.as_ref().map(Probing::next);
            let announce = self.announcing.as_ref().map(Announcing::next);
            until = [probe, announce].into_iter().flatten().fold(until, Duration::min);
        }
        let mut fds = vec![woken.as_fd(), self.monitor.as_fd()];
        fds.extend(self.port.as_ref().map(|port| port.arp.as_fd()));
        fds.extend(self.pings.echo_fd());
        let Ok(ready) = timer::wait(&fds, until) else {
            std::thread::sleep(RETRY_AFTER); // cannot happen short of ENOMEM; must not spin then
            return EVERYBODY;
        };
        let (has_port, has_echo) = (self.port.is_some(), self.pings.echo_fd().is_some());
        Ready { command: ready[0], change: ready[1], packet: has_port && ready[2], echo: has_echo && ready.last() == Some(&true) }
    }
}
