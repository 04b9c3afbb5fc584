//! ICMP echo (RFC 792) to ping targets behind a router; a neighbour is asked by ARP instead. Raw socket, non-blocking. An answer counts only
//! from the address that was asked, with our identifier; which sequence numbers are still awaited is the caller's to know.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket};

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;
/// Packets looked at in one `read`: a raw socket hears every ICMP packet of the box.
const AT_ONCE: usize = 64;

/// An answer to one of our echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub from: Ipv4Addr,
    pub sequence: u16,
}

#[derive(Debug)]
pub struct IcmpSocket {
    fd: OwnedFd,
    identifier: u16,
}

impl IcmpSocket {
    /// Answers to other identifiers are another program's. Needs CAP_NET_RAW.
    pub fn open(identifier: u16) -> io::Result<IcmpSocket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(IcmpSocket { fd: socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?, identifier })
    }

    pub fn send(&self, target: Ipv4Addr, sequence: u16) -> io::Result<()> {
        let to = SockaddrIn::from(SocketAddrV4::new(target, 0));
        sendto(self.fd.as_raw_fd(), &echo(self.identifier, sequence), &to, MsgFlags::empty())?;
        Ok(())
    }

    /// The next answer; `None`: nothing is there.
    pub fn read(&self) -> io::Result<Option<Answer>> {
        for _ in 0..AT_ONCE {
            let mut bytes = [0; 256];
            match recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => {
                    if let Some(answer) = parse(&bytes[..length], self.identifier) {
                        return Ok(Some(answer));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn echo(identifier: u16, sequence: u16) -> [u8; 16] {
    let mut bytes = *b"\x08\0\0\0\0\0\0\0mmha\0\0\0\0";
    bytes[0] = ECHO;
    bytes[4..6].copy_from_slice(&identifier.to_be_bytes());
    bytes[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A raw IPv4 socket delivers the IP header too (raw(7)); the kernel has not checked the ICMP checksum.
fn parse(bytes: &[u8], identifier: u16) -> Option<Answer> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let from: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
    let message = bytes.get(header..)?;
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let ours = *message.first()? == ECHO_REPLY && number(4)? == identifier && checksum(message) == 0;
    ours.then_some(Answer { from: Ipv4Addr::from(from), sequence: number(6)? })
}

/// RFC 1071: the one's complement of the one's complement sum; 0 over a message that carries its own.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(identifier: u16, sequence: u16) -> Vec<u8> {
        let mut message = echo(identifier, sequence);
        message[0] = ECHO_REPLY;
        message[2..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut bytes = vec![0; 20];
        bytes[0] = 0x45;
        bytes[12..16].copy_from_slice(&[192, 0, 2, 1]);
        bytes.extend(message);
        bytes
    }

    #[test]
    fn only_our_answer_counts() {
        let good = reply(7, 9);
        assert_eq!(parse(&good, 7), Some(Answer { from: Ipv4Addr::new(192, 0, 2, 1), sequence: 9 }));
        assert_eq!(parse(&good, 8), None);
        assert_eq!(parse(&good[..27], 7), None);
        assert_eq!(parse(&[], 7), None);
        let mut request = good.clone();
        request[20] = ECHO;
        assert_eq!(parse(&request, 7), None);
        let mut damaged = good;
        damaged[30] ^= 1;
        assert_eq!(parse(&damaged, 7), None);
    }

    #[test]
    fn checksum_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
