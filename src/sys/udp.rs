//! The heartbeat's UDP socket: non-blocking, bound to one address, each datagram with the firewall mark it is told (socket(7), SO_MARK).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind as bind_to, recvfrom, sendto, setsockopt, socket,
    sockopt,
};

/// A longer datagram is cut, and then fails its authentication.
const DATAGRAM_LIMIT: usize = 2048;
/// DSCP EF (RFC 3246): waits behind nothing that honours it.
const EXPEDITED: libc::c_int = 0xb8;

/// One local address of the peer link.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
    mark: u32,
}

impl LinkSocket {
    /// Bind to `address`:`port`, alone (no SO_REUSEADDR: a second agent gets EADDRINUSE), on `interface` only if one is given. The address
    /// need not exist yet (IP_FREEBIND): a crossover cable may come up later; until then sending fails.
    pub fn bind(address: Ipv4Addr, port: u16, interface: Option<&str>) -> io::Result<LinkSocket> {
        let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        setsockopt(&fd, sockopt::IpFreebind, &true)?;
        setsockopt(&fd, sockopt::Ipv4Tos, &EXPEDITED)?;
        if let Some(interface) = interface {
            setsockopt(&fd, sockopt::BindToDevice, &interface.into())?;
        }
        bind_to(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, port)))?;
        Ok(LinkSocket { fd, mark: 0 })
    }

    /// Send with `mark` (0 = none); the kernel's output hooks have seen it when this returns. Needs CAP_NET_ADMIN for a mark. ENETUNREACH:
    /// there is no route, and then no hook has seen it.
    pub fn send_marked(&mut self, mark: u32, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        if mark != self.mark {
            setsockopt(&self.fd, sockopt::Mark, &mark)?;
            self.mark = mark;
        }
        sendto(self.fd.as_raw_fd(), bytes, &SockaddrIn::from(to), MsgFlags::empty())?;
        Ok(())
    }

    /// The next datagram that has arrived, with its sender; `None`: nothing is there.
    pub fn receive(&self) -> io::Result<Option<(Datagram, SocketAddrV4)>> {
        let mut datagram = Datagram { bytes: [0; DATAGRAM_LIMIT], length: 0 };
        match recvfrom::<SockaddrStorage>(self.fd.as_raw_fd(), &mut datagram.bytes) {
            Ok((length, Some(from))) => {
                datagram.length = length;
                let from = from.as_sockaddr_in().ok_or_else(|| io::Error::other("a sender that is not IPv4"))?;
                Ok(Some((datagram, SocketAddrV4::new(from.ip(), from.port()))))
            }
            Ok((_, None)) => Err(io::Error::other("a datagram without a sender")),
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What has arrived, on the stack: the real-time thread does not allocate for it.
#[derive(Debug)]
pub struct Datagram {
    bytes: [u8; DATAGRAM_LIMIT],
    length: usize,
}

impl std::ops::Deref for Datagram {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_with_its_sender_and_nothing_blocks() {
        let port = 40_694;
        let (here, there) = (Ipv4Addr::new(127, 6, 9, 4), Ipv4Addr::new(127, 6, 9, 5));
        let mut left = LinkSocket::bind(here, port, None).expect("bind");
        let right = LinkSocket::bind(there, port, None).expect("bind");
        assert!(right.receive().expect("receive").is_none());
        assert_eq!(LinkSocket::bind(here, port, None).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        left.send_marked(0, SocketAddrV4::new(there, port), b"beat").expect("send");
        let (datagram, from) = right.receive().expect("receive").expect("arrived");
        assert_eq!((&*datagram, from), (&b"beat"[..], SocketAddrV4::new(here, port)));
    }
}
