//! The peer's server, looked at and closed from here while its agent is silent (SAFETY A2). Touches nothing unless the core wants it closed.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::core::event::{Ms, RemoteSeen};
use crate::core::want::Remote;
use crate::sql::fence::{Closed, Keys, Spare, fence_remote};
use crate::sql::{Fault, Login, bounded};
use crate::sys::slot::Reader;
use crate::sys::{clock, timer};

/// A living box on the same segment answers a SYN within a millisecond; one that was lost is told from a dead box by asking twice.
const CONNECT: Duration = Duration::from_millis(450);
const TIMES: u32 = 2;
const FENCE: Duration = Duration::from_secs(3);
const GREETING: Duration = Duration::from_secs(1);
const AGAIN_MS: Ms = 500;

#[derive(Debug, Clone)]
pub struct Setting {
    pub address: SocketAddrV4,
    pub login: Login,
    /// Seen from the peer: its own key first.
    pub own_key: String,
    pub peer_key: String,
    pub spare: Spare,
}

/// The thread: looks again and again while wanted, until the process ends.
pub fn run(setting: &Setting, mut wanted: Reader<Remote>, report: impl Fn(RemoteSeen)) {
    loop {
        let want = wanted.get();
        let mut pause_ms = AGAIN_MS;
        match want {
            Remote::No => pause_ms = 3_600_000,
            Remote::Look | Remote::Fence if is_down(setting) => report(RemoteSeen::Down),
            Remote::Look => report(RemoteSeen::Up),
            Remote::Fence => {
                // An earlier "down" must not stand while the server is being closed.
                report(RemoteSeen::Up);
                report(fence(setting));
            }
        }
        let _ = timer::wait_readable(&[wanted.as_fd()], clock::now_ms() + pause_ms);
        wanted.take_bell();
    }
}

/// Refused at once, or no answer twice in a row.
fn is_down(setting: &Setting) -> bool {
    for _ in 0..TIMES {
        match TcpStream::connect_timeout(&setting.address.into(), CONNECT) {
            Ok(_) => return false,
            Err(fault) if fault.kind() == ErrorKind::ConnectionRefused => return true,
            Err(_) => {}
        }
    }
    true
}

fn fence(setting: &Setting) -> RemoteSeen {
    let task = setting.clone();
    let outcome = bounded("closing the peer's server", FENCE + Duration::from_secs(1), move || {
        let keys = Keys { own: &task.own_key, peer: &task.peer_key };
        fence_remote(&task.login, keys, &task.spare, FENCE)
    });
    match outcome {
        Ok(Closed { blocker: Some(blocker), .. }) => RemoteSeen::Failed(format!("read-only, but {blocker} is still there")),
        Ok(closed) => RemoteSeen::Fenced(closed.history),
        Err(fault) if fault.fault == Fault::Timeout && is_mute(setting) => RemoteSeen::Mute,
        Err(fault) => RemoteSeen::Failed(fault.text),
    }
}

/// The kernel takes connections for a server that stands still. One that runs speaks first.
fn is_mute(setting: &Setting) -> bool {
    let greeting = || {
        let mut stream = TcpStream::connect_timeout(&setting.address.into(), CONNECT)?;
        stream.set_read_timeout(Some(GREETING))?;
        stream.read(&mut [0])
    };
    greeting().is_err_and(|fault| matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}
