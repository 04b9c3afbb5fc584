//! The address lease: added, renewed, aged, expired, deleted.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mmha::act::lease::Lease;
use mmha::core::event::Address;
use mmha::sys::arp::ArpSocket;
use mmha::sys::clock;
use mmha::sys::netlink::{self, Leaser};
use mmha::sys::run::run;

use crate::stage::{LIMIT, VIP, enter_namespace, group, ip, pair, privileged, sleep_ms};

const LEASE: Duration = Duration::from_secs(1);
const PATIENCE_MS: u64 = 5_000;

#[test]
fn an_address_is_leased_renewed_and_expires() {
    if !privileged() {
        return;
    }
    enter_namespace();
    ip("link add pair0 type veth peer name pair1");
    ip("addr add 192.0.2.241/24 dev pair0");
    let link = netlink::link_by_name("pair0", LIMIT).expect("link");
    assert!(!link.up && !link.carrier && !link.noarp && link.mac != [0; 6]);
    ip("link set pair0 up");
    ip("link set pair1 up");
    let link = netlink::link_by_name("pair0", LIMIT).expect("link");
    assert!(link.up && link.carrier);
    assert_eq!(netlink::interface_with(IpAddr::from([192, 0, 2, 241]), LIMIT).expect("interface"), Some(link.clone()));
    assert_eq!(netlink::default_gateway(LIMIT).expect("gateway"), None);
    ip("route add default via 192.0.2.1 metric 20");
    ip("route add default via 192.0.2.2 metric 10");
    assert_eq!(netlink::default_gateway(LIMIT).expect("gateway"), Some(Ipv4Addr::new(192, 0, 2, 2)));

    let lease = || netlink::addresses(LIMIT).expect("addresses").into_iter().find(|addr| addr.ip == VIP);
    netlink::lease_address(link.index, VIP, 100, LIMIT).expect("lease");
    let held = lease().expect("held");
    assert_eq!((held.index, held.prefix), (link.index, 32));
    assert!(matches!(held.valid_lft_s, Some(99 | 100)), "{held:?}");
    assert!(held.age_ms.expect("age") < 1000, "{held:?}");
    assert!(ip("addr show dev pair0").contains("valid_lft"), "finite");
    sleep_ms(300);
    let age = lease().expect("held").age_ms.expect("age");
    assert!((250..2000).contains(&age), "{age}");

    let mut leaser = Leaser::open(link.index, &[VIP], 1).expect("open");
    for _ in 0..8 {
        leaser.renew(LIMIT).expect("renew");
        sleep_ms(250);
        assert!(lease().expect("kept").age_ms.expect("age") >= 200);
    }
    let mut took: Vec<_> = (0..500)
        .map(|_| {
            let start = clock::now();
            leaser.renew(LIMIT).expect("renew");
            clock::now() - start
        })
        .collect();
    took.sort();
    println!("a renewal took {:?} (median), {:?} at most", took[250], took[499]);
    let last = clock::now_ms();
    leaser.renew(LIMIT).expect("renew");
    while lease().is_some() {
        sleep_ms(10);
        assert!(clock::now_ms() - last < 10_000, "the lease never ends");
    }
    assert!(clock::now_ms() - last >= 900, "ended early");
    assert!(!netlink::del_address(link.index, VIP, 32, LIMIT).expect("delete"), "it was gone");
    leaser.renew(LIMIT).expect("renew brings it back, as documented");
    assert!(netlink::del_address(link.index, VIP, 32, LIMIT).expect("delete"));
    assert!(lease().is_none());
    assert!(netlink::addresses(LIMIT).expect("addresses").iter().any(|addr| addr.ip == IpAddr::from([192, 0, 2, 241])));
}

/// Which of the group this namespace has, each as a lease of its own.
fn here(group: &[Ipv4Addr]) -> usize {
    let all = netlink::addresses(LIMIT).expect("addresses");
    let leased = |ip: &&Ipv4Addr| all.iter().any(|addr| addr.ip == **ip && addr.prefix == 32 && addr.valid_lft_s.is_some());
    group.iter().filter(leased).count()
}

