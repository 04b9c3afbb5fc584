//! Puts our fragment into place: accepted by the server first, written atomically with a backup, and taken back when the server does
//! not come up with it. Touches no file but its own.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::{Config, NodeIndex};
use crate::error::{Error, Result};
use crate::mycnf::fragment;
use crate::mycnf::reader::MAIN_FILES;
use crate::mycnf::server::Server;
use crate::sql::{Family, Login, Session, bounded};
use crate::sys::file::write_atomic;
use crate::sys::run::run;

const VALIDATE: Duration = Duration::from_secs(60);
/// systemd's own start limit for MariaDB is 15 minutes with a large redo log; nobody watches a command that long.
const RESTART: Duration = Duration::from_secs(180);
const ANSWER: Duration = Duration::from_secs(60);
const LOG_LINES: usize = 12;

/// What `write` would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub path: PathBuf,
    /// `None`: there is no fragment yet.
    pub old: Option<String>,
    pub new: String,
}

impl Plan {
    pub fn make(config: &Config, me: NodeIndex, server: &Server) -> Result<Plan> {
        let path = server.fragment.clone();
        let old = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::failed(format!("\"{}\": {error}", path.display()))),
        };
        Ok(Plan { path, old, new: fragment::render(config, me, server.dialect, server.theirs()) })
    }

    pub fn changes(&self) -> bool {
        self.old.as_ref() != Some(&self.new)
    }

    /// Line by line, `-` gone and `+` new.
    pub fn diff(&self) -> String {
        let (old, new): (Vec<&str>, Vec<&str>) = (self.old.as_deref().unwrap_or_default().lines().collect(), self.new.lines().collect());
        let mut text = format!(
            "--- {}\n+++ {}\n",
            if self.old.is_some() { self.path.display().to_string() } else { "/dev/null".into() },
            self.path.display()
        );
        for line in diff_lines(&old, &new) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Writes the fragment if it differs, after the server has accepted it. The old one stays beside it as `.bak`
/// until the server has come up with the new one.
pub fn write(plan: &Plan, server: &Server) -> Result<()> {
    if !plan.changes() {
        return Ok(());
    }
    validate(plan, server)?;
    // An empty backup says that there was none, so that an interrupted run is undone like a whole one.
    put(&backup_of(&plan.path), plan.old.as_deref().unwrap_or_default())?;
    put(&plan.path, &plan.new)
}

/// Restarts the server and waits until it answers. If it does not, what was there before is put back and the server restarted again.
pub fn restart(plan: &Plan, server: &Server, login: &Login) -> Result<()> {
    let Err(error) = restart_once(server, login) else { return settled(plan) };
    let said = last_log_lines(server);
    let path = plan.path.display();
    if !backup_of(&plan.path).exists() {
        // It came up with this very file before: the cause is another one, and without the file it would start unsafe.
        return Err(Error::failed(format!(
            "the server does not come up: {error}\n\"{path}\" was left as it is, it has worked before. The server said:\n{said}"
        )));
    }
    let back = put_back(&plan.path);
    let (back, up) = (back.map_or_else(|error| error.to_string(), str::to_owned), restart_once(server, login));
    let up = up.map_or_else(|error| format!("and the server still does not answer: {error}"), |()| "and the server is up again".to_owned());
    Err(Error::failed(format!("the server does not come up with \"{path}\": {error}\n{back} {up}. The server said:\n{said}")))
}

/// The server runs with the fragment: from now on what was there before is no remedy for anything.
pub fn settled(plan: &Plan) -> Result<()> {
    let backup = backup_of(&plan.path);
    match fs::remove_file(&backup) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::failed(format!("cannot remove \"{}\": {error}", backup.display()))),
        _ => Ok(()),
    }
}

/// Gives the server what it had before the last `write`.
fn put_back(path: &Path) -> Result<&'static str> {
    let backup = backup_of(path);
    let old =
        fs::read_to_string(&backup).map_err(|error| Error::failed(format!("\"{}\" cannot be read back ({error})", backup.display())))?;
    if old.is_empty() {
        fs::remove_file(path).map_err(|error| Error::failed(format!("\"{}\" cannot be removed ({error})", path.display())))?;
        return Ok("the fragment is removed");
    }
    put(path, &old)?;
    Ok("the old fragment is back in place")
}

/// Whether the running server started before the fragment was last written, so that it cannot know it.
pub fn is_older_than_fragment(session: &mut Session, server: &Server) -> Result<bool> {
    let Ok(written) = fs::metadata(&server.fragment).map(|found| found.mtime()) else { return Ok(true) };
    let started = session.value(&format!("SELECT UNIX_TIMESTAMP() - ({})", server.dialect.uptime()))?;
    let started: f64 = started.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    // Whole seconds on both sides; a tie is a restart that took less than one.
    #[allow(clippy::cast_precision_loss)]
    Ok(started < written as f64)
}

