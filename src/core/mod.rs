//! The pure decision core: what we believe (`belief`), the named booleans it amounts to (`assess`), the table (`rules`) and
//! what must hold in each state (`wants`). No sockets, files, clocks, logs, threads, SQL or randomness; it cannot fail.

mod arbiter;
mod assess;
pub mod beat;
mod belief;
mod brake;
mod calm;
mod candidate;
mod claim;
pub mod event;
pub mod fact;
pub mod history;
pub mod key;
mod mark;
mod relation;
pub mod rules;
mod sentence;
pub mod state;
mod sync;
mod track;
pub mod want;
mod wants;

#[cfg(test)]
mod tests;

use beat::Beat;
use belief::Belief;
use candidate::Fitness;
use event::{Event, Ms};
use fact::{Fact, Facts};
use history::History;
use rules::{RULES, Rule, Table};
use state::State;
use want::Want;

/// Who we are, for sentences and tie-breaks.
#[derive(Debug, Clone)]
pub struct Identity {
    /// 1 or 2, by file order.
    pub number: u8,
    pub peer_name: String,
    pub vip: String,
    pub preferred: bool,
}

/// The timing and policy of the pair, milliseconds; the inequalities of SAFETY B are checked by `config`.
#[derive(Debug, Clone)]
pub struct Limits {
    pub keepalive: Ms,
    pub deadtime: Ms,
    pub warntime: Ms,
    pub initdead: Ms,
    pub gate: Ms,
    pub lease: Ms,
    pub isolation: Ms,
    pub failback_delay: Ms,
    pub auto_failback: bool,
    pub lossless: bool,
    /// `writer = "both"`: the server is writable on both nodes at all times.
    pub both_write: bool,
    pub kill_hung: bool,
    pub ping_configured: bool,
    pub fence_configured: bool,
    /// The flap brake: so many departures within this time, and the address no longer moves by itself for less than a dead server.
    /// 0 = no brake.
    pub flap_count: usize,
    pub flap_window: Ms,
    pub config_digest: u64,
    /// How long the arbiter's lease lasts; `None`: there is no arbiter.
    pub arbiter_ttl: Option<Ms>,
}

/// One firing of a rule that changed the state or the reason for staying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub at_ms: Ms,
    pub from: State,
    pub to: State,
    pub rule: u16,
    pub epoch: u64,
    pub sentence: String,
}

#[derive(Debug)]
pub struct Core {
    id: Identity,
    limits: Limits,
    table: Table,
    belief: Belief,
    state: State,
    entered_ms: Ms,
    order: u64,
    rule: u16,
    sentence: String,
    fitness: Fitness,
    facts: Facts,
    /// So many steps from now must come soon.
    restless: u8,
    /// Something has been noted and not yet judged.
    unjudged: bool,
    want: Option<Want>,
    decisions: Vec<Decision>,
}

/// More steps than this within one instant would mean that the table runs in a circle.
const MAX_STEPS: usize = 8;
/// For so long `status` remembers who else claimed the address.
const STRANGER_MS: Ms = 60_000;

impl Core {
    pub fn new(id: Identity, limits: Limits, now: Ms) -> Core {
        Core::with_rules(id, limits, RULES, now)
    }

    /// Decides by another table: the simulator proves with spoiled ones that it would notice.
    pub fn with_rules(id: Identity, limits: Limits, rules: &'static [Rule], now: Ms) -> Core {
        let belief = Belief::new(now);
        let mut core = Core {
            id,
            limits,
            table: Table::new(rules),
            belief,
            state: State::Boot,
            entered_ms: now,
            order: 1,
            rule: 0,
            sentence: String::new(),
            fitness: Fitness::default(),
            facts: Facts::default(),
            restless: 0,
            unjudged: false,
            want: None,
            decisions: Vec::new(),
        };
        core.step(Event::Tick, now);
        core
    }

    /// Takes an event by which all goes on as before. It is judged with the next step, and for that it is time now (`deadline`).
    pub fn absorb(&mut self, event: Event, now: Ms) {
        self.note(event, now.max(self.belief.now));
        self.unjudged = true;
    }

