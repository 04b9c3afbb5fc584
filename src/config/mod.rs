//! The checked configuration: every value valid, every cross-field rule of SAFETY B already enforced. Raw parsing is in `raw`.

mod arbiter;
pub mod authkeys;
mod checked;
mod diagnostic;
pub mod duration;
pub mod keys;
mod load;
mod pem;
mod raw;
mod reader;
pub mod secrets;
pub mod timing;
pub mod vip;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

pub use arbiter::{Arbiter, Endpoint, Tls, fence};
pub use load::{digest, network_of};
pub use vip::Vip;

/// Which of the two `[[node]]` entries, in file order: 0 or 1. Node numbers shown to people are this plus one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeIndex(pub u8);

impl NodeIndex {
    pub fn other(self) -> NodeIndex {
        NodeIndex(1 - self.0)
    }
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

/// A secret that never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }
    /// The only way to the bytes; callers are few and easy to review.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    pub cluster: String,
    pub nodes: [Node; 2],
    pub vip: Vip,
    pub heartbeat: Heartbeat,
    pub mysql: Mysql,
    pub replication: Replication,
    pub firewall: Firewall,
    /// `None`: the two nodes decide alone.
    pub arbiter: Option<Arbiter>,
    /// First 8 bytes of SHA-1 over the file's text: travels in heartbeats so that nodes whose files differ say so.
    pub digest: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As `uname -n` prints it.
    pub name: String,
    pub address: Ipv4Addr,
    /// 1..=u32::MAX; also MariaDB's gtid_domain_id.
    pub server_id: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub port: u16,
    pub keepalive: Duration,
    pub deadtime: Duration,
    pub warntime: Duration,
    pub initdead: Duration,
    pub auto_failback: bool,
    /// How long the returned preferred node must have been healthy and caught up before failback. Default 5s.
    pub failback_delay: Duration,
    /// The flap brake: after so many moves away from this node within the time, it no longer moves by itself for less than a dead
    /// server. 0 = no brake. Default 3 in 10m.
    pub flap_count: u64,
    pub flap_window: Duration,
    /// Program and arguments that switch the peer off; empty = none. Must succeed before a takeover by silence.
    pub fence_command: Vec<String>,
    pub fence_timeout: Duration,
    pub authkeys: PathBuf,
    /// Additional link address pairs, [node 1's, node 2's]; the first link is always the nodes' own addresses.
    pub links: Vec<[Ipv4Addr; 2]>,
    /// Ping targets; empty = loud warning in check and status.
    pub ping: Vec<Ipv4Addr>,
    /// VIP lease L (whole seconds, default 1s) and write-gate lease G (default 3/4 of deadtime, B2/B3).
    pub lease: Duration,
    pub gate: Duration,
    /// Isolation limit I (default 3/4 of deadtime).
    pub isolation: Duration,
    /// `None`: no watchdog device.
    pub watchdog: Option<PathBuf>,
    /// Whole seconds (default: the longest that leaves a second before deadtime).
    pub watchdog_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Only the VIP holder is writable.
    Vip,
    /// Both nodes stay writable: the old recipe; conflicts are the operator's.
    Both,
}

#[derive(Debug, Clone)]
pub struct Mysql {
    pub socket: PathBuf,
    pub port: u16,
    pub user: String,
    /// Read from `password_file`; `None` = authentication by unix user over the socket.
    pub password: Option<Secret>,
    /// systemd unit; `None` = detected (mariadb.service, mysql.service, mysqld.service).
    pub service: Option<String>,
    /// our fragment's path; `None` = detected include directory + "zz-mmha.cnf".
    pub config_file: Option<PathBuf>,
    pub writer: Writer,
    /// h: a probe unanswered this long means "hung" (default 1s).
    pub hang: Duration,
    /// Kill a server that hangs, or holds commits nobody will acknowledge, when its node lets go without a handover (default true).
    pub kill_hung: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Replica,
    Binlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Semi-sync, AFTER_SYNC, owned by the agent.
    Lossless,
    Async,
}

#[derive(Debug, Clone)]
pub struct Replication {
    pub user: String,
    pub password: Secret,
    /// Empty: everything.
    pub databases: Vec<String>,
    pub filter: Filter,
    pub durability: Durability,
    /// How long `mmha switchover` waits for its outcome (default 30s). The handover itself has bounds of its own (`State::bound_ms`).
    pub catch_up: Duration,
    /// Binlog expiry (default 10d given as "240h") and size in bytes (default 100 MiB).
    pub binlog_expire: Duration,
    pub binlog_size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    pub manage: bool,
    /// Who may reach MySQL on the VIP: (network, prefix length). Empty = anyone.
    pub clients: Vec<(Ipv4Addr, u8)>,
    /// Close tcp 3306 and the heartbeat port to everybody not named (default false).
    pub close: bool,
}

impl Config {
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.at()]
    }
}
