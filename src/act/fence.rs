//! Runs the operator's fencing command (power switch, hypervisor, management board) while the core wants the peer fenced. Its exit code
//! is the whole answer: 0 means that the peer is off, or can reach no client any more. Decides nothing; never runs two at a time.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::core::event::{FenceSeen, Ms};
use crate::sys::run::run as start;
use crate::sys::slot::Reader;
use crate::sys::{clock, timer};

/// Between the end of a failed attempt and the next.
const AGAIN_MS: Ms = 2_000;

#[derive(Debug, Clone)]
pub struct Setting {
    /// Program and arguments; the peer's name and address are added.
    pub command: Vec<String>,
    pub peer_name: String,
    pub peer_address: String,
    /// An attempt that takes longer is killed and has failed.
    pub limit: Duration,
}

/// The thread, until the process ends.
pub fn run(setting: &Setting, mut wanted: Reader<bool>, report: impl Fn(FenceSeen)) {
    loop {
        let mut pause_ms = 3_600_000;
        if wanted.get() {
            let seen = attempt(setting);
            match &seen {
                FenceSeen::Done => log::warn!("the fencing command has fenced {}", setting.peer_name),
                FenceSeen::Failed(text) => log::error!("{} is not fenced: {text}", setting.peer_name),
            }
            report(seen);
            pause_ms = AGAIN_MS;
        }
        let _ = timer::wait_readable(&[wanted.as_fd()], clock::now_ms() + pause_ms);
        wanted.take_bell();
    }
}

fn attempt(setting: &Setting) -> FenceSeen {
    let Some((program, arguments)) = setting.command.split_first() else {
        return FenceSeen::Failed("no fencing command is configured".to_owned());
    };
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend([setting.peer_name.as_str(), setting.peer_address.as_str()]);
    log::warn!("fencing {}: running \"{program}\"", setting.peer_name);
    match start(program, &arguments, None, setting.limit) {
        Ok(output) if output.ok() => FenceSeen::Done,
        Ok(output) => {
            let code = output.code.map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with {code}"));
            let said = output.stderr.lines().chain(output.stdout.lines()).map(str::trim).find(|line| !line.is_empty()).unwrap_or("no word");
            let said: String = said.chars().take(160).collect();
            FenceSeen::Failed(format!("fence_command \"{program}\" {code} ({said})"))
        }
        Err(fault) => FenceSeen::Failed(fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_decides() {
        let setting = |command: &[&str]| Setting {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            peer_name: "db-02".into(),
            peer_address: "192.0.2.242".into(),
            limit: Duration::from_millis(300),
        };
        assert_eq!(attempt(&setting(&["/bin/true"])), FenceSeen::Done);
        for (command, words) in [
            (&["/bin/false"][..], "ended with 1"),
            (&["/bin/sh", "-c", "echo out of reach >&2; exit 3"], "ended with 3 (out of reach)"),
            (&["/bin/sleep", "30"], "ended with"), // refuses the peer's name as a number
            (&["/bin/sh", "-c", "sleep 30"], "did not end within"),
            (&["/nonexistent/fence"], "not installed"),
        ] {
            match attempt(&setting(command)) {
                FenceSeen::Failed(text) => assert!(text.contains(words), "{command:?}: {text}"),
                FenceSeen::Done => panic!("{command:?} fenced nobody"),
            }
        }
    }

    #[test]
    fn it_is_told_whom_to_fence() {
        let setting = Setting {
            command: vec!["/bin/sh".into(), "-c".into(), "test \"$1 $2\" = 'db-02 192.0.2.242'".into(), "fence".into()],
            peer_name: "db-02".into(),
            peer_address: "192.0.2.242".into(),
            limit: Duration::from_secs(10),
        };
        assert_eq!(attempt(&setting), FenceSeen::Done);
    }
}
