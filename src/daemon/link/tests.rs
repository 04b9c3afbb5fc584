//! The link thread without its watchdog device.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::NodeIndex;
use crate::core::Core;
use crate::core::state::State;
use crate::daemon::{callers, limits};
use crate::sys::netlink::Callers;
use crate::sys::queue::{Receiver, queue};

fn link(watchdog: Option<Guard>) -> (Link, Receiver<Message>) {
    let (events, inbox) = queue(16);
    let socket = LinkSocket::bind(Ipv4Addr::LOCALHOST, 0, None).expect("bind");
    let vip = Ipv4Addr::new(192, 0, 2, 243);
    let setting = Setting {
        paths: vec![Path { socket, peer: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9) }],
        sessions: Sessions::new(1, 1, 1, 2000),
        lease: Lease::find("no-interface", vec![vip], Duration::from_secs(1)),
        callers: callers::pair(Callers { ips: vec![vip], port: 9 }).0,
        watchdog,
        gate_available: false,
        keepalive_ms: 250,
        gate_ms: 1500,
        lease_ms: 1000,
    };
    (Link::new(setting, events, Arc::default(), clock::now_ms()), inbox)
}

/// To hold the address, without a blessing.
fn order() -> Order {
    let keys = Authkeys::parse("auth 1\n1 sha1 0123456789abcdef0123\n", "authkeys").expect("keys");
    let config = crate::mycnf::fragment::tests::config();
    let core = Core::new(limits::identity(&config, NodeIndex(0)), limits::limits(&config), 0);
    let say = Beat { state: State::Active, ..(*core.want().say).clone() };
    Order { order: 1, vip: Hold::Yes, gate: Hold::Yes, say: Arc::new(say), blessed_until_ms: 0, keys: Arc::new(keys) }
}

#[test]
fn nothing_is_held_without_the_watchdog_device() {
    let (mut link, inbox) = link(Some(Guard::broken()));
    let mut order = order();
    link.turn(&order, clock::now_ms());
    assert!(link.may_hold(), "without a blessing nobody feeds");
    order.blessed_until_ms = Ms::MAX;
    link.turn(&order, clock::now_ms());
    order.order += 1;
    link.turn(&order, clock::now_ms());
    assert!(!link.may_hold(), "another order brings no device back");
    link.report();
    link.report();
    let said: Vec<Message> = std::iter::from_fn(|| inbox.receive(std::time::Duration::ZERO)).collect();
    let lost = said.iter().filter(|message| matches!(message, Message::Lost(_))).count();
    assert!(lost == 1 && matches!(said[0], Message::Lost(_)), "told once, and before anything else");
}

#[test]
fn the_gate_opens_with_the_address_and_not_before() {
    let (mut link, _inbox) = link(Some(Guard::broken()));
    assert_eq!(link.gate_for(Hold::Yes), Hold::Keep, "no address");
    assert_eq!(link.gate_for(Hold::No), Hold::No);
    link.latched = Some(1);
    assert_eq!([link.gate_for(Hold::Yes), link.gate_for(Hold::Keep)], [Hold::No; 2], "it has stood still");
}

#[test]
fn an_address_waits_for_nothing_but_a_blessing() {
    let (mut link, _inbox) = link(None);
    let mut order = order();
    assert_eq!(link.spacing(&order, 1), HURRY_MS, "its turn would do nothing, again and again");
    order.blessed_until_ms = 1;
    assert_eq!([link.spacing(&order, 1), link.spacing(&order, 2)], [0, HURRY_MS]);
    link.latched = Some(1);
    assert_eq!(link.spacing(&order, 1), HURRY_MS);
}

/// Needs CAP_NET_ADMIN, as the mark does.
#[test]
fn the_gate_is_shut_once_after_all_that_may_have_opened_it() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (mut link, _inbox) = link(None);
    let order = order();
    assert!(link.ajar, "by an earlier run");
    assert!(link.shut() && !link.ajar && link.shut());
    link.send(&order, Hold::Keep);
    assert!(!link.ajar);
    link.setting.paths[0].peer.set_port(0);
    link.send(&order, Hold::Yes);
    assert!(link.ajar, "a heartbeat that failed may have passed the hook");
    link.gate = Gate::Shut;
    link.send(&order, Hold::No);
    assert!(!link.ajar && link.gate == Gate::Shut, "over loopback");
}
