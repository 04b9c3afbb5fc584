//! Two sides and a network that records, replays, delays and reorders, at the level of headers: what the link thread does with a datagram
//! is `judge`, then the MAC, then `accept`.

use super::Verdict::{Fresh, Ignore, NewSession, Unproved};
use super::*;

const CLUSTER: u64 = 7;
const DEADTIME_MS: u64 = 2_000;
const KEEPALIVE_US: u64 = 250_000;
/// Boot time of a box that has been up for a while.
const START_US: u64 = 5_000_000_000;

fn side(me: u8, session: u64) -> Sessions {
    Sessions::new(CLUSTER, me, session, DEADTIME_MS)
}

/// As the link thread takes a datagram with a right MAC.
fn hear(to: &mut Sessions, header: &Header, now_us: u64) -> (Verdict, Proof) {
    match to.judge(header, now_us) {
        Ignore => (Ignore, Proof::default()),
        verdict => (verdict, to.accept(header, verdict, now_us)),
    }
}

/// One datagram each way, `from` first; what `to` and then `from` made of it.
fn exchange(from: &mut Sessions, to: &mut Sessions, now_us: u64) -> (Verdict, Verdict) {
    let there = from.next(1, now_us);
    let first = hear(to, &there, now_us + 200).0;
    let back = to.next(1, now_us + 300);
    (first, hear(from, &back, now_us + 500).0)
}

/// Two sides that know each other.
fn pair(now_us: u64) -> (Sessions, Sessions) {
    let (mut a, mut b) = (side(1, 100), side(2, 200));
    exchange(&mut a, &mut b, now_us - 2 * KEEPALIVE_US);
    exchange(&mut a, &mut b, now_us - KEEPALIVE_US);
    assert_eq!(exchange(&mut a, &mut b, now_us), (Fresh, Fresh));
    (a, b)
}

#[test]
fn strangers_know_each_other_after_two_exchanges() {
    let (mut a, mut b) = (side(1, 100), side(2, 200));
    // a's first datagram echoes nothing; b's answer echoes it and so proves b; a's second one proves a.
    assert_eq!(exchange(&mut a, &mut b, START_US), (Unproved, NewSession));
    assert_eq!(exchange(&mut a, &mut b, START_US + KEEPALIVE_US), (NewSession, Fresh));
    assert_eq!(exchange(&mut a, &mut b, START_US + 2 * KEEPALIVE_US), (Fresh, Fresh));
}

#[test]
fn foreign_datagrams_and_own_echoes_count_for_nothing() {
    let (mut a, mut b) = pair(START_US);
    let good = b.next(1, START_US + KEEPALIVE_US);
    let own = a.next(1, START_US + KEEPALIVE_US);
    for foreign in [
        Header { cluster: CLUSTER + 1, ..good.clone() },
        Header { sender: 1, ..good.clone() },
        Header { session: 100, ..good.clone() },
        own,
    ] {
        assert_eq!(a.judge(&foreign, START_US + KEEPALIVE_US), Ignore, "{foreign:?}");
    }
    assert_eq!(a.judge(&good, START_US + KEEPALIVE_US), Fresh);
}

#[test]
fn replayed_and_overtaken_datagrams_count_for_nothing() {
    let (mut a, mut b) = pair(START_US);
    let sent: Vec<Header> = (1..=4).map(|at| b.next(1, START_US + at * KEEPALIVE_US)).collect();
    let now = START_US + 4 * KEEPALIVE_US;
    for (at, expect) in [(1, Fresh), (1, Ignore), (0, Ignore), (3, Fresh), (2, Ignore), (3, Ignore)] {
        assert_eq!(hear(&mut a, &sent[at], now).0, expect, "datagram {at}");
    }
    assert_eq!(hear(&mut a, &b.next(1, now), now + KEEPALIVE_US).0, Fresh);
}

/// A datagram that is judged but whose MAC is wrong leaves everything as it was, however high its counter.
#[test]
fn judging_moves_nothing() {
    let (mut a, mut b) = pair(START_US);
    let real = b.next(1, START_US + KEEPALIVE_US);
    for session in [200, 300, 400, 500, 600] {
        let forged = Header { session, counter: u64::MAX, ..real.clone() };
        assert_ne!(a.judge(&forged, START_US + KEEPALIVE_US), Ignore);
    }
    assert_eq!(hear(&mut a, &real, START_US + KEEPALIVE_US).0, Fresh);
    assert_eq!(a.next(1, START_US + KEEPALIVE_US).echoes.len(), 1, "only the peer's session is echoed");
}

