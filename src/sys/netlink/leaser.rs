//! The address leases in a loop: prepared requests for the whole group on one open socket, so that a real-time thread renews all of them in one
//! send(2) and without allocating.
//!
//! The kernel works through the requests of one datagram inside send(2), takes its one network lock (RTNL) for each, goes on after one that
//! fails, and acknowledges each: 0.13 ms mostly, 14 ms at worst for one address while namespaces come and go (SAFETY M4). A driver that sits
//! on that lock stops the caller for as long; no deadline of ours can help there.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
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
/// All acknowledgements of one send wait here at once: of 64 requests about 82 KB, as the kernel counts. One that found no room would make the
/// next recv(2) fail (ENOBUFS), so none is ever missed without a word.
const ANSWERS: usize = 256 * 1024;

/// Renews and ends the leases of a group. It ends nothing by being dropped: each address lives until its lease is over.
#[derive(Debug)]
pub struct Leaser {
    socket: Socket,
    add: Batch,
    remove: Batch,
    sequence: u32,
}

/// Requests of equal length, one after the other in one buffer.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    /// Of one request.
    length: usize,
}

impl Leaser {
    /// For each of `ips` as /32 on the interface with `index`, `seconds` from each renewal. Nothing is changed yet.
    pub fn open(index: u32, ips: &[Ipv4Addr], seconds: u32) -> io::Result<Leaser> {
        let address = |ip: &Ipv4Addr| AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(*ip, 32).build();
        let leased = |ip: &Ipv4Addr| {
            let mut message = address(ip);
            message.attributes.push(AddressAttribute::CacheInfo(lifetime(seconds)));
            message
        };
        let add = Batch::of(ips.iter().map(leased).map(RouteNetlinkMessage::NewAddress), NLM_F_CREATE | NLM_F_REPLACE)?;
        let remove = Batch::of(ips.iter().map(address).map(RouteNetlinkMessage::DelAddress), 0)?;
        Leaser::with(add, remove)
    }

    fn with(add: Batch, remove: Batch) -> io::Result<Leaser> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        // Without the privilege to go beyond the system's limit (nobody but a test) that limit is what there is.
        let _ = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &ANSWERS);
        Ok(Leaser { socket, add, remove, sequence: 0 })
    }

    /// Add the addresses or set their leases anew; returns when the kernel has confirmed every one. On an error some may have been renewed
    /// and others not. ENODEV: the interface is gone (one that comes back has another index: open anew). `TimedOut`: not known to have
    /// happened.
    ///
    /// IPv4 cannot renew conditionally: a renewal of an address that is gone brings it back (SAFETY M3). Read the clock before and after.
    pub fn renew(&mut self, limit: Duration) -> io::Result<()> {
        perform(&self.socket, &mut self.add, &mut self.sequence, limit, |_| false)
    }

    /// Remove the addresses; returns when the kernel has confirmed that none is there. One that was not there is no error.
    pub fn remove(&mut self, limit: Duration) -> io::Result<()> {
        perform(&self.socket, &mut self.remove, &mut self.sequence, limit, |errno| errno == Errno::EADDRNOTAVAIL as i32)
    }
}

impl Batch {
    fn of(messages: impl Iterator<Item = RouteNetlinkMessage>, flags: u16) -> io::Result<Batch> {
        let mut batch = Batch { bytes: Vec::new(), length: 0 };
        for message in messages {
            let mut request = NetlinkMessage::from(message);
            request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
            request.finalize();
            let start = batch.bytes.len();
            batch.length = request.buffer_len();
            batch.bytes.resize(start + batch.length, 0);
            request.serialize(&mut batch.bytes[start..]);
        }
        // netlink(7) wants each request aligned to 4 bytes. Addresses of one family make requests of one such length.
        let even = batch.length.is_multiple_of(4) && batch.length > SEQUENCE.end && batch.bytes.len().is_multiple_of(batch.length);
        if even { Ok(batch) } else { Err(io::Error::other("netlink requests of unequal length")) }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.bytes.len() / self.length).unwrap_or(u32::MAX)
    }

    /// Number the requests `first`, `first` + 1 and so on.
    fn number(&mut self, first: u32) {
        for (request, sequence) in self.bytes.chunks_exact_mut(self.length).zip(0..) {
            request[SEQUENCE].copy_from_slice(&first.wrapping_add(sequence).to_ne_bytes());
        }
    }
}

