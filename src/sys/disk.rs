//! Whether a directory's filesystem takes a synced write. Leaves nothing behind but a hidden file of a killed process, which the next one
//! of the same directory replaces. It can hang as long as the disk does: the caller brings the bound.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

const NAME: &str = ".mmha-probe";

/// Bytes that others than root may still write there (statvfs(3), f_bavail): a server does not run as root.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let seen = statvfs(directory)?;
    Ok(seen.blocks_available().saturating_mul(seen.fragment_size()))
}

/// One block, written and synced (fdatasync(2)). O_EXCL: a link that somebody put there is not followed.
pub fn write_synced(directory: &Path) -> io::Result<()> {
    let path = directory.join(NAME);
    match fs::remove_file(&path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let outcome = file.write_all(&[b'.'; 4096]).and_then(|()| file.sync_data());
    fs::remove_file(&path)?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_directory_takes_it_and_keeps_nothing() {
        let directory = std::env::temp_dir().join(format!("mmha-disk-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("mkdir");
        std::os::unix::fs::symlink("/dev/null", directory.join(NAME)).expect("symlink");
        write_synced(&directory).expect("written");
        assert!(free_bytes(&directory).expect("statvfs") > 0);
        assert_eq!(fs::read_dir(&directory).expect("list").count(), 0);
        fs::remove_dir_all(&directory).expect("clean");
        assert_eq!(write_synced(&directory).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(write_synced(Path::new("/proc")).expect_err("nobody writes there").kind(), io::ErrorKind::NotFound);
    }
}