/// What the peer's sessions `sessions` have said to `to` in two seconds each, after which that side of `to` is gone as well.
fn recordings(sessions: std::ops::Range<u64>) -> Vec<Header> {
    let mut recorded = Vec::new();
    for (round, session) in sessions.enumerate() {
        let begin = START_US - 60_000_000 + round as u64 * 3_000_000;
        let (mut a, mut b) = (side(1, 100_000 + session), side(2, session));
        for at in 0..8 {
            let now = begin + at * KEEPALIVE_US;
            let said = b.next(1, now);
            recorded.push(said.clone());
            hear(&mut a, &said, now + 200);
            hear(&mut b, &a.next(1, now + 300), now + 500);
        }
    }
    recorded
}

#[test]
fn recordings_of_old_sessions_never_become_current() {
    let recorded = recordings(1_000..1_010);
    let replay = |a: &mut Sessions, now: u64| {
        for header in &recorded {
            let verdict = hear(a, header, now).0;
            assert!(matches!(verdict, Unproved | Ignore), "{verdict:?} for {header:?}");
        }
    };
    // To a side that has just started, to one whose peer lives, and to one whose peer is dead.
    let mut fresh = side(1, 100);
    for at in 0..40 {
        replay(&mut fresh, START_US + at * KEEPALIVE_US);
        fresh.next(1, START_US + at * KEEPALIVE_US);
    }
    let (mut a, mut b) = pair(START_US);
    for at in 1..40 {
        let now = START_US + at * KEEPALIVE_US;
        replay(&mut a, now);
        if at < 20 {
            assert_eq!(exchange(&mut b, &mut a, now), (Fresh, Fresh));
        } else {
            a.next(1, now);
        }
    }
}

/// The session before this one, recorded while it spoke to this very side.
#[test]
fn the_session_before_never_comes_back() {
    let (mut a, mut before) = pair(START_US);
    let mut recorded: Vec<Header> = (1..=20)
        .map(|at| {
            let now = START_US + at * KEEPALIVE_US;
            let said = before.next(1, now);
            hear(&mut a, &said, now + 200);
            hear(&mut before, &a.next(1, now + 300), now + 500);
            said
        })
        .collect();
    // Said at the very end, with the freshest of echoes, and held back on the way.
    let end = START_US + 21 * KEEPALIVE_US;
    recorded.push(before.next(1, end));
    let mut after = side(2, 201);
    exchange(&mut after, &mut a, end + 1_000);
    assert_eq!(exchange(&mut after, &mut a, end + 2_000), (NewSession, Fresh));
    for late_us in [3_000, 1_000_000, 100_000_000] {
        for header in &recorded {
            assert_eq!(hear(&mut a, header, end + late_us).0, Ignore);
        }
    }
}

#[test]
fn a_restarted_peer_is_current_within_two_exchanges() {
    let (mut a, _) = pair(START_US);
    for session in 300..340 {
        let (mut b, now) = (side(2, session), START_US + session * 1_000_000);
        assert_eq!(exchange(&mut b, &mut a, now), (Unproved, NewSession), "session {session}");
        assert_eq!(exchange(&mut b, &mut a, now + KEEPALIVE_US), (NewSession, Fresh));
        assert_eq!(exchange(&mut b, &mut a, now + 2 * KEEPALIVE_US), (Fresh, Fresh));
    }
}

/// Recordings of ten old sessions pour in, a few between any two real datagrams and in no order; each restart of the peer gets through.
#[test]
fn replayed_old_sessions_do_not_lock_a_restarted_peer_out() {
    let recorded = recordings(1_000..1_010);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |limit: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % limit
    };
    let (mut a, _) = pair(START_US);
    for session in 300..400 {
        let mut b = side(2, session);
        let mut replay = |a: &mut Sessions, most: u64, now: u64| {
            for _ in 0..random(most + 1) {
                let header = &recorded[random(recorded.len() as u64) as usize];
                assert!(matches!(hear(a, header, now).0, Unproved | Ignore));
            }
        };
        let reached = (1..).find(|round| {
            let now = START_US + session * 1_000_000_000 + round * KEEPALIVE_US;
            replay(&mut a, 30, now);
            let said = b.next(1, now);
            let verdict = hear(&mut a, &said, now + 200).0;
            replay(&mut a, 4, now + 250);
            hear(&mut b, &a.next(1, now + 300), now + 500);
            verdict == NewSession
        });
        let rounds = reached.expect("an endless search ends by finding");
        assert!(rounds <= 12, "session {session} was believed only in round {rounds}");
    }
}

