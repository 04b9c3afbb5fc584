//! A seed is a story: a world with its own habits, some kinds of faults, a safety phase, then everything is healed, and the pair must come
//! to rest. Every second seed has one fault at a time, each healed before the next.

use crate::bugs::Spoil;
use crate::chance::Chance;
use crate::queue::Us;
use crate::setting::{Setting, limits};
use crate::world::World;

const S: Us = 1_000_000;
/// Within this much of the world's time after everything is healed, one node serves (initdead, a server's start, a claim's rest).
const SETTLED_US: Us = 90 * S;
/// Moves after that: a claim, a failback, and a second of each where one came to nothing.
const MOVES: u64 = 4;

/// What breaks, what mends it, and how long it may last at most in seconds.
struct Kind(&'static str, &'static str, u64);

const KINDS: &[Kind] = &[
    Kind("power_off", "power_on", 12),
    Kind("kill_server", "start_server", 12),
    Kind("hang_server", "start_server", 12),
    Kind("freeze", "thaw", 8),
    Kind("sleep", "go_on", 8),
    Kind("pause", "go_on", 8),
    Kind("stick", "thaw", 5),
    Kind("kill_agent", "start_agent", 4),
    Kind("stop", "start_agent", 12),
    Kind("switchover", "", 3),
    Kind("cut_udp", "mend_links", 12),
    Kind("cut_udp_from", "mend_links", 12),
    Kind("cut_tcp", "mend_links", 12),
    Kind("cut_links", "mend_links", 12),
    Kind("cut_lan", "mend_lan", 12),
    Kind("cut_cable", "mend_cable", 12),
    Kind("cut_gateway", "mend_gateway", 12),
    Kind("lose", "lose_nothing", 12),
    Kind("replay", "replay_nothing", 12),
    Kind("disk_full", "disk_free", 12),
    Kind("disk_slow", "disk_fast", 12),
    Kind("slow_server", "quick_server", 12),
    Kind("lag", "keep_up", 12),
    Kind("stall", "unstall", 12),
    Kind("vip_broken", "vip_mended", 12),
];

/// And with an arbiter, which makes survivable what two nodes alone do not survive.
const ARBITER_KINDS: &[Kind] = &[
    Kind("arbiter_down", "arbiter_up", 12),
    Kind("cut_arbiter", "mend_arbiter", 12),
    Kind("slow_arbiter", "quick_arbiter", 12),
    Kind("arbiter_elects", "", 1),
    Kind("depose_leader", "mend_arbiter", 12),
    Kind("pause", "go_on", 30),
    Kind("cut_layer_2", "mend_links", 30),
    Kind("cut_all_but_gateway", "mend_parts", 30),
    Kind("part_with_old_leader", "mend_parts", 30),
];

const MOVING: [&str; 8] = ["gate", "open", "address", "active", "fence", "drain", "granted", "release"];

/// What came of a story.
pub struct Outcome {
    pub fault: Option<String>,
    pub hash: u64,
    pub model_us: Us,
    pub steps: u64,
    pub decisions: u64,
    pub writes: u64,
    pub moves: u64,
    pub exposed_us: Us,
    pub arbiter: bool,
}

/// The habits of a seed's world.
fn setting(chance: &mut Chance) -> Setting {
    let mut set = Setting { limits: limits(), ..Setting::calm() };
    set.limits.lossless = !chance.per_mille(250);
    set.limits.auto_failback = !chance.per_mille(200);
    set.delay_us = chance.one(&[[80, 300], [80, 300], [300, 3_000], [1_000, 40_000]]);
    set.lost = chance.one(&[0, 0, 0, 20, 100]);
    set.twice = chance.one(&[0, 0, 50]);
    set.late = chance.one(&[0, 0, 20]);
    set.lan_lost = chance.one(&[0, 0, 5, 50]);
    set.write_us = chance.one(&[20_000, 100_000, 400_000]);
    set.lease_late_us = chance.one(&[0, 300_000, 1_300_000]);
    set.thread_us = chance.one(&[200, 200, 1_000, 5_000]);
    for rate in &mut set.rates {
        *rate = chance.one(&[1_000_000, 990_000, 1_010_000, 1_000_050]);
    }
    set
}

