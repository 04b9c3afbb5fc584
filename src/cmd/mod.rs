//! One file per one-shot command. They print, ask the service, and act only when the service does not run. None of them knows the service's inside.

pub mod bootstrap;
pub mod check;
pub mod events;
pub mod firewall;
pub mod fsm;
pub mod init;
pub mod mycnf;
pub mod pause;
pub mod recovery;
pub mod rejoin;
pub mod release;
pub mod status;
pub mod switchover;

use std::io::{Write, stderr, stdout};

/// Print a line (or several). False: nobody reads any more; whoever only prints may stop, whoever changes something goes on.
pub fn say(text: &str) -> bool {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .is_ok()
}

/// The same on stderr, for what went wrong.
pub fn complain(text: &str) {
    let _ = writeln!(stderr().lock(), "{}", text.trim_end());
}

/// For the service's log: who asked. From the environment alone; user names are not looked up.
pub fn who() -> String {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    let fine = (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fine { name } else { format!("user {}", nix::unistd::getuid()) }
}
