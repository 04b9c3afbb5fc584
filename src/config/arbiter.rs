//! `[arbiter]`: where an etcd is that gives its lease to one node at a time, and how long that lease must be (SAFETY B15).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::duration::show;
use super::raw::{Raw, RawArbiter};
use super::reader::At;
use super::secrets::FileKind;
use super::timing::{CLOSING, LINK_LATENESS};
use super::{Secret, diagnostic::Faults};

/// etcd's own default for clients.
const PORT: u16 = 2379;
/// More members than an etcd has; bounds the time of one round.
const MOST: usize = 7;

#[derive(Debug, Clone)]
pub struct Arbiter {
    pub endpoints: Vec<Endpoint>,
    pub tls: Tls,
    /// Whole seconds.
    pub ttl: Duration,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

/// For endpoints with https.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Who signs the members' certificates; `None`: the CAs of the system.
    pub ca_file: Option<PathBuf>,
    /// This node's certificate and its key, for an etcd that asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub is_tls: bool,
    /// An address or a name, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
}

impl Arbiter {
    /// How often the lease is kept alive.
    pub fn period(&self) -> Duration {
        self.ttl / 3
    }

    /// How long one question to one endpoint may take.
    pub fn call(&self) -> Duration {
        (self.ttl / 10).min(Duration::from_secs(2))
    }

    /// How long a node may believe in a lease that it asked for at time zero: 1 % for the clocks, and what still lets clients through
    /// after a frozen node's last heartbeat (`fence`), so that it has let go before the lease ends.
    pub fn belief(&self, fence: Duration) -> Duration {
        (self.ttl * 99 / 100).saturating_sub(fence + fence / 100 + CLOSING + LINK_LATENESS)
    }
}

