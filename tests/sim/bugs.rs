//! Spoiled worlds: each must be found, or the simulator proves nothing. Decision tables with a condition less, actuators that do not do what
//! they say, limits that do not fit each other.

use mmha::core::Limits;
use mmha::core::fact::Fact;
use mmha::core::rules::{Lit, RULES, Rule};

use crate::setting::Setting;

/// Faults of the modelled actuators.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bugs {
    pub gate_never_shuts: bool,
    pub stuck_loop_renews: bool,
    pub fence_skipped: bool,
    pub epoch_not_saved: bool,
    pub epoch_forgotten: bool,
    pub recordings_trusted: bool,
    pub read_only_unconfirmed: bool,
    pub semi_sync_times_out: bool,
    pub relay_log_discarded: bool,
    pub commits_do_not_wait: bool,
    pub gap_ignored: bool,
    pub opened_unapplied: bool,
    pub address_stays: bool,
    pub hold_until_ignored: bool,
    pub term_ignored: bool,
    pub revoked_lease_kept: bool,
    pub lease_believed_whole: bool,
    pub lease_survives_power: bool,
}

/// The table without one literal, wherever it stands in the rule.
pub fn without(number: u16, fact: Fact) -> &'static [Rule] {
    changed(|rule| {
        if rule.number == number {
            let kept = |all: &&'static [Lit]| -> &'static [Lit] {
                let about = |lit: &Lit| match lit {
                    Lit::Is(of) | Lit::Not(of) => *of != fact,
                };
                Vec::leak(all.iter().copied().filter(about).collect())
            };
            rule.when = Vec::leak(rule.when.iter().map(kept).collect());
        }
        true
    })
}

/// The table without literal `at` of conjunction `all` of rule `number`.
pub fn without_literal(number: u16, all: usize, at: usize) -> &'static [Rule] {
    changed(|rule| {
        if rule.number == number {
            let mut whens: Vec<&'static [Lit]> = rule.when.to_vec();
            let mut literals = whens[all].to_vec();
            literals.remove(at);
            whens[all] = Vec::leak(literals);
            rule.when = Vec::leak(whens);
        }
        true
    })
}

pub fn without_rule(number: u16) -> &'static [Rule] {
    changed(|rule| rule.number != number)
}

pub fn changed(mut change: impl FnMut(&mut Rule) -> bool) -> &'static [Rule] {
    let mut rules = Vec::new();
    for rule in RULES {
        let mut rule = *rule;
        if change(&mut rule) {
            rules.push(rule);
        }
    }
    Vec::leak(rules)
}

/// How a world is spoiled.
#[derive(Clone, Copy)]
pub enum Spoil {
    Table(fn() -> &'static [Rule]),
    Rules(&'static [Rule]),
    Actuator(fn(&mut Bugs)),
    Limit(fn(&mut Limits)),
    Setting(fn(&mut Setting)),
    Both(fn() -> &'static [Rule], fn(&mut Bugs)),
}
