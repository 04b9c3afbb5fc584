//! The one setting that must be decided anew at each start of a MariaDB server: whether its crash recovery keeps or drops commits that stand
//! in its binary log and were not yet written down by its engine (MDEV-21117, init_rpl_role). The fragment says "keep"; a file beside it says
//! "drop" while the server starts after its peer has taken over.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::mycnf::reader;
use crate::mycnf::server::{Disk, Server};
use crate::sys::file::write_atomic;

/// Read after our fragment: servers read an include directory in the order of the bytes of its names.
const FILE: &str = "zz-mmha.recovery.cnf";
const TEXT: &str = "# written by mmha while the server starts: the other node has taken over\n[mysqld]\ninit_rpl_role = SLAVE\n";
const SETTING: &str = "init_rpl_role";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// What is in the binary log was committed, and may have been acknowledged.
    Keep,
    /// The peer serves without what it never acknowledged.
    Drop,
}

/// Tells the starting server. Fails when its files would not have the word.
pub fn set(server: &Server, recovery: Recovery) -> Result<()> {
    let path = path(server);
    match recovery {
        Recovery::Keep => remove(&path),
        Recovery::Drop => {
            write_atomic(&path, TEXT.as_bytes(), 0o644)
                .map_err(|error| Error::failed(format!("cannot write \"{}\": {error}", path.display())))?;
            if is_last_word(&reader::read(&Disk, server.dialect), &path) {
                return Ok(());
            }
            remove(&path)?;
            Err(Error::failed(format!(
                "the server does not read \"{}\" last: crash recovery keeps what was not acknowledged, and this node may be quarantined with it",
                path.display()
            )))
        }
    }
}

pub fn path(server: &Server) -> PathBuf {
    server.fragment.with_file_name(FILE)
}

fn is_last_word(lines: &[reader::Line], path: &Path) -> bool {
    lines.iter().rev().find(|line| line.name == SETTING).is_some_and(|line| line.file == path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::failed(format!("cannot remove \"{}\": {error}", path.display()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mycnf::reader::Line;

    #[test]
    fn the_last_line_decides() {
        let line = |file: &str| Line { name: SETTING.into(), value: Some("SLAVE".into()), file: file.into(), line: 3 };
        let (fragment, ours) = (line("/d/zz-mmha.cnf"), line("/d/zz-mmha.recovery.cnf"));
        let path = Path::new("/d/zz-mmha.recovery.cnf");
        assert!(is_last_word(&[fragment.clone(), ours.clone()], path));
        assert!(!is_last_word(&[ours, fragment], path));
        assert!(!is_last_word(&[], path));
        assert!(FILE > "zz-mmha.cnf", "it is read after the fragment");
    }
}
