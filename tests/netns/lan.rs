//! ARP and the LAN thread: probes, claims, announcements, ping targets, an interface that goes and comes back.

use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mmha::probe::lan::{self, Lan, LanCommand, LanConfig, LanEvent};
use mmha::sys::arp::{self, ArpSocket, Mac};
use mmha::sys::clock;
use mmha::sys::netlink;

use crate::stage::{LIMIT, NODE, Other, PEER, VIP, group, ip, pair, privileged, sleep_ms};

/// Behind the router that the peer's box plays here.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

struct Watch {
    lan: Lan,
    events: Receiver<LanEvent>,
}

impl Watch {
    fn start(ping: &[Ipv4Addr]) -> Watch {
        Watch::over(vec![VIP], ping)
    }

    fn over(vips: Vec<Ipv4Addr>, ping: &[Ipv4Addr]) -> Watch {
        let (sender, events) = channel();
        let config = LanConfig { interface: "here".into(), own: NODE, vips, ping: ping.to_vec(), interval: Duration::from_millis(100) };
        Watch { lan: lan::spawn(config, move |event| sender.send(event).unwrap_or_default()).expect("spawn"), events }
    }

    fn tell(&self, command: LanCommand) {
        assert!(self.lan.tell(command));
    }

    /// Wait for this event; says how long it took.
    fn expect(&self, wanted: LanEvent) -> Duration {
        let start = clock::now();
        while self.next(&wanted) != wanted {}
        clock::now() - start
    }

    /// Wait for an answer of this target; says whether it was as before.
    fn expect_answer(&self, from: Ipv4Addr) -> bool {
        loop {
            match self.next(&from) {
                LanEvent::PingAnswered { target, as_before } if target == from => return as_before,
                _ => {}
            }
        }
    }

    fn next(&self, wanted: &impl std::fmt::Debug) -> LanEvent {
        self.events.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{wanted:?} never came"))
    }

    /// What came within `ms`.
    fn gather(&self, ms: u64) -> Vec<LanEvent> {
        sleep_ms(ms);
        self.events.try_iter().collect()
    }
}

fn mac_there(other: &Other) -> (u32, Mac) {
    let link = other.run(|| netlink::link_by_name("there", LIMIT).expect("there"));
    (link.index, link.mac)
}

#[test]
fn a_holder_answers_probes_and_a_rival_is_heard() {
    if !privileged() {
        return;
    }
    let other = pair();
    let (there, mac) = mac_there(&other);
    let here = netlink::link_by_name("here", LIMIT).expect("here");
    let limit = Duration::from_millis(350);
    assert_eq!(arp::probe(here.index, here.mac, &[VIP], limit).expect("probe"), [None]);
    other.run(|| ip(&format!("addr add {VIP}/32 dev there")));
    let start = clock::now();
    assert_eq!(arp::probe(here.index, here.mac, &[VIP], LIMIT).expect("probe"), [Some(mac)]);
    println!("a holder was found in {:?}", clock::now() - start);
    other.run(|| ip(&format!("addr del {VIP}/32 dev there")));

    let watch = Watch::start(&[]);
    watch.expect(LanEvent::Carrier(true));
    let socket = other.run(move || ArpSocket::open(there, mac).expect("open"));
    socket.send_probe(VIP).expect("probe");
    watch.expect(LanEvent::VipProbedBy { mac });
    socket.announce(VIP).expect("announce");
    println!("a claim was heard in {:?}", watch.expect(LanEvent::VipClaimed { mac }));
    socket.send_probe(PEER).expect("probe");
    socket.announce(PEER).expect("announce");
    assert_eq!(watch.gather(150), [], "what concerns other addresses is not told");

    watch.tell(LanCommand::Probe { spacing: Duration::from_millis(20) });
    watch.expect(LanEvent::ProbeSent { count: 10 });
    watch.tell(LanCommand::StopProbing);
    let heard = std::iter::from_fn(|| socket.read().expect("read")).filter(|packet| packet.probes(VIP)).count();
    assert!((10..=12).contains(&heard), "{heard}");
    other.run(|| ip(&format!("addr add {VIP}/32 dev there")));
    watch.tell(LanCommand::Probe { spacing: Duration::from_millis(20) });
    println!("a holder was found by the thread in {:?}", watch.expect(LanEvent::VipClaimed { mac }));
}

