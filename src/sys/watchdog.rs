//! A watchdog device: a timer of the kernel or of the hardware that resets this box unless it is fed (Documentation/watchdog/watchdog-api.rst,
//! include/uapi/linux/watchdog.h). It decides nothing; whoever opens the device has started its timer, and nobody else can open it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// `struct watchdog_info`.
#[repr(C)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

const DISABLE: libc::c_int = 0x0001; // WDIOS_DISABLECARD
const ENABLE: libc::c_int = 0x0002; // WDIOS_ENABLECARD

nix::ioctl_read!(get_support, b'W', 0, Info);
// Declared as one that reads, although the kernel takes the number.
nix::ioctl_read!(set_options, b'W', 4, libc::c_int);
nix::ioctl_readwrite!(write_timeout, b'W', 6, libc::c_int);

/// An open watchdog. Its timer runs on after the process has died, that is what it is for.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
}

impl Watchdog {
    /// `EBUSY`: another program has it. `ENOTTY`: it is not a watchdog; nothing is written to it then.
    pub fn open(path: &Path) -> io::Result<(Watchdog, String)> {
        let file = OpenOptions::new().write(true).open(path)?; // close-on-exec, as all of std's
        let mut info = Info { options: 0, firmware_version: 0, identity: [0; 32] };
        // SAFETY: the kernel fills the structure it is given, of exactly the kernel's layout and size.
        unsafe { get_support(file.as_raw_fd(), &raw mut info) }?;
        let name: Vec<u8> = info.identity.iter().copied().take_while(|byte| *byte != 0).collect();
        Ok((Watchdog { file }, String::from_utf8_lossy(&name).into_owned()))
    }

    /// Like a device that is broken: whatever is written to it fails (full(4)).
    #[cfg(test)]
    pub fn broken() -> Watchdog {
        Watchdog { file: OpenOptions::new().write(true).open("/dev/full").expect("/dev/full") }
    }

    /// Asks for whole seconds; what comes back is what the driver made of them. `EINVAL`: out of its bounds.
    pub fn set_timeout(&self, seconds: u32) -> io::Result<u32> {
        let mut value = libc::c_int::try_from(seconds).map_err(io::Error::other)?;
        // SAFETY: the kernel reads and writes one int, which lives here.
        unsafe { write_timeout(self.file.as_raw_fd(), &raw mut value) }?;
        u32::try_from(value).map_err(io::Error::other)
    }

    /// Starts the timer; it may run already.
    pub fn start(&self) -> io::Result<()> {
        self.set_options(ENABLE)
    }

    /// Stops the timer and keeps the device. `EBUSY`: it is forbidden (nowayout). Some old drivers cannot do it.
    pub fn stop(&self) -> io::Result<()> {
        self.set_options(DISABLE)
    }

    fn set_options(&self, mut options: libc::c_int) -> io::Result<()> {
        // SAFETY: the kernel reads one int, which lives here.
        unsafe { set_options(self.file.as_raw_fd(), &raw mut options) }?;
        Ok(())
    }

    /// The timer begins anew. Any byte but one does that, with every driver.
    pub fn feed(&mut self) -> io::Result<()> {
        self.file.write_all(&[0])
    }

    /// The same, and should the device be closed after it, the timer stops if the driver allows it ("magic close").
    pub fn feed_and_expect_close(&mut self) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}

/// What sysfs tells of a watchdog without opening it. `None`: the kernel does not say (the old name "/dev/watchdog", or no CONFIG_WATCHDOG_SYSFS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub identity: String,
    /// Its timer runs.
    pub active: bool,
    /// Once started it cannot be stopped.
    pub nowayout: bool,
    /// Seconds; drivers that do not say have none.
    pub shortest: Option<u32>,
}

/// Looks without touching: to open a watchdog is to start it. `Err`: there is nothing, or no character device.
pub fn describe(path: &Path) -> io::Result<Option<Described>> {
    let facts = std::fs::metadata(path)?;
    if !facts.file_type().is_char_device() {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    let device = facts.rdev();
    let place = format!("/sys/dev/char/{}:{}", libc::major(device), libc::minor(device));
    let read = |name: &str| std::fs::read_to_string(format!("{place}/{name}")).ok().map(|text| text.trim().to_owned());
    let Some(identity) = read("identity") else {
        // /dev/watchdog is a name of its own, with a number of its own (miscdevice.h, WATCHDOG_MINOR).
        let old = (libc::major(device), libc::minor(device)) == (10, 130);
        let is_watchdog = std::fs::read_to_string(format!("{place}/uevent")).is_ok_and(|text| text.contains("DEVNAME=watchdog"));
        return if old || is_watchdog { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ENOTTY)) };
    };
    Ok(Some(Described {
        identity,
        active: read("state").as_deref() == Some("active"),
        nowayout: read("nowayout").as_deref() == Some("1"),
        shortest: read("min_timeout").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_watchdog_is_told_apart() {
        fn check(path: &str, opened: i32, described: i32) {
            let fault = |outcome: io::Result<()>| outcome.expect_err(path).raw_os_error();
            assert_eq!(fault(Watchdog::open(Path::new(path)).map(drop)), Some(opened), "{path}");
            assert_eq!(fault(describe(Path::new(path)).map(drop)), Some(described), "{path}");
        }
        check("/dev/null", libc::ENOTTY, libc::ENOTTY);
        check("/dev/no-watchdog", libc::ENOENT, libc::ENOENT);
        check("/dev", libc::EISDIR, libc::ENOTTY);
    }
}
