//! Planted bugs: a table of spoiled worlds and how many seeds it takes to find each. And every literal of the decision table removed in turn.

use mmha::core::fact::Fact;
use mmha::core::rules::{Lit, RULES};

use crate::bugs::{Spoil, changed, without, without_literal, without_rule};
use crate::story::{has_arbiter, tell};

type Bug = (&'static str, Spoil);

/// What is planted. Each must be found within the limit of `every_planted_bug_is_found`.
pub const BUGS: &[Bug] = &[
    (
        "rule 39 and 38 without repl.applied, the role thread too",
        Spoil::Both(|| spoiled(&[(39, Fact::Applied), (38, Fact::Applied)]), |bugs| bugs.opened_unapplied = true),
    ),
    ("no rule 5: a holder that is cut off stays", Spoil::Table(|| without_rule(5))),
    ("no rule 2: a newer epoch is ignored", Spoil::Table(|| without_rule(2))),
    ("no rule 71: a refusal is not heard", Spoil::Table(|| without_rule(71))),
    ("a grant is taken back by timeout", Spoil::Table(taken_back)),
    ("no rule 70: a grant that was used is not noticed", Spoil::Table(|| without_rule(70))),
    ("no rule 90: who was cut off stays isolated", Spoil::Table(|| without_rule(90))),
    ("no rule 92: a server that is well again is not trusted", Spoil::Table(|| without_rule(92))),
    ("the gate never shuts", Spoil::Actuator(|bugs| bugs.gate_never_shuts = true)),
    ("recordings are believed, and somebody sends them", Spoil::Actuator(|bugs| bugs.recordings_trusted = true)),
    ("semi-sync is given up by its timeout", Spoil::Actuator(|bugs| bugs.semi_sync_times_out = true)),
    ("the clocks drift by 30 %, not by 1 %", Spoil::Setting(|set| set.rates = [700_000, 1_300_000])),
    ("commits do not wait", Spoil::Actuator(|bugs| bugs.commits_do_not_wait = true)),
];

/// In pairs with an arbiter.
pub const ARBITER_BUGS: &[Bug] = &[
    ("nobody asks for the arbiter's lease, the link thread neither", Spoil::Both(without_lease, |bugs| bugs.hold_until_ignored = true)),
    (
        "who has lost the lease stays (no rule 17), the link thread too",
        Spoil::Both(|| without_rule(17), |bugs| bugs.hold_until_ignored = true),
    ),
    ("a renewal of the lease counts without the same term", Spoil::Actuator(|bugs| bugs.term_ignored = true)),
    ("the arbiter's clock is twice as fast as the nodes'", Spoil::Setting(|set| set.etcd_rate = 2_000_000)),
];

fn without_lease() -> &'static [mmha::core::rules::Rule] {
    let unasked = |all: &&'static [Lit]| -> &'static [Lit] {
        Vec::leak(all.iter().copied().filter(|lit| !matches!(lit, Lit::Is(Fact::ArbiterOk))).collect())
    };
    changed(|rule| {
        rule.when = Vec::leak(rule.when.iter().map(unasked).collect());
        !matches!(rule.number, 17 | 18)
    })
}

fn taken_back() -> &'static [mmha::core::rules::Rule] {
    changed(|rule| {
        if rule.number == 72 {
            rule.when = &[&[Lit::Is(Fact::TimeOver)]];
            rule.to = mmha::core::state::State::Address;
        }
        true
    })
}

