//! The peer's server, looked at and closed from here while its agent is silent (SAFETY A2). Touches nothing unless the core wants it closed.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::core::event::{Ms, RemoteSeen};
use crate::core::want::Remote;
use crate::sql::fence::{Keys, Spare, fence_remote};
use crate::sql::{Login, bounded};
use crate::sys::slot::Reader;
use crate::sys::{clock, timer};

/// A living box on the same segment answers a SYN within a millisecond; one that was lost is told from a dead box by asking twice.
const TIMES: u32 = 2;
const FENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Setting {
    pub address: SocketAddrV4,
    pub login: Login,
    /// Seen from the peer: its own key first.
    pub own_key: String,
    pub peer_key: String,
    pub spare: Spare,
    /// How long its server may take to say its first word, the time between warntime and deadtime; a connection has a little less than half of it.
    pub patience: Duration,
}

/// The thread: looks again and again while wanted, until the process ends.
pub fn run(setting: &Setting, mut wanted: Reader<Remote>, report: impl Fn(RemoteSeen)) {
    let again_ms = Ms::try_from(setting.patience.as_millis() / 2).unwrap_or(Ms::MAX);
    loop {
        let mut pause_ms = again_ms;
        if wanted.get() == Remote::No {
            pause_ms = 3_600_000;
        } else {
            // An earlier "down" must not stand while the server is being closed.
            let seen = look(setting);
            let answers = seen == RemoteSeen::Up;
            report(seen);
            // Looking takes a moment, in which the peer may have been heard.
            if answers && wanted.get() == Remote::Fence {
                report(fence(setting));
            }
        }
        let _ = timer::wait_readable(&[wanted.as_fd()], clock::now_ms() + pause_ms);
        wanted.take_bell();
    }
}

/// Down: refused at once, or no answer twice in a row. Mute: the kernel takes connections for a server that stands still; one that runs
/// speaks first.
fn look(setting: &Setting) -> RemoteSeen {
    for _ in 0..TIMES {
        match TcpStream::connect_timeout(&setting.address.into(), setting.patience * 9 / 20) {
            Ok(stream) if is_mute(&stream, setting.patience) => return RemoteSeen::Mute,
            Ok(_) => return RemoteSeen::Up,
            Err(fault) if fault.kind() == ErrorKind::ConnectionRefused => return RemoteSeen::Down,
            Err(_) => {}
        }
    }
    RemoteSeen::Down
}

fn is_mute(mut stream: &TcpStream, patience: Duration) -> bool {
    let greeting = stream.set_read_timeout(Some(patience)).and_then(|()| stream.read(&mut [0]));
    greeting.is_err_and(|fault| matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn fence(setting: &Setting) -> RemoteSeen {
    let task = setting.clone();
    let outcome = bounded("closing the peer's server", FENCE + Duration::from_secs(1), move || {
        let keys = Keys { own: &task.own_key, peer: &task.peer_key };
        fence_remote(&task.login, keys, &task.spare, FENCE)
    });
    match outcome {
        Ok(closed) => RemoteSeen::Fenced(closed.history),
        Err(fault) => RemoteSeen::Failed(fault.text),
    }
}
