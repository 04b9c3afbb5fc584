//! Ends the TCP connections to an address that is about to leave this box (sock_diag(7), SOCK_DESTROY; Linux 4.9 with INET_DIAG_DESTROY): the
//! kernel tells each client by a reset. Left alone, a client whose answer is on its way, or whose server hangs, has nothing to repeat and waits
//! for one that can no longer reach it.
//!
//! To be asked while the address is still here: a reset does not leave from an address that is not.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use crate::sys::{clock, timer};

/// As the request carries them: socket(2), ip(7).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Established, syn-received, both fin-waits, close-wait and last-ack, as bits (net/tcp_states.h): whatever may still expect a segment.
const STATES: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9;
/// struct nlmsghdr, then struct inet_diag_req_v2: family, protocol, extensions, padding, states 4, socket (linux/inet_diag.h).
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 8 + ID;
/// struct inet_diag_sockid: ports 2 and 2, source 16, destination 16, interface 4, cookie 8.
const ID: usize = 48;
/// In an answer four bytes stand before it.
const ANSWER_ID: std::ops::Range<usize> = HEADER + 4..HEADER + 4 + ID;
/// Requests in one send(2).
const AT_ONCE: usize = 64;

type Id = [u8; ID];

/// Whoever is connected to one port of a group of addresses.
#[derive(Debug, Clone)]
pub struct Callers {
    pub ips: Vec<Ipv4Addr>,
    pub port: u16,
}

impl Callers {
    /// How many there are. The first question makes the kernel load what answers it, which takes its time: ask early.
    pub fn count(&self, limit: Duration) -> io::Result<usize> {
        Ok(self.list(&open()?, AF_INET, clock::now() + limit)?.len())
    }

    /// Reset every connection to one of the addresses; how many were found. Those that `limit` has no time for stay as they are. Needs
    /// CAP_NET_ADMIN.
    pub fn hang_up(&self, limit: Duration) -> io::Result<usize> {
        let until = clock::now() + limit;
        let mut found = 0;
        // A server that listens on `::` takes IPv4 in sockets of the other family.
        for family in [AF_INET, AF_INET6] {
            let socket = open()?;
            let callers = match self.list(&socket, family, until) {
                // There are no sockets of this family here.
                Err(fault) if fault.raw_os_error() == Some(Errno::ENOENT as i32) => continue,
                answer => answer?,
            };
            found += callers.len();
            for some in callers.chunks(AT_ONCE) {
                if clock::now() >= until {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let requests: Vec<u8> = some.iter().flat_map(|id| request(SOCK_DESTROY, NLM_F_REQUEST, family, id)).collect();
                socket.send(&requests, 0)?;
            }
        }
        Ok(found)
    }

    fn list(&self, socket: &Socket, family: u8, until: Duration) -> io::Result<Vec<Id>> {
        let mut wanted = [0; ID];
        wanted[..2].copy_from_slice(&self.port.to_be_bytes());
        socket.send(&request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family, &wanted), 0)?;
        let (mut callers, mut answer) = (Vec::new(), vec![0_u8; 32 * 1024]);
        while clock::now() < until {
            match socket.recv(&mut &mut answer[..], 0) {
                Ok(length) => {
                    for (kind, message) in Messages(&answer[..length.min(answer.len())]) {
                        match kind {
                            NLMSG_DONE | NLMSG_ERROR => return refusal(message).map_or(Ok(callers), Err),
                            _ => callers.extend(message.get(ANSWER_ID).and_then(|id| self.mine(family, id))),
                        }
                    }
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    timer::wait(&[socket.as_fd()], until)?;
                }
                Err(fault) if fault.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn mine(&self, family: u8, id: &[u8]) -> Option<Id> {
        let id: Id = id.try_into().ok()?;
        let source: [u8; 16] = id.get(4..20)?.try_into().ok()?;
        let ip = match family {
            AF_INET => Ipv4Addr::new(source[0], source[1], source[2], source[3]),
            _ => Ipv6Addr::from(source).to_ipv4_mapped()?,
        };
        let port = u16::from_be_bytes([id[0], id[1]]);
        (port == self.port && self.ips.contains(&ip)).then_some(id)
    }
}

fn request(kind: u16, flags: u16, family: u8, id: &Id) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[..4].copy_from_slice(&u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = IPPROTO_TCP;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&STATES.to_ne_bytes());
    bytes[HEADER + 8..].copy_from_slice(id);
    bytes
}

/// The errno with which a list ends, which the kernel gives as a negative number; `None`: it is whole.
fn refusal(end: &[u8]) -> Option<io::Error> {
    let code = end.get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// The messages of one datagram, each with its kind.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = u32::from_ne_bytes(self.0.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?);
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn broken_answers_end_the_list() {
        let whole = request(SOCK_DESTROY, NLM_F_REQUEST, 2, &[7; ID]);
        let two: Vec<u8> = whole.iter().chain(&whole).copied().collect();
        assert_eq!(Messages(&two).count(), 2);
        assert_eq!(Messages(&two[..two.len() - 1]).count(), 1);
        assert_eq!(Messages(&[0; 64]).count(), 0, "a length of nothing");
        assert_eq!(Messages(&whole[..3]).count(), 0);
    }

    /// The client of one address is told; one of the same port on another address, and one of another port, go on. Needs root.
    #[test]
    fn only_callers_of_the_address_are_reset() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let (listener, other) = (TcpListener::bind(listen).expect("listen"), TcpListener::bind(listen).expect("listen"));
            let port = |listener: &TcpListener| listener.local_addr().expect("address").port();
            let call = |listener: &TcpListener, ip: &str| {
                let client = TcpStream::connect((ip, port(listener))).expect("connect");
                let server = listener.accept().expect("accept").0;
                client.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
                (client, server)
            };
            let mut gone = [call(&listener, "127.0.0.2"), call(&listener, "127.0.0.2")];
            let mut stay = [call(&listener, "127.0.0.1"), call(&other, "127.0.0.2")];
            let callers = Callers { ips: vec![Ipv4Addr::new(127, 0, 0, 2)], port: port(&listener) };
            assert_eq!(callers.hang_up(LIMIT).expect("hang up"), 2, "{listen}");
            let kind = |client: &mut TcpStream| client.read(&mut [0]).expect_err("nothing was sent").kind();
            for (client, _server) in &mut gone {
                assert_eq!(kind(client), io::ErrorKind::ConnectionReset, "{listen}");
            }
            for (client, _server) in &mut stay {
                assert_eq!(kind(client), io::ErrorKind::WouldBlock, "{listen}");
            }
            assert_eq!(callers.hang_up(LIMIT).expect("again"), 0);
        }
    }
}