#[test]
fn echoes_tell_their_age_and_what_was_known() {
    let (mut a, mut b) = pair(START_US);
    let sent = START_US + KEEPALIVE_US;
    let said = a.next(41, sent);
    a.next(42, sent + 100);
    hear(&mut b, &said, sent + 300);
    let answer = b.next(1, sent + 120_300);
    assert_eq!(answer.echoes, [Echo { session: 100, counter: said.counter, held_us: 120_000 }]);
    let (verdict, proof) = hear(&mut a, &answer, sent + 120_700);
    // 120.7 ms there and back, of which the peer held it for 120 ms.
    let expect = Proof { echo_sent_us: Some(sent), echo_version: 41, round_trip_us: Some(700) };
    assert_eq!((verdict, proof), (Fresh, expect));

    let silent = b.next(1, sent + 10_000_000_000);
    assert_eq!(silent.echoes[0].held_us, u32::MAX, "an age of hours does not wrap");
    // A clock that says the peer held it longer than it was away proves no round trip, and no more than that.
    let (_, proof) = hear(&mut a, &silent, sent + 1_000_000);
    assert_eq!(proof, Proof { echo_sent_us: Some(sent), echo_version: 41, round_trip_us: None });
}

/// An echo proves a new session only while it is younger than the deadtime: one microsecond before, at it, and after.
#[test]
fn an_old_echo_proves_no_session() {
    for (age_us, expect) in [(1_999_999, NewSession), (2_000_000, Unproved), (2_000_001, Unproved)] {
        let (mut a, mut b) = (side(1, 100), side(2, 200));
        hear(&mut b, &a.next(1, START_US), START_US + 200);
        let answer = b.next(1, START_US + 300);
        assert_eq!(a.judge(&answer, START_US + age_us), expect, "{age_us} µs");
    }
}

#[test]
fn an_echo_of_what_is_no_longer_remembered_or_was_never_sent_proves_nothing() {
    let (mut a, mut b) = (side(1, 100), side(2, 200));
    hear(&mut b, &a.next(1, START_US), START_US);
    let answer = b.next(1, START_US);
    for _ in 1..REMEMBERED {
        a.next(1, START_US);
    }
    assert_eq!(a.judge(&answer, START_US + 1), NewSession, "the oldest that is remembered");
    a.next(1, START_US);
    assert_eq!(a.judge(&answer, START_US + 1), Unproved, "one more, and it is forgotten");
    let guess = Header { echoes: vec![Echo { session: 100, counter: u64::MAX, held_us: 0 }], ..answer };
    assert_eq!(a.judge(&guess, START_US + 1), Unproved);
}

#[test]
fn the_current_session_is_echoed_whatever_else_arrives() {
    let (mut a, _) = pair(START_US);
    for header in recordings(1_000..1_010) {
        hear(&mut a, &header, START_US);
        let echoes = a.next(1, START_US).echoes;
        assert!(echoes.len() <= MAX_ECHOES);
        assert_eq!(echoes[0].session, 200);
    }
}

/// The last that the peer sent before its restart arrives after the first that it sent since: it must not end the session that lives.
#[test]
fn what_was_sent_before_a_restart_and_comes_late_ends_no_session() {
    let (mut a, mut old, mut new) = (side(1, 100), side(2, 200), side(2, 201));
    hear(&mut old, &a.next(1, START_US), START_US + 200);
    let late = old.next(1, START_US + 300);
    hear(&mut new, &a.next(1, START_US + 1_000), START_US + 1_200);
    assert_eq!(hear(&mut a, &new.next(1, START_US + 1_300), START_US + 1_500).0, NewSession);
    assert_eq!(hear(&mut a, &late, START_US + 1_600).0, Unproved);
    assert_eq!(hear(&mut a, &new.next(2, START_US + 1_700), START_US + 1_900).0, Fresh);
}
