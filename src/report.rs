//! What `mmha status` shows: one struct, printed as JSON or as a short text that can be read at 3 a.m., what is wrong last. Asks nobody and
//! judges nothing: who fills it in decides what is a warning.

mod event;
mod quarantine;
mod vip;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use event::Event;
pub use quarantine::Quarantine;
pub use vip::Vip;

/// The history of decisions, one `Event` per line.
pub const EVENTS: &str = "/var/lib/mmha/events.jsonl";
/// Where extra transactions of a quarantined node are saved.
pub const QUARANTINE: &str = "/var/lib/mmha/quarantine";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    Running,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    Open,
    Closed,
    /// There is no write gate: firewall.manage = false, or no nf_tables.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    Dead,
    Hung,
    #[default]
    Unknown,
}

/// One of the two replication threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thread {
    Running,
    Connecting,
    Stopped,
    /// No source is configured.
    None,
    #[default]
    Unknown,
}

/// `null` in JSON (`None` here) means "not known now", never "no".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub cluster: String,
    pub node: String,
    pub agent: Agent,
    /// The core's word: active, standby, boot, …
    pub state: Option<String>,
    pub since_ms: Option<u64>,
    pub epoch: Option<u64>,
    pub rule: Option<u16>,
    pub sentence: String,
    pub vip: Vip,
    pub gate: Option<Gate>,
    /// `null`: none is configured.
    #[serde(default)]
    pub watchdog: Option<String>,
    /// Neither the peer nor a ping target answers, or the interface has no carrier.
    #[serde(default)]
    pub cut_off: Option<bool>,
    pub peer: Peer,
    pub mysql: Mysql,
    pub replication: Replication,
    /// Only while the node is quarantined.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
    /// `null`: none is configured.
    pub arbiter: Option<Arbiter>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    pub state: Option<String>,
    /// How long ago, on any link.
    pub heard_ms: Option<u64>,
    /// It provably hears this node.
    pub echo: bool,
    pub epoch: Option<u64>,
    pub links: Vec<Link>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub local: String,
    pub remote: String,
    pub heard_ms: Option<u64>,
    pub rtt_us: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mysql {
    pub health: Health,
    pub version: Option<String>,
    pub read_only: Option<bool>,
    pub position: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    pub receiver: Thread,
    pub applier: Thread,
    pub lag_s: Option<u64>,
    pub error: Option<String>,
    /// What is acknowledged now is on both nodes.
    pub protected: bool,
    /// RFC 3339.
    pub unprotected_since: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArbiterLease {
    Here,
    /// Another node has it.
    Taken,
    Free,
    Unreachable,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arbiter {
    pub lease: ArbiterLease,
    /// How long this node may still rely on it.
    pub left_ms: Option<u64>,
    /// Who else has it, or why nobody knows.
    pub why: String,
}

impl Status {
    /// Exit 4 rather than 0.
    pub fn is_degraded(&self) -> bool {
        self.agent == Agent::Stopped || !self.warnings.is_empty()
    }

    pub fn text(&self) -> String {
        let mut text = self.headline();
        let mut line = |name: &str, said: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<12} {said}");
        };
        line("address", self.vip.text(&self.node));
        self.vip.others().for_each(|others| line("  and", others));
        line("write gate", self.gate.map_or("not known", Gate::text).to_string());
        if let Some(watchdog) = &self.watchdog {
            line("watchdog", watchdog.clone());
        }
        line("peer", self.peer.text());
        self.peer.links.iter().for_each(|link| line("  link", link.text()));
        line("server", self.mysql.text());
        line("replication", self.replication.text());
        if let Some(quarantine) = &self.quarantine {
            line("quarantine", quarantine.text());
        }
        if let Some(arbiter) = &self.arbiter {
            line("arbiter", arbiter.text());
        }
        let rule = self.rule.map_or_else(String::new, |rule| format!("rule {rule}: "));
        line("last", format!("{rule}{}", self.sentence));
        self.warnings.iter().for_each(|warning| line("warning", warning.clone()));
        text
    }

    fn headline(&self) -> String {
        let state = match (self.agent, &self.state) {
            (Agent::Stopped, _) => "AGENT NOT RUNNING".to_string(),
            (Agent::Running, state) => state.clone().unwrap_or_else(|| "state not known".to_string()),
        };
        let since = self.since_ms.map_or_else(String::new, |ms| format!(" for {}", span(ms)));
        let epoch = self.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
        format!("{} on {}: {state}{since}{epoch}\n", self.cluster, self.node)
    }
}

impl Gate {
    fn text(self) -> &'static str {
        match self {
            Gate::Open => "open",
            Gate::Closed => "closed",
            Gate::None => "none: a frozen node goes on acknowledging writes on its own address",
        }
    }
}

impl Peer {
    fn text(&self) -> String {
        let Some(heard) = self.heard_ms else { return format!("{}: not heard", self.name) };
        let state = self.state.as_deref().unwrap_or("state not known");
        let hears = if self.echo { "hears this node" } else { "DOES NOT HEAR this node" };
        let epoch = self.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
        format!("{}: {state}, heard {} ago, {hears}{epoch}", self.name, span(heard))
    }
}

