//! The decision table. First match wins; its number and sentence go to the log and the history. Nothing here computes anything.

use super::fact::Fact::{self, *};
use super::fact::Facts;
use super::state::State::{self, *};

/// One literal of a condition.
#[derive(Debug, Clone, Copy)]
pub enum Lit {
    Is(Fact),
    Not(Fact),
}
use Lit::{Is, Not};

/// Alternatives of conjunctions; `&[&[]]` is "always".
type When = &'static [&'static [Lit]];

#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub number: u16,
    pub from: &'static [State],
    pub when: When,
    pub to: State,
    /// What the operator reads; {peer}, {vip}, {epoch}, {peer_epoch}, {why}, {mac}, {extra}, {risk} are filled in.
    pub sentence: &'static str,
}

const ALWAYS: When = &[&[]];

macro_rules! rule {
    ($number:literal, [$($from:ident)+], $when:expr, $to:ident, $sentence:literal) => {
        Rule { number: $number, from: &[$($from),+], when: $when, to: $to, sentence: $sentence }
    };
}

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule!(1, [Open Address Active Fence Drain], &[&[Is(Woke)]], Release, "I stood still for {gap} ms, longer than my leases: letting go before I believe anything I read."),
    rule!(16, [Gate], &[&[Is(Woke)]], Standby, "I stood still for {gap} ms: what I had proved is stale."),
    rule!(2, [Open Address Active Fence Drain], &[&[Is(PeerNewer)]], Release, "{peer} leads epoch {peer_epoch}, mine is {epoch}: I yield."),
    rule!(11, [Open Address Active], &[&[Is(PeerClaims)]], Release, "{peer} hears nothing of me, gets no answer for {vip} and claims it: I yield."),
    rule!(3, [Open Address Active], &[&[Is(VipContested), Not(PeerEcho)]], Release, "{mac} announces {vip} too and I cannot talk to {peer}: the older claim yields."),
    rule!(4, [Address Active], &[&[Is(VipSet), Not(LeaseKept)]], Release, "The address lease could not be renewed in time ({why})."),
    rule!(5, [Open Address Active], &[&[Is(Cut)]], Release, "Cut off: neither {peer} nor a ping target answers; letting go before {peer} may take over."),
    rule!(17, [Open Address Active Fence Drain], &[&[Not(ArbiterOk)]], Release, "The arbiter's lease is not mine any more ({arbiter}) and {peer} has not heard me lately: letting go before {peer} may take over."),
    rule!(7, [Active], &[&[Is(OpStop), Is(PeerEcho), Is(PeerReady), Is(PeerCurrent), Is(DbOk)]], Fence, "Stopping: handing over to {peer}."),
    rule!(8, [Open Address Active], &[&[Is(OpStop)]], Release, "Stopping without a successor: {peer_why}."),
    rule!(74, [Active], &[&[Not(VipSet), Not(Adoptable)]], Release, "{vip} could not be taken up again after the restart: its lease has ended."),
    rule!(9, [Boot Standby Gate Isolated Failed Quarantined], &[&[Is(OpStop)]], Stopping, "Stopping; nothing is held."),
    rule!(6, [Granted], &[&[Is(OpStop), Is(TimeOver)]], Stopping, "Stopping; {peer} was granted epoch and has not confirmed."),

    rule!(10, [Boot], &[&[Is(Settled), Is(Life), Is(Adoptable), Is(DbRw), Is(EpochOk), Is(MayStart), Is(ArbiterOk), Not(PeerHolds)]], Active, "I held epoch {epoch} a moment ago and its lease still runs: carrying on."),
    rule!(12, [Boot], &[&[Is(Settled), Is(PeerEcho), Is(EpochOk)]], Standby, "{peer} heard: joining as standby."),
    rule!(13, [Boot], &[&[Is(Settled), Is(InitOver), Is(EpochOk), Is(MayStart)], &[Is(Settled), Is(EpochOk), Is(OpForce)]], Standby, "{peer} not heard for initdead; I was the last to hold {vip} (or was told to go on)."),
    rule!(14, [Boot], &[&[Is(InitOver)]], Boot, "{peer} not heard and it may hold newer data, or my epoch file is unreadable ({why}): not starting alone. Start {peer}, or `mmha switchover --force`."),
    rule!(19, [Boot], ALWAYS, Boot, "Waiting for {peer}."),

    rule!(20, [Standby Gate], &[&[Is(PeerEcho), Is(Extra), Not(OpForce)]], Quarantined, "This node has {extra} that {peer} lacks: quarantined, nothing is applied or discarded."),
    rule!(21, [Standby Gate], &[&[Not(DbOk)], &[Not(DiskOk)]], Failed, "My server is {why}."),
    rule!(23, [Standby], &[&[Is(PeerConsents), Is(Mine), Is(LinkUp)]], Gate, "{peer} holds nothing and agrees that {vip} is mine."),
    rule!(25, [Standby], &[&[Is(PeerHeard), Not(PeerEcho), Not(PeerLate)]], Standby, "I hear {peer}, it does not hear me: a one-way cut; not taking over."),
    rule!(27, [Standby], &[&[Is(Cut)]], Isolated, "Cut off: cannot tell whether {peer} is alive."),
    rule!(68, [Standby Gate], &[&[Is(Paused), Not(PeerHeard), Not(OpForce)]], Standby, "Paused: {peer} is silent and nothing moves. `mmha resume` ends the pause, `mmha switchover --force` takes {vip} at once."),
    rule!(28, [Standby], &[&[Not(PeerHeard), Is(Alone)], &[Not(PeerHeard), Is(OpForce)]], Gate, "{peer} is silent: gathering proof that it is gone."),
    rule!(24, [Standby], &[&[Not(PeerHeard)]], Standby, "{peer} is silent, but I was not in sync with it when it was last heard: not taking over. `mmha switchover --force` accepts the loss of {risk}."),
    rule!(26, [Standby], &[&[Is(PeerHolds)]], Standby, "{peer} serves {vip}."),
    rule!(29, [Standby], ALWAYS, Standby, "Nobody holds {vip} yet: agreeing with {peer} who takes it ({peer_why})."),

    rule!(31, [Gate], &[&[Is(Cut)], &[Not(LinkUp)]], Isolated, "Cut off while gathering proof."),
    rule!(22, [Gate], &[&[Is(VipTaken), Is(PeerConsents), Not(OpForce)]], Gate, "{peer} does not hold {vip}, but another host, {mac}, answers for it: not taking it. Find that host and remove the address there."),
    rule!(39, [Gate], &[&[Is(PeerConsents), Is(Mine), Is(Applied), Is(EpochSaved)]], Open, "{peer} let go and I have everything: taking epoch {epoch}."),
    rule!(30, [Gate], &[&[Is(PeerHeard), Not(PeerConsents)]], Standby, "{peer} is heard again."),
    rule!(37, [Gate], &[&[Not(PeerHeard), Not(Alone), Not(OpForce)]], Standby, "{peer} is silent and has served since I last heard it: it may have what I lack."),
    rule!(32, [Gate], &[&[Is(VipAnswered), Not(PeerConsents)]], Gate, "{peer} is silent but {mac} still answers for {vip}: not taking it."),
    rule!(34, [Gate], &[&[Not(EpochOk)]], Gate, "The epoch file cannot be written ({why}): not taking {vip}."),
    rule!(69, [Gate], &[&[Is(Duel), Not(PeerConsents), Not(OpForce)]], Gate, "{peer} is silent and probes for {vip} too: it goes first."),
    rule!(33, [Gate], &[&[Not(PeerConsents), Not(VipQuiet)]], Gate, "Probing {vip}."),
    rule!(18, [Gate], &[&[Not(PeerHeard), Not(ArbiterOk)]], Gate, "Waiting for the arbiter's lease: {arbiter}."),
    rule!(36, [Gate], &[&[Not(RemoteClear), Not(PeerConsents), Not(OpForce)]], Gate, "{peer}'s agent is silent; making sure that its server is closed ({remote})."),
    rule!(38, [Gate], &[&[Not(Applied), Not(OpForce)]], Gate, "Not everything that was received, or that {peer} was seen to have of my own writes, is applied here: {behind} to go."),
    rule!(15, [Gate], &[&[Not(FenceOk), Not(PeerConsents), Not(OpForce)]], Gate, "Having {peer} fenced before {vip} is taken ({fence})."),
    rule!(35, [Gate], &[&[Not(PeerHeard), Is(VipQuiet), Is(RemoteClear), Is(FenceOk), Is(Applied), Is(ArbiterOk), Is(EpochSaved), Is(IntentOver)],
                        &[Not(PeerHeard), Is(VipQuiet), Is(OpForce), Is(ArbiterOk), Is(EpochSaved), Is(IntentOver)]], Open, "All proof is there: {peer} is gone, taking epoch {epoch}; {risk} at risk."),
    rule!(40, [Gate], ALWAYS, Gate, "Announcing my claim."),

    rule!(41, [Open Address], &[&[Is(VipAnswered), Not(PeerEcho), Not(VipSet)], &[Is(VipTaken), Not(OpForce)]], Release, "{mac} answers for {vip} after all: backing off."),
    rule!(42, [Open Address], &[&[Is(PeerHolds), Is(PeerEcho)]], Release, "{peer} serves after all."),
    rule!(43, [Open Address], &[&[Is(DbDead)], &[Is(DbHung)]], Release, "My server is {why}: could not open."),
    rule!(44, [Open], &[&[Is(DbRw), Is(EpochSaved)]], Address, "Open for writes; adding {vip}."),
    rule!(45, [Open Address], &[&[Is(TimeOver)], &[Not(EpochOk)]], Release, "Could not open the server or add {vip} ({why})."),
    rule!(46, [Open], ALWAYS, Open, "Opening the server for writes."),
    rule!(47, [Address], &[&[Is(VipSet), Is(LeaseKept)]], Active, "{vip} is here and announced."),
    rule!(48, [Address], ALWAYS, Address, "Adding {vip}."),

    rule!(50, [Active], &[&[Is(DbDead), Is(PeerReady), Is(PeerEcho), Is(PeerSynced)], &[Is(DbHung), Is(PeerReady), Is(PeerEcho), Is(PeerSynced), Not(Flapping)]], Release, "My server is {why}; {peer} is ready and in sync: resigning."),
    rule!(52, [Active], &[&[Not(DbOk), Not(DbDead), Not(DbHung), Is(PeerReady), Is(PeerEcho), Is(PeerSynced), Not(Flapping)],
                          &[Not(DiskOk), Not(DbDead), Not(DbHung), Is(PeerReady), Is(PeerEcho), Is(PeerSynced), Not(Flapping)]], Release, "My server is {why}; {peer} is ready and in sync: resigning."),
    rule!(49, [Active], &[&[Is(DbFoundClosed)]], Release, "My server was restarted or set read-only by somebody: comparing before it is opened again."),
    rule!(51, [Active], &[&[Not(DbOk)], &[Not(DiskOk)]], Active, "My server is {why} and {vip} does not move ({peer_why}): keeping it, reopening when the server is back."),
    rule!(54, [Active], &[&[Is(OpSwitch), Is(PeerReady), Is(PeerCurrent), Is(PeerEcho), Is(DbOk)]], Fence, "Switchover to {peer} as requested."),
    rule!(53, [Active], &[&[Is(PeerAsks), Is(PeerReady), Is(PeerCurrent), Is(PeerEcho), Is(DbOk)]], Fence, "Switchover to {peer}, requested there."),
    rule!(55, [Active], &[&[Is(OpSwitch)]], Active, "Switchover refused: {peer_why}."),
    rule!(57, [Active], &[&[Is(PeerPreferred), Is(PeerStable), Is(PeerReady), Is(PeerCurrent), Is(PeerEcho), Is(DbOk), Not(Flapping)]], Fence, "{peer} is preferred, healthy and caught up: failing back."),
    rule!(56, [Active], &[&[Is(Flapping), Is(PeerPreferred), Is(PeerStable)]], Active, "Not failing back to {peer}: {vip} has left this node too often lately. `mmha resume` releases this brake."),
    rule!(59, [Active], ALWAYS, Active, "Serving."),

    rule!(60, [Fence Drain], &[&[Is(DbDead)], &[Is(DbHung)]], Release, "My server is {why} during the handover: resigning."),
    rule!(62, [Fence Drain], &[&[Is(Cut)]], Release, "Cut off during the handover."),
    rule!(58, [Fence Drain], &[&[Is(OpStop), Not(PeerEcho)], &[Is(OpStop), Not(PeerReady)], &[Is(OpStop), Is(TimeOver)]], Release, "{peer} cannot take it in time ({peer_why}) and I am stopping: letting go."),
    rule!(61, [Fence Drain], &[&[Not(PeerEcho)], &[Not(PeerReady)]], Active, "{peer} cannot take it ({peer_why}); nothing was granted: reopening."),
    rule!(63, [Fence], &[&[Is(DbClosed)]], Drain, "Closed at {closed}; {peer} applies the rest."),
    rule!(64, [Drain], &[&[Is(PeerApplied), Is(EpochSaved), Is(GateShut)]], Granted, "{peer} has everything: letting go of {vip}; from here no way back."),
    rule!(65, [Fence Drain], &[&[Is(TimeOver)]], Active, "Handover not finished in time ({why}): reopening; nothing was granted."),
    rule!(66, [Fence], ALWAYS, Fence, "Closing the server for writes."),
    rule!(67, [Drain], ALWAYS, Drain, "Waiting for {peer} to apply everything."),

    rule!(70, [Granted], &[&[Is(PeerNewer)]], Standby, "{peer} serves epoch {peer_epoch}."),
    rule!(71, [Granted], &[&[Is(PeerRefuses)]], Standby, "{peer} declined the handover ({peer_why})."),
    rule!(72, [Granted], &[&[Is(TimeOver), Not(PeerHeard)]], Standby, "{peer} vanished after the grant: ordinary proof is needed before I take {vip} again."),
    rule!(73, [Granted], ALWAYS, Granted, "Granted to {peer}; waiting for it to serve."),

    rule!(80, [Release], &[&[Not(VipGone)]], Release, "Letting go of {vip}; it is no longer renewed."),
    rule!(81, [Release], &[&[Not(GateShut)]], Release, "Write gate not confirmed shut; it ends by itself."),
    rule!(82, [Release], &[&[Is(OpStop), Is(DbRo)], &[Is(OpStop), Is(DbDead)], &[Is(OpStop), Is(TimeOver)]], Stopping, "Released."),
    rule!(83, [Release], &[&[Is(Cut), Is(DbRo)], &[Is(Cut), Is(DbDead)], &[Is(Cut), Is(TimeOver)]], Isolated, "Released; cut off."),
    rule!(84, [Release], &[&[Is(DbDead)], &[Is(DbHung)]], Failed, "Released; my server is {why}, its clients are cut off."),
    rule!(85, [Release], &[&[Is(DbRo)]], Standby, "Released."),
    rule!(86, [Release], &[&[Is(TimeOver)]], Failed, "Released, but the server did not confirm read-only ({why}): treating it as failed, trying on."),
    rule!(87, [Release], ALWAYS, Release, "Released; the server is being set read-only."),

    rule!(90, [Isolated], &[&[Is(LinkUp), Not(Cut)]], Standby, "The network is back."),
    rule!(91, [Isolated], ALWAYS, Isolated, "Still cut off."),
    rule!(92, [Failed], &[&[Is(DbOk), Is(DbRo), Is(DiskOk)]], Standby, "My server is healthy again."),
    rule!(93, [Failed], ALWAYS, Failed, "My server is {why}; it is fenced as soon as it answers."),
    rule!(94, [Quarantined], &[&[Is(PeerEcho), Is(Agrees)]], Standby, "The data agrees again."),
    rule!(95, [Quarantined], &[&[Is(OpForce)]], Standby, "Accepted by the operator with {extra} at risk."),
    rule!(88, [Quarantined], &[&[Is(PeerHolds), Is(Merging)]], Quarantined, "Merging: {peer} fetches {extra} from here; this node follows again once {peer} has applied that."),
    rule!(96, [Quarantined], ALWAYS, Quarantined, "Quarantined: this node has {extra} that the writer lacks; it never takes over by itself."),
    rule!(97, [Stopping], &[&[Is(TimeOver)], &[Is(VipGone), Is(GateShut), Is(DbRo)], &[Is(VipGone), Is(GateShut), Is(DbDead)]], Stopped, "Stopped."),
    rule!(98, [Stopping], ALWAYS, Stopping, "Stopping."),
    rule!(99, [Stopped], ALWAYS, Stopped, "Stopped."),
];

