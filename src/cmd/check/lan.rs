//! The network side of this node: interface, own address, subnet, copies and strangers of the floating addresses, packet filter.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::Findings;
use crate::act::firewall;
use crate::config::vip::{Floating, brief};
use crate::config::{Config, NodeIndex, network_of};
use crate::report::Status;
use crate::sys::netlink::{self, Addr, Link};
use crate::sys::sysctl::{self, Setting};
use crate::sys::{arp, run};

const KERNEL: Duration = Duration::from_secs(1);
/// Several probes, and time for a loaded box to answer.
const PROBING: Duration = Duration::from_millis(500);

pub fn check(config: &Config, me: NodeIndex, status: Option<&Status>, findings: &mut Findings) {
    let addresses = netlink::addresses(KERNEL).unwrap_or_default();
    check_copies(config, &addresses, findings);
    if let Some(link) = check_interface(config, me, &addresses, findings) {
        check_subnet(config, &link, &addresses, findings);
        check_probe(config, me, &link, &addresses, status, findings);
    }
    check_filter(config, me, findings);
}

fn check_interface(config: &Config, me: NodeIndex, addresses: &[Addr], findings: &mut Findings) -> Option<Link> {
    let own = config.node(me).address;
    let place = addresses.iter().find(|addr| addr.ip == IpAddr::V4(own));
    if place.is_none() {
        let remedy = "give this box the address, or mend [[node]] address";
        findings.fail("address", format!("this node's own address {own} is on no interface of this box"), remedy);
    }
    let links = netlink::links(KERNEL).unwrap_or_default();
    let link = match &config.vip.interface {
        Some(name) => links.iter().find(|link| link.name == *name),
        None => links.iter().find(|link| place.is_some_and(|addr| addr.index == link.index)),
    };
    let Some(link) = link else {
        let name = config.vip.interface.as_deref().unwrap_or("the one with the node's own address");
        findings.fail("interface", format!("interface {name} does not exist"), "set [[vip]] interface to one that `ip link` shows");
        return None;
    };
    let name = &link.name;
    if !link.up || !link.carrier {
        let why = if link.up { "has no carrier" } else { "is down" };
        findings.fail("interface", format!("{name} {why}"), format!("look at the cable and the switch port; `ip link set {name} up`"));
    } else if link.noarp {
        let remedy = format!("use an interface with ARP, or `ip link set {name} arp on`");
        findings.fail("interface", format!("{name} has ARP switched off: nobody could ask who has the floating address"), remedy);
    } else {
        findings.ok("interface", format!("{name} is up and has a carrier; {own} is this node's own"));
    }
    if sysctl::read(name, Setting::ArpIgnore).is_ok_and(|value| value == 8) {
        let remedy = format!("sysctl -w net.ipv4.conf.{name}.arp_ignore=0 (and net.ipv4.conf.all.arp_ignore), also in /etc/sysctl.d");
        findings.fail(
            "interface",
            format!("arp_ignore is 8 on {name}: the peer cannot see that this node has the floating address"),
            remedy,
        );
    }
    Some(link.clone())
}

/// A copy without a lease stays after this node has let go.
fn check_copies(config: &Config, addresses: &[Addr], findings: &mut Findings) {
    let vips = config.vip.ips();
    let is_ours = |addr: &Addr| matches!(addr.ip, IpAddr::V4(ip) if vips.contains(&ip));
    for addr in addresses.iter().filter(|addr| is_ours(addr) && addr.valid_lft_s.is_none()) {
        let (vip, prefix) = (addr.ip, addr.prefix);
        let interface = interface_name(addr.index);
        let remedy = format!("ip addr del {vip}/{prefix} dev {interface}; and take it out of the box's own network configuration");
        findings.fail("address", format!("{vip}/{prefix} is configured for good on {interface}: only mmha may add it"), remedy);
    }
}

/// Once for each subnet that floating addresses are in; as a rule there is one.
fn check_subnet(config: &Config, link: &Link, addresses: &[Addr], findings: &mut Findings) {
    let vips = config.vip.ips();
    let is_own = |addr: &&Addr| addr.index == link.index && !matches!(addr.ip, IpAddr::V4(ip) if vips.contains(&ip));
    let mut subnets: Vec<((Ipv4Addr, u8), Vec<Ipv4Addr>)> = Vec::new();
    for Floating { ip, prefix } in &config.vip.addresses {
        let subnet = (network_of(*ip, *prefix), *prefix);
        match subnets.iter_mut().find(|(known, _)| *known == subnet) {
            Some((_, here)) => here.push(*ip),
            None => subnets.push((subnet, vec![*ip])),
        }
    }
    for ((network, prefix), here) in subnets {
        let vip = brief(&here);
        let is_inside = |addr: &&Addr| matches!(addr.ip, IpAddr::V4(ip) if network_of(ip, prefix) == network);
        match addresses.iter().filter(is_own).find(is_inside) {
            None => {
                let remedy = format!("put the node's address on {}, or set [[vip]] interface to the one that has it", link.name);
                let why = format!("{} has no address in {network}/{prefix}: {vip} would not be reachable there", link.name);
                findings.fail("subnet", why, remedy);
            }
            Some(addr) if addr.prefix != prefix => {
                let remedy = "use the same prefix length in [[vip]] address";
                findings.warn("subnet", format!("the node's address has /{}, the floating address /{prefix}", addr.prefix), remedy);
            }
            Some(_) if here.len() > 1 => findings.ok("subnet", format!("{vip} belong to {network}/{prefix} on {}", link.name)),
            Some(_) => findings.ok("subnet", format!("{vip} belongs to {network}/{prefix} on {}", link.name)),
        }
    }
}