/// Every fourth pair or so has an arbiter; drawn apart, so that the other stories stay what they were.
fn arbiter_chance(seed: u64) -> Option<Chance> {
    let mut chance = Chance::new(seed ^ 0xa4b1);
    chance.per_mille(250).then_some(chance)
}

pub fn has_arbiter(seed: u64) -> bool {
    arbiter_chance(seed).is_some()
}

fn with_arbiter(seed: u64, set: &mut Setting) -> Vec<&'static Kind> {
    let Some(mut chance) = arbiter_chance(seed) else { return Vec::new() };
    set.limits.arbiter_ttl = Some(chance.one(&[5_000, 5_000, 10_000]));
    // Nothing but the lease keeps two nodes from acknowledging where commits do not wait.
    set.limits.lossless = !chance.per_mille(500);
    // Without a ping target a cut makes two writers, unless there is an arbiter.
    set.limits.ping_configured = !chance.per_mille(250);
    set.etcd_us = chance.one(&[[300, 2_000], [300, 2_000], [2_000, 60_000]]);
    set.etcd_rate = chance.one(&[1_000_000, 999_900, 1_000_100]);
    set.etcd_behind_gateway = chance.per_mille(500);
    (0..1 + chance.below(3)).map(|_| &ARBITER_KINDS[chance.below(ARBITER_KINDS.len() as u64) as usize]).collect()
}

struct Teller {
    world: World,
    chance: Chance,
    kinds: Vec<&'static Kind>,
}

impl Teller {
    fn pause(&mut self, most_s: u64) -> Us {
        let limit = self.chance.one(&[2_000, 20_000, 300_000, 3 * S, most_s * S]);
        self.chance.below(limit.min(most_s * S) + 1)
    }

    /// Time passes; a fault that lies in ambush strikes a moment after its state has come.
    fn wait(&mut self, time: Us) {
        let end = self.world.now + time;
        while self.world.now < end && self.world.watch.fault.is_none() {
            self.world.run(end - self.world.now);
            if std::mem::take(&mut self.world.watch.sprung) {
                self.world.watch.ambush = None;
                let limit = self.chance.one(&[100, 1_000, 10_000]);
                let moment = self.chance.below(limit);
                self.world.run(moment);
                self.world.watch.sprung = false;
                self.strike();
            }
        }
    }

    fn strike(&mut self) -> (&'static Kind, usize) {
        let (at, which) = (self.chance.below(2) as usize, self.chance.below(self.kinds.len() as u64) as usize);
        let kind = self.kinds[which];
        self.world.act(kind.0, at);
        (kind, at)
    }

    fn mend(&mut self, kind: &Kind, at: usize) {
        if !kind.1.is_empty() {
            self.world.act(kind.1, at);
        }
    }

    fn one_by_one(&mut self) {
        for _ in 0..1 + self.chance.below(3) {
            if self.chance.per_mille(400) {
                let state = self.chance.one(&MOVING);
                let (mover, watched) = (self.chance.below(2) as usize, self.chance.below(2) as usize);
                self.world.watch.ambush = Some((watched, state));
                self.world.act(self.ask(), mover);
                let (end, before) = (self.world.now + 3 * S, self.world.now);
                self.world.run(end - before);
                (self.world.watch.sprung, self.world.watch.ambush) = (false, None);
                let limit = self.chance.one(&[100, 1_000, 10_000]);
                let moment = self.chance.below(limit);
                self.world.run(moment);
            }
            let (kind, at) = self.strike();
            let time = self.pause(kind.2);
            self.wait(time);
            self.mend(kind, at);
            self.settle("after one fault");
            let time = self.pause(12);
            self.wait(time);
            self.settle("after one fault");
        }
    }