/// Send all requests in one datagram and wait for the answer to each. The first error that `fine` does not excuse is told, once all have answered.
fn perform(socket: &Socket, batch: &mut Batch, sequence: &mut u32, limit: Duration, fine: impl Fn(i32) -> bool) -> io::Result<()> {
    let until = clock::now() + limit;
    let (first, count) = (sequence.wrapping_add(1), batch.count());
    *sequence = sequence.wrapping_add(count);
    batch.number(first);
    socket.send(&batch.bytes, 0)?;
    let (mut answered, mut fault) = (0, None);
    while answered < count {
        let mut answer = [0_u8; 512];
        match socket.recv(&mut &mut answer[..], 0) {
            Ok(length) => {
                if let Some(errno) = acknowledgement(&answer[..length.min(512)], first, count) {
                    answered += 1;
                    fault = fault.or(Some(errno).filter(|errno| *errno != 0 && !fine(*errno)));
                }
            }
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                if clock::now() >= until {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                timer::wait(&[socket.as_fd()], until)?;
            }
            Err(fault) if fault.raw_os_error() == Some(Errno::EINTR as i32) => {}
            Err(fault) => return Err(fault),
        }
    }
    fault.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

/// The errno in an acknowledgement of one of the `count` requests from `first` on; `None` for anything else, as a late answer to an earlier one.
fn acknowledgement(answer: &[u8], first: u32, count: u32) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let of = u32::from_ne_bytes(answer.get(SEQUENCE)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(ERRNO)?.try_into().ok()?);
    (kind == NLMSG_ERROR && of.wrapping_sub(first) < count).then_some(-code)
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};
    use rtnetlink::packet_route::address::AddressMessage;

    use super::*;
    use crate::sys::netlink::addresses;

    const LIMIT: Duration = Duration::from_secs(5);

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    #[test]
    fn only_the_answers_to_these_requests_count() {
        let mut answer = [0_u8; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[SEQUENCE].copy_from_slice(&7_u32.to_ne_bytes());
        answer[ERRNO].copy_from_slice(&(-19_i32).to_ne_bytes());
        assert_eq!(acknowledgement(&answer, 7, 1), Some(19));
        assert_eq!(acknowledgement(&answer, 5, 3), Some(19));
        assert_eq!(acknowledgement(&answer, 5, 2), None, "of the next batch");
        assert_eq!(acknowledgement(&answer, 8, 64), None, "of an earlier batch");
        assert_eq!(acknowledgement(&answer, u32::MAX - 1, 10), Some(19), "numbers wrap");
        assert_eq!(acknowledgement(&answer[..19], 7, 1), None);
        answer[4] = 20;
        assert_eq!(acknowledgement(&answer, 7, 1), None);
    }

    #[test]
    fn an_absent_interface_is_enodev() {
        let mut leaser = Leaser::open(u32::MAX >> 1, &[ip(243), ip(244)], 1).expect("open");
        let fault = leaser.renew(LIMIT).expect_err("no such interface");
        // Without CAP_NET_ADMIN the kernel does not get as far as looking for it.
        assert!([Some(Errno::ENODEV as i32), Some(Errno::EPERM as i32)].contains(&fault.raw_os_error()), "{fault}");
    }

    /// What happens to the others when the kernel refuses one: they are there, and the caller hears the refusal. Needs root.
    #[test]
    fn one_that_is_refused_is_told_and_the_rest_can_be_removed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for this test's thread");
        let message = |last: u8, seconds: u32| -> AddressMessage {
            let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(1).address(ip(last), 32).build();
            message.attributes.push(AddressAttribute::CacheInfo(lifetime(seconds)));
            message
        };
        let requests = [message(1, 9), message(2, 0), message(3, 9)].map(RouteNetlinkMessage::NewAddress);
        let whole = Leaser::open(1, &[ip(1), ip(2), ip(3)], 9).expect("open");
        let mut leaser =
            Leaser::with(Batch::of(requests.into_iter(), NLM_F_CREATE | NLM_F_REPLACE).expect("batch"), whole.remove).expect("open");
        let fault = leaser.renew(LIMIT).expect_err("no lease of no length");
        assert_eq!(fault.raw_os_error(), Some(Errno::EINVAL as i32));
        let here = || addresses(LIMIT).expect("addresses").into_iter().filter(|addr| addr.prefix == 32).count();
        assert_eq!(here(), 2, "the kernel goes on after a request it refuses");
        leaser.remove(LIMIT).expect("one of three was not there");
        assert_eq!(here(), 0);
        leaser.remove(LIMIT).expect("twice");
    }
}
