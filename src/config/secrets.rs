//! Reads secret files: regular, owned by root (or by whoever runs this), readable by nobody else. Refuses the others with the command that mends them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::Secret;
use crate::error::{Error, Result};

const LARGEST: u64 = 64 * 1024;

/// What a file that the configuration names must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Of the replication account: `mmha init` makes it.
    ReplicationPassword,
    /// Somebody else's, which nobody but the operator knows.
    Password,
    /// One or more, PEM.
    Certificates,
    /// Unencrypted, PEM.
    Key,
}

const MADE_BY_INIT: &str = "`mmha init` makes it, and both nodes need the same one";

/// The whole file, one that `mmha init` makes.
pub fn read(path: &Path) -> Result<Secret> {
    read_else(path, MADE_BY_INIT)
}

/// The whole file; `remedy` for one that is not there.
pub fn read_else(path: &Path, remedy: &str) -> Result<Secret> {
    let mut file = open(path, remedy)?;
    let mut text = String::new();
    let outcome = Read::by_ref(&mut file).take(LARGEST).read_to_string(&mut text);
    outcome.map_err(|error| Error::config(format!("cannot read \"{}\": {error}", path.display())))?;
    Ok(Secret::new(text))
}

/// The first line of the replication account's password file.
pub fn read_replication_password(path: &Path) -> Result<Secret> {
    first_line(path, MADE_BY_INIT)
}

/// The first line of a password file that the operator writes.
pub fn read_password(path: &Path) -> Result<Secret> {
    let shown = path.display();
    first_line(path, &format!("make it as root: install -m 600 /dev/null {shown}; then write the password on its first line"))
}

/// At most 32 characters: the servers cut or refuse longer replication passwords.
fn first_line(path: &Path, remedy: &str) -> Result<Secret> {
    let text = read_else(path, remedy)?;
    let password = text.reveal().lines().next().unwrap_or_default();
    let file = path.display();
    if password.is_empty() {
        return Err(Error::config(format!("\"{file}\" has no password on its first line")));
    }
    if password.len() > 32 {
        return Err(Error::config(format!(
            "the password in \"{file}\" is longer than 32 characters, which replication accounts cannot have"
        )));
    }
    if password.chars().any(char::is_control) {
        return Err(Error::config(format!("the password in \"{file}\" has a control character in it")));
    }
    Ok(Secret::new(password))
}

fn open(path: &Path, remedy: &str) -> Result<File> {
    let shown = path.display();
    // O_NONBLOCK: a pipe of that name must not hold us up.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = opened.map_err(|error| {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return Error::config(format!("cannot open \"{shown}\": {error}; run this as root"));
        }
        Error::config(format!("cannot open \"{shown}\": {error}; {remedy}"))
    })?;
    let facts = file.metadata().map_err(|error| Error::config(format!("cannot look at \"{shown}\": {error}")))?;
    if !facts.is_file() {
        return Err(Error::config(format!("\"{shown}\" is not a regular file")));
    }
    let me = nix::unistd::geteuid().as_raw();
    if facts.uid() != 0 && facts.uid() != me {
        return Err(Error::config(format!("\"{shown}\" belongs to user {}, who could change it; run: chown root: {shown}", facts.uid())));
    }
    if facts.mode() & 0o077 != 0 {
        let mode = facts.mode() & 0o7777;
        return Err(Error::config(format!(
            "\"{shown}\" has mode {mode:04o}: others can read or write this secret; run: chmod 600 {shown}"
        )));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_private_files_and_short_passwords() {
        let path = std::env::temp_dir().join(format!("mmha-secret-{}", std::process::id()));
        let check = |content: &str, mode: u32, expect: std::result::Result<&str, &str>| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = read_password(&path).map(|secret| secret.reveal().to_string()).map_err(|error| error.to_string());
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(found), Err(expect)) => assert!(found.contains(expect) && !found.contains("hunter"), "{found}"),
                (found, expect) => panic!("{found:?} for {expect:?}"),
            }
        };
        check("hunter2\n", 0o600, Ok("hunter2"));
        check("hunter2", 0o400, Ok("hunter2"));
        check("hunter2\nsecond line\n", 0o600, Ok("hunter2"));
        check("hunter2\n", 0o640, Err("run: chmod 600 "));
        check("hunter2\n", 0o604, Err("has mode 0604"));
        check("\nhunter2", 0o600, Err("no password on its first line"));
        check(&"hunter2".repeat(5), 0o600, Err("longer than 32"));
        fs::remove_file(&path).unwrap();
        let missing = |read: fn(&Path) -> Result<Secret>| read(&path).unwrap_err().to_string();
        for said in [missing(read), missing(read_replication_password)] {
            assert!(said.contains("cannot open") && said.contains("`mmha init` makes it"), "{said}");
        }
        let (said, shown) = (missing(read_password), path.display());
        assert!(said.contains(&format!("install -m 600 /dev/null {shown};")) && !said.contains("mmha init"), "{said}");
        assert!(read(Path::new("/dev/null")).unwrap_err().to_string().contains("not a regular file"));
    }
}
