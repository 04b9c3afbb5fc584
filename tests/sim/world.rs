//! The modelled world: two boxes with two real decision cores, and time that jumps from event to event. This file holds what there is, the
//! main thread of each agent, and the loop; `link`, `threads`, `replication` and `check` hold the rest.

use std::rc::Rc;
use std::sync::Arc;

use mmha::act::role::Order;
use mmha::core::event::{Address, Event, Gate, LeaseSeen, Ms, StoreSeen};
use mmha::core::want::{Announce, Remote, Writes};
use mmha::core::{Core, Identity};
use mmha::peer::session::Sessions;

use crate::arbiter::Arbiter;
use crate::chance::Chance;
use crate::check::Watch;
use crate::node::{Agent, Clock, Datagram, Node};
use crate::queue::{Due, Job, Queue, Us};
use crate::replication::Stream;
use crate::setting::Setting;

const CLUSTER: u64 = 1;

pub struct World {
    pub set: Setting,
    pub chance: Chance,
    pub nodes: [Node; 2],
    pub now: Us,
    pub queue: Queue,
    /// Datagrams from node 0 and from node 1 get through.
    pub udp: [bool; 2],
    pub tcp: bool,
    pub gateway: bool,
    /// ARP passes between the nodes; since when.
    pub arp: bool,
    pub arp_since: Us,
    pub arbiter: Option<Arbiter>,
    pub replaying: bool,
    pub flight: Vec<Option<Rc<Datagram>>>,
    pub free: Vec<u32>,
    pub recorded: Vec<Rc<Datagram>>,
    /// Replication to node 0 and to node 1.
    pub streams: [Stream; 2],
    pub watch: Watch,
    pub trace: bool,
}

impl World {
    pub fn new(seed: u64, set: Setting) -> World {
        let mut chance = Chance::new(seed);
        let arbiter = set.limits.arbiter_ttl.map(|ttl| Arbiter::new(ttl, set.etcd_rate));
        let mut clock = |at: usize| Clock::new(100_000_000, chance.between(20_000_000, 90_000_000_000), set.rates[at]);
        let nodes = [0, 1].map(|at| Node::new(at, clock(at)));
        World {
            set,
            chance,
            nodes,
            now: 100_000_000,
            queue: Queue::default(),
            udp: [true; 2],
            tcp: true,
            gateway: true,
            arp: true,
            arp_since: 0,
            arbiter,
            replaying: false,
            flight: Vec::new(),
            free: Vec::new(),
            recorded: Vec::new(),
            streams: [Stream::default(); 2],
            watch: Watch::default(),
            trace: std::env::var_os("MMHA_TRACE").is_some(),
        }
    }

    pub fn local_ms(&self, at: usize) -> u64 {
        self.nodes[at].clock.now(self.now) / 1000
    }

    /// After so much time of the node's own clock.
    pub fn after(&mut self, at: usize, local: Us, job: Job) {
        let when = self.now + self.nodes[at].clock.stretch(local);
        self.queue.push(when, at, self.nodes[at].life, job);
    }

    /// Soon: as long as a thread needs to wake up.
    pub fn soon(&mut self, at: usize, job: Job) {
        let wait = self.chance.between(self.set.thread_us / 2, self.set.thread_us);
        self.after(at, wait, job);
    }

    pub fn run(&mut self, time: Us) {
        let end = self.now + time;
        while self.watch.fault.is_none()
            && !self.watch.sprung
            && let Some(due) = self.queue.pop(end)
        {
            self.now = due.at;
            self.handle(due);
            self.check();
        }
        if !self.watch.sprung {
            self.now = end;
        }
    }

    /// The box boots with its server up.
    pub fn start(&mut self, at: usize) {
        self.keep_connecting(at, 2_000);
        self.start_agent(at);
    }

