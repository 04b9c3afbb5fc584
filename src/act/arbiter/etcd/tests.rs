//! Answers as a real etcd 3.4 gives them, and everything that is none.

use super::*;

const HEADER: &str = r#""header":{"cluster_id":"3","member_id":"4","revision":"2","raft_term":"7"}"#;

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.as_bytes().to_vec() }
}

fn judged(body: &str) -> Value {
    judge(&answer(200, body)).unwrap_or_else(|fault| panic!("{body}: {fault:?}"))
}

#[test]
fn leases() {
    let grant = format!(r#"{{{HEADER},"ID":"2324035591015346182","TTL":"5"}}"#);
    let expect = Granted { id: 2_324_035_591_015_346_182, ttl_ms: 5000, sent_ms: 9, term: 7 };
    assert_eq!(granted(&judged(&grant), 9), Ok(Some(expect)));
    let gone = format!(r#"{{{HEADER},"ID":"77"}}"#);
    assert_eq!(granted(&judged(&gone), 9), Ok(None));
    let gone = format!(r#"{{{HEADER},"ID":"77","TTL":"-1"}}"#);
    assert_eq!(granted(&judged(&gone), 9), Ok(None));
    for wrong in [
        "{}".to_owned(),
        format!(r#"{{{HEADER}}}"#),
        format!(r#"{{{HEADER},"ID":"x","TTL":"5"}}"#),
        format!(r#"{{{HEADER},"ID":"7","TTL":[]}}"#),
        format!(r#"{{{HEADER},"ID":"7","TTL":"99999999999999999999"}}"#),
        r#"{"ID":"7","TTL":"5"}"#.to_owned(),
        r#"{"header":{"raft_term":"0"},"ID":"7","TTL":"5"}"#.to_owned(),
    ] {
        assert!(granted(&judged(&wrong), 9).is_err(), "{wrong}");
    }
}

#[test]
fn keys_and_transactions() {
    let held = Held { lease: 2_324_035_591_015_346_182, value: "db-01 3".to_owned() };
    let kvs = r#""kvs":[{"key":"L21taGEvc2hvcC9ob2xkZXI=","create_revision":"2","value":"ZGItMDEgMw==","lease":"2324035591015346182"}],"count":"1""#;
    assert_eq!(first_key(&judged(&format!("{{{HEADER},{kvs}}}"))), Ok(Some(held.clone())));
    assert_eq!(first_key(&judged(&format!("{{{HEADER}}}"))), Ok(None));
    assert_eq!(first_key(&judged(&format!(r#"{{{HEADER},"kvs":[]}}"#))), Ok(None));
    let by_hand = format!(r#"{{{HEADER},"kvs":[{{"key":"a","value":"ZGItMDEgMw=="}}]}}"#);
    assert_eq!(first_key(&judged(&by_hand)), Ok(Some(Held { lease: 0, value: "db-01 3".to_owned() })));
    let two_lines = format!(r#"{{{HEADER},"kvs":[{{"value":"{}"}}]}}"#, BASE64.encode("a\nb\u{1b}[31m"));
    assert_eq!(first_key(&judged(&two_lines)).unwrap().unwrap().value, "a b [31m");
    for wrong in [r#"{"kvs":{}}"#, r#"{"kvs":[{"value":7}]}"#, r#"{"kvs":[{"value":"%%"}]}"#] {
        assert!(first_key(&judged(wrong)).is_err(), "{wrong}");
    }

    let done = format!(r#"{{{HEADER},"succeeded":true,"responses":[{{"response_put":{{"header":{{"revision":"2"}}}}}}]}}"#);
    assert_eq!(taken(&judged(&done), 5, "db-02 4"), Ok(Some(Held { lease: 5, value: "db-02 4".to_owned() })));
    for name in ["response_range", "responseRange"] {
        let others = format!(r#"{{{HEADER},"responses":[{{"{name}":{{{kvs}}}}}]}}"#);
        assert_eq!(taken(&judged(&others), 5, "db-02 4"), Ok(Some(held.clone())));
    }
    for wrong in ["{}", r#"{"succeeded":"true"}"#, r#"{"succeeded":false,"responses":[]}"#, r#"{"responses":[7]}"#] {
        assert!(taken(&judged(wrong), 5, "x").is_err(), "{wrong}");
    }
}

#[test]
fn members_that_know_a_leader() {
    let table = [
        (r#"{"leader":"18446744073709551615"}"#, true),
        (r#"{"leader":"3"}"#, true),
        (r#"{"leader":"0"}"#, false),
        ("{}", false),
        (r#"{"leader":"x"}"#, false),
    ];
    for (status, expect) in table {
        assert_eq!(knows_leader(&judged(status)), expect, "{status}");
    }
}

#[test]
fn refusals_are_told_from_members_that_cannot_answer() {
    let said = |status, body: &str| judge(&answer(status, body)).expect_err(body);
    let not_found = r#"{"error":"etcdserver: requested lease not found","message":"etcdserver: requested lease not found","code":5}"#;
    assert_eq!(said(404, not_found), Fault::Refused { code: NOT_FOUND, text: "etcdserver: requested lease not found".to_owned() });
    let busy = said(503, r#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#);
    assert_eq!(busy, Fault::unreachable("HTTP status 503: etcdserver: no leader"));
    let stream = said(200, r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#);
    assert_eq!(stream, Fault::unreachable("etcdserver: no leader"));
    for (status, garbage) in [(200, ""), (200, "<html>"), (200, "[]"), (200, "7"), (502, "Bad Gateway"), (404, "{}"), (302, "{}")] {
        assert!(matches!(said(status, garbage), Fault::Unreachable { .. }), "{garbage}");
    }
    let plain = said(400, "Client sent an HTTP request to an HTTPS server.\n");
    assert!(matches!(&plain, Fault::Unreachable { remedy: Some(remedy), .. } if remedy.contains("https://")), "{plain:?}");
    let silent = |is_tls| explain(&std::io::Error::from(std::io::ErrorKind::InvalidData), is_tls);
    assert!(matches!(silent(false), Fault::Unreachable { remedy: Some(remedy), .. } if remedy.contains("https://")));
    assert!(matches!(silent(true), Fault::Unreachable { remedy: None, .. }));
    let deep = "[".repeat(60_000);
    assert!(matches!(said(200, &deep), Fault::Unreachable { .. }));
}

/// Real answers, damaged in every way a stream can be: never a panic, and never a lease out of nothing.
#[test]
fn damaged_answers_cost_an_error_at_most() {
    let whole = format!(
        r#"{{{HEADER},"ID":"23","TTL":"5","succeeded":false,"responses":[{{"response_range":{{"kvs":[{{"value":"ZGItMDEgMw==","lease":"23"}}]}}}}],"kvs":[{{"value":"ZGItMDEgMw==","lease":"23"}}]}}"#
    );
    let mut seed: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).expect("small")
    };
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = u8::try_from(random(256)).expect("a byte"),
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(8)),
                _ => bytes.insert(at, b"{}[]\",:0-"[random(9)]),
            }
        }
        let Ok(value) = judge(&Answer { status: 200, body: bytes }) else { continue };
        understood += 1;
        for outcome in [first_key(&value), taken(&value, 99, "x")] {
            assert_ne!(outcome.ok().flatten().map(|held| held.lease), Some(99));
        }
        let _ = granted(&value, 0);
        let _ = term(&value);
    }
    assert!(understood > 100, "the mutations left nothing to understand");
}