    fn ask(&self) -> &'static str {
        "switchover"
    }

    fn all_at_once(&mut self) {
        for _ in 0..2 + self.chance.below(8) {
            if self.chance.per_mille(300) {
                let state = self.chance.one(&MOVING);
                self.world.watch.ambush = Some((self.chance.below(2) as usize, state));
            }
            let (at, which) = (self.chance.below(2) as usize, self.chance.below(self.kinds.len() as u64) as usize);
            let kind = self.kinds[which];
            match self.chance.below(3) {
                0 => self.mend(kind, at),
                _ => self.world.act(kind.0, at),
            }
            if self.chance.per_mille(3) {
                self.world.act("force", at);
            }
            let time = self.pause(kind.2);
            self.wait(time);
        }
        // The last act itself may have sprung it.
        (self.world.watch.sprung, self.world.watch.ambush) = (false, None);
    }

    /// Healed: within a bound one node serves and the other rests, and then nothing moves for ever.
    fn settle(&mut self, when: &str) {
        let before = self.world.watch.moves;
        let end = self.world.now + SETTLED_US;
        while self.world.watch.fault.is_none() && !self.world.settled() && self.world.now < end {
            for at in 0..2 {
                self.world.act("start_agent", at);
            }
            self.world.run(S / 2);
        }
        if !self.world.settled() {
            let states = self.world.states();
            return self.world.watch.fail(format!("not settled within {} s {when}: {states}", SETTLED_US / S));
        }
        if self.world.watch.moves - before > MOVES {
            let states = self.world.states();
            self.world.watch.fail(format!("{} moves {when}: {states}", self.world.watch.moves - before));
        }
    }

    fn tell(&mut self, seed: u64) {
        for at in 0..2 {
            self.world.nodes[at].server.slow_us = self.chance.one(&[0, 0, 2_000, 30_000, 200_000]);
            self.world.nodes[at].server.lag_us = self.chance.one(&[0, 0, 0, 20_000, 500_000]);
            self.world.nodes[at].disk_us = self.chance.one(&[300, 1_000, 20_000, 200_000]);
            self.world.start(at);
        }
        if seed.is_multiple_of(2) {
            self.settle("at the start");
            self.wait(3 * S);
            self.one_by_one();
        } else {
            let time = self.chance.one(&[0, 3 * S, 9 * S]);
            self.wait(time);
            self.all_at_once();
        }
        self.world.heal();
        let before = self.world.watch.moves;
        self.settle("after everything was healed");
        // Failback may be under way; it must come to an end.
        self.world.run(15 * S);
        self.settle("after everything was healed");
        let moves = self.world.watch.moves - before;
        if moves > MOVES {
            self.world.watch.fail(format!("{moves} moves after everything was healed"));
        }
        // With several faults at once a row may be on a disk that nobody waited for: told by the quarantine, and not promised.
        let kept = self.world.set.limits.lossless && !self.world.watch.forced && seed.is_multiple_of(2);
        let lost = self.world.lost();
        if kept && lost != Some(0) {
            let states = self.world.states();
            self.world.watch.fail(format!("{lost:?} acknowledged rows missing, {states}"));
        }
    }
}

pub fn tell(seed: u64, spoil: Option<Spoil>) -> Outcome {
    let mut chance = Chance::new(seed);
    let mut set = setting(&mut chance);
    let arbiters = with_arbiter(seed, &mut set);
    match spoil {
        Some(Spoil::Table(table)) => set.rules = table(),
        Some(Spoil::Rules(rules)) => set.rules = rules,
        Some(Spoil::Actuator(spoil)) => spoil(&mut set.bugs),
        Some(Spoil::Limit(spoil)) => spoil(&mut set.limits),
        Some(Spoil::Setting(spoil)) => spoil(&mut set),
        Some(Spoil::Both(table, spoil)) => {
            set.rules = table();
            spoil(&mut set.bugs);
        }
        None => {}
    }
    let mut kinds: Vec<&'static Kind> = Vec::new();
    for _ in 0..1 + chance.below(6) {
        kinds.push(&KINDS[chance.below(KINDS.len() as u64) as usize]);
    }
    // With an arbiter half of what breaks is about it.
    kinds.extend(arbiters.iter().cycle().take(if arbiters.is_empty() { 0 } else { kinds.len() }));
    let mut teller = Teller { world: World::new(seed ^ 0x5eed, set), chance, kinds };
    let began = teller.world.now;
    teller.tell(seed);
    let watch = &mut teller.world.watch;
    Outcome {
        fault: watch.fault.take(),
        hash: watch.hash,
        model_us: teller.world.now - began,
        steps: watch.steps,
        decisions: watch.decisions,
        writes: watch.writes,
        moves: watch.moves,
        exposed_us: watch.exposed_us,
        arbiter: teller.world.arbiter.is_some(),
    }
}
