//! The arbiter: each of its members, and whether a majority of them answers together. With https first what that needs on this node.

use std::path::Path;
use std::time::Duration;

use super::Findings;
use crate::act::arbiter::etcd::{Etcd, Fault};
use crate::act::arbiter::key;
use crate::config::{Arbiter, Config};
use crate::sys::run::run;
use crate::sys::tls::Refusal;

const OPENSSL_LIMIT: Duration = Duration::from_secs(5);
/// 1.1.1 does not know -no-CAstore, and says its errors in other words (`sys::tls`).
const OPENSSL_LEAST: u32 = 3;
/// Of what the program says about itself, in characters.
const VERSION_LONGEST: usize = 80;
/// Long enough to renew a certificate without haste.
const WARNED_BEFORE_DAYS: u32 = 14;

pub fn check(config: &Config, findings: &mut Findings) {
    let Some(arbiter) = &config.arbiter else { return };
    if arbiter.endpoints.iter().any(|endpoint| endpoint.is_tls) && !check_openssl(arbiter, findings) {
        return;
    }
    let mut answering = 0;
    for endpoint in &arbiter.endpoints {
        match Etcd::only(arbiter, endpoint).member() {
            Ok((version, true)) => {
                answering += 1;
                findings.ok("arbiter", format!("{endpoint} is etcd {version} and has a leader"));
            }
            Ok((version, false)) => {
                let remedy = "look at its log and at `etcdctl endpoint status --cluster`";
                findings.fail("arbiter", format!("{endpoint} is etcd {version} and knows no leader"), remedy);
            }
            Err(fault @ Fault::Refused { .. }) => refused(&format!("{endpoint}: {}", fault.text()), findings),
            Err(Fault::Unreachable { text, remedy }) => {
                let usual =
                    "is etcd running there, does it listen on this address for clients, and do firewalls on the way let it through?";
                findings.fail("arbiter", text, remedy.unwrap_or(usual));
            }
        }
    }
    if answering > 0 {
        check_majority(config, arbiter, findings);
    }
    if arbiter.endpoints.len() < 3 {
        let remedy = "name all members in [arbiter] endpoints; three on three machines, none of them a node, survive the loss of one";
        findings.warn("arbiter", format!("fewer than three members are named ({})", arbiter.endpoints.len()), remedy);
    }
}

/// False: without openssl every member with https would only say so again.
fn check_openssl(arbiter: &Arbiter, findings: &mut Findings) -> bool {
    let why = match run("openssl", &["version"], None, OPENSSL_LIMIT) {
        Ok(output) if output.ok() => {
            let version = shown_version(&output.stdout);
            if !is_new_enough(version) {
                let why = format!("https goes through openssl, {OPENSSL_LEAST}.0 or later; here is \"{version}\"");
                findings.fail("arbiter", why, "upgrade the package openssl (with the system: Debian 12 or later has it), on both nodes");
                return false;
            }
            findings.ok("arbiter", format!("https goes through {version}"));
            None
        }
        Ok(output) => Some(format!("`openssl version` fails: {}", output.stderr.lines().next().unwrap_or_default())),
        Err(fault) => Some(fault.to_string()),
    };
    if let Some(why) = why {
        findings.fail("arbiter", format!("https goes through openssl, which does not run: {why}"), Refusal::NotInstalled.remedy());
        return false;
    }
    check_end("ca_file", arbiter.tls.ca_file.as_deref(), findings);
    check_end("cert_file", arbiter.tls.identity.as_ref().map(|(certificate, _)| certificate.as_path()), findings);
    true
}

/// "OpenSSL 3.0.17 1 Jul 2025 (Library: …)" without what is in brackets.
fn shown_version(said: &str) -> &str {
    let line = said.lines().next().unwrap_or_default().split(" (").next().unwrap_or_default().trim();
    line.char_indices().nth(VERSION_LONGEST).map_or(line, |(end, _)| &line[..end])
}

/// Other programs of that name (LibreSSL) count their versions differently.
fn is_new_enough(version: &str) -> bool {
    let major = version.strip_prefix("OpenSSL ").and_then(|rest| rest.split('.').next());
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= OPENSSL_LEAST)
}

/// The first certificate of the file; what the members have is theirs to watch.
fn check_end(key: &str, file: Option<&Path>, findings: &mut Findings) {
    let Some(file) = file.and_then(Path::to_str) else { return };
    let seconds = (WARNED_BEFORE_DAYS * 24 * 3600).to_string();
    let outcome = run("openssl", &["x509", "-noout", "-checkend", &seconds, "-in", file], None, OPENSSL_LIMIT);
    if outcome.is_ok_and(|output| output.code == Some(1)) {
        let why = format!("the certificate in {key} \"{file}\" ends within {WARNED_BEFORE_DAYS} days, or cannot be read");
        findings.warn(
            "arbiter",
            why,
            format!("openssl x509 -noout -enddate -in {file}; renew it on both nodes, nothing has to be restarted"),
        );
    }
}

fn refused(why: &str, findings: &mut Findings) {
    let remedy = "mend user and password_file in [arbiter], or give that etcd user the right to read and write /mmha/";
    findings.fail("arbiter", why, remedy);
}

/// A read that a majority has to confirm; with a user this also proves the password and the right to read.
fn check_majority(config: &Config, arbiter: &Arbiter, findings: &mut Findings) {
    let name = key(&config.cluster);
    match Etcd::new(arbiter).read(&name) {
        Ok((None, _)) => findings.ok("arbiter", format!("a majority answers; nobody has the lease \"{name}\"")),
        Ok((Some(held), _)) if held.lease == 0 => {
            let why = format!("\"{name}\" was written by hand (\"{}\"): it never ends, and no node can take the lease", held.value);
            findings.fail("arbiter", why, format!("etcdctl del {name}"));
        }
        Ok((Some(held), _)) => {
            let holder = held.value.split(' ').next().unwrap_or_default();
            findings.ok("arbiter", format!("a majority answers; {holder} has the lease"));
        }
        Err(fault) => {
            let why = format!("cannot read \"{name}\": {}", fault.text());
            match fault {
                Fault::Refused { .. } => refused(&why, findings),
                Fault::Unreachable { .. } => {
                    findings.fail("arbiter", why, "start its other members: a majority must be up and reach each other")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_openssl() {
        for (said, shown, new_enough) in [
            ("OpenSSL 3.0.17 1 Jul 2025 (Library: OpenSSL 3.0.17 1 Jul 2025)\n", "OpenSSL 3.0.17 1 Jul 2025", true),
            ("OpenSSL 3.5.1 1 Jul 2025 (Library: OpenSSL 3.5.1 1 Jul 2025)\n", "OpenSSL 3.5.1 1 Jul 2025", true),
            ("OpenSSL 4.0.0-alpha1 \n", "OpenSSL 4.0.0-alpha1", true),
            ("OpenSSL 10.0.0\n", "OpenSSL 10.0.0", true),
            ("OpenSSL 1.1.1w  11 Sep 2023\n", "OpenSSL 1.1.1w  11 Sep 2023", false),
            ("OpenSSL 1.0.2k-fips  26 Jan 2017\n", "OpenSSL 1.0.2k-fips  26 Jan 2017", false),
            ("LibreSSL 3.8.2\n", "LibreSSL 3.8.2", false),
            ("OpenSSL\n", "OpenSSL", false),
            ("", "", false),
        ] {
            assert_eq!((shown_version(said), is_new_enough(shown_version(said))), (shown, new_enough), "{said}");
        }
        assert_eq!(shown_version(&"ß".repeat(1 << 20)).chars().count(), VERSION_LONGEST);
    }
}
