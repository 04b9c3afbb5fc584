//! ARP on one interface (RFC 826, RFC 5227): announce the floating addresses, probe for another holder, ask a neighbour. An AF_PACKET socket,
//! kept open: closing one costs 5-12 ms. It only carries packets; whoever reads them judges.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, sendto, socket};

use super::{clock, timer};

pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const NOBODY: Mac = [0; 6];
/// Ethernet, IPv4, 6- and 4-byte addresses: the only ARP there is for us.
const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ETH_P_ARP: u16 = 0x0806;
const LENGTH: usize = 28;
/// Packets looked at in one `read` before it says "nothing": what is not ARP as above is skipped.
const AT_ONCE: usize = 32;
/// `probe` asks this often.
const PROBE_SPACING: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

/// One ARP packet as heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpPacket {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender_ip: Ipv4Addr,
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Its sender says it has `address`.
    pub fn claims(&self, address: Ipv4Addr) -> bool {
        self.sender_ip == address
    }
    /// Its sender wants to know whether anybody has `address`, before taking it (RFC 5227 §2.1.1).
    pub fn probes(&self, address: Ipv4Addr) -> bool {
        self.operation == Operation::Request && self.sender_ip.is_unspecified() && self.target_ip == address
    }
}

/// Non-blocking; hears every ARP packet of its interface.
#[derive(Debug)]
pub struct ArpSocket {
    fd: OwnedFd,
    index: u32,
    mac: Mac,
}

impl ArpSocket {
    /// On the interface with `index`, whose own Ethernet address is `mac`.
    pub fn open(index: u32, mac: Mac) -> io::Result<ArpSocket> {
        // SOCK_DGRAM: the kernel writes the Ethernet header, on VLAN, bond and bridge alike. No protocol until it is bound, so that no
        // packet of another interface is queued before.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None::<SockProtocol>)?;
        bind(fd.as_raw_fd(), &link_address(index, NOBODY)?)?;
        Ok(ArpSocket { fd, index, mac })
    }

    /// Tell everybody that `address` is here: once as request, once as reply, because some stacks heed only one of the two.
    pub fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(BROADCAST, &packet(1, self.mac, address, NOBODY, address))?;
        self.send(BROADCAST, &packet(2, self.mac, address, BROADCAST, address))
    }

    /// Ask whether anybody has `address` without claiming it: sender 0.0.0.0 (RFC 5227 §1.1).
    pub fn send_probe(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(BROADCAST, &packet(1, self.mac, Ipv4Addr::UNSPECIFIED, NOBODY, address))
    }

    /// Ask `target` for its address in our own name; to `known` alone if it has answered before, else to all.
    pub fn ask(&self, target: Ipv4Addr, own: Ipv4Addr, known: Option<Mac>) -> io::Result<()> {
        self.send(known.unwrap_or(BROADCAST), &packet(1, self.mac, own, NOBODY, target))
    }

    /// The next packet of somebody else; `None`: nothing is there. ENETDOWN, once: the interface went down.
    pub fn read(&self) -> io::Result<Option<ArpPacket>> {
        for _ in 0..AT_ONCE {
            let mut bytes = [0; 64];
            match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => match parse(&bytes[..length]) {
                    Some(packet) if packet.sender_mac != self.mac => return Ok(Some(packet)),
                    Some(_) | None => {} // our own, looped back by a bridge; or not for us
                },
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    fn send(&self, to: Mac, bytes: &[u8; LENGTH]) -> io::Result<()> {
        sendto(self.fd.as_raw_fd(), bytes, &link_address(self.index, to)?, MsgFlags::empty())?;
        Ok(())
    }
}

impl AsFd for ArpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Does anybody else on this interface have, or probe for, one of `addresses`? Asks for each every 100 ms for `limit`, or until another MAC has
/// answered for every one. `None` is no proof: a dead host answers nothing, and a lost packet neither. ENETDOWN: the interface is down.
pub fn probe(index: u32, mac: Mac, addresses: &[Ipv4Addr], limit: Duration) -> io::Result<Vec<Option<Mac>>> {
    let socket = ArpSocket::open(index, mac)?;
    let until = clock::now() + limit;
    let mut next = Duration::ZERO;
    let mut found = vec![None; addresses.len()];
    while clock::now() < until && found.contains(&None) {
        if clock::now() >= next {
            for (address, _) in addresses.iter().zip(&found).filter(|(_, found)| found.is_none()) {
                socket.send_probe(*address)?;
            }
            next = clock::now() + PROBE_SPACING;
        }
        timer::wait(&[socket.as_fd()], next.min(until))?;
        while let Some(heard) = socket.read()? {
            let about = |address: &Ipv4Addr| heard.claims(*address) || heard.probes(*address);
            let told = addresses.iter().zip(&mut found).filter(|(address, found)| found.is_none() && about(address));
            told.for_each(|(_, found)| *found = Some(heard.sender_mac));
        }
    }
    Ok(found)
}

/// "aa:bb:cc:dd:ee:ff", as every tool prints it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn packet(operation: u8, sender_mac: Mac, sender_ip: Ipv4Addr, target_mac: Mac, target_ip: Ipv4Addr) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..6].copy_from_slice(&PREAMBLE);
    bytes[7] = operation;
    bytes[8..14].copy_from_slice(&sender_mac);
    bytes[14..18].copy_from_slice(&sender_ip.octets());
    bytes[18..24].copy_from_slice(&target_mac);
    bytes[24..].copy_from_slice(&target_ip.octets());
    bytes
}

/// `None`: not ARP for IPv4 over Ethernet, or neither request nor reply. Ethernet pads to 46 bytes, so more may follow.
fn parse(bytes: &[u8]) -> Option<ArpPacket> {
    let bytes: &[u8; LENGTH] = bytes.get(..LENGTH)?.try_into().ok()?;
    let operation = match (bytes[..6] == PREAMBLE, bytes[6], bytes[7]) {
        (true, 0, 1) => Operation::Request,
        (true, 0, 2) => Operation::Reply,
        _ => return None,
    };
    let ip = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let sender_mac = bytes[8..14].try_into().ok()?;
    Some(ArpPacket { operation, sender_mac, sender_ip: ip(14), target_ip: ip(24) })
}

/// packet(7): struct sockaddr_ll.
fn link_address(index: u32, to: Mac) -> io::Result<LinkAddr> {
    // SAFETY: sockaddr_ll is plain integers, for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ARP.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&to);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a live sockaddr_ll of exactly this length, and it is copied.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }.ok_or_else(|| io::Error::other("not a link address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 243);

    #[test]
    fn what_is_sent_is_understood() {
        let probe = parse(&packet(1, MAC, Ipv4Addr::UNSPECIFIED, NOBODY, VIP)).expect("parse");
        assert!(probe.probes(VIP) && !probe.claims(VIP));
        let reply = parse(&packet(2, MAC, VIP, BROADCAST, VIP)).expect("parse");
        assert!(reply.claims(VIP) && !reply.probes(VIP));
        assert_eq!(reply.sender_mac, MAC);
        assert_eq!(mac_text(MAC), "02:00:00:00:00:01");
    }

    #[test]
    fn anything_else_is_nothing() {
        let good = packet(1, MAC, VIP, NOBODY, VIP);
        assert!(parse(&good[..27]).is_none());
        assert!(parse(&[good.as_slice(), &[0; 18]].concat()).is_some(), "padding is ignored");
        for at in 0..8 {
            let mut bad = good;
            bad[at] ^= 0x40;
            assert!(parse(&bad).is_none(), "byte {at}");
        }
    }
}