    fn handle(&mut self, due: Due) {
        if let Job::Asked { ask, question } = due.job {
            return self.asked(due.node, due.life, ask, question);
        }
        let node = &mut self.nodes[due.node];
        if !node.powered {
            return;
        }
        let of_agent = due.job.of_agent();
        if of_agent && due.life != node.life {
            return;
        }
        if node.paused || node.asleep || of_agent && node.frozen {
            node.waiting.push(due);
            return;
        }
        let at = due.node;
        match due.job {
            Job::Tick => self.tick(at),
            Job::Turn => self.turn(at),
            Job::Datagram { slot } => self.arrive(at, slot),
            Job::Unstick => self.unstick(at),
            Job::Farewell => self.end_agent(at),
            Job::StartAgent => self.start_agent(at),
            Job::Keep { .. } | Job::Answered { .. } | Job::GivenUp { .. } => self.keeper(at, due.job),
            Job::Asked { .. } => {}
            Job::Look | Job::Looked { .. } | Job::Hangs { .. } | Job::Died => self.observe(at, due.job),
            Job::Carrier | Job::Ping | Job::Probe | Job::Probed | Job::Claimed | Job::Announce { .. } => self.lan(at, due.job),
            Job::Role | Job::RoleChecked { .. } | Job::RoleDone { .. } => self.role(at, due.job),
            Job::Store | Job::Stored => self.store(at, due.job),
            Job::Remote | Job::RemoteDown { .. } | Job::RemoteDone => self.remote(at, due.job),
            Job::FencedByPeer { server } => self.fenced_by_peer(at, server),
            Job::Sql { act, server } => self.sql(at, act, server),
            Job::ServerUp { server } => self.server_up(at, server),
            Job::Write { server } => self.write(at, server),
            Job::Stream | Job::Ack | Job::Apply | Job::Connect | Job::Unhears { .. } => self.replicate(at, due.job),
        }
    }

    /// What waited while the node or its agent stood still: the link thread's turn first, as it looks at the clock before anything else.
    pub fn wake(&mut self, at: usize) {
        if !self.nodes[at].runs() {
            return;
        }
        let (frozen, now) = (self.nodes[at].frozen, self.now);
        if let Some(agent) = self.nodes[at].agent.as_mut().filter(|_| !frozen) {
            (agent.turn_at, agent.tick_at) = (now + 1, now + 100);
            let life = self.nodes[at].life;
            let mut jobs = vec![(1, Job::Turn), (100, Job::Tick)];
            // Unless it is in the middle of a look.
            if agent.look_at != 0 {
                agent.look_at = now + 200;
                jobs.push((200, Job::Look));
            }
            for (wait, job) in jobs {
                self.queue.push(now + wait, at, life, job);
            }
        }
        for due in std::mem::take(&mut self.nodes[at].waiting) {
            if frozen && due.job.of_agent() {
                self.nodes[at].waiting.push(due);
            } else if !matches!(due.job, Job::Turn | Job::Tick | Job::Look) {
                let wait = 20 + self.chance.below(500);
                self.queue.push(self.now + wait, at, due.life, due.job);
            }
        }
    }

    // The agent and its main thread.

    pub fn start_agent(&mut self, at: usize) {
        if !self.nodes[at].powered || self.nodes[at].agent.is_some() {
            return;
        }
        let preferred = at == 0;
        let id = Identity {
            number: u8::try_from(at + 1).expect("small"),
            peer_name: ["db-02", "db-01"][at].to_owned(),
            vip: "192.0.2.243".to_owned(),
            preferred,
        };
        let local = self.nodes[at].clock.now(self.now);
        let core = Core::with_rules(id, self.set.limits.clone(), self.set.rules, local / 1000);
        let node = &mut self.nodes[at];
        (node.life, node.session) = (node.life + 1, self.chance.next() | 1 << 40);
        let sessions = Sessions::new(CLUSTER, u8::try_from(at + 1).expect("small"), node.session, self.set.limits.deadtime);
        node.agent = Some(Agent::new(core, sessions, local));
        let left_ms = (node.vip_renewed / 1000 + self.set.limits.lease).saturating_sub(local / 1000);
        // Run out but still here, or a part of the group: found, and nothing to carry on with.
        let address = if node.vip_until > local { Address::Found { left_ms } } else { Address::Absent };
        if let Some(agent) = &mut node.agent {
            agent.address = address;
        }
        let (record, carrier) = (node.record, node.carrier);
        let record = if self.set.bugs.epoch_forgotten { Default::default() } else { record };
        self.post(at, Event::Store(StoreSeen::Saved(record)));
        self.post(at, Event::Link { carrier });
        self.post(at, Event::Lease(LeaseSeen { address, gate: Gate::Unknown }));
        self.hurry(at);
        self.look_soon(at);
        for job in [Job::Ping, Job::Role] {
            self.soon(at, job);
        }
        self.start_keeper(at);
    }

