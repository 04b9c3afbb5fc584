//! The address lease in a loop: one prepared request on one open socket, so that a real-time thread renews without allocating.
//!
//! The kernel does the work inside send(2), under its one network lock (RTNL): 0.13 ms mostly, 14 ms at worst while namespaces come and go
//! (SAFETY M4). A driver that sits on that lock stops the caller for as long; no deadline of ours can help there.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::lifetime;
use crate::sys::{clock, timer};

/// struct nlmsghdr: length 4, type 2, flags 2, sequence 4, port 4; an acknowledgement goes on with a negative errno (netlink(7)).
const SEQUENCE: std::ops::Range<usize> = 8..12;
const ERRNO: std::ops::Range<usize> = 16..20;
const NLMSG_ERROR: u16 = 2;

/// Renews one lease. It ends nothing by being dropped: the address lives until its lease is over.
#[derive(Debug)]
pub struct Leaser {
    socket: Socket,
    request: Vec<u8>,
    sequence: u32,
}

impl Leaser {
    /// For `ip`/32 on the interface with `index`, `seconds` from each renewal. Nothing is changed yet.
    pub fn open(index: u32, ip: Ipv4Addr, seconds: u32) -> io::Result<Leaser> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, 32).build();
        message.attributes.push(AddressAttribute::CacheInfo(lifetime(seconds)));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewAddress(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        Ok(Leaser { socket, request: bytes, sequence: 0 })
    }

    /// Add the address or set its lease anew; returns when the kernel has confirmed. ENODEV: the interface is gone (one that comes back has
    /// another index: open anew). `TimedOut`: not known to have happened.
    ///
    /// IPv4 cannot renew conditionally: a renewal of an address that is gone brings it back (SAFETY M3). Read the clock before and after.
    pub fn renew(&mut self, limit: Duration) -> io::Result<()> {
        let until = clock::now() + limit;
        self.sequence = self.sequence.wrapping_add(1);
        self.request[SEQUENCE].copy_from_slice(&self.sequence.to_ne_bytes());
        self.socket.send(&self.request, 0)?;
        loop {
            let mut answer = [0_u8; 512];
            match self.socket.recv(&mut &mut answer[..], 0) {
                Ok(length) => {
                    if let Some(errno) = acknowledgement(&answer[..length.min(512)], self.sequence) {
                        return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
                    }
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    if clock::now() >= until {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    timer::wait(&[self.socket.as_fd()], until)?;
                }
                Err(fault) if fault.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(fault) => return Err(fault),
            }
        }
    }
}

/// The errno in an acknowledgement of request `sequence`; `None` for anything else, as a late answer to an earlier one.
fn acknowledgement(answer: &[u8], sequence: u32) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let of = u32::from_ne_bytes(answer.get(SEQUENCE)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(ERRNO)?.try_into().ok()?);
    (kind == NLMSG_ERROR && of == sequence).then_some(-code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let mut answer = [0_u8; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[SEQUENCE].copy_from_slice(&7_u32.to_ne_bytes());
        answer[ERRNO].copy_from_slice(&(-19_i32).to_ne_bytes());
        assert_eq!(acknowledgement(&answer, 7), Some(19));
        assert_eq!(acknowledgement(&answer, 8), None);
        assert_eq!(acknowledgement(&answer[..19], 7), None);
        answer[4] = 20;
        assert_eq!(acknowledgement(&answer, 7), None);
    }

    #[test]
    fn an_absent_interface_is_enodev() {
        let mut leaser = Leaser::open(u32::MAX >> 1, Ipv4Addr::new(192, 0, 2, 243), 1).expect("open");
        let fault = leaser.renew(Duration::from_secs(5)).expect_err("no such interface");
        // Without CAP_NET_ADMIN the kernel does not get as far as looking for it.
        assert!([Some(Errno::ENODEV as i32), Some(Errno::EPERM as i32)].contains(&fault.raw_os_error()), "{fault}");
    }
}
