//! Waiting until a descriptor is readable or an instant has come, to the microsecond: ppoll(2) sleeps on a high-resolution timer, where
//! SO_RCVTIMEO is up to 38 ms late (measured at HZ=250). Deadlines are CLOCK_BOOTTIME milliseconds, as everywhere.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::clock;

/// Wait until any of `fds` is readable (or hung up, or in error) or `until_ms` has come; says which are. All false: the time is over.
/// An interrupting signal does not end the wait. ppoll counts on CLOCK_MONOTONIC, so a suspend in the middle only lengthens the wait.
pub fn wait_readable(fds: &[BorrowedFd<'_>], until_ms: u64) -> io::Result<Vec<bool>> {
    wait(fds, Duration::from_millis(until_ms))
}

/// The same with an exact deadline on `clock::now`.
pub fn wait(fds: &[BorrowedFd<'_>], until: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    poll_until(&mut polled, until)?;
    Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

/// ppoll that keeps its deadline over interruptions. The result is in `polled`.
pub fn poll_until(polled: &mut [PollFd<'_>], until: Duration) -> io::Result<()> {
    loop {
        let left = until.saturating_sub(clock::now());
        match ppoll(polled, Some(TimeSpec::from(left)), None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn waits_to_the_deadline_and_not_beyond() {
        let (quiet, _held) = UnixStream::pair().expect("pair");
        let until = clock::now_ms() + 50;
        assert_eq!(wait_readable(&[quiet.as_fd()], until).expect("wait"), [false]);
        assert!(clock::now_ms() >= until);
    }

    #[test]
    fn says_which_is_readable() {
        let (quiet, _held) = UnixStream::pair().expect("pair");
        let (ready, mut writer) = UnixStream::pair().expect("pair");
        writer.write_all(b"x").expect("write");
        assert_eq!(wait_readable(&[quiet.as_fd(), ready.as_fd()], clock::now_ms() + 10_000).expect("wait"), [false, true]);
    }
}
