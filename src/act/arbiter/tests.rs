//! The keeper against a gateway that answers from a script: what it asks, in which order, and what it believes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::{Endpoint, Tls};

/// value: "db-01 3", of lease 23.
const KEY_23: &str = r#"{"header":{"raft_term":"7"},"kvs":[{"value":"ZGItMDEgMw==","lease":"23"}]}"#;

struct Script {
    keeper: Keeper,
    thread: std::thread::JoinHandle<Vec<String>>,
}

/// A keeper of db-01 whose etcd expects these paths in this order and answers so.
fn script(lease: Option<&str>, steps: &'static [(&'static str, &'static str)]) -> Script {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (_, body) in steps {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut seen = [0; 2048];
            let count = stream.read(&mut seen).expect("request");
            asked.push(String::from_utf8_lossy(&seen[..count]).into_owned());
            let head = if body.starts_with("HTTP/") { "" } else { "HTTP/1.0 200 OK\r\n\r\n" };
            stream.write_all(format!("{head}{body}").as_bytes()).expect("answer");
        }
        asked
    });
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let memory = std::env::temp_dir().join(format!("mmha-arbiter-{}-{number}", std::process::id()));
    if let Some(lease) = lease {
        std::fs::write(&memory, lease).expect("memory");
    }
    let endpoints = vec![Endpoint { is_tls: false, host: "127.0.0.1".to_owned(), port }];
    let arbiter = Arbiter { endpoints, tls: Tls::default(), ttl: Duration::from_secs(5), user: None, password: None };
    let fence = Duration::from_millis(1500);
    Script { keeper: Keeper::new(Setting { arbiter, cluster: "shop".into(), name: "db-01".into(), fence, memory }), thread }
}

impl Script {
    fn turn(&mut self, hold: Hold) -> ArbiterSeen {
        self.keeper.turn(ArbiterOrder { hold, turn: 1, epoch: 3 })
    }

    /// The script was followed to its end; what was asked, path by path.
    fn finish(self, steps: &[(&str, &str)]) -> Vec<String> {
        let asked = self.thread.join().expect("gateway");
        let _ = std::fs::remove_file(&self.keeper.setting.memory);
        for ((path, _), asked) in steps.iter().zip(&asked) {
            assert!(asked.starts_with(&format!("POST {path} ")), "{path}: {asked}");
        }
        asked
    }
}

fn until(seen: &ArbiterSeen) -> Ms {
    match seen {
        ArbiterSeen::Mine { until_ms, .. } => *until_ms,
        other => panic!("not mine: {other:?}"),
    }
}