/// Asks the server program whether it would start with the new text, before anything is in place: a file that includes all the usual
/// ones and ours last, as the include directory would.
fn validate(plan: &Plan, server: &Server) -> Result<()> {
    let trial = plan.path.with_extension("trial");
    let mut text: String = MAIN_FILES.iter().filter(|file| Path::new(file).exists()).map(|file| format!("!include {file}\n")).collect();
    text.push_str(&plan.new);
    put(&trial, &text)?;
    let defaults = format!("--defaults-file={}", trial.display());
    let program = server.program.to_string_lossy();
    let outcome = match server.dialect.family {
        Family::MariaDb => run(&program, &[&defaults, "--help", "--verbose"], None, VALIDATE),
        Family::MySql => run(&program, &[&defaults, "--user=mysql", "--log-error=stderr", "--validate-config"], None, VALIDATE),
    };
    let removed = fs::remove_file(&trial);
    let said = outcome?;
    removed.map_err(|error| Error::failed(format!("\"{}\": {error}", trial.display())))?;
    if said.ok() {
        return Ok(());
    }
    let errors: Vec<&str> = said.stderr.lines().filter(|line| line.contains("[ERROR]")).take(LOG_LINES).collect();
    Err(Error::failed(format!(
        "the server refuses the fragment for \"{}\"; nothing was changed. It says:\n  {}",
        plan.path.display(),
        errors.join("\n  ")
    )))
}

/// Waits until systemd has nothing under way for the server. A MariaDB that is told to stop while it starts hangs for ever, so a
/// restart must not meet one that an interrupted run has left behind.
pub fn settle(server: &Server) -> Result<()> {
    let deadline = Instant::now() + RESTART;
    let unit = format!("{}.service", server.unit);
    loop {
        let said = run("systemctl", &["show", "--property=ActiveState", "--property=Job", &unit], None, VALIDATE)?;
        let moving = said.stdout.lines().any(|line| match line.split_once('=') {
            Some(("ActiveState", state)) => ["activating", "deactivating", "reloading"].contains(&state),
            Some(("Job", job)) => !["", "0"].contains(&job),
            _ => false,
        });
        if !moving {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!(
                "systemd does not finish what it does with {unit}: see `systemctl status {}` and the server's log",
                server.unit
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn restart_once(server: &Server, login: &Login) -> Result<()> {
    settle(server)?;
    // The limit on starts is for servers that crash in a circle, not for a restart somebody asked for.
    let _ = run("systemctl", &["reset-failed", &format!("{}.service", server.unit)], None, VALIDATE);
    let said = run("systemctl", &["restart", &format!("{}.service", server.unit)], None, RESTART)?;
    if !said.ok() {
        return Err(Error::failed(format!("\"systemctl restart {}\" failed: {}", server.unit, said.stderr.trim())));
    }
    wait_for_answer(login, ANSWER)
}

/// Until the server at `login` greets us.
pub fn wait_for_answer(login: &Login, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let attempt = login.clone();
        match bounded("connecting to the restarted server", Duration::from_secs(5), move || Session::open(&attempt).map(drop)) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn last_log_lines(server: &Server) -> String {
    let count = LOG_LINES.to_string();
    let said = match server.error_log() {
        Some(file) => run("tail", &["-n", &count, "--", &file.to_string_lossy()], None, Duration::from_secs(5)),
        None => run("journalctl", &["--no-pager", "--output=cat", "-n", &count, "-u", &server.unit], None, Duration::from_secs(10)),
    };
    let text = said.map_or_else(|error| error.to_string(), |said| said.stdout);
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Not read by the server: include directories take `.cnf` only.
fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    name.into()
}

fn put(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, text.as_bytes(), 0o644).map_err(|error| Error::failed(format!("cannot write \"{}\": {error}", path.display())))
}

/// The shortest edit by longest common subsequence; fragments are a few dozen lines.
fn diff_lines(old: &[&str], new: &[&str]) -> Vec<String> {
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for (i, before) in old.iter().enumerate().rev() {
        for (j, after) in new.iter().enumerate().rev() {
            common[i][j] = if before == after { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!(" {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("-{}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diffs() {
        for (old, new, expect) in [
            ("", "a", "+a"),
            ("a", "", "-a"),
            ("a b c", "a b c", " a, b, c"),
            ("a b c", "a x c", " a,-b,+x, c"),
            ("a b", "b c", "-a, b,+c"),
        ] {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.split_whitespace().collect(), new.split_whitespace().collect());
            assert_eq!(diff_lines(&old, &new).join(","), expect);
        }
    }

    #[test]
    fn the_backup_is_not_read_by_the_server() {
        let backup = backup_of(Path::new("/etc/mysql/mariadb.conf.d/zz-mmha.cnf"));
        assert_eq!(backup, Path::new("/etc/mysql/mariadb.conf.d/zz-mmha.cnf.bak"));
        assert_ne!(backup.extension(), Some("cnf".as_ref()));
    }
}