#[test]
fn a_group_comes_stays_and_goes_as_one() {
    if !privileged() {
        return;
    }
    let _other = pair();
    let group = group(64);
    let mut lease = Lease::find("here", group.clone(), LEASE);
    assert_eq!(lease.state(), Address::Absent);
    let renew = |lease: &mut Lease| {
        let now = clock::now_ms();
        lease.renew(now, PATIENCE_MS).expect("in time");
        assert_eq!(lease.state(), Address::Held { renewed_ms: now });
        assert_eq!(here(&group), 64);
    };
    renew(&mut lease);

    // Somebody takes one away: the next renewal brings it back.
    ip(&format!("addr del {}/32 dev here", group[40]));
    assert_eq!(here(&group), 63);
    renew(&mut lease);

    // A restarted agent finds the whole group or, when it is not whole, nothing to carry on with; what is left goes with the first removal.
    assert!(matches!(Lease::find("here", group.clone(), LEASE).state(), Address::Found { left_ms: 1..=1000 }));
    ip(&format!("addr del {}/32 dev here", group[63]));
    let mut restarted = Lease::find("here", group.clone(), LEASE);
    assert_eq!(restarted.state(), Address::Found { left_ms: 0 }, "one of 64 is missing");
    restarted.remove(clock::now_ms());
    assert_eq!((restarted.state(), here(&group)), (Address::Absent, 0));

    renew(&mut lease);
    lease.remove(clock::now_ms());
    assert_eq!((lease.state(), here(&group)), (Address::Absent, 0));

    renew(&mut lease);
    let last = clock::now_ms();
    while here(&group) > 0 {
        sleep_ms(10);
        assert!(clock::now_ms() - last < 10_000, "the leases never end");
    }
    println!("64 leases of 1 s had ended {} ms after their renewal", clock::now_ms() - last);
    assert!(clock::now_ms() - last >= 900, "ended early");
}

#[test]
fn a_group_on_an_interface_that_goes_and_returns() {
    if !privileged() {
        return;
    }
    let _other = pair();
    let group = group(8);
    let mut lease = Lease::find("here", group.clone(), LEASE);
    let mut renew = |expect_held: bool| {
        let now = clock::now_ms();
        lease.renew(now, PATIENCE_MS).expect("in time");
        assert_eq!(lease.state() == Address::Held { renewed_ms: now }, expect_held);
    };
    renew(true);
    ip("link del here");
    renew(false);
    ip("link add here type veth peer name elsewhere");
    ip("link set here up");
    renew(true);
    assert_eq!(here(&group), 8, "on the new interface");
    ip("link del here");
    lease.remove(clock::now_ms());
    assert_eq!(lease.state(), Address::Absent, "they went with the interface");
}

/// How long a claim takes (all added, all announced), a renewal and a release; alone, and while network namespaces come and go, which keeps
/// the kernel's network lock busy. Printed; what is judged is in the tests above.
#[test]
fn what_a_group_costs() {
    if !privileged() {
        return;
    }
    let _other = pair();
    let link = netlink::link_by_name("here", LIMIT).expect("here");
    let arp = ArpSocket::open(link.index, link.mac).expect("open");
    for busy in [false, true] {
        let stop = Arc::new(AtomicBool::new(!busy));
        let churn = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let links: String = (0..30).map(|at| format!("link add idle{at} type dummy\nlink set idle{at} up\n")).collect();
                while !stop.load(Ordering::Relaxed) {
                    enter_namespace(); // the one before goes, and its interfaces with it
                    run("ip", &["-batch", "-"], Some(&links), LIMIT).expect("ip runs");
                }
            }
        });
        for count in [1, 8, 64] {
            let group = group(count);
            let mut leaser = Leaser::open(link.index, &group, 100).expect("open");
            let mut took = [const { Vec::new() }; 4];
            let mut timed = |at: usize, act: &mut dyn FnMut()| {
                let start = clock::now();
                act();
                took[at].push(clock::now() - start);
            };
            for _ in 0..200 {
                timed(0, &mut || leaser.renew(LIMIT).expect("add"));
                timed(1, &mut || group.iter().for_each(|ip| arp.announce(*ip).expect("announce")));
                timed(2, &mut || leaser.renew(LIMIT).expect("renew"));
                timed(3, &mut || leaser.remove(LIMIT).expect("remove"));
                sleep_ms(5);
            }
            let said = took.map(|mut took| {
                took.sort();
                format!("{:?} ({:?})", took[took.len() / 2], took[took.len() - 1])
            });
            let [add, announce, renew, remove] = said;
            println!("{count:2} addresses, busy {busy}: add {add}, announce {announce}, renew {renew}, remove {remove}: median (longest)");
        }
        stop.store(true, Ordering::Relaxed);
        churn.join().expect("churn");
    }
}
