//! The service on this node, and through it the peer link: only the service can tell whether heartbeats arrive.

use super::Findings;
use crate::config::Config;
use crate::error::Result;
use crate::report::{Status, span};

pub fn check(config: &Config, service: &Result<Status>, findings: &mut Findings) {
    let status = match service {
        Ok(status) => status,
        Err(error) => {
            findings.warn("service", format!("{error}; the peer link cannot be judged without it"), "systemctl enable --now mmha");
            return;
        }
    };
    let state = status.state.as_deref().unwrap_or("in no known state");
    findings.ok("service", format!("{state}: {}", status.sentence));
    check_link(config, status, findings);
    let known = config.warnings();
    for warning in status.warnings.iter().filter(|warning| !known.contains(warning)) {
        findings.warn("service", warning, "see `mmha status` and `mmha events` on both nodes");
    }
}

fn check_link(config: &Config, status: &Status, findings: &mut Findings) {
    let (peer, port) = (&status.peer.name, config.heartbeat.port);
    match status.peer.heard_ms {
        Some(heard) if u128::from(heard) < config.heartbeat.deadtime.as_millis() && status.peer.echo => {
            findings.ok("peer link", format!("{peer} was heard {} ago and hears this node", span(heard)));
        }
        Some(heard) if u128::from(heard) < config.heartbeat.deadtime.as_millis() => {
            let remedy = format!("udp {port} towards {peer} is lost: its firewall, a one-way cut, or other authkeys there");
            findings.fail("peer link", format!("{peer} is heard but does not hear this node"), remedy);
        }
        heard => {
            let why = heard.map_or_else(|| format!("{peer} was never heard"), |ms| format!("{peer} was last heard {} ago", span(ms)));
            let remedy = format!("does mmha run there; is udp {port} open on both nodes; are authkeys and cluster name the same on both?");
            findings.fail("peer link", why, remedy);
        }
    }
    for link in &status.peer.links {
        if link.heard_ms.is_none_or(|heard| u128::from(heard) >= config.heartbeat.deadtime.as_millis()) {
            let remedy = format!("cable, switch, firewall (udp {port}) of this link");
            findings.fail("peer link", format!("nothing arrives on {} - {}", link.local, link.remote), remedy);
        }
    }
}
