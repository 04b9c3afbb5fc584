//! Names to addresses without getaddrinfo(3): this static binary would load the host's name-service modules and can crash in them. Literal,
//! then /etc/hosts, then the host's own getent(1), a process that is killed at its limit.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::file::read_limited;
use super::run::run;
use crate::error::{Error, Result};

const HOSTS_LIMIT: usize = 4 << 20;

/// Every address of `name`, in the resolver's order. None at all is an error that names it.
pub fn resolve(name: &str, limit: Duration) -> Result<Vec<IpAddr>> {
    if let Ok(literal) = name.parse() {
        return Ok(vec![literal]);
    }
    let hosts = read_limited(Path::new("/etc/hosts"), HOSTS_LIMIT).unwrap_or_default();
    let known = in_hosts(&String::from_utf8_lossy(&hosts), name);
    if !known.is_empty() {
        return Ok(known);
    }
    let answer = run("getent", &["ahosts", "--", name], None, limit)?;
    let found = in_getent(&answer.stdout);
    if found.is_empty() {
        return Err(Error::failed(format!("the name \"{name}\" has no address: add it to /etc/hosts or use an address")));
    }
    Ok(found)
}

/// hosts(5): address, canonical name, aliases; `#` begins a comment; names do not differ by case.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|alias| alias.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

/// getent prints each address once per socket type.
fn in_getent(text: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in text.lines().filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_ask_nobody() {
        assert_eq!(resolve("192.0.2.1", Duration::ZERO), Ok(vec![IpAddr::from([192, 0, 2, 1])]));
        assert_eq!(resolve("::1", Duration::ZERO).map(|found| found.len()), Ok(1));
    }

    #[test]
    fn hosts_lines() {
        let text = "127.0.0.1 localhost\n192.0.2.241\tDB-01.example.net db-01 # not db-02\n# 192.0.2.9 db-01\nbroken db-01\n::1 db-01";
        let table = [("db-01", vec!["192.0.2.241", "::1"]), ("db-01.EXAMPLE.net", vec!["192.0.2.241"]), ("db-02", vec![]), ("db", vec![])];
        for (name, expect) in table {
            assert_eq!(in_hosts(text, name).iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{name}");
        }
    }

    #[test]
    fn getent_lines_without_repeats() {
        let text = "192.0.2.1     STREAM host\n192.0.2.1     DGRAM\n2001:db8::1     STREAM\n192.0.2.1     RAW\n";
        assert_eq!(in_getent(text).iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn a_name_nobody_knows_is_named() {
        let fault = resolve("no-such-host.invalid", Duration::from_secs(20)).expect_err("RFC 6761 keeps .invalid free");
        assert!(fault.to_string().contains("no-such-host.invalid") || fault.to_string().contains("getent"), "{fault}");
    }
}
