//! This node's own server: does it answer, is it set as the pair needs it, does it replicate, and if not, which of the usual causes is it.

use std::time::Duration;

use super::Findings;
use crate::config::{Config, Durability, NodeIndex, Writer};
use crate::mycnf::check as settings;
use crate::mycnf::server::Server;
use crate::report::Status;
use crate::sql::{ApplierState, Family, Fault, Login, Observation, ReceiverState, Replica, Session, SqlError, bounded, observe};
use crate::sys::run::run;

const ASK: Duration = Duration::from_secs(10);

/// Family and version, for the comparison with the peer's.
pub fn check(config: &Config, me: NodeIndex, status: Option<&Status>, findings: &mut Findings) -> Option<(Family, (u16, u16, u16))> {
    let login = Login::local(config).within(ASK);
    let (own, peer) = (config.node(me).server_id.to_string(), config.node(me.other()).server_id.to_string());
    let look = move || {
        let mut session = Session::open(&login)?;
        let seen = observe(&mut session, &own, &peer)?;
        Ok((session.family(), session.version(), seen))
    };
    let (family, version, seen) = match bounded("asking the server", ASK, look) {
        Ok(seen) => seen,
        Err(error) => {
            findings.fail("server", error.text.clone(), remedy(config, &error));
            return None;
        }
    };
    findings.ok("server", format!("{} answers on {}", seen.version, config.mysql.socket.display()));
    check_id(config, me, &seen, findings);
    check_settings(config, me, findings);
    check_recovery(config, family, findings);
    check_replication(&seen, status, findings);
    Some((family, version))
}

fn remedy(config: &Config, error: &SqlError) -> String {
    match error.fault {
        Fault::Refused => "start it (`systemctl start mariadb` or `mysql`) and look at its error log; check [mysql] socket".to_string(),
        Fault::WrongPassword => format!("run this as root, or give user \"{}\" a [mysql] password_file", config.mysql.user),
        Fault::Timeout => "the server hangs: look at its process list, its disk and its error log".to_string(),
        _ => "look at the server's error log".to_string(),
    }
}

fn check_id(config: &Config, me: NodeIndex, seen: &Observation, findings: &mut Findings) {
    let wanted = config.node(me).server_id;
    if seen.server_id == wanted {
        findings.ok("server_id", format!("{wanted}, as configured"));
    } else {
        let why = format!("the server runs with server_id {}, the configuration says {wanted}", seen.server_id);
        findings.fail("server_id", why, "mmha bootstrap (or `mmha mycnf write` and a restart of the server)");
    }
}

fn check_settings(config: &Config, me: NodeIndex, findings: &mut Findings) {
    let server = match Server::find(config) {
        Ok(server) => server,
        Err(error) => {
            findings.fail("my.cnf", error.to_string(), "set [mysql] service and config_file");
            return;
        }
    };
    if !server.fragment.exists() {
        findings.fail("my.cnf", format!("our fragment \"{}\" is missing", server.fragment.display()), "mmha bootstrap");
        return;
    }
    let (login, wanted) = (Login::local(config).within(ASK), config.clone());
    match bounded("reading the server's settings", ASK, move || settings::by_server(&mut Session::open(&login)?, &server, &wanted, me)) {
        Ok(clashes) if clashes.is_empty() => findings.ok("my.cnf", "the server's settings are those of our fragment"),
        Ok(clashes) => {
            for clash in clashes {
                findings.fail("my.cnf", clash.to_string(), "see `mmha mycnf check`, `mmha mycnf diff`");
            }
        }
        Err(error) => findings.fail("my.cnf", error.text, "look at the server's error log"),
    }
}

/// Whether something asks the peer before this server starts (packaging/mariadb.conf).
fn check_recovery(config: &Config, family: Family, findings: &mut Findings) {
    let asks = config.replication.durability == Durability::Lossless && config.mysql.writer == Writer::Vip;
    let Ok(server) = Server::find(config) else { return };
    if family != Family::MariaDb || !asks {
        return;
    }
    let unit = format!("{}.service", server.unit);
    let shown = run("systemctl", &["show", "--property=ExecStartPre", "--value", &unit], None, ASK);
    if shown.is_ok_and(|shown| shown.stdout.contains("mmha recovery")) {
        findings.ok("crash recovery", format!("{unit} asks the peer first"));
    } else {
        let why = format!(
            "{unit} starts without `mmha recovery`: after a crash it keeps what was not acknowledged, and may be quarantined with it"
        );
        findings.warn(
            "crash recovery",
            why,
            format!("put /usr/lib/systemd/system/mariadb.service.d/mmha.conf into {unit}.d, systemctl daemon-reload"),
        );
    }
}

fn check_replication(seen: &Observation, status: Option<&Status>, findings: &mut Findings) {
    let Some(replica) = &seen.replica else {
        findings.fail("replication", "it is not set up: this server has no source", "mmha bootstrap, on both nodes");
        return;
    };
    let mut is_fine = true;
    for (number, text) in [(replica.io_errno, &replica.io_error), (replica.sql_errno, &replica.sql_error)] {
        if number != 0 {
            is_fine = false;
            findings.fail("replication", format!("error {number}: {text}"), cause(number));
        }
    }
    if !is_fine {
        return;
    }
    let threads = format!("receiver {:?}, applier {:?}", replica.receiver, replica.applier).to_lowercase();
    let is_running = (replica.receiver, replica.applier) == (ReceiverState::Running, ApplierState::Running);
    // The service stops the receiver while the peer is gone, and starts it after the comparison.
    let is_meant = status.is_some_and(|status| status.peer.heard_ms.is_none());
    match (is_running, status) {
        (true, _) => findings.ok("replication", format!("{threads}{}", lag(replica))),
        (false, Some(_)) if is_meant => {
            findings.warn("replication", format!("{threads}: the peer is not heard"), "bring the peer back; it starts by itself")
        }
        (false, Some(status)) => {
            let remedy = "wait a moment; if it stays, look at `mmha status` on both nodes and the server's error log";
            findings.fail("replication", format!("{threads}, while the service is {}", status.state.as_deref().unwrap_or("?")), remedy);
        }
        (false, None) => findings.warn("replication", format!("{threads}: the service starts them"), "systemctl start mmha"),
    }
}

fn lag(replica: &Replica) -> String {
    replica.lag_s.map_or_else(String::new, |lag| format!(", {lag} s behind"))
}

/// The errors every pair meets sooner or later (the servers' manuals, "Server Error Message Reference").
fn cause(number: u32) -> &'static str {
    match number {
        1130 => {
            "the peer has no account for this node's address: `mmha bootstrap` there, and compare `address` with what `ip addr` shows here"
        }
        1045 => "the replication password differs: both nodes need the same replication.password; then `mmha bootstrap` on both",
        2003 | 2013 | 2002 => {
            "the peer's server is not reachable: is it up, does it listen (bind-address), is its port open? See the findings on the peer"
        }
        1062 | 1032 => "the data of the nodes differs: somebody wrote on both. Keep the address where it is and re-seed this node",
        1236 | 13114 => {
            "the nodes' histories do not fit: one lost the end of its own binary log. Do not skip it; start the service, which fetches it back, or re-seed"
        }
        1950 => "both nodes wrote under the same GTID domain: `mmha bootstrap` on an empty pair, or re-seed one of them",
        1396 => "an account was made on both nodes with binary logging on: drop it on this node, or re-seed",
        1593 => "both servers have the same server_id or server_uuid: compare them; a cloned MySQL needs its auto.cnf deleted",
        _ => "look at the server's error log on both nodes",
    }
}
