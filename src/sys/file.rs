//! Files replaced whole or not at all, and read with a bound. It refuses to leave a half-written file behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Put `bytes` at `path` so that a power cut leaves either the old or the new content: temporary file in the same directory, fsync, rename,
/// fsync of the directory (rename(2), fsync(2)). A symbolic link stays one: what it points to is replaced. `mode` is exact (no umask).
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let target = if path.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
    let (directory, temporary) = beside(&target)?;
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)?.sync_all()
}

/// How many bytes a user without privileges may still write where `path` lies (statvfs(3)).
pub fn room(path: &Path) -> io::Result<u64> {
    let seen = nix::sys::statvfs::statvfs(path)?;
    Ok(seen.blocks_available().saturating_mul(seen.fragment_size()))
}

/// The whole file, at most `limit` bytes; a longer one is `FileTooLarge`. A FIFO or device at this place cannot hold us.
pub fn read_limited(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// The directory of `target` and a hidden name in it, which include directories and logrotate pass over.
fn beside(target: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = directory.join(format!(".{}.mmha-{}", name.to_string_lossy(), std::process::id()));
    Ok((directory.to_owned(), temporary))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(path); // left by an earlier process with our pid
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?; // before that, nobody but the owner may read it
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_keeps_links_and_sets_the_mode() {
        let directory = std::env::temp_dir().join(format!("mmha-file-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("mkdir");
        let (path, link) = (directory.join("real"), directory.join("link"));
        write_atomic(&path, b"one", 0o640).expect("write");
        std::os::unix::fs::symlink(&path, &link).expect("symlink");
        write_atomic(&link, b"two", 0o604).expect("write");
        assert!(link.is_symlink());
        assert_eq!(read_limited(&path, 3).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o604);
        assert_eq!(read_limited(&path, 2).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
        assert!(write_atomic(&directory, b"x", 0o600).is_err(), "a directory is not replaced");
        assert_eq!(fs::read_dir(&directory).expect("list").count(), 2, "nothing is left behind");
        fs::remove_dir_all(&directory).expect("clean");
    }
}