    /// Its threads are gone; the kernel's leases and what the server was told are not.
    pub fn end_agent(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.agent, node.frozen) = (None, false);
        node.life += 1;
        node.waiting.retain(|due| !due.job.of_agent());
    }

    /// Hands each part of what is wanted to the thread that sees to it.
    pub fn publish(&mut self, at: usize) {
        let Some(agent) = &mut self.nodes[at].agent else { return };
        agent.blessed_until_ms = u64::MAX;
        let want = agent.core.want();
        let mut jobs = [None; 7];
        let hold_until_ms = if self.set.bugs.hold_until_ignored { Ms::MAX } else { want.hold_until_ms };
        let orders = &mut agent.orders;
        orders.hold_until_ms = hold_until_ms;
        if orders.say.version != want.say.version {
            orders.say = Arc::clone(&want.say);
            jobs[0] = Some(Job::Turn);
        }
        let renewed = orders.order != want.order;
        if (orders.order, orders.vip, orders.gate) != (want.order, want.vip, want.gate) {
            (orders.order, orders.vip, orders.gate) = (want.order, want.vip, want.gate);
            jobs[0] = Some(Job::Turn);
        }
        let role = Order::of(want);
        if agent.role != role {
            agent.role = role;
            jobs[1] = Some(Job::Role);
        }
        if want.watch != agent.watch || renewed && want.writes == Writes::Closed {
            agent.watch = want.watch;
            jobs[2] = want.watch.then_some(Job::Look);
        }
        if want.save != agent.save {
            agent.save = want.save;
            jobs[3] = Some(Job::Store);
        }
        if want.probe != agent.probing {
            agent.probing = want.probe;
            jobs[4] = want.probe.then_some(Job::Probe);
        }
        if want.remote != agent.remote {
            agent.remote = want.remote;
            jobs[5] = (want.remote != Remote::No).then_some(Job::Remote);
        }
        if want.announce != agent.announced {
            if agent.announced.is_none() || want.announce != Some(Announce::Seldom) {
                agent.announcing = self.now;
                jobs[6] = want.announce.map(|_| Job::Announce { round: 0, since: self.now });
            }
            agent.announced = want.announce;
        }
        let rings = want.arbiter != agent.arbiter;
        agent.arbiter = want.arbiter;
        if want.exit && !agent.exiting {
            agent.exiting = true;
            self.after(at, 60_000, Job::Farewell);
        }
        if rings {
            self.ring_keeper(at);
        }
        self.also(at, jobs);
        self.schedule_tick(at);
    }

    fn also(&mut self, at: usize, jobs: [Option<Job>; 7]) {
        for job in jobs.into_iter().flatten() {
            match job {
                Job::Turn => self.hurry(at),
                Job::Look => self.look_soon(at),
                _ => self.soon(at, job),
            }
        }
        let Some(agent) = &mut self.nodes[at].agent else { return };
        let kill = agent.core.want().kill_server;
        if kill && !agent.kill_server {
            agent.kill_server = true;
            self.end_server(at);
            self.start_server_in(at, 2_000_000);
        }
        if let Some(agent) = &mut self.nodes[at].agent {
            agent.kill_server = kill;
        }
    }
}
