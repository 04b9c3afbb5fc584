//! What the program's inner parts cost, in nanoseconds: `cargo bench`. Each figure is the median of several batches, beside the cost of one
//! SHA-256 over a kilobyte in the same run, because machines differ. It asserts nothing.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mmha::config::authkeys::Authkeys;
use mmha::core::event::{Event, Heard, Ms};
use mmha::core::fact::{Fact, Facts};
use mmha::core::history::History;
use mmha::core::rules::{RULES, Table};
use mmha::core::state::State;
use mmha::core::{Core, Identity, Limits};
use mmha::peer::codec;
use mmha::peer::session::Sessions;
use sha2::{Digest, Sha256};

const BATCHES: usize = 15;
const BATCH: Duration = Duration::from_millis(20);

fn main() {
    let kilobyte = [7_u8; 1024];
    let unit = measure(|_| Sha256::digest(black_box(kilobyte)));
    println!("{:<44} {unit:>10.0} ns", "SHA-256 of 1 KiB");
    let show = |name: &str, ns: f64| println!("{name:<44} {ns:>10.0} ns   {:>6.2} of that", ns / unit);

    let table = Table::new(RULES);
    show("rules: first match", measure(|turn| table.first_match(state(turn), facts(turn))));
    let mut resting = core(0);
    show("core: a tick at rest", measure(|turn| resting.step(Event::Tick, 10_000 + turn)));
    let (mut follower, beat) = (core(0), core(1).want().say.clone());
    let heard = |turn: u64| Heard { beat: beat.clone(), new_session: false, echo_sent_ms: Some(10_000 + turn), echo_version: 1 };
    show("core: a heartbeat", measure(|turn| follower.step(Event::Beat(Box::new(heard(turn))), 10_000 + turn)));

    let keys = Authkeys::parse("auth 1\n1 sha1 for-this-benchmark-only\n", "authkeys").expect("keys");
    let mut sessions = Sessions::new(1, 1, 7, 2_000);
    show("codec: encode and sign", measure(|turn| codec::encode(&sessions.next(1, turn), &beat, &keys)));
    let datagram = codec::encode(&sessions.next(1, 1), &beat, &keys);
    let verify = |_| codec::open(&datagram).map(|opened| opened.verify(&keys).is_ok());
    show("codec: open and verify", measure(verify));

    let (mine, theirs) = (history(0), history(1));
    show("history: contains, 64 servers", measure(|_| mine.contains(&theirs)));
    show("history: minus, 64 servers", measure(|_| mine.minus(&theirs)));
}

/// Nanoseconds per call, the median of the batches.
fn measure<T>(mut call: impl FnMut(u64) -> T) -> f64 {
    let mut turn = 0;
    let mut costs: Vec<f64> = (0..=BATCHES)
        .map(|_| {
            let (start, first) = (Instant::now(), turn);
            while start.elapsed() < BATCH {
                for _ in 0..64 {
                    black_box(call(turn));
                    turn += 1;
                }
            }
            #[allow(clippy::cast_precision_loss)]
            let calls = (turn - first) as f64;
            start.elapsed().as_secs_f64() * 1e9 / calls
        })
        .skip(1)
        .collect();
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

fn state(turn: u64) -> State {
    State::ALL[usize::try_from(turn).unwrap_or(0) % State::ALL.len()]
}

/// Some combination of facts; the same for the same turn.
fn facts(turn: u64) -> Facts {
    let mixed = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut some = Facts::default();
    for (at, fact) in Fact::ALL.iter().enumerate() {
        some.set(*fact, mixed >> (at % 64) & 1 == 1);
    }
    some
}

fn history(shift: u64) -> History {
    let parts: Vec<String> = (1..=64).map(|server| format!("{server}:1-{}", 1_000_000 - shift)).collect();
    History::parse(&parts.join(",")).expect("a history")
}

fn core(at: u8) -> Core {
    let (number, peer_name) = (at + 1, format!("db-0{}", 2 - at));
    let id = Identity { number, peer_name, vip: "192.0.2.243".into(), preferred: at == 0 };
    let ms: [Ms; 7] = [250, 2_000, 1_000, 20_000, 1_500, 1_000, 5_000];
    let [keepalive, deadtime, warntime, initdead, gate, lease, failback_delay] = ms;
    let limits = Limits {
        keepalive,
        deadtime,
        warntime,
        initdead,
        gate,
        lease,
        isolation: gate,
        failback_delay,
        auto_failback: true,
        lossless: true,
        both_write: false,
        kill_hung: true,
        ping_configured: true,
        fence_configured: false,
        flap_count: 3,
        flap_window: 600_000,
        config_digest: 7,
        arbiter_ttl: None,
    };
    Core::new(id, limits, 10_000)
}
