//! `mmha check`: looks for trouble on this node, at the peer and between them, and says of each finding what it is, why, and what to do. Looks
//! only; the one thing it sends besides questions is an ARP probe, which claims nothing.

mod agent;
mod arbiter;
mod lan;
mod peer;
mod server;
mod watchdog;

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::say;
use crate::config::{Config, NodeIndex};
use crate::control::{self, Answer, Request, SOCKET};
use crate::error::{Error, Kind, Result};
use crate::report::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    what: String,
    why: String,
    remedy: String,
}

/// Everything found, in the order of the story: this node, its server, the peer, the pair.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, what: &str, why: impl Into<String>) {
        self.add(Level::Ok, what, why.into(), String::new());
    }
    fn warn(&mut self, what: &str, why: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Warn, what, why.into(), remedy.into());
    }
    fn fail(&mut self, what: &str, why: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Fail, what, why.into(), remedy.into());
    }
    fn add(&mut self, level: Level, what: &str, why: String, remedy: String) {
        self.0.push(Finding { level, what: what.to_string(), why, remedy });
    }
    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warn => "WARN",
                Level::Fail => "FAIL",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{level:<4}  {:<13} {}", finding.what, finding.why);
            if !finding.remedy.is_empty() {
                let _ = writeln!(text, "      {:<13} -> {}", "", finding.remedy);
            }
        }
        let (ok, warn, fail) = (self.count(Level::Ok), self.count(Level::Warn), self.count(Level::Fail));
        let _ = writeln!(text, "{ok} ok, {warn} to look at, {fail} failed");
        text
    }
}

const SERVICE: Duration = Duration::from_millis(500);

/// A configuration that does not load is an error of its own (exit 3); everything else is a finding.
pub fn run(file: &Path, json: bool) -> Result<()> {
    let config = Config::load(file)?;
    let me = config.me()?;
    let service = match control::ask(Path::new(SOCKET), &Request::Status, SERVICE) {
        Ok(Answer::Status(status)) => Ok(*status),
        Ok(_) => Err(Error::failed("the service gave another answer than asked for; is it of another version?")),
        Err(why) => Err(why.into()),
    };
    let findings = look(&config, me, &service);
    if json {
        say(&serde_json::to_string_pretty(&findings.0).unwrap_or_default());
    } else {
        say(&findings.text());
    }
    let is_fine = findings.count(Level::Warn) + findings.count(Level::Fail) == 0;
    if is_fine { Ok(()) } else { Err(Error::new(Kind::Degraded, "")) }
}

fn look(config: &Config, me: NodeIndex, service: &Result<Status>) -> Findings {
    let mut findings = Findings::default();
    check_file(config, &mut findings);
    check_fence(config, &mut findings);
    let status = service.as_ref().ok();
    watchdog::check(&config.heartbeat, status.is_some(), &mut findings);
    lan::check(config, me, status, &mut findings);
    let family = server::check(config, me, status, &mut findings);
    peer::check(config, me, family, &mut findings);
    arbiter::check(config, &mut findings);
    agent::check(config, service, &mut findings);
    findings
}

fn check_file(config: &Config, findings: &mut Findings) {
    let file = config.path.display();
    findings.ok("configuration", format!("\"{file}\" and its secrets are valid and private"));
    let mode = std::fs::metadata(&config.path).map_or(0, |facts| facts.mode());
    if mode & 0o022 != 0 {
        findings.fail("configuration", format!("\"{file}\" can be written by others than its owner"), format!("chmod 644 {file}"));
    }
    for warning in config.warnings() {
        findings.warn("configuration", warning, format!("edit \"{file}\" on both nodes; mmha.toml(5) explains the key"));
    }
}

/// It runs as root in the night: it must be there, be a program, and be root's own.
fn check_fence(config: &Config, findings: &mut Findings) {
    let Some(program) = config.heartbeat.fence_command.first() else { return };
    let remedy = format!("without it a silent peer is never taken over from: install \"{program}\" with `install -o root -m 755`");
    match std::fs::metadata(program) {
        Err(fault) => findings.fail("fencing", format!("\"{program}\" cannot be run: {fault}"), remedy),
        Ok(facts) if !facts.is_file() || facts.mode() & 0o111 == 0 => {
            findings.fail("fencing", format!("\"{program}\" is not a program"), remedy);
        }
        Ok(facts) if facts.uid() != 0 || facts.mode() & 0o022 != 0 => {
            findings.fail("fencing", format!("\"{program}\" can be changed by others than root, and root runs it"), remedy);
        }
        Ok(_) => findings.ok("fencing", format!("\"{program}\" is there; only a real attempt tells whether it works")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fencing_programs() {
        let mut config = crate::mycnf::fragment::tests::config();
        for (program, expect) in [
            ("/nonexistent/fence", "cannot be run"),
            ("/etc/passwd", "is not a program"),
            ("/etc", "is not a program"),
            ("/bin/sh", "is there"),
        ] {
            config.heartbeat.fence_command = vec![program.into()];
            let mut findings = Findings::default();
            check_fence(&config, &mut findings);
            assert!(findings.0.len() == 1 && findings.0[0].why.contains(expect), "{findings:?}");
        }
    }

    #[test]
    fn findings_as_text_and_json() {
        let mut findings = Findings::default();
        findings.ok("address", "fine");
        findings.fail("peer", "no answer", "start it");
        assert_eq!(
            findings.text(),
            "ok    address       fine\nFAIL  peer          no answer\n                    -> start it\n1 ok, 0 to look at, 1 failed\n"
        );
        let json = serde_json::to_string(&findings.0[1]).unwrap();
        assert_eq!(json, r#"{"level":"fail","what":"peer","why":"no answer","remedy":"start it"}"#);
    }
}