/// Who has the floating addresses: what is the same for several of them is said once.
fn check_probe(config: &Config, me: NodeIndex, link: &Link, addresses: &[Addr], status: Option<&Status>, findings: &mut Findings) {
    let is_here = |ip: &Ipv4Addr| addresses.iter().any(|addr| addr.ip == IpAddr::V4(*ip));
    let (here, elsewhere): (Vec<Ipv4Addr>, Vec<Ipv4Addr>) = config.vip.ips().into_iter().partition(is_here);
    if !here.is_empty() {
        findings.ok("floating addr", format!("{} {} on this node", brief(&here), are(&here)));
    }
    if elsewhere.is_empty() {
        return;
    }
    let answers = match arp::probe(link.index, link.mac, &elsewhere, PROBING) {
        Ok(answers) => answers,
        Err(error) => {
            let why = format!("cannot ask on {} who has {}: {error}", link.name, brief(&elsewhere));
            findings.fail("floating addr", why, "run as root, on an Ethernet interface");
            return;
        }
    };
    let peer = config.node(me.other());
    let known = mac_of(peer.address);
    let mut groups: Vec<(Option<arp::Mac>, Vec<Ipv4Addr>)> = Vec::new();
    for (ip, answer) in elsewhere.into_iter().zip(answers) {
        match groups.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, same)) => same.push(ip),
            None => groups.push((answer, vec![ip])),
        }
    }
    let peer_holds = status.is_some_and(|status| status.vip.holder.as_ref() == Some(&peer.name));
    for (answer, vips) in groups {
        judge_answer(answer, known, &vips, &peer.name, peer_holds, findings);
    }
}

/// `answer` is who answered for all of `vips`, `known` the peer.
fn judge_answer(
    answer: Option<arp::Mac>,
    known: Option<arp::Mac>,
    vips: &[Ipv4Addr],
    peer: &str,
    peer_holds: bool,
    findings: &mut Findings,
) {
    let (vip, are) = (brief(vips), are(vips));
    match (answer, known) {
        (Some(mac), Some(known)) if mac == known => findings.ok("floating addr", format!("{vip} {are} on {peer} ({})", arp::mac_text(mac))),
        (Some(mac), Some(_)) => {
            let remedy = "find the host with that MAC and take the address away from it, or choose another floating address";
            let why = format!("{} answers for {vip} and is not {peer}: a stranger has it", arp::mac_text(mac));
            findings.fail("floating addr", why, remedy);
        }
        (Some(mac), None) if peer_holds => {
            findings.ok("floating addr", format!("{vip} {are} answered by {}, {peer} holds it", arp::mac_text(mac)))
        }
        (Some(mac), None) => {
            let remedy = format!("compare it with `ip link` on {peer}; if it is another host's, that host must give the address up");
            let why = format!("{} answers for {vip}; whether that is {peer} is not known", arp::mac_text(mac));
            findings.warn("floating addr", why, remedy);
        }
        (None, _) if peer_holds => {
            let remedy = format!("on {peer}: arp_ignore, arptables, nft rules; on the switch: ARP inspection, proxy ARP");
            let why = format!("{peer} holds {vip} but does not answer ARP for it: clients may not find it");
            findings.fail("floating addr", why, remedy);
        }
        (None, _) => findings.ok("floating addr", format!("nobody answers for {vip}")),
    }
}

fn are(vips: &[Ipv4Addr]) -> &'static str {
    if vips.len() > 1 { "are" } else { "is" }
}

/// What this kernel knows of that host (proc_net(5), /proc/net/arp), asked for first by one datagram to its discard port.
fn mac_of(address: Ipv4Addr) -> Option<arp::Mac> {
    let knock = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    let _ = knock.send_to(&[0], (address, 9));
    std::thread::sleep(Duration::from_millis(50));
    let table = std::fs::read_to_string("/proc/net/arp").ok()?;
    mac_in(&table, address)
}

fn mac_in(table: &str, address: Ipv4Addr) -> Option<arp::Mac> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(&address.to_string()))?;
    let text = line.split_whitespace().nth(3)?;
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (mac != [0; 6]).then_some(mac)
}

fn check_filter(config: &Config, me: NodeIndex, findings: &mut Findings) {
    if !config.firewall.manage {
        return; // said as a warning of the configuration
    }
    match run::run("nft", &["--version"], None, KERNEL) {
        Ok(output) if output.ok() => findings.ok("write gate", "nft is there for it"),
        _ => findings.fail("write gate", "nft cannot be run: a frozen node would go on acknowledging writes", "apt install nftables"),
    }
    match firewall::verify(config, me) {
        Ok(true) => findings.ok("firewall", format!("our rules are in force (chain {})", firewall::CHAIN)),
        Ok(false) => {
            findings.warn("firewall", "our rules are not in force as they should be", "mmha firewall apply (the service does it by itself)")
        }
        Err(error) => findings.fail("firewall", error.to_string(), "apt install iptables; run as root"),
    }
}

fn interface_name(index: u32) -> String {
    let name = nix::net::if_::if_indextoname(index).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("interface {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_from_the_kernels_table() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.0.2.24       0x1         0x2         aa:aa:aa:aa:aa:aa     *        eth0\n\
                     192.0.2.242      0x1         0x2         02:fc:00:00:00:05     *        eth0\n\
                     192.0.2.9        0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        fn check(table: &str, last: u8, expect: Option<arp::Mac>) {
            assert_eq!(mac_in(table, Ipv4Addr::new(192, 0, 2, last)), expect);
        }
        check(table, 242, Some([2, 0xfc, 0, 0, 0, 5]));
        check(table, 9, None);
        check(table, 2, None);
    }
}
