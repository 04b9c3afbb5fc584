//! A small deterministic world for two cores: kernel leases, a write gate, servers that replicate, a network that can be cut.
//! One tick is one millisecond. It checks safety at every tick; it models no packet loss and no clock drift.

use std::sync::Arc;

use mmha::core::beat::Beat;
use mmha::core::event::{Address, Event, Gate, Heard, LeaseSeen, StoreSeen};
use mmha::core::want::{Remote, Want};
use mmha::core::{Core, Identity, Limits};

use crate::arbiter;
use crate::node::{LEASE_MS, Node, START_MS, Server, limits, step};

pub struct World {
    pub nodes: [Node; 2],
    pub now: u64,
    pub udp: [bool; 2],
    pub tcp: bool,
    /// Nothing that this node sends arrives anywhere; what is sent to it does.
    pub mute: [bool; 2],
    pub arp: bool,
    pub arbiter: Option<arbiter::Arbiter>,
    pub gate_works: bool,
    pub fence_works: bool,
    /// Commits wait for the peer's acknowledgement where semi-sync is on.
    pub commits_wait: bool,
    pub step_line: String,
    /// (writer, number in its own history) of every acknowledged write.
    pub acked: [u64; 2],
}

impl World {
    pub fn new() -> World {
        let mut world = World {
            nodes: [Node::new(), Node::new()],
            now: START_MS,
            udp: [true; 2],
            tcp: true,
            mute: [false; 2],
            arp: true,
            arbiter: None,
            gate_works: true,
            fence_works: true,
            commits_wait: true,
            step_line: String::new(),
            acked: [10; 2],
        };
        world.boot(0);
        world.boot(1);
        world
    }

    pub fn boot(&mut self, at: usize) {
        let names = ["db-01", "db-02"];
        let id = Identity {
            number: u8::try_from(at + 1).expect("small"),
            peer_name: names[1 - at].to_owned(),
            vip: "192.0.2.243".to_owned(),
            preferred: at == 0,
        };
        let node = &mut self.nodes[at];
        node.name = names[at];
        let limits = Limits { arbiter_ttl: self.arbiter.as_ref().map(|arbiter| arbiter.ttl_ms), ..limits() };
        let mut core = Core::new(id, limits, self.now);
        core.step(Event::Store(StoreSeen::Saved(node.record)), self.now);
        core.step(Event::Merge(node.merge.clone()), self.now);
        core.step(Event::Link { carrier: node.carrier }, self.now);
        let left_ms = node.vip_until.saturating_sub(self.now);
        let address = if left_ms > 0 { Address::Found { left_ms } } else { Address::Absent };
        let lease = LeaseSeen { address, gate: Gate::Shut };
        core.step(Event::Lease(lease), self.now);
        node.core = Some(core);
        node.session += 1;
        node.heard = None;
        node.told = Some(lease);
        node.done_order = 0;
        node.turn_ms = self.now;
        (node.linked, node.to_save, node.ordered, node.killed) = (None, None, (0, 0), false);
        self.arbiter.iter_mut().for_each(|arbiter| arbiter.boot(at, false));
    }

