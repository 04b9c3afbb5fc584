//! The modelled arbiter: one lease with a length, an outage for all or for one node, and what `act::arbiter` does with it. It answers at once;
//! what it believes for how long is the same arithmetic as in the program.

use mmha::core::event::{ArbiterSeen, Event};
use mmha::core::want::{ArbiterOrder, Hold};

use crate::node::step;
use crate::world::World;

const TTL_MS: u64 = 5_000;
/// The write gate with 1 %, and 25 ms.
const CLOSING_MS: u64 = 1_515 + 25;

pub struct Arbiter {
    pub up: bool,
    pub ttl_ms: u64,
    down_ms: u64,
    /// Which lease the key is under, whose it is, and when it ends.
    key: Option<(u64, usize, u64)>,
    next_lease: u64,
    clients: [Client; 2],
}

#[derive(Default)]
struct Client {
    cut: bool,
    lease: Option<u64>,
    /// /run/mmha/arbiter.
    memory: Option<u64>,
    order: Option<ArbiterOrder>,
    next_ms: u64,
}

impl Arbiter {
    fn new(ttl_ms: u64) -> Arbiter {
        Arbiter { up: true, ttl_ms, down_ms: 0, key: None, next_lease: 1, clients: Default::default() }
    }

    /// The agent has been started anew; `power`: with its box.
    pub fn boot(&mut self, at: usize, power: bool) {
        let client = &mut self.clients[at];
        client.memory = client.memory.filter(|_| !power);
        (client.lease, client.order, client.next_ms) = (client.memory, None, 0);
    }

    fn ask(&mut self, at: usize, order: ArbiterOrder, reachable: bool, now: u64) -> ArbiterSeen {
        let open = self.up && reachable && !self.clients[at].cut;
        let key = self.key.filter(|(_, _, ends)| now < *ends);
        let client = &mut self.clients[at];
        if order.hold == Hold::No {
            client.memory = None;
            let given_back = client.lease.take().is_some_and(|lease| open && key.is_some_and(|(held, _, _)| held == lease));
            self.key = key.filter(|_| !given_back);
        }
        if !open {
            return ArbiterSeen::Unreachable("no endpoint answers".to_owned());
        }
        if key.is_none_or(|(held, _, _)| client.lease != Some(held)) {
            (client.lease, client.memory) = (None, None);
        }
        match (order.hold, client.lease, self.key.filter(|(_, _, ends)| now < *ends)) {
            (Hold::Yes, None, None) => {
                client.lease = Some(self.next_lease);
                self.next_lease += 1;
            }
            (_, Some(_), _) => {}
            (_, None, None) => return ArbiterSeen::Free,
            (_, None, Some((_, owner, _))) => return ArbiterSeen::Taken { by: ["db-01", "db-02"][owner].to_owned() },
        }
        client.memory = client.lease;
        self.key = client.lease.map(|lease| (lease, at, now + self.ttl_ms));
        // 1 % for the clocks.
        ArbiterSeen::Mine { asked_ms: now, until_ms: now + self.ttl_ms * 99 / 100 - CLOSING_MS }
    }
}

impl World {
    /// What `do arbiter …` means.
    pub(super) fn arbiter_act(&mut self, words: &[&str]) {
        let node = |name: &&str| usize::from(*name == "db-02");
        match words {
            ["on", ttl @ ..] => {
                let ttl_ms = ttl.first().map_or(TTL_MS, |ttl| ttl.trim_end_matches("ms").parse().expect("a number of ms"));
                self.arbiter = Some(Arbiter::new(ttl_ms));
                self.boot(0);
                self.boot(1);
            }
            [what, rest @ ..] => {
                let now = self.now;
                let arbiter = self.arbiter.as_mut().expect("`do arbiter on` first");
                match (*what, rest) {
                    ("up", []) if arbiter.up => {}
                    // A new leader gives every lease that nobody has ended its whole length again.
                    ("up", []) => {
                        arbiter.up = true;
                        arbiter.key = arbiter
                            .key
                            .filter(|(_, _, ends)| arbiter.down_ms < *ends)
                            .map(|(lease, at, _)| (lease, at, now + arbiter.ttl_ms));
                    }
                    ("down", []) => (arbiter.up, arbiter.down_ms) = (false, if arbiter.up { now } else { arbiter.down_ms }),
                    ("cut", [name]) => arbiter.clients[node(name)].cut = true,
                    ("mend", []) => arbiter.clients.iter_mut().for_each(|client| client.cut = false),
                    other => panic!("no act arbiter {other:?}"),
                }
            }
            [] => panic!("do arbiter what?"),
        }
    }

    /// The arbiter's thread of one node.
    pub(super) fn ask_arbiter(&mut self, at: usize, order: ArbiterOrder) {
        let now = self.now;
        let Some(arbiter) = &mut self.arbiter else { return };
        let client = &mut arbiter.clients[at];
        if client.order == Some(order) && now < client.next_ms {
            return;
        }
        client.order = Some(order);
        let reachable = self.nodes[at].carrier && self.nodes[at].ping;
        let seen = arbiter.ask(at, order, reachable, now);
        let calm = matches!(seen, ArbiterSeen::Mine { .. }) || order.hold == Hold::No;
        // A node that wants the lease asks more often.
        arbiter.clients[at].next_ms = now + if calm { arbiter.ttl_ms / 3 } else { arbiter.ttl_ms / 10 };
        step(&mut self.nodes[at], Event::Arbiter { turn: order.turn, seen }, now);
    }
}