#[test]
fn takes_keeps_and_gives_back() {
    static STEPS: [(&str, &str); 8] = [
        ("/v3/kv/range", r#"{"header":{"raft_term":"7"}}"#),
        ("/v3/lease/grant", r#"{"header":{"raft_term":"7"},"ID":"23","TTL":"5"}"#),
        ("/v3/kv/txn", r#"{"header":{"raft_term":"7"},"succeeded":true}"#),
        ("/v3/lease/keepalive", r#"{"result":{"header":{"raft_term":"7"},"ID":"23","TTL":"5"}}"#),
        ("/v3/kv/range", KEY_23),
        ("/v3/lease/revoke", "{}"),
        ("/v3/kv/range", r#"{"header":{"raft_term":"7"}}"#),
        ("/v3/kv/range", r#"{"header":{"raft_term":"7"}}"#),
    ];
    let mut script = script(None, &STEPS);
    let before = clock::now_ms();
    let first = until(&script.turn(Hold::Yes));
    assert!((before + 3410..=clock::now_ms() + 3410).contains(&first), "5 s less 1 %, less the gate and 25 ms: {}", first - before);
    assert_eq!(std::fs::read_to_string(&script.keeper.setting.memory).expect("memory"), "23");
    assert!(until(&script.turn(Hold::Yes)) >= first);
    assert_eq!(script.turn(Hold::No), ArbiterSeen::Free);
    assert!(!script.keeper.setting.memory.exists(), "a revoked lease is not found again");
    assert_eq!(script.turn(Hold::Keep), ArbiterSeen::Free, "nothing is taken");
    let asked = script.finish(&STEPS);
    assert!(asked[2].contains(r#""create_revision":"0""#) && asked[2].contains("ZGItMDEgMw=="), "{}", asked[2]);
}

#[test]
fn a_restarted_agent_finds_its_lease_and_proves_it() {
    static STEPS: [(&str, &str); 2] =
        [("/v3/lease/keepalive", r#"{"result":{"header":{"raft_term":"7"},"ID":"23","TTL":"5"}}"#), ("/v3/kv/range", KEY_23)];
    let mut found = script(Some("23"), &STEPS);
    assert!(until(&found.turn(Hold::Keep)) > clock::now_ms());
    found.finish(&STEPS);

    static LOST: [(&str, &str); 2] = [("/v3/lease/keepalive", r#"{"result":{"ID":"24"}}"#), ("/v3/kv/range", KEY_23)];
    let mut lost = script(Some("24"), &LOST);
    assert!(matches!(lost.turn(Hold::Keep), ArbiterSeen::Taken { .. }), "its own name is not enough");
    assert!(!lost.keeper.setting.memory.exists());
    lost.finish(&LOST);
    let garbage = script(Some("garbage"), &[]);
    assert_eq!(garbage.keeper.lease, None);
    garbage.finish(&[]);
}

/// A member that has lost its majority renews leases for a moment longer; nobody else knows.
#[test]
fn a_renewal_without_a_majority_of_the_same_term_counts_for_nothing() {
    static STEPS: [(&str, &str); 2] =
        [("/v3/lease/keepalive", r#"{"result":{"header":{"raft_term":"6"},"ID":"23","TTL":"5"}}"#), ("/v3/kv/range", KEY_23)];
    let mut script = script(Some("23"), &STEPS);
    assert!(matches!(script.turn(Hold::Yes), ArbiterSeen::Unreachable(why) if why.contains("elected")));
    assert_eq!(script.keeper.lease, Some(23), "it is renewed again at once");
    script.finish(&STEPS);
}

#[test]
fn what_another_node_has_is_left_alone() {
    const THEIRS: &str = r#"{"header":{"raft_term":"7"},"kvs":[{"value":"ZGItMDIgNA==","lease":"31"}]}"#;
    static STEPS: [(&str, &str); 4] = [
        ("/v3/kv/range", THEIRS),
        ("/v3/kv/range", r#"{"header":{"raft_term":"7"}}"#),
        ("/v3/lease/grant", r#"{"header":{"raft_term":"7"},"ID":"23","TTL":"5"}"#),
        ("/v3/kv/txn", r#"{"header":{},"responses":[{"response_range":{"kvs":[{"value":"ZGItMDIgNA==","lease":"31"}]}}]}"#),
    ];
    let mut script = script(None, &STEPS);
    let taken = ArbiterSeen::Taken { by: "db-02".to_owned() };
    assert_eq!(script.turn(Hold::Yes), taken);
    assert_eq!(script.turn(Hold::Yes), taken, "somebody was faster");
    assert_eq!((script.keeper.lease, script.keeper.setting.memory.exists()), (None, false));
    script.finish(&STEPS);
}

#[test]
fn hostile_answers_are_errors() {
    static STEPS: [(&str, &str); 4] = [
        ("/v3/kv/range", "\u{0}\u{0}"),
        ("/v3/kv/range", r#"{"kvs":[{"value":"ZGItMDEgMw==","lease":"23"}]}"#),
        ("/v3/lease/keepalive", r#"{"result":{"header":{"raft_term":"7"},"ID":"99","TTL":"9223372036854775807"}}"#),
        ("/v3/kv/range", KEY_23),
    ];
    let mut script = script(None, &STEPS);
    assert!(matches!(script.turn(Hold::Yes), ArbiterSeen::Unreachable(_)));
    assert!(matches!(script.turn(Hold::Yes), ArbiterSeen::Unreachable(_)), "no raft_term");
    script.keeper.lease = Some(23);
    let longest = clock::now_ms() + 5000;
    assert!(until(&script.turn(Hold::Yes)) < longest, "never longer than was asked for");
    script.finish(&STEPS);
}

#[test]
fn what_could_not_be_given_back_is_ended_later_and_not_believed_in() {
    static STEPS: [(&str, &str); 3] =
        [("/v3/lease/revoke", "no answer"), ("/v3/lease/revoke", "{}"), ("/v3/kv/range", r#"{"header":{"raft_term":"7"}}"#)];
    let mut script = script(Some("23"), &STEPS);
    assert!(matches!(script.turn(Hold::No), ArbiterSeen::Unreachable(_)));
    assert_eq!((script.keeper.lease, script.keeper.setting.memory.exists()), (None, false));
    assert_eq!(script.turn(Hold::Keep), ArbiterSeen::Free);
    script.finish(&STEPS);
}

/// etcd forgets tokens: when they get old, and when a member starts anew.
#[test]
fn logs_in_again_when_the_token_is_not_known_any_more() {
    const EXPIRED: &str = "HTTP/1.0 401 Unauthorized\r\n\r\n{\"error\":\"etcdserver: invalid auth token\",\"code\":16}";
    static STEPS: [(&str, &str); 6] = [
        ("/v3/auth/authenticate", r#"{"token":"one.7"}"#),
        ("/v3/kv/range", r#"{"header":{"raft_term":"7"}}"#),
        ("/v3/kv/range", EXPIRED),
        ("/v3/auth/authenticate", r#"{"token":"two.8"}"#),
        ("/v3/kv/range", EXPIRED),
        ("/v3/auth/authenticate", r#"{"token":"evil\r\nX: y"}"#),
    ];
    let mut script = script(None, &STEPS);
    let arbiter = Arbiter {
        user: Some("mmha".into()),
        password: Some(crate::config::Secret::new("s3cret")),
        ..script.keeper.setting.arbiter.clone()
    };
    script.keeper.etcd = Etcd::new(&arbiter);
    assert_eq!(script.turn(Hold::No), ArbiterSeen::Free);
    let outcome = script.turn(Hold::No);
    assert!(matches!(&outcome, ArbiterSeen::Unreachable(why) if why.contains("invalid auth token")), "once, not for ever: {outcome:?}");
    script.keeper.etcd = Etcd::new(&arbiter);
    let outcome = script.turn(Hold::No);
    assert!(matches!(&outcome, ArbiterSeen::Unreachable(why) if !why.contains("evil")), "{outcome:?}");
    let asked = script.finish(&STEPS);
    assert!(asked[1].contains("Authorization: one.7\r\n") && asked[4].contains("Authorization: two.8\r\n"));
    assert!(asked[0].contains("s3cret") && !asked[1].contains("s3cret"));
}
