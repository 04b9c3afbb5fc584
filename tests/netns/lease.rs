//! The address lease: added, renewed, aged, expired, deleted.

use std::net::{IpAddr, Ipv4Addr};

use mmha::sys::clock;
use mmha::sys::netlink::{self, Leaser};

use crate::stage::{LIMIT, VIP, enter_namespace, ip, privileged, sleep_ms};

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

    let mut leaser = Leaser::open(link.index, VIP, 1).expect("open");
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