impl Link {
    fn text(&self) -> String {
        let heard = self.heard_ms.map_or_else(|| "NOT HEARD".to_string(), |ms| format!("heard {} ago", span(ms)));
        let rtt = self.rtt_us.map_or_else(String::new, |us| format!(", round trip {}.{:02} ms", us / 1000, us % 1000 / 10));
        format!("{} - {}: {heard}{rtt}", self.local, self.remote)
    }
}

impl Mysql {
    fn text(&self) -> String {
        let health = match self.health {
            Health::Ok => "healthy",
            Health::Dead => "DEAD",
            Health::Hung => "HUNG",
            Health::Unknown => "not known",
        };
        let version = self.version.as_ref().map_or_else(String::new, |version| format!("{version}, "));
        let role = self.read_only.map_or("", |read_only| if read_only { ", read-only" } else { ", writable" });
        let position = self.position.as_ref().filter(|position| !position.is_empty());
        format!("{version}{health}{role}{}", position.map_or_else(String::new, |position| format!(", at {position}")))
    }
}

impl Replication {
    fn text(&self) -> String {
        if (self.receiver, self.applier) == (Thread::Unknown, Thread::Unknown) {
            return "not known".to_string();
        }
        let lag = self.lag_s.map_or_else(String::new, |lag| format!(", {lag} s behind"));
        let error = self.error.as_ref().map_or_else(String::new, |error| format!(", error {error}"));
        let since = self.unprotected_since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
        let protected = if self.protected { "protected".to_string() } else { format!("unprotected{since}") };
        format!("receiver {}, applier {}{lag}, {protected}{error}", self.receiver.text(), self.applier.text())
    }
}

impl Arbiter {
    fn text(&self) -> String {
        let left = self.left_ms.map_or_else(String::new, |ms| format!(", for another {}", span(ms)));
        match self.lease {
            ArbiterLease::Here => format!("lease is here{left}"),
            ArbiterLease::Taken => self.why.clone(),
            ArbiterLease::Free => "nobody has the lease".to_string(),
            ArbiterLease::Unreachable => format!("NOT REACHABLE{left}: {}", self.why),
            ArbiterLease::Unknown => "not asked yet".to_string(),
        }
    }
}

impl Thread {
    fn text(self) -> &'static str {
        match self {
            Thread::Running => "running",
            Thread::Connecting => "CONNECTING",
            Thread::Stopped => "stopped",
            Thread::None => "not configured",
            Thread::Unknown => "not known",
        }
    }
}

/// A time that has passed, with the two units that matter: "120 ms", "3 s", "2 h 13 min".
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn example() -> Status {
        Status {
            cluster: "shop".into(),
            node: "db-01".into(),
            agent: Agent::Running,
            state: Some("active".into()),
            since_ms: Some(7_980_000),
            epoch: Some(3),
            rule: Some(59),
            sentence: "Serving.".into(),
            vip: Vip {
                address: "192.0.2.243".into(),
                addresses: vec!["192.0.2.243".into()],
                interface: Some("eth0".into()),
                held: true,
                holder: Some("db-01".into()),
            },
            gate: Some(Gate::Open),
            watchdog: None,
            cut_off: Some(false),
            peer: Peer {
                name: "db-02".into(),
                state: Some("standby".into()),
                heard_ms: Some(120),
                echo: true,
                epoch: Some(3),
                links: vec![Link { local: "192.0.2.241".into(), remote: "192.0.2.242".into(), heard_ms: Some(120), rtt_us: Some(214) }],
            },
            mysql: Mysql {
                health: Health::Ok,
                version: Some("10.11.19-MariaDB".into()),
                read_only: Some(false),
                position: Some("1-1-233".into()),
            },
            replication: Replication {
                receiver: Thread::Running,
                applier: Thread::Running,
                lag_s: Some(0),
                error: None,
                protected: true,
                unprotected_since: None,
            },
            quarantine: None,
            arbiter: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn text() {
        let mut status = example();
        assert!(!status.is_degraded());
        assert_eq!(
            status.text(),
            "shop on db-01: active for 2 h 13 min, epoch 3\n\
             address      192.0.2.243 is here, on db-01 (eth0)\n\
             write gate   open\n\
             peer         db-02: standby, heard 120 ms ago, hears this node, epoch 3\n\
             \x20 link       192.0.2.241 - 192.0.2.242: heard 120 ms ago, round trip 0.21 ms\n\
             server       10.11.19-MariaDB, healthy, writable, at 1-1-233\n\
             replication  receiver running, applier running, 0 s behind, protected\n\
             last         rule 59: Serving.\n"
        );
        status.warnings.push("db-02 is gone".into());
        assert!(status.is_degraded() && status.text().ends_with("warning      db-02 is gone\n"));
    }

    #[test]
    fn json_has_the_words_of_the_manual() {
        let mut status = example();
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(
            (json["agent"].as_str(), json["gate"].as_str(), json["mysql"]["health"].as_str()),
            (Some("running"), Some("open"), Some("ok"))
        );
        assert_eq!((json["vip"]["held"].as_bool(), json["replication"]["receiver"].as_str()), (Some(true), Some("running")));
        status.state = None;
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains("\"state\":null"));
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn spans() {
        for (ms, text) in
            [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (61_000, "1 min 1 s"), (3_600_000, "1 h 0 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(span(ms), text);
        }
    }
}