/// A table in the form in which it is looked up: per state, each conjunction as the facts that it wants and those that it forbids.
#[derive(Debug)]
pub struct Table {
    by_state: [Vec<(Facts, Facts, &'static Rule)>; State::ALL.len()],
}

impl Table {
    pub fn new(rules: &'static [Rule]) -> Table {
        let mut by_state = [const { Vec::new() }; State::ALL.len()];
        for rule in rules {
            for all in rule.when {
                let (mut wanted, mut forbidden) = (Facts::default(), Facts::default());
                for lit in *all {
                    match lit {
                        Is(fact) => wanted.set(*fact, true),
                        Not(fact) => forbidden.set(*fact, true),
                    }
                }
                for state in rule.from {
                    by_state[*state as usize].push((wanted, forbidden, rule));
                }
            }
        }
        Table { by_state }
    }

    /// The first rule of `state` that `facts` satisfy. The table is total (tested), so the last rule of the state is the fallback.
    pub fn first_match(&self, state: State, facts: Facts) -> &'static Rule {
        let of_state = &self.by_state[state as usize];
        let found = of_state.iter().find(|(wanted, forbidden, _)| facts.has_all(*wanted) && facts.has_none(*forbidden));
        match found.or(of_state.last()) {
            Some((_, _, rule)) => rule,
            None => &RULES[RULES.len() - 1],
        }
    }
}

pub fn holds(when: When, facts: Facts) -> bool {
    when.iter().any(|all| {
        all.iter().all(|lit| match lit {
            Is(fact) => facts.has(*fact),
            Not(fact) => !facts.has(*fact),
        })
    })
}

/// Whether the flap brake can stop this rule. Each time such a rule moves the address away counts for the brake.
pub fn is_braked(rule: &Rule) -> bool {
    rule.when.iter().flat_map(|all| all.iter()).any(|lit| matches!(lit, Not(Fact::Flapping)))
}

/// One printable row of the table, for `mmha fsm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRow {
    pub number: u16,
    pub from: String,
    pub when: String,
    pub to: String,
    pub sentence: String,
}

pub fn table() -> Vec<RuleRow> {
    RULES.iter().map(row).collect()
}

fn row(rule: &Rule) -> RuleRow {
    let conjunction = |all: &&[Lit]| {
        let words: Vec<String> = all
            .iter()
            .map(|lit| match lit {
                Is(fact) => fact.text().to_owned(),
                Not(fact) => format!("not {}", fact.text()),
            })
            .collect();
        if words.is_empty() { "otherwise".to_owned() } else { words.join(" and ") }
    };
    RuleRow {
        number: rule.number,
        from: rule.from.iter().map(|state| state.name()).collect::<Vec<_>>().join(" "),
        when: rule.when.iter().map(conjunction).collect::<Vec<_>>().join(", or "),
        to: rule.to.name().to_owned(),
        sentence: rule.sentence.to_owned(),
    }
}
