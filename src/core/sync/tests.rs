//! Commits cease to wait for the peer, and wait again.

use std::sync::Arc;

use super::*;
use crate::core::belief::Peer;
use crate::core::history::History;
use crate::core::{Identity, Limits};

const NOW: Ms = 100_000;

fn limits() -> Limits {
    Limits {
        keepalive: 250,
        deadtime: 2_000,
        warntime: 1_000,
        initdead: 20_000,
        gate: 1_500,
        lease: 1_000,
        isolation: 1_500,
        failback_delay: 5_000,
        auto_failback: true,
        lossless: true,
        both_write: false,
        kill_hung: true,
        ping_configured: false,
        fence_configured: false,
        flap_count: 0,
        flap_window: 0,
        config_digest: 7,
        arbiter_ttl: None,
    }
}

/// A holder whose commits wait for a peer that receives.
fn holder() -> Core {
    let id = Identity { number: 1, peer_name: "db-02".to_owned(), vip: "192.0.2.243".to_owned(), preferred: true };
    let mut core = Core::new(id, limits(), 0);
    core.state = State::Active;
    (core.belief.now, core.belief.semi_sync, core.belief.synced) = (NOW, true, true);
    core.belief.alone_until = Some(history("1:1-5"));
    let beat = Arc::new(Beat { state: State::Standby, receiving: true, ..(*core.want().say).clone() });
    let (echo_sent_ms, echo_version) = (Some(NOW), u64::MAX);
    core.belief.peer = Some(Peer { beat, heard_ms: NOW, echo_sent_ms, echo_version, fit_since: None, deaf_since: None });
    look(&mut core, NOW, true);
    core
}

/// The peer says whether it receives; for two seconds now, if it does not.
fn says(core: &mut Core, receiving: bool) {
    let Some(peer) = &mut core.belief.peer else { return };
    peer.beat = Arc::new(Beat { receiving, ..(*peer.beat).clone() });
    peer.deaf_since = (!receiving).then_some(NOW - 2_000);
    core.track_semi_sync();
}

/// A look at the server that began then.
fn look(core: &mut Core, taken_ms: Ms, semi_sync_on: bool) {
    core.belief.now = taken_ms + 5;
    core.belief.sample = Some(Arc::new(Sample {
        taken_ms,
        server_key: "1".into(),
        history: history("1:1-9"),
        semi_sync_on,
        semi_sync_active: semi_sync_on,
        ..Sample::default()
    }));
    core.note_synced();
    core.track_semi_sync();
}

fn history(text: &str) -> History {
    History::parse(text).expect("a history")
}

#[test]
fn a_peer_that_returns_at_once_is_not_in_sync_before_the_server_was_seen_alone() {
    let mut core = holder();
    assert!(core.belief.semi_sync && core.belief.synced);
    says(&mut core, false);
    assert!(!core.belief.semi_sync && !core.belief.synced, "given up");
    says(&mut core, true);
    assert!(!core.belief.semi_sync, "the order to go on alone may be on its way still");
    look(&mut core, NOW, true);
    assert!(!core.belief.semi_sync, "this look began before");
    look(&mut core, NOW + 50, false);
    assert!(core.belief.semi_sync && !core.belief.synced, "it waits again, and lacks what was acknowledged alone");
    look(&mut core, NOW + 100, true);
    assert!(!core.belief.synced && core.belief.alone_until == Some(history("1:1-9")), "until it has that");
}

#[test]
fn what_the_peer_has_received_it_has() {
    let mut core = holder();
    core.belief.synced = false;
    let mut hears = |has: &str, received: &str| {
        if let Some(peer) = &mut core.belief.peer {
            peer.beat = Arc::new(Beat { history: Some(history(has)), unapplied: history(received), ..(*peer.beat).clone() });
        }
        look(&mut core, NOW, true);
        (core.belief.synced, core.protects(), core.belief.unprotected_since.is_some())
    };
    assert_eq!(hears("1:1-3", "1:4"), (false, false, true), "it lacks one that was acknowledged before commits waited");
    assert_eq!(hears("1:1-3", "1:4-5"), (true, true, false), "whether it has applied it or not");
}
