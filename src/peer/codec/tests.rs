//! The codec against itself, against the RFCs' vectors, and against damage: whatever is not exactly what a key holder signed is refused.

use super::*;
use crate::core::beat::Reason;
use crate::core::history::History;
use crate::core::state::State;

const KEYS: &str = "auth 1\n1 sha1 0123456789abcdef-first\n2 sha256 0123456789abcdef-second\n3 sha1 0123456789abcdef-third\n";

fn keys_signing(id: u8) -> Authkeys {
    Authkeys::parse(&KEYS.replace("auth 1", &format!("auth {id}")), "authkeys").expect("good keys")
}

fn history(text: &str) -> Option<History> {
    Some(History::parse(text).expect("a history"))
}

fn beat() -> Beat {
    Beat {
        state: State::Drain,
        epoch: 7,
        held: 7,
        version: 42,
        gone: false,
        candidate: 2,
        claims: true,
        shy: false,
        pause: 3,
        pause_minutes: 60,
        refused: 5,
        ready: true,
        current: true,
        receiving: true,
        protected: true,
        server_ok: true,
        server_key: "1".into(),
        history: history("1:1-22,2:1-9"),
        closed: history("1:1-22"),
        asks: false,
        by_request: true,
        merges: false,
        leaving: true,
        gate_ms: 1500,
        gated: true,
        unapplied: History::default(),
        applying: true,
        deadtime_ms: 2000,
        config: u64::MAX,
        why: "its \"server\" \\ does not wörk".into(),
    }
}

/// The largest values a beat without histories can have.
fn widest() -> Beat {
    let key = "ffffffff-ffff-ffff-ffff-ffffffffffff".into();
    let most = u64::MAX;
    let numbers = Beat {
        pause: most,
        pause_minutes: 1440,
        epoch: most,
        held: most,
        version: most,
        refused: most,
        gate_ms: most,
        deadtime_ms: most,
        config: most,
        ..beat()
    };
    Beat { state: State::Quarantined, server_key: key, history: None, closed: None, why: "".into(), ..numbers }
}

fn header(echoes: usize) -> Header {
    let echo = |at: u64| Echo { session: u64::MAX - at, counter: at, held_us: 250_000 };
    Header {
        sender: 1,
        cluster: cluster_id("shop"),
        session: 0x0123_4567_89ab_cdef,
        counter: 99,
        echoes: (0..echoes as u64).map(echo).collect(),
    }
}

fn believe(bytes: &[u8], keys: &Authkeys) -> Result<(Header, Beat), Refusal> {
    let opened = open(bytes)?;
    let beat = opened.verify(keys)?;
    Ok((opened.header, beat))
}

#[test]
fn what_goes_in_comes_out_whichever_listed_key_signed() {
    let reader = keys_signing(1);
    for signer in [1, 2, 3] {
        for echoes in 0..=MAX_ECHOES {
            let bytes = encode(&header(echoes), &beat(), &keys_signing(signer));
            assert!(bytes.len() <= MAX_DATAGRAM);
            assert_eq!(believe(&bytes, &reader), Ok((header(echoes), beat())), "key {signer}, {echoes} echoes");
        }
    }
    for state in State::ALL {
        let beat = Beat { state, history: None, closed: None, ..beat() };
        assert_eq!(believe(&encode(&header(1), &beat, &reader), &reader), Ok((header(1), beat)));
    }
    let crowded = believe(&encode(&header(MAX_ECHOES + 3), &beat(), &reader), &reader).expect("believed");
    assert_eq!(crowded.0, header(MAX_ECHOES), "more echoes than fit are left out");
}

