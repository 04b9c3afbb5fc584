//! Runs one rtnetlink future to its end on the calling thread: no runtime, no executor. It polls request and connection in turn with a flag as
//! waker and sleeps in ppoll(2) for what is left of the deadline.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::BufMut;
use nix::poll::{PollFd, PollFlags};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::proto::Connection;
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr};
use rtnetlink::{Error, Handle};

use crate::sys::{clock, timer};

type Link = Connection<RouteNetlinkMessage, PollSocket>;

/// One request on a socket of its own, given up after `limit` with `TimedOut`. Errors of the kernel keep their errno.
pub fn call<T, F>(limit: Duration, request: impl FnOnce(Handle) -> F) -> io::Result<T>
where
    F: Future<Output = Result<T, Error>>,
{
    Conversation::default().call(limit, request)
}

/// A socket that is kept from one request to the next. After one that the kernel has not answered the next has a new one, so that no late
/// answer is taken for its own.
#[derive(Default)]
pub struct Conversation(Option<(Link, Handle)>);

impl Conversation {
    pub(super) fn call<T, F>(&mut self, limit: Duration, request: impl FnOnce(Handle) -> F) -> io::Result<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut connection, handle) = match self.0.take() {
            Some(open) => open,
            None => {
                let (connection, handle, _unsolicited) = rtnetlink::new_connection_with_socket::<PollSocket>()?;
                (connection, handle)
            }
        };
        let answer = drive(&mut connection, request(handle.clone()), clock::now() + limit)?;
        if matches!(answer, Ok(_) | Err(Error::NetlinkError(_))) {
            self.0 = Some((connection, handle));
        }
        answer.map_err(|fault| match fault {
            Error::NetlinkError(message) => message.to_io(),
            fault => io::Error::other(fault.to_string()),
        })
    }
}

fn drive<F: Future>(connection: &mut Link, future: F, until: Duration) -> io::Result<F::Output> {
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        flag.0.store(false, Ordering::Release);
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ok(value);
        }
        if Pin::new(&mut *connection).poll(&mut context).is_ready() {
            return match future.as_mut().poll(&mut context) {
                Poll::Ready(value) => Ok(value),
                Poll::Pending => Err(io::Error::other("the netlink connection closed")),
            };
        }
        if clock::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if flag.0.load(Ordering::Acquire) {
            continue; // one of the two woke the other
        }
        let fd = connection.socket_mut().socket_ref();
        timer::poll_until(&mut [PollFd::new(std::os::fd::AsFd::as_fd(fd), PollFlags::POLLIN)], until)?;
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A non-blocking netlink socket. Readiness is waited for in `drive`, so nobody is registered here.
pub struct PollSocket(Socket);

fn pending_if_blocked<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncSocket for PollSocket {
    fn socket_ref(&self) -> &Socket {
        &self.0
    }
    fn socket_mut(&mut self) -> &mut Socket {
        &mut self.0
    }
    fn new(protocol: isize) -> io::Result<PollSocket> {
        let socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        Ok(PollSocket(socket))
    }
    fn poll_send(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pending_if_blocked(self.0.send(bytes, 0))
    }
    fn poll_send_to(&self, _: &mut Context<'_>, bytes: &[u8], to: &SocketAddr) -> Poll<io::Result<usize>> {
        pending_if_blocked(self.0.send_to(bytes, to, 0))
    }
    fn poll_recv<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<()>> {
        pending_if_blocked(self.0.recv(buffer, 0).map(|_| ()))
    }
    fn poll_recv_from<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<SocketAddr>> {
        pending_if_blocked(self.0.recv_from(buffer, 0).map(|(_, from)| from))
    }
    fn poll_recv_from_full(&self, _: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        pending_if_blocked(self.0.recv_from_full())
    }
}
