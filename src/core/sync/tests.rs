//! Commits cease to wait for the peer, and wait again.

use std::sync::Arc;

use super::*;
use crate::core::belief::Peer;
use crate::core::event::ReplicaSample;
use crate::core::history::History;
use crate::core::{Identity, Limits};

const NOW: Ms = 100_000;

pub(in crate::core) fn limits() -> Limits {
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
pub(in crate::core) fn holder() -> Core {
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

/// A standby that has applied three and received some more, and hears a writer that says what it has.
fn standby(received: &str) -> Core {
    let mut core = holder();
    core.state = State::Standby;
    core.belief.semi_sync = false;
    let replica = ReplicaSample { receiver_connected: true, received: history(received), ..ReplicaSample::default() };
    let sample = Sample { taken_ms: NOW, server_key: "2".into(), history: history("1:1-3"), replica: Some(replica), ..Sample::default() };
    let sample = Arc::new(sample);
    (core.belief.marks.received, core.belief.sample, core.belief.server) =
        (history(received), Some(Arc::clone(&sample)), Some(ServerSeen::Ok(sample)));
    core
}

fn hears(core: &mut Core, state: State, has: Option<&str>) {
    let Some(peer) = &mut core.belief.peer else { return };
    let (history, server_ok) = (has.map(history), has.is_some());
    peer.beat = Arc::new(Beat { state, history, server_ok, server_key: "1".into(), protected: true, ..(*peer.beat).clone() });
    core.relate();
    core.track_level();
    core.note_sync();
}

#[test]
fn a_writer_that_tells_no_history_is_not_caught_up_with() {
    let mut core = standby("1:1-5");
    for (state, has) in [(State::Active, Some("1:1-99")), (State::Active, None), (State::Boot, None), (State::Active, Some("1:1-99"))] {
        hears(&mut core, state, has);
        assert!(!core.belief.level, "commits would wait for 94 others ({state:?}, {has:?})");
    }
    hears(&mut core, State::Active, Some("1:1-5"));
    assert!(core.belief.level);
}

#[test]
fn what_was_received_again_is_not_torn() {
    let mut core = standby("1:1-5");
    core.belief.torn = true;
    hears(&mut core, State::Active, Some("1:1-6"));
    assert!(core.belief.torn && !core.belief.alone, "the sixth may have been received before the server ended");
    let mut core = standby("1:1-6");
    core.belief.torn = true;
    hears(&mut core, State::Active, Some("1:1-6"));
    assert!(!core.belief.torn && core.belief.alone, "it is applied before anything is opened");
}

#[test]
fn heartbeats_that_are_lost_end_no_flow_of_acknowledgements() {
    let mut core = holder();
    let silent = NOW + core.limits.deadtime;
    core.belief.ping_ms = Some(silent);
    look(&mut core, silent, true);
    core.belief.now = silent + core.limits.deadtime;
    core.belief.ping_ms = Some(core.belief.now);
    core.track_semi_sync();
    assert!(!core.peer_heard() && core.belief.semi_sync, "nothing waited in the last look, however old that is");
    if let Some(sample) = &core.belief.sample {
        core.belief.sample = Some(Arc::new(Sample { semi_sync_waiting: 1, ..(**sample).clone() }));
    }
    core.track_semi_sync();
    assert!(!core.belief.semi_sync, "one waits, and none was acknowledged lately");
}
