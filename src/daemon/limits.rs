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
        vip: config.vip.to_string(),
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

/// From one round of ARP probes to the next. So many addresses to a round are asked for at full pace; with more the rounds are further apart,
/// because switches drop what they take for a storm of broadcasts, and a probe that was dropped proves nothing. Still there are eight
/// rounds in the time to probe, where the core wants four, and two in each keepalive, where it wants one.
pub fn probe_spacing(config: &Config) -> Duration {
    const AT_FULL_PACE: usize = 16;
    let heartbeat = &config.heartbeat;
    let probing = heartbeat.deadtime.saturating_sub(heartbeat.warntime);
    let pace = (probing / 20).clamp(Duration::from_millis(2), Duration::from_millis(50));
    let times = config.vip.addresses.len().div_ceil(AT_FULL_PACE);
    (pace * u32::try_from(times).unwrap_or(u32::MAX)).min(heartbeat.keepalive / 2).min(probing / 8).max(pace)
}

pub fn peer_server(config: &Config, me: NodeIndex) -> SocketAddrV4 {
    SocketAddrV4::new(config.node(me.other()).address, config.mysql.port)
}

/// GTID key on MariaDB: the domain, which our fragment sets to the server id. MySQL's are UUIDs and come from the servers.
pub fn key(config: &Config, node: NodeIndex) -> String {
    config.node(node).server_id.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vip::Floating;

    #[test]
    fn many_addresses_are_asked_for_less_often_but_often_enough() {
        fn check(addresses: usize, keepalive_ms: u64, deadtime_ms: u64, warntime_ms: u64, expect_ms: u64) {
            let mut config = crate::mycnf::fragment::tests::config();
            let ms = Duration::from_millis;
            config.vip.addresses = vec![Floating { ip: [192, 0, 2, 243].into(), prefix: 24 }; addresses];
            config.heartbeat.keepalive = ms(keepalive_ms);
            (config.heartbeat.deadtime, config.heartbeat.warntime) = (ms(deadtime_ms), ms(warntime_ms));
            assert_eq!(probe_spacing(&config), ms(expect_ms), "{addresses}");
        }
        check(1, 250, 2000, 1000, 50);
        check(16, 250, 2000, 1000, 50);
        check(17, 250, 2000, 1000, 100);
        check(64, 250, 2000, 1000, 125);
        check(1, 20, 100, 60, 2);
        check(64, 20, 100, 60, 5);
    }
}
