//! A process held by file descriptor, so that its death is an event and a reused pid is never signalled (pidfd_open(2), Linux 5.3).
//! It refuses to signal anything by number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A process that is, or was, alive. The descriptor becomes readable when it dies.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
}

impl Process {
    /// `ESRCH`: there is no such process.
    pub fn open(pid: i32) -> io::Result<Process> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let raw = i32::try_from(raw).map_err(io::Error::other)?;
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it. It is close-on-exec by definition.
        Ok(Process { fd: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// Kill it at once (pidfd_send_signal(2)); already gone is fine.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: a null siginfo is allowed and means "as kill(2) would fill it"; the descriptor is ours.
        let rc = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), libc::SIGKILL, std::ptr::null::<libc::siginfo_t>(), 0)
        };
        match rc {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                fault => Err(fault),
            },
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, timer};

    #[test]
    fn the_living_are_held_and_the_missing_are_said_so() {
        let me = Process::open(i32::try_from(std::process::id()).expect("pid")).expect("open");
        assert!(!timer::wait_readable(&[me.as_fd()], clock::now_ms()).expect("poll")[0], "this very process is dead");
        assert_eq!(Process::open(i32::MAX).expect_err("nobody").raw_os_error(), Some(libc::ESRCH));
    }
}