/// Planted too, and covered by another layer in thousands of stories: each is a finding about how much the other layers carry.
pub const COVERED: &[Bug] = &[
    ("rule 64 grants before the peer has everything", Spoil::Table(|| without(64, Fact::PeerApplied))),
    ("no rule 1: who stood still goes on (the link thread has let go by then)", Spoil::Table(|| without_rule(1))),
    ("rule 28 without may.alone", Spoil::Table(|| spoiled(&[(28, Fact::Alone), (37, Fact::Alone)]))),
    ("rule 50 resigns to a peer that is not in sync", Spoil::Table(|| without(50, Fact::PeerSynced))),
    ("rule 57 fails back without peer.current", Spoil::Table(|| without(57, Fact::PeerCurrent))),
    ("the peer's server is not fenced", Spoil::Actuator(|bugs| bugs.fence_skipped = true)),
    ("the lease is renewed by a stuck loop", Spoil::Actuator(|bugs| bugs.stuck_loop_renews = true)),
    ("standing still is not noticed by the link thread", Spoil::Actuator(|bugs| bugs.gap_ignored = true)),
    ("the address stays", Spoil::Actuator(|bugs| bugs.address_stays = true)),
    ("read-only is reported before it is so", Spoil::Actuator(|bugs| bugs.read_only_unconfirmed = true)),
    ("the relay log is discarded with the receiver", Spoil::Actuator(|bugs| bugs.relay_log_discarded = true)),
    ("the epoch is not written", Spoil::Actuator(|bugs| bugs.epoch_not_saved = true)),
    ("gate longer than deadtime", Spoil::Limit(|limits| limits.gate = 6_000)),
    ("rule 39 without peer.consents", Spoil::Table(|| without(39, Fact::PeerConsents))),
    ("isolation longer than deadtime", Spoil::Limit(|limits| limits.isolation = 4_000)),
    (
        "rules 35 and 18 without the arbiter's lease (17 and the link thread let go)",
        Spoil::Table(|| spoiled(&[(35, Fact::ArbiterOk), (18, Fact::ArbiterOk)])),
    ),
    ("no rule 17: who has lost the arbiter's lease stays", Spoil::Table(|| without_rule(17))),
    ("nobody but the link thread asks for the arbiter's lease", Spoil::Table(without_lease)),
    ("the link thread goes on after the last instant", Spoil::Actuator(|bugs| bugs.hold_until_ignored = true)),
    ("a lease that was asked to be revoked is renewed", Spoil::Actuator(|bugs| bugs.revoked_lease_kept = true)),
    ("the lease is believed in for its whole length", Spoil::Actuator(|bugs| bugs.lease_believed_whole = true)),
    ("the lease of before a power loss is renewed", Spoil::Actuator(|bugs| bugs.lease_survives_power = true)),
    ("the epoch is forgotten at every start", Spoil::Actuator(|bugs| bugs.epoch_forgotten = true)),
];

/// Several literals less.
fn spoiled(literals: &[(u16, Fact)]) -> &'static [mmha::core::rules::Rule] {
    let mut rules = RULES.to_vec();
    for (number, fact) in literals {
        let source = without(*number, *fact);
        let changed = source.iter().find(|rule| rule.number == *number).expect("a rule");
        let place = rules.iter().position(|rule| rule.number == *number).expect("a rule");
        // A rule that stays where it is until something holds goes whole.
        if changed.from.contains(&changed.to) {
            rules.remove(place);
        } else {
            rules[place] = *changed;
        }
    }
    Vec::leak(rules)
}

/// The first seed that notices, and what it says.
pub fn find(spoil: Spoil, seeds: u64) -> Option<(u64, String)> {
    find_among(spoil, 1..=seeds)
}

pub fn find_with_arbiter(spoil: Spoil, seeds: u64) -> Option<(u64, String)> {
    find_among(spoil, (1..=seeds).filter(|seed| has_arbiter(*seed)))
}

fn find_among(spoil: Spoil, mut seeds: impl Iterator<Item = u64>) -> Option<(u64, String)> {
    seeds.find_map(|seed| tell(seed, Some(spoil)).fault.map(|fault| (seed, fault)))
}

/// The planted bug whose name has this in it.
pub fn named(part: &str) -> Spoil {
    let found = BUGS.iter().chain(ARBITER_BUGS).chain(COVERED).find(|(name, _)| name.contains(part));
    found.unwrap_or_else(|| panic!("no planted bug \"{part}\"")).1
}

/// Every literal of every rule less, one at a time.
pub fn literals() -> Vec<(String, Spoil)> {
    let mut all: Vec<(String, Spoil)> = COVERED.iter().map(|(name, spoil)| ((*name).to_owned(), *spoil)).collect();
    for rule in RULES {
        for (number, conjunction) in rule.when.iter().enumerate() {
            for (at, literal) in conjunction.iter().enumerate() {
                let name = match literal {
                    Lit::Is(fact) => fact.text().to_owned(),
                    Lit::Not(fact) => format!("not {}", fact.text()),
                };
                let which = if rule.when.len() > 1 { format!(" ({})", number + 1) } else { String::new() };
                all.push((format!("rule {:>2}{which}: {name}", rule.number), Spoil::Rules(without_literal(rule.number, number, at))));
            }
        }
    }
    all
}