impl Endpoint {
    /// The error is the end of a sentence.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let wrong = || format!("\"{text}\" is not an endpoint: write \"https://192.0.2.21:2379\", or http:// where etcd has no TLS");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let is_name = (1..=253).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let is_host = host.parse::<IpAddr>().is_ok() || (is_name && !host.starts_with('-'));
        let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0));
        match (is_host, port) {
            (true, Some(port)) => Ok(Endpoint { is_tls, host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }

    /// HOST:PORT as in a Host line.
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

impl RawArbiter {
    /// Each key that names a file for https, and what must be in it.
    pub(super) fn tls_files(&self) -> [(&'static str, FileKind, &At<Option<PathBuf>>); 3] {
        [
            ("ca_file", FileKind::Certificates, &self.ca_file),
            ("cert_file", FileKind::Certificates, &self.cert_file),
            ("key_file", FileKind::Key, &self.key_file),
        ]
    }
}

pub(super) fn check(raw: &Raw, faults: &Faults<'_>) {
    let Some(arbiter) = &raw.arbiter else { return };
    let endpoints = &arbiter.endpoints;
    if endpoints.sound && endpoints.value.is_empty() {
        faults.add(&endpoints.span, "[arbiter] needs endpoints = [\"http://192.0.2.21:2379\", …], or leave the section out");
    }
    if endpoints.value.len() > MOST {
        faults.add(&endpoints.span, format!("[arbiter] endpoints: at most {MOST} are asked, here are {}", endpoints.value.len()));
    }
    for endpoint in &endpoints.value {
        if let Some(node) = raw.nodes.iter().find(|node| node.address.sound && node.address.value.to_string() == endpoint.value.host) {
            let name = &node.name.value;
            faults.add(
                &endpoint.span,
                format!("endpoints: \"{}\" is on node \"{name}\": an arbiter must outlive either node", endpoint.value),
            );
        }
    }
    if arbiter.user.value.is_some() != arbiter.password_file.value.is_some() {
        let key = if arbiter.user.value.is_some() { &arbiter.user.span } else { &arbiter.password_file.span };
        faults.add(key, "[arbiter] user and password_file belong together: set both or neither");
    }
    let plain = endpoints.value.iter().find(|endpoint| !endpoint.value.is_tls);
    let mixed = endpoints.value.iter().any(|endpoint| endpoint.value.is_tls) && arbiter.user.value.is_some();
    if let Some(plain) = plain.filter(|_| mixed) {
        let text = format!("endpoints: \"{}\" would be told the password in clear: write https:// for all of them", plain.value);
        faults.add(&plain.span, text);
    }
    check_tls(arbiter, faults);
    check_ttl(raw, arbiter, faults);
}

fn check_tls(arbiter: &RawArbiter, faults: &Faults<'_>) {
    if arbiter.endpoints.sound && !arbiter.endpoints.value.iter().any(|endpoint| endpoint.value.is_tls) {
        for (name, _, key) in arbiter.tls_files().iter().filter(|(_, _, key)| key.value.is_some()) {
            faults.add(&key.span, format!("[arbiter] {name} is for https:// endpoints, and here is none"));
        }
    }
    let (certificate, key) = (&arbiter.cert_file, &arbiter.key_file);
    if certificate.sound && key.sound && certificate.value.is_some() != key.value.is_some() {
        let given = if certificate.value.is_some() { certificate } else { key };
        faults.add(&given.span, "[arbiter] cert_file and key_file belong together: set both or neither");
    }
}

/// SAFETY B15: between two keep-alives one call may fail, and a node that freezes after that has still let go in time.
fn check_ttl(raw: &Raw, arbiter: &RawArbiter, faults: &Faults<'_>) {
    let (ttl, heartbeat) = (arbiter.ttl.value, &raw.heartbeat);
    if !arbiter.ttl.sound || !heartbeat.gate.sound || !heartbeat.lease.sound {
        return;
    }
    if ttl.subsec_nanos() != 0 {
        faults.add(&arbiter.ttl.span, "ttl must be whole seconds: etcd's leases have no finer unit");
    }
    let fence = fence(raw.firewall.manage.value.then_some(heartbeat.gate.value), heartbeat.lease.value);
    let example = Arbiter { endpoints: Vec::new(), tls: Tls::default(), ttl, user: None, password: None };
    let needed = example.period() + example.call();
    if needed > example.belief(fence) {
        let what = if raw.firewall.manage.value { "gate" } else { "lease and 1.3s" };
        faults.add(
            &arbiter.ttl.span,
            format!(
                "ttl {} is too short for {what} {}: a third of it, one failed call and the end of a frozen node's {what} must fit into it",
                show(ttl),
                show(fence)
            ),
        );
    }
}

/// What still lets clients through after the last heartbeat: the write gate, or without one the address lease as late as it may end.
pub fn fence(gate: Option<Duration>, lease: Duration) -> Duration {
    gate.unwrap_or(lease + super::timing::ADDRESS_LATENESS)
}

pub(super) fn build(raw: RawArbiter, password: Option<Secret>) -> Arbiter {
    let endpoints = raw.endpoints.value.into_iter().map(|item| item.value).collect();
    let tls = Tls { ca_file: raw.ca_file.value, identity: raw.cert_file.value.zip(raw.key_file.value) };
    Arbiter { endpoints, tls, ttl: raw.ttl.value, user: raw.user.value, password }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        fn check(text: &str, expect: Result<(&str, u16), &str>) {
            match (Endpoint::parse(text), expect) {
                (Ok(found), Ok((host, port))) => assert_eq!((found.host.as_str(), found.port), (host, port), "{text}"),
                (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        }
        check("http://192.0.2.21:2379", Ok(("192.0.2.21", 2379)));
        check("http://etcd-1.example.net/", Ok(("etcd-1.example.net", 2379)));
        check("http://[2001:db8::1]:80", Ok(("2001:db8::1", 80)));
        check("http://[2001:db8::1]", Ok(("2001:db8::1", 2379)));
        check("https://192.0.2.21", Ok(("192.0.2.21", 2379)));
        for wrong in [
            "192.0.2.21:2379",
            "ftp://192.0.2.21",
            "httpS://192.0.2.21",
            "https://-verify:1",
            "http://",
            "http://:2379",
            "http://a b:1",
            "http://a:0",
            "http://a:70000",
            "http://a:1/v3",
            "http://[::1",
            "http://u@h:1",
            "http://-a:1",
        ] {
            check(wrong, Err("is not an endpoint"));
        }
        for text in ["http://[::1]:1", "https://etcd-1:2379"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn belief_ends_before_the_lease_by_what_a_frozen_node_still_lets_through() {
        let arbiter = Arbiter { endpoints: Vec::new(), tls: Tls::default(), ttl: Duration::from_secs(5), user: None, password: None };
        assert_eq!(arbiter.belief(Duration::from_millis(1500)), Duration::from_millis(4950 - 1515 - 25));
        assert_eq!(arbiter.belief(Duration::from_secs(60)), Duration::ZERO);
    }
}
