//! The table as data: well-formed, total, every rule reachable, every state with a way out, and the invariants of SAFETY C.

use super::fact::{Fact, Facts};
use super::rules::{Lit, RULES, Rule, Table, holds};
use super::state::State;

fn rules_of(state: State) -> Vec<&'static Rule> {
    RULES.iter().filter(|rule| rule.from.contains(&state)).collect()
}

/// Every fact that any rule of the state reads.
fn read_by(state: State) -> Vec<Fact> {
    let mut facts = Vec::new();
    for lit in rules_of(state).iter().flat_map(|rule| rule.when.iter()).flat_map(|all| all.iter()) {
        let fact = match lit {
            Lit::Is(fact) | Lit::Not(fact) => *fact,
        };
        if !facts.contains(&fact) {
            facts.push(fact);
        }
    }
    facts
}

/// Calls `look` with every combination of the facts that the state's rules read, told apart as far as the rules or `also` look: the first rule
/// that may still match asks for a fact it lacks, and both answers are followed. 2^23 combinations of one state are some thousand ways.
fn for_all_facts(state: State, also: &[Fact], mut look: impl FnMut(Facts, &'static Rule)) {
    let read = read_by(state);
    let also: Vec<Fact> = also.iter().copied().filter(|fact| read.contains(fact)).collect();
    follow(&rules_of(state), &also, Facts::default(), Facts::default(), &mut look);
}

/// Of `facts` only those in `known` are decided.
fn follow(rules: &[&'static Rule], also: &[Fact], facts: Facts, known: Facts, look: &mut impl FnMut(Facts, &'static Rule)) {
    let Some((rule, missing)) = rules.iter().find_map(|rule| may_match(rule, facts, known).map(|missing| (rule, missing))) else {
        panic!("no rule for {facts:?}");
    };
    let Some(fact) = missing.or_else(|| also.iter().copied().find(|fact| !known.has(*fact))) else { return look(facts, rule) };
    let mut decided = known;
    decided.set(fact, true);
    for holds in [false, true] {
        let mut facts = facts;
        facts.set(fact, holds);
        follow(rules, also, facts, decided, look);
    }
}

/// `None`: it cannot match; `Some(None)`: it does; else the fact on which it depends.
fn may_match(rule: &Rule, facts: Facts, known: Facts) -> Option<Option<Fact>> {
    let mut missing = None;
    for all in rule.when {
        let parts = all.iter().map(|lit| match lit {
            Lit::Is(fact) => (*fact, true),
            Lit::Not(fact) => (*fact, false),
        });
        if parts.clone().any(|(fact, wanted)| known.has(fact) && facts.has(fact) != wanted) {
            continue;
        }
        match parts.map(|(fact, _)| fact).find(|fact| !known.has(*fact)) {
            None => return Some(None),
            Some(fact) => missing = missing.or(Some(fact)),
        }
    }
    missing.map(Some)
}

/// What the invariants look at.
const GUARDED: &[Fact] = &[
    Fact::Adoptable,
    Fact::Applied,
    Fact::ArbiterOk,
    Fact::Cut,
    Fact::DbOk,
    Fact::EpochSaved,
    Fact::FenceOk,
    Fact::GateShut,
    Fact::IntentOver,
    Fact::LeaseKept,
    Fact::LinkUp,
    Fact::MayStart,
    Fact::OpForce,
    Fact::Paused,
    Fact::PeerApplied,
    Fact::PeerConsents,
    Fact::PeerHeard,
    Fact::PeerHolds,
    Fact::PeerNewer,
    Fact::RemoteClear,
    Fact::VipQuiet,
    Fact::VipSet,
    Fact::Woke,
];

#[test]
fn numbers_are_unique_and_sentences_say_something() {
    let mut seen = std::collections::BTreeSet::new();
    for rule in RULES {
        assert!(seen.insert(rule.number), "rule {} stands twice", rule.number);
        assert!(
            rule.sentence.ends_with('.') || rule.sentence.ends_with("{risk}."),
            "rule {}: {:?} is no sentence",
            rule.number,
            rule.sentence
        );
    }
}

#[test]
fn every_fact_is_read() {
    let read: Vec<Fact> = State::ALL.iter().flat_map(|state| read_by(*state)).collect();
    for fact in Fact::ALL {
        assert!(read.contains(fact), "no rule reads {}", fact.text());
    }
}

#[test]
fn every_state_has_an_answer_to_everything_and_a_way_out() {
    for state in State::ALL {
        let rules = rules_of(state);
        assert!(rules.last().is_some_and(|rule| rule.when.iter().any(|all| all.is_empty())), "{} has no last resort", state.name());
        assert!(state == State::Stopped || rules.iter().any(|rule| rule.to != state), "{} has no exit", state.name());
    }
}

#[test]
fn every_rule_fires_somewhere() {
    for state in State::ALL {
        let mut fired = std::collections::BTreeSet::new();
        let table = Table::new(RULES);
        for_all_facts(state, &[], |facts, rule| {
            assert!(holds(rule.when, facts), "rule {} fires although it does not hold", rule.number);
            assert_eq!(table.first_match(state, facts).number, rule.number, "another rule comes first");
            fired.insert(rule.number);
        });
        for rule in rules_of(state) {
            assert!(fired.contains(&rule.number), "rule {} never fires in {}", rule.number, state.name());
        }
    }
}

/// What no combination of facts may lead to.
#[test]
fn no_facts_break_an_invariant() {
    for state in State::ALL {
        for_all_facts(state, GUARDED, |facts, rule| {
            let number = rule.number;
            let has = |fact| facts.has(fact);
            if rule.to.holds() && !state.holds() {
                assert!(matches!(state, State::Gate | State::Boot), "rule {number} claims from {}", state.name());
            }
            if rule.to == State::Open && state == State::Gate {
                let consent = has(Fact::PeerConsents) && has(Fact::Mine) && has(Fact::Applied);
                let silence = !has(Fact::PeerHeard) && has(Fact::VipQuiet) && has(Fact::IntentOver);
                let proof =
                    (has(Fact::RemoteClear) && has(Fact::FenceOk) && has(Fact::Applied) && !has(Fact::Paused)) || has(Fact::OpForce);
                assert!(has(Fact::EpochSaved) && (consent || (silence && proof)), "rule {number} opens without proof");
                assert!(consent || has(Fact::ArbiterOk), "rule {number} claims by silence without the arbiter's lease");
                assert!(!has(Fact::Cut) && has(Fact::LinkUp) && has(Fact::DbOk), "rule {number} opens while cut off or broken");
            }
            if rule.to == State::Active && state == State::Boot {
                assert!(has(Fact::Adoptable) && has(Fact::MayStart) && !has(Fact::PeerHolds), "rule {number} adopts without a lease");
            }
            if state == State::Quarantined && !matches!(rule.to, State::Quarantined | State::Stopping) {
                let agreed = has(Fact::PeerEcho) && has(Fact::Agrees);
                assert!(rule.to == State::Standby && (agreed || has(Fact::OpForce)), "rule {number} leaves the quarantine, merged or not");
            }
            if rule.to == State::Active && state == State::Address {
                assert!(has(Fact::VipSet) && has(Fact::LeaseKept), "rule {number} serves without the address");
            }
            if matches!(state, State::Granted | State::Release | State::Stopping) {
                assert!(!rule.to.holds(), "rule {number}: nothing goes back from {}", state.name());
            }
            if rule.to == State::Granted && state != State::Granted {
                assert!(has(Fact::PeerApplied), "rule {number} grants before the peer has everything");
                assert!(has(Fact::GateShut), "rule {number} grants while clients reach the server");
            }
            if state.holds() && has(Fact::Woke) {
                assert_eq!(rule.to, State::Release, "rule {number} goes on after standing still");
            }
            if state.holds() && !has(Fact::ArbiterOk) {
                assert_eq!(rule.to, State::Release, "rule {number} holds without anything that keeps the peer from claiming");
            }
            if rule.to == State::Active && state == State::Boot {
                assert!(has(Fact::ArbiterOk), "rule {number} carries on without the arbiter's lease or a peer that hears it");
            }
            if state.holds() && has(Fact::PeerNewer) {
                assert_eq!(rule.to, State::Release, "rule {number} ignores a newer epoch");
            }
            if matches!(state, State::Open | State::Address | State::Active) && has(Fact::Cut) {
                assert_eq!(rule.to, State::Release, "rule {number} stays while cut off");
            }
        });
    }
}