    /// Takes one event at time `now` (never earlier than before) and follows the table until it rests.
    pub fn step(&mut self, event: Event, now: Ms) {
        let now = now.max(self.belief.now);
        let (before, decided) = (self.facts, self.decisions.len());
        // An attempt that failed is news although the rule stays the same.
        let attempted = matches!(event, Event::Fence(_));
        self.note(event, now);
        self.unjudged = false;
        for _ in 0..MAX_STEPS {
            self.fitness = self.find_fitness();
            self.facts = self.facts();
            let rule = self.table.first_match(self.state, self.facts);
            let moved = rule.to != self.state;
            if moved || rule.number != self.rule || attempted && self.render(rule.sentence) != self.sentence {
                self.decide(rule);
            }
            if !moved {
                break;
            }
        }
        // Refused now is refused: it must not happen by itself an hour later.
        self.belief.switch &= self.state != State::Active;
        let more = self.refresh_want();
        self.settle(more || self.facts != before || self.decisions.len() != decided);
    }

    /// The configuration was read again: policy may change while running, timing may not (SAFETY A10).
    pub fn retune(&mut self, auto_failback: bool, failback_delay: Ms) {
        self.limits.auto_failback = auto_failback;
        self.limits.failback_delay = failback_delay;
        self.disturb();
    }

    pub fn want(&self) -> &Want {
        match &self.want {
            Some(want) => want,
            None => unreachable!("new() makes the first want"),
        }
    }

    /// Decisions since the last call, oldest first.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn view(&self) -> View<'_> {
        View { core: self }
    }

    fn decide(&mut self, rule: &'static Rule) {
        let from = self.state;
        if rule.to != from {
            self.leave(from, rule.to);
            self.count_departure(rule);
        }
        self.rule = rule.number;
        self.sentence = self.render(rule.sentence);
        let (at_ms, to, sentence) = (self.belief.now, rule.to, self.sentence.clone());
        self.decisions.push(Decision { at_ms, from, to, rule: rule.number, epoch: self.belief.record.epoch, sentence });
    }

    /// Everything that a change of state resets, in one place.
    fn leave(&mut self, from: State, to: State) {
        self.state = to;
        self.entered_ms = self.belief.now;
        self.order += 1;
        if to == State::Release && matches!(from, State::Open | State::Address) {
            self.belief.claim_failed_ms = Some(self.belief.now);
        }
        if from == State::Boot && to == State::Active {
            self.belief.semi_sync = self.belief.sample.as_ref().is_some_and(|sample| sample.semi_sync_on);
        }
        match to {
            State::Release => (self.belief.kill_server, self.belief.slept) = (self.must_kill_server(), self.slept_long()),
            // It answers and cannot be closed, for instance because its commits wait for room on a full disk: while it is open the peer may
            // not take over, and nobody serves.
            State::Failed if from == State::Release => self.belief.kill_server |= self.must_kill_unclosed(),
            State::Standby | State::Isolated => (self.belief.kill_server, self.belief.slept) = (false, false),
            State::Gate => self.number_claim(),
            _ => {}
        }
        let belief = &mut self.belief;
        if from.holds() != to.holds() || matches!(to, State::Standby) && !matches!(from, State::Gate) {
            belief.era_ms = belief.now;
            belief.era_order = self.order;
            belief.adopted = from == State::Boot && to.holds();
        }
        if !to.holds() && to != State::Gate {
            belief.woke = None;
        }
        // The server was closed for this handover and stays closed: the grant need not wait to hear it again.
        if to == State::Granted
            && let Some((order, _)) = &mut self.belief.closed
        {
            *order = self.order;
        }
        if from == State::Boot && to == State::Standby && !self.peer_heard() {
            self.belief.alone = true;
        }
        let belief = &mut self.belief;
        // Out of sight the peer may go on alone, or take over: having been in sync says nothing until it is heard again.
        if to == State::Isolated {
            belief.alone = belief.solo;
        }
        match to {
            State::Open => belief.held_before = std::mem::replace(&mut belief.want_record.held, belief.want_record.epoch),
            // Nothing was acknowledged: the gate opens with the address.
            State::Release if from == State::Open => belief.want_record.held = belief.held_before,
            State::Active | State::Fence => belief.want_record.held = belief.want_record.epoch,
            // On disk before the grant: who crashes after it must not believe that the address is still its own.
            State::Drain | State::Granted => belief.want_record.held = 0,
            _ => {}
        }
        match to {
            State::Fence => belief.by_request = belief.switch || belief.peer.as_ref().is_some_and(|peer| peer.beat.asks),
            State::Standby | State::Failed | State::Isolated | State::Boot => belief.by_request = false,
            // Nobody asked for this move: who takes over gives the address back.
            State::Release if from == State::Active => belief.by_request = false,
            State::Gate => belief.gate_ms = belief.now,
            State::Open => {
                (belief.synced, belief.alone_until, belief.torn) = (false, None, false);
                let consented = self.facts.has(Fact::PeerConsents);
                belief.by_request = consented && belief.peer.as_ref().is_some_and(|peer| peer.beat.by_request);
                // Commits wait for a peer that gave way from the first of them: it may be cut off with the grant, and take over.
                belief.semi_sync = self.limits.lossless && consented && belief.peer.as_ref().is_some_and(|peer| peer.beat.server_ok);
            }
            State::Active if matches!(from, State::Fence | State::Drain) => belief.rolled_back_ms = Some(belief.now),
            State::Active => belief.claim_failed_ms = None,
            _ => {}
        }
        if to == State::Fence || from == State::Gate || from == State::Quarantined || (from == State::Active && !to.holds()) {
            belief.switch = false;
        }
        if matches!(from, State::Gate | State::Quarantined) && to != State::Open {
            belief.force = false;
        }
        if from == State::Quarantined && to == State::Standby && belief.merge.is_some() {
            belief.merge = Some(History::default());
        }
        if to == State::Active {
            belief.force = false;
            // Fulfilled: what was asked a moment ago must not call the address back after the next move.
            belief.asked_ms = None;
        }
    }
}

