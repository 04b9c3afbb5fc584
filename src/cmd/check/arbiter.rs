//! The arbiter: each of its members, and whether a majority of them answers together.

use super::Findings;
use crate::act::arbiter::etcd::Etcd;
use crate::act::arbiter::key;
use crate::config::{Arbiter, Config};

pub fn check(config: &Config, findings: &mut Findings) {
    let Some(arbiter) = &config.arbiter else { return };
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
            Err(fault) => {
                let remedy =
                    "is etcd running there, does it listen on this address for clients, and do firewalls on the way let it through?";
                findings.fail("arbiter", fault.text(), remedy);
            }
        }
    }
    if answering > 0 {
        check_majority(config, arbiter, findings);
    }
    if arbiter.endpoints.len() < 3 {
        let remedy = "name all members in [arbiter] endpoints; three on three machines, none of them a node, survive the loss of one";
        findings.warn("arbiter", format!("only {} is named", count(arbiter.endpoints.len())), remedy);
    }
}

fn count(endpoints: usize) -> String {
    if endpoints == 1 { "one member".to_owned() } else { format!("{endpoints} members") }
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
            let remedy = "is a majority of its members up; may the user in [arbiter] read and write this key?";
            findings.fail("arbiter", format!("cannot read \"{name}\": {}", fault.text()), remedy);
        }
    }
}
