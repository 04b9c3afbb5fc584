//! Ping targets: a neighbour is asked by ARP (it answers below any firewall), a host behind a router by ICMP echo. An answer must be to us, so
//! that it proves both directions of the cable.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::arp::{ArpPacket, ArpSocket, Mac, Operation};
use crate::sys::icmp::IcmpSocket;
use crate::sys::netlink::Addr;

/// An echo answered later than this many rounds is no answer any more.
const ROUNDS_AWAITED: u16 = 4;

#[derive(Debug)]
struct Target {
    address: Ipv4Addr,
    on_link: bool,
    /// Who answered the last question: asked alone the next time, so that the segment is not flooded. Forgotten when it does not answer.
    known: Option<Mac>,
    answered: bool,
}

#[derive(Debug)]
pub struct Pings {
    own: Ipv4Addr,
    targets: Vec<Target>,
    echo: Option<IcmpSocket>,
    round: u16,
}

impl Pings {
    pub fn new(own: Ipv4Addr, targets: &[Ipv4Addr]) -> Pings {
        let target = |address: &Ipv4Addr| Target { address: *address, on_link: false, known: None, answered: false };
        Pings { own, targets: targets.iter().map(target).collect(), echo: None, round: 0 }
    }

    /// Learn from this interface's addresses which targets are neighbours. Without our own address on it nothing is known, and echo is tried.
    pub fn locate(&mut self, addresses: &[Addr], index: u32) {
        let own = addresses.iter().find(|addr| addr.index == index && addr.ip == IpAddr::V4(self.own));
        for target in &mut self.targets {
            target.on_link = own.is_some_and(|own| same_subnet(self.own, target.address, own.prefix));
        }
    }

    /// Ask every target. What cannot be sent is not answered either: that is all there is to say about it.
    pub fn ask(&mut self, arp: Option<&ArpSocket>) {
        self.round = self.round.wrapping_add(1);
        for target in &mut self.targets {
            if !std::mem::replace(&mut target.answered, false) {
                target.known = None;
            }
            if target.on_link {
                let _ = arp.map(|arp| arp.ask(target.address, self.own, target.known));
                continue;
            }
            if self.echo.is_none() {
                self.echo = IcmpSocket::open((std::process::id() & 0xffff) as u16).ok();
            }
            let _ = self.echo.as_ref().map(|echo| echo.send(target.address, self.round));
        }
    }

    /// The target whose answer this is.
    pub fn answered_by_arp(&mut self, packet: &ArpPacket) -> Option<Ipv4Addr> {
        if packet.operation != Operation::Reply || packet.target_ip != self.own {
            return None;
        }
        let target = self.targets.iter_mut().find(|target| target.on_link && target.address == packet.sender_ip)?;
        (target.known, target.answered) = (Some(packet.sender_mac), true);
        Some(target.address)
    }

    /// The next target that answered an echo of the last rounds; `None`: no more have arrived.
    pub fn answered_by_echo(&self) -> Option<Ipv4Addr> {
        let answer = self.echo.as_ref()?.read().ok()??;
        let fresh = self.round.wrapping_sub(answer.sequence) < ROUNDS_AWAITED;
        (fresh && self.targets.iter().any(|target| target.address == answer.from)).then_some(answer.from)
    }

    pub fn echo_fd(&self) -> Option<BorrowedFd<'_>> {
        self.echo.as_ref().map(AsFd::as_fd)
    }
}

fn same_subnet(one: Ipv4Addr, other: Ipv4Addr, prefix: u8) -> bool {
    let differing = u32::from(one) ^ u32::from(other);
    differing.leading_zeros() >= u32::from(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 241);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    #[test]
    fn only_an_answer_to_us_from_a_neighbour_counts() {
        let mut pings = Pings::new(OWN, &[GATEWAY, FAR]);
        let answer = ArpPacket { operation: Operation::Reply, sender_mac: [1; 6], sender_ip: GATEWAY, target_ip: OWN };
        assert_eq!(pings.answered_by_arp(&answer), None, "not located yet");
        pings.locate(&[Addr { index: 3, ip: OWN.into(), prefix: 24, valid_lft_s: None, age_ms: None }], 3);
        assert_eq!(pings.answered_by_arp(&answer), Some(GATEWAY));
        for wrong in [
            ArpPacket { operation: Operation::Request, ..answer },
            ArpPacket { target_ip: GATEWAY, ..answer },
            ArpPacket { sender_ip: FAR, ..answer },
        ] {
            assert_eq!(pings.answered_by_arp(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn subnets() {
        for (prefix, expect) in [(0, true), (24, true), (25, false), (32, false)] {
            assert_eq!(same_subnet(OWN, GATEWAY, prefix), expect, "/{prefix}");
        }
        assert!(same_subnet(OWN, OWN, 32) && !same_subnet(OWN, FAR, 8));
    }
}
