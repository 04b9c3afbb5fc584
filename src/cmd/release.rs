//! `mmha release`: let go of the address now. The running service does it; when there is none, this closes the write gate and the server and
//! removes the address itself. With --final (after the service's end) it leaves everything to the leases when systemd is going to restart the service.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::{complain, say, who};
use crate::config::{Config, NodeIndex, Writer};
use crate::control::{self, Answer, Request, SOCKET, Unanswered};
use crate::error::{Error, Result};
use crate::report::Gate;
use crate::sql::fence::{self, Keys, Spare, Waiters};
use crate::sql::{Fault, Login, bounded};
use crate::sys::{clock, netlink, run};

pub struct Options {
    /// `--final`.
    pub last: bool,
    pub dry_run: bool,
}

const ANSWER: Duration = Duration::from_secs(2);
/// For the service to let go: the gate and the address take milliseconds, the server its own time.
const LETTING_GO: Duration = Duration::from_secs(5);
const KERNEL: Duration = Duration::from_millis(500);
const CHILD: Duration = Duration::from_secs(2);
const SERVER: Duration = Duration::from_secs(3);

pub fn run(file: &Path, options: &Options) -> Result<()> {
    if options.last && !is_over(std::env::var("SERVICE_RESULT").ok().as_deref()) {
        say("not an orderly stop: a restart follows or the leases end by themselves");
        return Ok(());
    }
    let config = Config::load(file)?;
    let me = config.me()?;
    let vip = &config.vip;
    if options.dry_run {
        say(&format!("would close the write gate, make the server read-only and remove {vip} from this node; nothing was changed"));
        return Ok(());
    }
    if options.last {
        return by_hand(&config, me);
    }
    if let Ok(Answer::Status(status)) = control::ask(Path::new(SOCKET), &Request::Status, ANSWER)
        && !status.vip.held
    {
        say(&format!("{vip} is not on this node; nothing to do"));
        return Ok(());
    }
    match control::ask(Path::new(SOCKET), &Request::Release { who: who() }, ANSWER) {
        Ok(Answer::Accepted(sentence)) => {
            say(&sentence);
            wait(&config)
        }
        Ok(Answer::Refused(sentence)) => Err(Error::refused(format!("{sentence} (`systemctl stop mmha` lets go whatever becomes of it)"))),
        Ok(Answer::Failed(sentence)) => Err(Error::failed(sentence)),
        Ok(Answer::Status(_)) => Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
        Err(Unanswered::NotRunning) => by_hand(&config, me),
        Err(Unanswered::Silent) => {
            complain(
                "the service does not answer: letting go without it; stop it too (`systemctl stop mmha`), or it may come back to life",
            );
            by_hand(&config, me)
        }
        Err(why) => Err(why.into()),
    }
}

/// systemd.exec(5): "success" only after an orderly stop. "timeout" is a service that would not stop: nothing follows, and its leases
/// have long ended; one that would not start comes to the same. After everything else a restart adopts the leases.
fn is_over(result: Option<&str>) -> bool {
    matches!(result, Some("success" | "timeout"))
}

fn wait(config: &Config) -> Result<()> {
    let until = clock::now() + LETTING_GO;
    while clock::now() < until {
        let answer = control::ask(Path::new(SOCKET), &Request::Status, ANSWER);
        if let Ok(Answer::Status(status)) = answer
            && !status.vip.held
            && status.gate != Some(Gate::Open)
        {
            say(&status.sentence);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::failed(format!("{} is still held after {} s: look at `mmha status`", config.vip, LETTING_GO.as_secs())))
}

/// Every step is tried, whatever became of the others: gate, server, address. The server first loses its clients in the kernel, so that a hung
/// one cannot hold the rest up for long.
fn by_hand(config: &Config, me: NodeIndex) -> Result<()> {
    let steps = [
        ("closing the write gate", close_gate()),
        ("making the server read-only", close_server(config, me)),
        ("removing the address", remove_address(config)),
    ];
    let mut failures = Vec::new();
    for (step, outcome) in steps {
        match outcome {
            Ok(sentence) => {
                say(&sentence);
            }
            Err(error) => failures.push(error.context(step).to_string()),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::failed(failures.join("\n"))) }
}

/// Empties every set of our nft table: the gate stands open only for elements that are in them.
fn close_gate() -> Result<String> {
    let list = match run::run("nft", &["list", "table", "inet", "mmha"], None, CHILD) {
        Ok(list) if list.ok() => list.stdout,
        Ok(_) => return Ok("there is no write gate".to_string()),
        Err(error) if error.to_string().contains("not installed") => return Ok("there is no write gate (no nft)".to_string()),
        Err(error) => return Err(error),
    };
    let flush: String = sets(&list).map(|name| format!("flush set inet mmha {name}\n")).collect();
    let outcome = run::run("nft", &["-f", "-"], Some(&flush), CHILD)?;
    if outcome.ok() { Ok("write gate closed".to_string()) } else { Err(Error::failed(outcome.stderr)) }
}

fn sets(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter_map(|line| line.trim().strip_prefix("set ")?.strip_suffix(" {"))
}

fn close_server(config: &Config, me: NodeIndex) -> Result<String> {
    if config.mysql.writer == Writer::Both {
        return Ok("the server stays writable: mysql.writer is \"both\"".to_string());
    }
    let login = Login::local(config);
    let (own, peer) = (config.node(me).server_id.to_string(), config.node(me.other()).server_id.to_string());
    let spare = Spare::of(config);
    let job = move || fence::close_writes(&login, Keys { own: &own, peer: &peer }, &spare, Waiters::Free, SERVER);
    match bounded("closing the server", SERVER + Duration::from_secs(2), job) {
        Ok(closed) => Ok(format!("server read-only; it has {}", closed.history)),
        // Nobody writes to a server that does not run; my.cnf starts it read-only.
        Err(error) if error.fault == Fault::Refused => Ok("the server does not run".to_string()),
        Err(error) => Err(Error::failed(error.text)),
    }
}

fn remove_address(config: &Config) -> Result<String> {
    let (vip, ips) = (&config.vip, config.vip.ips());
    let fault = |error: std::io::Error| Error::failed(error.to_string());
    let (mut removed, mut failed) = (false, None);
    for addr in netlink::addresses(KERNEL).map_err(fault)? {
        let IpAddr::V4(ip) = addr.ip else { continue };
        if ips.contains(&ip) {
            match netlink::del_address(addr.index, ip, addr.prefix, KERNEL) {
                Ok(was_here) => removed |= was_here,
                Err(error) => failed = Some(fault(error)), // the others go all the same
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(if removed { format!("{vip} removed") } else { format!("{vip} was not here") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_without_a_restart_is_final() {
        for (result, expect) in [
            (Some("success"), true),
            (Some("timeout"), true),
            (Some("signal"), false),
            (Some("watchdog"), false),
            (Some("exit-code"), false),
            (None, false),
        ] {
            assert_eq!(is_over(result), expect, "{result:?}");
        }
    }

    #[test]
    fn every_set_of_the_table() {
        let listing = "table inet mmha {\n\tset gate {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t}\n\n\tset other {\n\t}\n\n\tchain set_x {\n\t}\n}\n";
        assert_eq!(sets(listing).collect::<Vec<_>>(), ["gate", "other"]);
    }
}