#[test]
fn every_damage_is_refused() {
    let reader = keys_signing(1);
    for signer in [1, 2] {
        let good = encode(&header(2), &beat(), &keys_signing(signer));
        for at in 0..good.len() {
            for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(believe(&bad, &reader).is_err(), "byte {at} ^ {flip:#x} was believed");
            }
            assert!(believe(&good[..at], &reader).is_err(), "the first {at} bytes were believed");
            assert!(at == 0 || believe(&good[at..], &reader).is_err(), "without its first {at} bytes it was believed");
            assert!(believe(&[&good[..at], &[0], &good[at..]].concat(), &reader).is_err(), "with a byte more at {at} it was believed");
        }
        assert!(believe(&[good.as_slice(), &[0]].concat(), &reader).is_err(), "with a byte behind it was believed");
    }
}

#[test]
fn refusals_by_their_reason() {
    let (reader, good) = (keys_signing(1), encode(&header(1), &beat(), &keys_signing(1)));
    let check = |bytes: &[u8], keys: &Authkeys, expect: Refusal| assert_eq!(believe(bytes, keys), Err(expect));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for version in [0, VERSION + 1, 255] {
        check(&with(4, version), &reader, Refusal::Version(version));
        check(&[MAGIC.as_slice(), &[version]].concat(), &reader, Refusal::Version(version));
    }
    for sender in [0, 3, 255] {
        check(&with(5, sender), &reader, Refusal::Malformed);
    }
    check(&with(6, 9), &reader, Refusal::UnknownKey);
    check(&with(6, 2), &reader, Refusal::WrongMac);
    check(&with(6, 3), &reader, Refusal::WrongMac);
    check(&with(FIXED - 1, MAX_ECHOES as u8 + 1), &reader, Refusal::Malformed);
    check(b"", &reader, Refusal::Malformed);
    check(b"MMHB", &reader, Refusal::Malformed);
    let others = Authkeys::parse("auth 1\n1 sha1 another-secret-of-16-and-more\n", "authkeys").expect("good keys");
    check(&good, &others, Refusal::WrongMac);
    check(&encode(&header(1), &beat(), &keys_signing(2)), &others, Refusal::UnknownKey);
}

/// A signed body that is no beat is refused too: another program with our key, or a version that changed the body and not its number.
#[test]
fn a_signed_body_must_be_a_beat() {
    let reader = keys_signing(1);
    for body in ["", "{}", "null", "[]", "{\"state\":\"active\"", "{\"state\":\"king\"}"] {
        assert_eq!(believe(&signed(body.as_bytes(), &reader), &reader), Err(Refusal::Malformed), "{body}");
    }
    let broken = serde_json::to_string(&beat()).expect("json").replace("1:1-22", "1:22-1");
    assert_eq!(believe(&signed(broken.as_bytes(), &reader), &reader), Err(Refusal::Malformed));
}

/// A datagram with any body under a right MAC.
fn signed(body: &[u8], keys: &Authkeys) -> Vec<u8> {
    let mut bytes = encode(&header(0), &beat(), keys);
    bytes.truncate(FIXED);
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(body);
    let (method, secret) = find(keys, keys.sign).expect("signing key");
    bytes.extend_from_slice(&sign(method, secret, &bytes));
    bytes
}

/// A history that does not fit one frame is left out; everything else of the stance still travels. Byte by byte over the edge.
#[test]
fn a_history_that_does_not_fit_is_left_out() {
    let reader = keys_signing(2);
    let gaps: String = (0..100).map(|at| format!(":{}", 1 + 2 * at)).collect();
    let (mut whole, mut short) = (0, 0);
    for length in 0..1_000 {
        let long = Beat { history: history(&format!("1{gaps}")), why: Reason::from(&*"x".repeat(length).leak()), ..beat() };
        let bytes = encode(&header(MAX_ECHOES), &long, &reader);
        assert!(bytes.len() <= MAX_DATAGRAM, "{} bytes", bytes.len());
        let (_, heard) = believe(&bytes, &reader).expect("believed");
        if heard == long {
            assert_eq!(short, 0, "a longer one fitted after a shorter one did not");
            whole += 1;
        } else {
            assert_eq!(heard, Beat { history: None, closed: None, why: "".into(), ..long });
            short += 1;
        }
    }
    assert!(whole > 0 && short > 0, "{whole} whole, {short} short");
    assert!(encode(&header(MAX_ECHOES), &widest(), &reader).len() <= MAX_DATAGRAM, "the widest beat without histories");
}