#[test]
fn announcements_replace_what_neighbours_believe() {
    if !privileged() {
        return;
    }
    let other = pair();
    let here = netlink::link_by_name("here", LIMIT).expect("here");
    other.run(|| ip(&format!("neigh add {VIP} lladdr 02:00:00:00:00:99 dev there nud reachable")));
    let (there, mac) = mac_there(&other);
    let socket = other.run(move || ArpSocket::open(there, mac).expect("open"));
    let watch = Watch::start(&[]);
    watch.expect(LanEvent::Carrier(true));
    watch.tell(LanCommand::Announce);
    sleep_ms(300);
    watch.tell(LanCommand::StopAnnouncing);
    let believed = other.run(|| ip("neigh show dev there"));
    assert!(believed.contains(&format!("{VIP} lladdr {}", arp::mac_text(here.mac))), "{believed}");
    let heard = std::iter::from_fn(|| socket.read().expect("read")).filter(|packet| packet.claims(VIP)).count();
    assert_eq!(heard, 4, "two forms, at 0 and at 100 ms");
}

#[test]
fn a_group_is_probed_and_announced_whole_and_any_of_it_may_be_claimed() {
    if !privileged() {
        return;
    }
    let other = pair();
    let here = netlink::link_by_name("here", LIMIT).expect("here");
    let (there, mac) = mac_there(&other);
    let socket = other.run(move || ArpSocket::open(there, mac).expect("open"));
    let vips = group(64);
    let watch = Watch::over(vips.clone(), &[PEER]);
    watch.expect(LanEvent::Carrier(true));
    watch.tell(LanCommand::Probe { spacing: Duration::from_millis(60) });
    watch.expect(LanEvent::ProbeSent { count: 3 });
    watch.tell(LanCommand::StopProbing);
    let heard: Vec<_> = std::iter::from_fn(|| socket.read().expect("read")).collect();
    for vip in &vips {
        let rounds = heard.iter().filter(|packet| packet.probes(*vip)).count();
        assert!((3..=4).contains(&rounds), "{vip}: {rounds}");
    }
    watch.expect_answer(PEER);

    let last = vips[63];
    assert!(watch.gather(50).iter().all(|event| matches!(event, LanEvent::PingAnswered { .. } | LanEvent::ProbeSent { .. })));
    socket.send_probe(last).expect("probe");
    watch.expect(LanEvent::VipProbedBy { mac });
    socket.announce(last).expect("announce");
    watch.expect(LanEvent::VipClaimed { mac });
    other.run(move || ip(&format!("addr add {last}/32 dev there")));
    let start = clock::now();
    let found = arp::probe(here.index, here.mac, &vips, Duration::from_millis(250)).expect("probe");
    println!("who has each of 64 addresses was asked in {:?}", clock::now() - start);
    assert_eq!(found[63], Some(mac));
    assert!(found[..63].iter().all(Option::is_none), "{found:?}");

    while socket.read().expect("read").is_some() {}
    watch.tell(LanCommand::Announce);
    sleep_ms(50);
    watch.tell(LanCommand::StopAnnouncing);
    let heard: Vec<_> = std::iter::from_fn(|| socket.read().expect("read")).collect();
    for vip in &vips {
        assert_eq!(heard.iter().filter(|packet| packet.claims(*vip)).count(), 2, "{vip}: once as request, once as reply");
    }
}

#[test]
fn ping_targets_answer_and_the_interface_may_go_and_return() {
    if !privileged() {
        return;
    }
    let other = pair();
    other.run(|| ip(&format!("addr add {FAR}/32 dev lo")));
    ip(&format!("route add default via {PEER}"));
    let watch = Watch::start(&[PEER, FAR]);
    watch.expect(LanEvent::Carrier(true));
    assert!(!watch.expect_answer(PEER), "the first is news");
    watch.expect_answer(FAR);
    assert!(watch.expect_answer(PEER), "and then it is not");

    let cut = clock::now();
    other.run(|| ip("link set there down"));
    watch.expect(LanEvent::Carrier(false));
    println!("a dead cable was told {:?} after `ip link set down` began", clock::now() - cut);
    let answers = watch.gather(400);
    assert_eq!(answers, [], "nobody answers on a dead cable");
    watch.tell(LanCommand::Probe { spacing: Duration::from_millis(20) });
    assert_eq!(watch.gather(200), [], "a probe into a dead cable does not count");
    other.run(|| ip("link set there up"));
    watch.expect(LanEvent::Carrier(true));
    watch.expect(LanEvent::ProbeSent { count: 1 });
    assert!(!watch.expect_answer(PEER) && !watch.expect_answer(PEER), "whoever probes waits for it");

    ip("link set here down");
    watch.expect(LanEvent::Carrier(false));
    ip("link set here up");
    watch.expect(LanEvent::Carrier(true));
    ip("link del here");
    watch.expect(LanEvent::InterfaceMissing);
    ip("link add here type veth peer name elsewhere");
    watch.expect(LanEvent::Carrier(false));
    ip("link set elsewhere up");
    ip("link set here up");
    watch.expect(LanEvent::Carrier(true));
    drop(watch.lan);
    while watch.events.recv_timeout(LIMIT).is_ok() {}
}