/// Read-only look at the core for `status` and for tests.
pub struct View<'a> {
    core: &'a Core,
}

impl View<'_> {
    pub fn facts(&self) -> Facts {
        self.core.facts()
    }
    pub fn has(&self, fact: Fact) -> bool {
        self.core.facts().has(fact)
    }
    pub fn holds(&self) -> bool {
        self.core.state.holds()
    }
    pub fn since_ms(&self) -> Ms {
        self.core.belief.now.saturating_sub(self.core.entered_ms)
    }
    pub fn epoch(&self) -> u64 {
        self.core.belief.record.epoch
    }
    pub fn rule(&self) -> u16 {
        self.core.rule
    }
    /// The reason for being here, with the numbers of now.
    pub fn sentence(&self) -> String {
        let stays = |rule: &&Rule| rule.number == self.core.rule && rule.to == self.core.state;
        rules::RULES.iter().find(stays).map_or_else(|| self.core.sentence.clone(), |rule| self.core.render(rule.sentence))
    }
    pub fn peer(&self) -> Option<&Beat> {
        self.core.belief.peer.as_ref().map(|peer| &*peer.beat)
    }
    pub fn peer_heard_ms(&self) -> Option<Ms> {
        self.core.belief.peer.as_ref().map(|peer| self.core.belief.now.saturating_sub(peer.heard_ms))
    }
    pub fn lease(&self) -> event::LeaseSeen {
        self.core.belief.lease
    }
    pub fn server(&self) -> Option<&event::ServerSeen> {
        self.core.belief.server.as_ref()
    }
    pub fn sample(&self) -> Option<&event::Sample> {
        self.core.belief.sample.as_deref()
    }
    /// The peer has what was acknowledged here, and will have what is to be.
    pub fn protects(&self) -> bool {
        self.core.protects()
    }
    /// Since when acknowledged writes exist on this node only.
    pub fn unprotected_ms(&self) -> Option<Ms> {
        self.core.belief.unprotected_since.map(|since| self.core.belief.now.saturating_sub(since))
    }
    /// Minutes that are left of an operator's pause, rounded up; 0 = not paused.
    pub fn pause_minutes(&self) -> u64 {
        self.core.pause_minutes()
    }
    /// Own transactions that the leader lacks.
    pub fn extra(&self) -> History {
        self.core.raw_extra()
    }
    /// What the arbiter's thread last found out; `None`: nothing yet, or there is no arbiter.
    pub fn arbiter(&self) -> Option<&event::ArbiterSeen> {
        self.core.belief.arbiter.as_ref()
    }
    /// How long this node may still believe in the arbiter's lease.
    pub fn arbiter_left_ms(&self) -> Option<Ms> {
        self.core.belief.arbiter_until_ms.checked_sub(self.core.belief.now).filter(|left| *left > 0)
    }
    /// Who else said lately that it has the address, while I hold it.
    pub fn stranger(&self) -> Option<String> {
        let belief = &self.core.belief;
        let (mac, _) = belief.vip_claim.filter(|(_, at)| *at > belief.era_ms && self.core.since(*at) < STRANGER_MS)?;
        self.holds().then(|| sentence::mac_text(mac))
    }
    pub fn ping_ok(&self) -> bool {
        self.core.ping_answers()
    }
}
