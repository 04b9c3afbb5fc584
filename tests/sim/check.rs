//! What may never be, looked at after every event, and what a run amounts to. What two nodes without an arbiter cannot promise is named in
//! `main`; here it is only excused where it says so.

use mmha::core::Decision;
use mmha::core::event::Sample;
use mmha::core::fact::Fact;

use crate::queue::Us;
use crate::world::World;

/// A box that its hypervisor paused may believe itself the holder until it hears the other, which takes a heartbeat and its way, and for as
/// long as it then needs to let go.
pub const DAZED_US: Us = 2_000_000;
/// Half a gate, an address lease, and what the kernel is late.
pub const UNBLESSED_US: Us = 3_100_000;
pub const LETTING_GO_US: Us = 50_000;
/// A node that froze on the last instant of the arbiter's lease keeps its address for longer than that lease: by its own, and by what the
/// kernel is late (SAFETY M2), less what the belief is shorter. Nobody can tell while the nodes' parts of the network do not see each other.
const LINGERS_US: Us = 1_000_000;

/// Two nodes that lost each other, both let in by an address that neither could add: nothing answers for it until both can. They end it by what
/// they then hear of each other, a heartbeat or an announcement.
pub const UNSEEN_US: Us = 2_000_000;

#[derive(Default)]
pub struct Watch {
    /// The first thing that may not be.
    pub fault: Option<String>,
    /// The highest own transaction of each node that a client was told of.
    pub acknowledged: [u64; 2],
    pub writes: u64,
    pub steps: u64,
    /// How often a node came to serve.
    pub moves: u64,
    pub decisions: u64,
    /// FNV-1a over every decision: the same seed gives the same.
    pub hash: u64,
    pub early: [Option<Sample>; 2],
    /// A fault that strikes when a node comes into a state: node and state.
    pub ambush: Option<(usize, &'static str)>,
    pub sprung: bool,
    /// How many looks found what only a box that was paused explains.
    pub excused: u64,
    /// For how long after such a pause two nodes could acknowledge.
    pub exposed_us: Us,
    /// Both nodes have just become able to add the address that both were about to.
    pub unseen_until: Us,
    /// An operator has accepted a loss.
    pub forced: bool,
}

impl Watch {
    pub fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
    fn mix(&mut self, number: u64) {
        let start = if self.hash == 0 { 0xcbf2_9ce4_8422_2325 } else { self.hash };
        self.hash = number.to_le_bytes().iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}

impl World {
    pub fn decided(&mut self, at: usize, decision: &Decision) {
        let (from, to) = (decision.from.name(), decision.to.name());
        if self.trace {
            let (time, epoch) = (self.now as f64 / 1e6 - 100.0, decision.epoch);
            println!("{time:>11.6}  db-0{} {from:>9} -> {to:<9} {:>2} (epoch {epoch}) {}", at + 1, decision.rule, decision.sentence);
        }
        self.watch.decisions += 1;
        for number in [self.now, at as u64, u64::from(decision.rule), decision.epoch] {
            self.watch.mix(number);
        }
        if to == "active" && from != to {
            self.watch.moves += 1;
        }
        if self.watch.ambush == Some((at, to)) && from != to {
            self.watch.sprung = true;
        }
    }

    pub fn check(&mut self) {
        let now = self.now;
        let holds = |at: usize| self.nodes[at].vip_until != 0 && self.nodes[at].on_lan() && self.nodes[at].has_vip(now);
        let opens = |at: usize| self.nodes[at].gate_until != 0 && self.can_acknowledge(at);
        let seen = self.arp && now >= self.arp_since + LINGERS_US;
        let (holders, writers) = (seen && holds(0) && holds(1), opens(0) && opens(1));
        if !holders && !writers {
            return;
        }
        // No clock of the guest sees a pause by its hypervisor; with semi-sync nothing is acknowledged in that time that the peer does not have.
        let dazed = |at: usize| now < self.nodes[at].dazed_until;
        let excused = dazed(0) || dazed(1) || now < self.watch.unseen_until;
        if writers && !excused {
            self.watch.fail(format!("two nodes can acknowledge a write, {}", self.states()));
        } else if holders && !excused {
            self.watch.fail(format!("two holders of the address, {}", self.states()));
        } else {
            self.watch.excused += 1;
            let since = (0..2).filter(|at| dazed(*at)).map(|at| now - self.nodes[at].dazed_since).min();
            self.watch.exposed_us = self.watch.exposed_us.max(since.filter(|_| writers).unwrap_or(0));
        }
    }

    pub fn state(&self, at: usize) -> Option<&'static str> {
        self.nodes[at].agent.as_ref().map(|agent| agent.core.state().name())
    }

    pub fn states(&self) -> String {
        let show = |at: usize| {
            let node = &self.nodes[at];
            let state = node.agent.as_ref().map_or_else(
                || "no agent".to_owned(),
                |agent| format!("{} ({}) {:?}", agent.core.state().name(), agent.core.view().rule(), agent.core.view().sentence()),
            );
            let server = &node.server;
            format!("db-0{} {state} {:?} own {} received {} applied {}", at + 1, server.up, server.own, server.received, server.applied)
        };
        format!("{:.6} s: {}, {}", self.now as f64 / 1e6 - 100.0, show(0), show(1))
    }

    /// The one node that serves: address, open gate, open server.
    pub fn holder(&self) -> Option<usize> {
        let serves = |at: &usize| self.state(*at) == Some("active") && self.nodes[*at].has_vip(self.now) && self.can_acknowledge(*at);
        (0..2).find(serves)
    }

    /// Exactly one healthy holder, and the other where it belongs.
    pub fn settled(&self) -> bool {
        // What they have not noticed is not over.
        let hears = |at: usize| self.nodes[at].agent.as_ref().is_some_and(|agent| agent.core.view().has(Fact::PeerEcho));
        let rests = |at: usize| matches!(self.state(at), Some("standby" | "quarantined"));
        hears(0) && hears(1) && self.holder().is_some_and(|at| rests(1 - at))
    }

    /// Acknowledged writes that the present holder lacks.
    pub fn lost(&self) -> Option<u64> {
        let at = (0..2).find(|at| self.state(*at) == Some("active"))?;
        let server = &self.nodes[at].server;
        let [own, theirs] = [self.watch.acknowledged[at], self.watch.acknowledged[1 - at]];
        Some(own.saturating_sub(server.own) + theirs.saturating_sub(server.applied))
    }
}
