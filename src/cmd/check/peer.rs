//! The peer's server as this node reaches it: port closed, host not allowed, password wrong and nobody answering are told apart.

use std::time::Duration;

use super::Findings;
use crate::config::{Config, NodeIndex};
use crate::sql::{Family, Fault, Login, Session, SqlError, bounded};

const ASK: Duration = Duration::from_secs(3);

type Seen = (Family, (u16, u16, u16));

pub fn check(config: &Config, me: NodeIndex, own: Option<Seen>, findings: &mut Findings) {
    let login = Login::remote(config, me.other()).within(ASK);
    let look = move || {
        let mut session = Session::open(&login)?;
        let id = session.value("SELECT @@global.server_id")?;
        Ok((session.family(), session.version(), session.version_text().to_string(), id))
    };
    let (name, address) = (&config.node(me.other()).name, config.node(me.other()).address);
    let (family, version, text, id) = match bounded("asking the peer's server", ASK, look) {
        Ok(seen) => seen,
        Err(error) => {
            findings.fail("peer's server", error.text.clone(), remedy(config, me, &error));
            return;
        }
    };
    findings.ok("peer's server", format!("{name} ({text}) lets this node in at {address}:{}", config.mysql.port));
    check_ids(config, me, id.as_deref(), findings);
    match own {
        Some((mine, _)) if mine != family => {
            findings.fail("peer's server", "one node runs MariaDB, the other MySQL", "install the same server on both nodes");
        }
        Some((_, (major, minor, _))) if (major, minor) != (version.0, version.1) => {
            let why = format!("this node runs {major}.{minor}, {name} {}.{}", version.0, version.1);
            findings.warn("peer's server", why, "fine during an upgrade only: an older server may not understand a newer one's binary log");
        }
        _ => {}
    }
}

fn check_ids(config: &Config, me: NodeIndex, seen: Option<&str>, findings: &mut Findings) {
    let (own, wanted) = (config.node(me).server_id.to_string(), config.node(me.other()).server_id.to_string());
    match seen {
        Some(id) if id == wanted => findings.ok("server_ids", format!("differ: {own} here, {wanted} there")),
        Some(id) if id == own => {
            findings.fail(
                "server_ids",
                format!("both servers have server_id {id}: each throws the other's changes away"),
                "mmha bootstrap on the peer",
            );
        }
        other => {
            let why = format!("the peer's server has server_id {}, the configuration says {wanted}", other.unwrap_or("none"));
            findings.fail("server_ids", why, "mmha bootstrap on the peer");
        }
    }
}

fn remedy(config: &Config, me: NodeIndex, error: &SqlError) -> String {
    let (peer, port) = (config.node(me.other()), config.mysql.port);
    let (name, own) = (&peer.name, config.node(me).address);
    match error.fault {
        Fault::Refused => format!(
            "on {name}: is the server up, and does it listen there (bind-address, skip-networking, port {port})? `mmha bootstrap` sets it"
        ),
        Fault::HostNotAllowed => format!(
            "on {name}: `mmha bootstrap` makes the accounts for {own}; does this node really come from there (`ip route get {}`)?",
            peer.address
        ),
        Fault::WrongPassword => {
            format!("both nodes need the same \"replication.password\" (compare with sha1sum), then `mmha bootstrap` on {name}")
        }
        Fault::Timeout => format!(
            "is {name} up (ping {})? Then something drops tcp {port}: its firewall (`mmha firewall apply` there) or one in between",
            peer.address
        ),
        _ => format!("look at the server's error log on {name}"),
    }
}