#[test]
fn macs_agree_with_the_rfcs() {
    fn check(method: Method, key: &str, message: &[u8], expect: &str) {
        let (secret, tag) = (Secret::new(key), sign(method, &Secret::new(key), message));
        let shown: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, expect);
        assert!(matches(method, &secret, message, &tag));
        assert!(!matches(method, &secret, message, &tag[..tag.len() - 1]) && !matches(method, &secret, message, &[]));
    }
    let (what, fifty) = (b"what do ya want for nothing?", [0xcd; 50]);
    let count: String = (1..=25u8).map(char::from).collect();
    // RFC 2202, section 3: cases 1, 2, 4 and 5 (the keys of the others are no text).
    check(Method::Sha1, &"\x0b".repeat(20), b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00");
    check(Method::Sha1, "Jefe", what, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    check(Method::Sha1, &count, &fifty, "4c9007f4026250c6bc8414f9bf50c86c2d7235da");
    check(Method::Sha1, &"\x0c".repeat(20), b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04");
    // RFC 4231, section 4: cases 1, 2 and 4.
    check(Method::Sha256, &"\x0b".repeat(20), b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    check(Method::Sha256, "Jefe", what, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check(Method::Sha256, &count, &fifty, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}

/// Xorshift64: the same cases in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
    fn byte(&mut self) -> u8 {
        [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', self.below(256) as u8][self.below(8)]
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let (at, length) = (random.below(bytes.len() + 1), random.below(24));
        let end = (at + length).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, random.byte()),
            3 => drop(bytes.splice(at..end, other.iter().copied().skip(random.below(other.len())).take(length))),
            4 => bytes.extend_from_within(at..end),
            5 if !bytes.is_empty() => {
                let at = at % bytes.len();
                bytes[at] ^= 1 << random.below(8);
            }
            6 if bytes.len() > FIXED => bytes[4 + random.below(FIXED - 4)] = random.byte(),
            _ if !bytes.is_empty() => {
                let at = at % bytes.len();
                bytes[at] = random.byte();
            }
            _ => bytes.push(random.byte()),
        }
    }
}

/// 100,000 damaged datagrams: none panics, and none is believed but those that were not damaged at all. Every fourth has its body damaged
/// under a right MAC, so that what comes behind the MAC is reached too; what is believed then says the same when it is sent on.
#[test]
fn damage_at_random_never_panics_and_never_convinces() {
    let keys = keys_signing(1);
    let seeds: Vec<Vec<u8>> =
        [(0, beat()), (1, widest()), (4, beat())].iter().map(|(echoes, beat)| encode(&header(*echoes), beat, &keys)).collect();
    let bodies: Vec<Vec<u8>> = [beat(), widest()].iter().map(|beat| serde_json::to_vec(beat).expect("json")).collect();
    let (mut random, mut reached, mut survived) = (Random(0x6d6d_6861), 0, 0);
    for case in 0..100_000 {
        if case % 4 == 0 {
            let mut body = bodies[random.below(bodies.len())].clone();
            mutate(&mut body, &bodies[0], &mut random);
            if let Ok((header, beat)) = believe(&signed(&body, &keys), &keys) {
                assert_eq!(believe(&encode(&header, &beat, &keys), &keys), Ok((header, beat)), "case {case}");
                survived += 1;
            }
            continue;
        }
        let mut bytes = seeds[random.below(seeds.len())].clone();
        let other = random.below(seeds.len());
        mutate(&mut bytes, &seeds[other], &mut random);
        reached += usize::from(open(&bytes).is_ok());
        assert!(believe(&bytes, &keys).is_err() || seeds.contains(&bytes), "case {case} was believed");
    }
    assert!(reached > 1_000 && survived > 100, "the cases have become too tame: {reached} opened, {survived} believed");
}
