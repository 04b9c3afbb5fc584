//! The few per-interface settings of the kernel that the floating address depends on (ip-sysctl.rst). It writes only what it is told to.

use std::io;
use std::path::{Path, PathBuf};

use super::file::read_limited;

/// A setting under net/ipv4/conf/IF/.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// 1: when a primary address goes, a secondary takes its place instead of going too.
    PromoteSecondaries,
    /// 8: answer no ARP request at all, which blinds every probe (SAFETY M11).
    ArpIgnore,
}

impl Setting {
    fn name(self) -> &'static str {
        match self {
            Setting::PromoteSecondaries => "promote_secondaries",
            Setting::ArpIgnore => "arp_ignore",
        }
    }
}

/// The value in force for `interface`: the larger of its own and that of "all" (both settings combine so).
pub fn read(interface: &str, setting: Setting) -> io::Result<u32> {
    Ok(value(interface, setting)?.max(value("all", setting)?))
}

/// Set it for `interface` alone, until the next boot.
pub fn write(interface: &str, setting: Setting, value: u32) -> io::Result<()> {
    std::fs::write(path(interface, setting)?, value.to_string())
}

fn value(interface: &str, setting: Setting) -> io::Result<u32> {
    let text = read_limited(&path(interface, setting)?, 64)?;
    String::from_utf8_lossy(&text).trim().parse().map_err(io::Error::other)
}

fn path(interface: &str, setting: Setting) -> io::Result<PathBuf> {
    if interface.is_empty() || interface.starts_with('.') || interface.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("\"{interface}\" is no interface name")));
    }
    Ok(Path::new("/proc/sys/net/ipv4/conf").join(interface).join(setting.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_loopback_and_refuses_paths() {
        assert!(read("lo", Setting::ArpIgnore).is_ok());
        assert!(read("lo", Setting::PromoteSecondaries).is_ok_and(|value| value <= 1));
        for name in ["", "..", "a/b"] {
            assert_eq!(read(name, Setting::ArpIgnore).expect_err("no name").kind(), io::ErrorKind::InvalidInput);
        }
    }
}
