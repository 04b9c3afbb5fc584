//! sd_notify(3): tells systemd how we are. Never blocks, and a missing or deaf systemd is no fault: then nothing is told.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Whether somebody has started this process who waits for `ready`.
pub fn is_awaited() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

pub fn ready() {
    let _ = send("READY=1");
}

/// One line for `systemctl status`.
pub fn status(sentence: &str) {
    let _ = send(&format!("STATUS={}", sentence.replace('\n', " ")));
}

pub fn watchdog() {
    let _ = send("WATCHDOG=1");
}

pub fn stopping() {
    let _ = send("STOPPING=1");
}

/// Followed by `ready` when the new configuration is in force; systemd wants the monotonic clock with it (sd_notify(3), RELOADING=1).
pub fn reloading() {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let _ = send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
}

/// How often `watchdog` must be called at least, when systemd expects it of this process (sd_watchdog_enabled(3)): half of WATCHDOG_USEC.
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|usec| *usec > 0).map(|usec| Duration::from_micros(usec / 2))
}

fn send(state: &str) -> io::Result<()> {
    env::var_os("NOTIFY_SOCKET").map_or(Ok(()), |path| send_to(path.as_bytes(), state))
}

/// `@` marks an abstract socket (unix(7)).
fn send_to(path: &[u8], state: &str) -> io::Result<()> {
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_at_abstract_and_path_sockets() {
        let name = format!("mmha-notify-{}", std::process::id());
        let path = env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("name")).expect("bind");
        let by_path = UnixDatagram::bind(&path).expect("bind");
        send_to(format!("@{name}").as_bytes(), "READY=1").expect("send");
        send_to(path.as_os_str().as_bytes(), "STATUS=fine").expect("send");
        let mut buffer = [0; 64];
        let got = by_name.recv(&mut buffer).expect("recv");
        assert_eq!(&buffer[..got], b"READY=1");
        let got = by_path.recv(&mut buffer).expect("recv");
        assert_eq!(&buffer[..got], b"STATUS=fine");
        std::fs::remove_file(&path).expect("remove");
        assert!(send_to(path.as_os_str().as_bytes(), "READY=1").is_err(), "a dead socket is an error, not a hang");
    }
}
