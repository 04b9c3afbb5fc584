//! From the checked configuration to what the core and the threads need. No defaults here: `config` has them.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::config::{Config, Durability, NodeIndex, Writer};
use crate::core::event::Ms;
use crate::core::{Identity, Limits};

pub fn millis(duration: Duration) -> Ms {
    Ms::try_from(duration.as_millis()).unwrap_or(Ms::MAX)
}

pub fn identity(config: &Config, me: NodeIndex) -> Identity {
    Identity {
        number: me.0 + 1,
        peer_name: config.node(me.other()).name.clone(),
        vip: config.vip.address.to_string(),
        preferred: config.vip.preferred == me,
    }
}

pub fn limits(config: &Config) -> Limits {
    let heartbeat = &config.heartbeat;
    Limits {
        keepalive: millis(heartbeat.keepalive),
        deadtime: millis(heartbeat.deadtime),
        warntime: millis(heartbeat.warntime),
        initdead: millis(heartbeat.initdead),
        gate: millis(heartbeat.gate),
        lease: millis(heartbeat.lease),
        isolation: millis(heartbeat.isolation),
        failback_delay: millis(heartbeat.failback_delay),
        auto_failback: heartbeat.auto_failback,
        lossless: config.replication.durability == Durability::Lossless,
        both_write: config.mysql.writer == Writer::Both,
        kill_hung: config.mysql.kill_hung,
        ping_configured: !heartbeat.ping.is_empty(),
        fence_configured: !heartbeat.fence_command.is_empty(),
        flap_count: usize::try_from(heartbeat.flap_count).unwrap_or(0),
        flap_window: millis(heartbeat.flap_window),
        config_digest: config.digest,
        arbiter_ttl: config.arbiter.as_ref().map(|arbiter| millis(arbiter.ttl)),
    }
}

pub fn peer_server(config: &Config, me: NodeIndex) -> SocketAddrV4 {
    SocketAddrV4::new(config.node(me.other()).address, config.mysql.port)
}

/// GTID key on MariaDB: the domain, which our fragment sets to the server id. MySQL's are UUIDs and come from the servers.
pub fn key(config: &Config, node: NodeIndex) -> String {
    config.node(node).server_id.to_string()
}
