//! Wakes a poll loop when a link of this box changes (RTNLGRP_LINK), or a rule of its packet filter (NFNLGRP_NFTABLES; iptables over nf_tables
//! says so there too, and what packets do to sets does not). It says only *that* something changed: whoever is woken looks for itself, so a
//! lost notice (ENOBUFS) is as good as any other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{Socket, SocketAddr};

/// RTMGRP_LINK of linux/rtnetlink.h, the bit form of group 1.
const RTMGRP_LINK: u32 = 1;
/// The bit form of NFNLGRP_NFTABLES, group 7 of linux/netfilter/nfnetlink.h.
const NFTABLES: u32 = 1 << 6;
/// Notices read at one go; more stay for the next, so that a storm of them holds nobody.
const AT_ONCE: usize = 64;

#[derive(Debug)]
pub struct Monitor(Socket);

impl Monitor {
    pub fn open() -> io::Result<Monitor> {
        Monitor::of(NETLINK_ROUTE, RTMGRP_LINK)
    }

    /// Of the rules instead of the links. Fails where the kernel has no nf_tables.
    pub fn rules() -> io::Result<Monitor> {
        Monitor::of(NETLINK_NETFILTER, NFTABLES)
    }

    fn of(protocol: isize, groups: u32) -> io::Result<Monitor> {
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Monitor(socket))
    }

    /// Throw away what has arrived; true when there was any.
    pub fn drain(&self) -> io::Result<bool> {
        let mut any = false;
        for _ in 0..AT_ONCE {
            let mut notice = [0_u8; 64]; // the rest of the datagram is cut off unseen
            match self.0.recv(&mut &mut notice[..], 0) {
                Ok(_) => any = true,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => break,
                Err(fault) if [Some(Errno::ENOBUFS as i32), Some(Errno::EINTR as i32)].contains(&fault.raw_os_error()) => any = true,
                Err(fault) => return Err(fault),
            }
        }
        Ok(any)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