    pub fn state(&self, at: usize) -> Option<&'static str> {
        self.nodes[at].core.as_ref().map(|core| core.state().name())
    }

    pub fn rule(&self, at: usize) -> Option<u16> {
        self.nodes[at].core.as_ref().map(|core| core.view().rule())
    }

    /// Acknowledged writes that the present holder lacks.
    pub fn lost(&self) -> u64 {
        let holder = (0..2).find(|at| self.state(*at) == Some("active")).expect("a holder");
        let node = &self.nodes[holder];
        self.acked[holder].saturating_sub(node.own) + self.acked[1 - holder].saturating_sub(node.applied)
    }

    pub fn run(&mut self, duration: u64) {
        for _ in 0..duration {
            self.tick();
        }
    }

    pub fn run_until(&mut self, limit: u64, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..limit {
            if done(self) {
                return;
            }
            self.tick();
        }
        let shown = |at: usize| {
            self.nodes[at].core.as_ref().map(|core| format!("{} ({}) {}", core.state().name(), core.view().rule(), core.view().sentence()))
        };
        panic!("`{}`: {what} not within {limit} ms: db-01 {:?}, db-02 {:?}", self.step_line, shown(0), shown(1));
    }

    /// Whether a TCP connection between the two can live.
    fn connects(&self) -> bool {
        self.tcp && self.mute == [false; 2] && self.lan_up()
    }

    fn lan_up(&self) -> bool {
        self.nodes.iter().all(|node| node.powered && node.carrier && node.ping)
    }

    fn tick(&mut self) {
        self.now += 1;
        for node in &mut self.nodes {
            if node.revive_ms.is_some_and(|at| self.now >= at && node.powered) {
                (node.revive_ms, node.server) = (None, Server::Up);
            }
        }
        self.replicate();
        self.write();
        for at in 0..2 {
            self.turn(at);
        }
        self.check();
    }

    fn replicate(&mut self) {
        let up = self.connects() && self.nodes.iter().all(|node| node.server == Server::Up);
        for at in 0..2 {
            if up && self.nodes[at].receiver && !self.nodes[at].stalled {
                let (source, echo) = (self.nodes[1 - at].own, self.nodes[1 - at].applied);
                self.nodes[at].receive(source);
                if !self.nodes[at].no_recover {
                    self.nodes[at].own = self.nodes[at].own.max(echo);
                }
            }
        }
    }

    fn replicated(&self, at: usize) -> bool {
        let other = &self.nodes[1 - at];
        self.connects() && other.receiver && !other.stalled && other.server == Server::Up
    }

    /// Whether what clients on the LAN send reaches this node's server, on whatever address.
    fn hears_clients(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let up = node.powered && node.server == Server::Up && node.carrier && node.ping;
        up && (self.now < node.gate_until || !self.gate_works)
    }

    /// ... and its answers reach them.
    fn reachable(&self, at: usize) -> bool {
        self.hears_clients(at) && !self.mute[at]
    }

    fn commits(&self, at: usize) -> bool {
        !self.nodes[at].semi_sync || !self.commits_wait || self.replicated(at)
    }

    /// Whether a client could be told "committed" by this node now.
    fn can_acknowledge(&self, at: usize) -> bool {
        self.reachable(at) && !self.nodes[at].read_only && self.commits(at)
    }

    /// A client writes every 10 ms wherever a server takes it; a few of them wait where nobody acknowledges.
    fn write(&mut self) {
        for at in 0..2 {
            let (heard, reachable) = (self.hears_clients(at), self.reachable(at));
            let (commits, replicated) = (self.commits(at), self.replicated(at));
            let node = &mut self.nodes[at];
            let mut acknowledged = node.waiting > 0 && commits;
            if self.now.is_multiple_of(10) && heard && !node.read_only && (commits || node.waiting < 3) {
                node.own += 1;
                node.waiting += u64::from(!commits);
                acknowledged |= commits;
            }
            if !acknowledged || node.server != Server::Up {
                continue;
            }
            node.waiting = 0;
            let own = node.own;
            if reachable {
                self.acked[at] = self.acked[at].max(own);
            }
            if replicated {
                self.nodes[1 - at].receive(own);
            }
        }
    }

    fn check(&self) {
        let holds = |at: &usize| {
            let node = &self.nodes[*at];
            node.vip_until > self.now && node.powered && node.carrier && node.ping
        };
        assert!((0..2).filter(holds).count() < 2, "`{}`: two holders at {}", self.step_line, self.now);
        assert!((0..2).filter(|at| self.can_acknowledge(*at)).count() < 2, "`{}`: two writers at {}", self.step_line, self.now);
    }

    fn turn(&mut self, at: usize) {
        let now = self.now;
        if !self.nodes[at].powered || self.nodes[at].frozen || self.nodes[at].core.is_none() {
            return;
        }
        let gap_ms = now - self.nodes[at].turn_ms;
        self.nodes[at].turn_ms = now;
        if gap_ms >= LEASE_MS {
            self.nodes[at].vip_until = 0;
            self.nodes[at].gate_until = 0;
            step(&mut self.nodes[at], Event::Woke { gap_ms }, now);
        }
        self.observe(at);
        if let Some(core) = &mut self.nodes[at].core
            && now >= core.deadline()
        {
            core.step(Event::Tick, now);
        }
        let want = match &self.nodes[at].core {
            Some(core) => core.want().clone(),
            None => return,
        };
        self.obey(at, &want);
        self.ask_arbiter(at, want.arbiter);
        if want.exit {
            self.nodes[at].core = None;
        }
    }

    fn observe(&mut self, at: usize) {
        let (now, peer_vip) = (self.now, self.nodes[1 - at].vip_until);
        let reach = self.lan_up();
        let peer_up = self.nodes[1 - at].powered && self.nodes[1 - at].server == Server::Up && self.nodes[1 - at].carrier;
        let (connects, mute, arp) = (self.connects(), self.mute, self.arp);
        // A connection outlives a server that stands still.
        let peer_there = peer_up || self.nodes[1 - at].server == Server::Hung;
        let node = &mut self.nodes[at];
        let (carrier, ping) = (node.carrier, node.ping);
        if node.linked.is_none_or(|(told, at)| told != carrier || now >= at + 250) {
            node.linked = Some((carrier, now));
            step(node, Event::Link { carrier }, now);
        }
        if ping && !mute[at] && now >= node.pinged_ms + 375 {
            node.pinged_ms = now;
            step(node, Event::PingAnswered { at_ms: now }, now);
        }
        let Some(want) = node.core.as_ref().map(|core| core.want().clone()) else { return };
        let period = if want.watch { 5 } else { 250 };
        if now >= node.looked_ms + period {
            node.looked_ms = now;
            let seen = node.look(at, now, connects && peer_there);
            step(node, Event::Server(seen), now);
        }
        if want.probe && carrier && now >= node.probed_ms + 50 {
            node.probed_ms = now;
            let event = if node.stranger || reach && arp && mute == [false; 2] && peer_vip > now {
                Event::VipClaimed { mac: [2, 0, 0, 0, 0, 9] }
            } else {
                Event::ProbeSent
            };
            step(node, event, now);
            if reach && arp && mute == [false; 2] && !self.nodes[1 - at].frozen {
                step(&mut self.nodes[1 - at], Event::VipProbed, now);
            }
        }
        let node = &mut self.nodes[at];
        if want.remote != Remote::No && now >= node.told_remote_ms + 500 {
            node.told_remote_ms = now;
            self.remote(at, &want, connects && peer_up);
        }
    }

    fn remote(&mut self, at: usize, want: &Want, reachable: bool) {
        let (connects, works) = (self.connects(), self.fence_works);
        let seen = self.nodes[1 - at].seen_from_afar(1 - at, want.remote, (reachable, connects, works));
        step(&mut self.nodes[at], Event::Remote(seen), self.now);
    }

    fn obey(&mut self, at: usize, want: &Want) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let since = node.to_save.filter(|(record, _)| Some(*record) == want.save).map_or(now, |(_, since)| since);
        node.to_save = want.save.map(|record| (record, since));
        if now < since + node.slow_ms {
            // still being written
        } else if let Some(record) = want.save
            && record != node.record
            && node.disk_full
        {
            step(node, Event::Store(StoreSeen::Failed("disk full".into())), now);
        } else if let Some(record) = want.save
            && record != node.record
        {
            node.record = record;
            step(node, Event::Store(StoreSeen::Saved(record)), now);
        }
        if let Some(merge) = &want.merge {
            node.merge.clone_from(merge);
        }
        node.serve(want, now);
        node.shut_early(want, now);
        let due = now >= node.sent_ms + 250 || want.say.version != node.sent_version;
        if due {
            node.lease(want, now);
            node.sent_ms = now;
            node.sent_version = want.say.version;
            let echo = node.heard;
            let session = node.session;
            self.deliver(at, want.say.clone(), session, echo);
        }
    }

    fn deliver(&mut self, from: usize, beat: Arc<Beat>, session: u64, echo: Option<(u64, u64, u64)>) {
        let (now, open) = (self.now, self.udp[from] && !self.mute[from] && self.lan_up());
        let to = &mut self.nodes[1 - from];
        if !open || to.frozen || to.core.is_none() {
            return;
        }
        let mine = echo.filter(|(of, _, _)| *of == to.session);
        let new_session = to.heard.is_none_or(|(of, _, _)| of != session);
        to.heard = Some((session, now, beat.version));
        if new_session {
            to.sent_ms = 0; // answered at once, as the link thread does
        }
        if new_session && mine.is_none() {
            return;
        }
        let heard = Heard {
            beat,
            new_session,
            echo_sent_ms: mine.map(|(_, sent, _)| sent),
            echo_version: mine.map_or(0, |(_, _, version)| version),
        };
        step(to, Event::Beat(Box::new(heard)), now);
    }
}
