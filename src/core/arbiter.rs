//! The arbiter's part of the decision: what its lease proves and for how long, when it is wanted, and what is said about it.
//!
//! Two proofs keep the peer from claiming by silence, and a holder needs one of them: the lease is mine (the peer cannot have it), or the
//! peer has heard me within the isolation limit (its silence is not long enough). For the claimer both must be gone: it needs the lease,
//! and a silence that outlasts the second proof and the gate of a holder that froze on its last instant.

use super::Core;
use super::event::{ArbiterSeen, Ms};
use super::fact::{Fact, Facts};
use super::state::State;
use super::want::{ArbiterOrder, Hold};
use super::wants::may_adopt;

/// Lateness of the link thread and of closing the gate (J and F of SAFETY B).
const CLOSING_MS: Ms = 25;
/// A lease may outlive its node by its own length, and by an election in the arbiter.
const OUTLIVED: Ms = 2;

impl Core {
    pub(super) fn note_arbiter(&mut self, turn: u64, seen: ArbiterSeen) {
        let order = self.belief.arbiter_order;
        let current = turn == order.turn && order.hold != Hold::No;
        match &seen {
            ArbiterSeen::Mine { until_ms } if current => self.belief.arbiter_until_ms = *until_ms,
            // Seen before it was given back.
            ArbiterSeen::Mine { .. } => return,
            ArbiterSeen::Free | ArbiterSeen::Taken { .. } => self.belief.arbiter_until_ms = 0,
            // What was believed runs out by itself.
            ArbiterSeen::Unreachable(_) => {}
        }
        let silent_ms = self.belief.peer.as_ref().map_or(0, |peer| self.since(peer.heard_ms));
        let outlived = silent_ms > OUTLIVED * self.limits.arbiter_ttl.unwrap_or(0);
        // Its lease has been renewed since I last heard it: it serves on.
        if matches!(&seen, ArbiterSeen::Taken { by } if *by == self.id.peer_name) && outlived {
            self.doubt_sync();
        }
        self.belief.arbiter = Some(seen);
    }

    fn has_lease(&self) -> bool {
        self.belief.now < self.belief.arbiter_until_ms
    }

    /// Until when the peer's last echo keeps it from claiming, as far as I can rely on that.
    fn echo_until(&self) -> Ms {
        let echo = self.belief.peer.as_ref().and_then(|peer| peer.echo_sent_ms);
        echo.map_or(0, |sent| sent + self.limits.isolation)
    }

    pub(super) fn arbiter_ok(&self) -> bool {
        if self.limits.arbiter_ttl.is_none() {
            return true;
        }
        if self.state.holds() || self.state == State::Boot {
            return self.has_lease() || self.belief.now < self.echo_until();
        }
        let beat = self.belief.peer.as_ref().map(|peer| (peer.heard_ms, peer.beat.gate_ms));
        let (heard_ms, gate_ms) = beat.unwrap_or((self.belief.started_ms, self.limits.gate));
        let longest = self.limits.isolation + gate_ms.min(60_000) * 101 / 100 + CLOSING_MS;
        self.has_lease() && self.since(heard_ms) >= longest
    }

    /// The link thread stops by itself then, should this one have stood still.
    pub(super) fn hold_until(&self) -> Ms {
        match self.limits.arbiter_ttl {
            Some(_) if self.state.holds() => self.belief.arbiter_until_ms.max(self.echo_until()),
            _ => Ms::MAX,
        }
    }

    /// Given back only when nothing of mine can reach a client any more; from then on it is not believed in, whatever comes late.
    pub(super) fn arbiter_order(&mut self, facts: Facts) -> ArbiterOrder {
        let gone = facts.has(Fact::VipGone) && facts.has(Fact::GateShut);
        let hold = match self.state {
            State::Gate | State::Open | State::Address | State::Active | State::Fence | State::Drain => Hold::Yes,
            State::Boot if may_adopt(facts) => Hold::Keep,
            _ if gone => Hold::No,
            _ => Hold::Keep,
        };
        let last = self.belief.arbiter_order;
        let turn = if last.hold == Hold::No && hold != Hold::No { last.turn + 1 } else { last.turn };
        if hold == Hold::No {
            self.belief.arbiter_until_ms = 0;
        }
        self.belief.arbiter_order = ArbiterOrder { hold, turn, epoch: self.belief.want_record.epoch };
        self.belief.arbiter_order
    }

    pub(super) fn arbiter_why(&self) -> String {
        match &self.belief.arbiter {
            None => "it has not answered yet".to_owned(),
            Some(ArbiterSeen::Mine { .. }) if self.has_lease() => format!("it is mine; {} may still serve for a moment", self.id.peer_name),
            Some(ArbiterSeen::Mine { .. }) => "it could not be renewed in time".to_owned(),
            Some(ArbiterSeen::Free) => "nobody has it".to_owned(),
            Some(ArbiterSeen::Taken { by }) => format!("{by} has it"),
            Some(ArbiterSeen::Unreachable(why)) => why.clone(),
        }
    }
}
