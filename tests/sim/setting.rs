//! What a seed chooses once: the pair's configuration, and the habits of its world. No faults: those are acts.

use mmha::core::Limits;
use mmha::core::rules::{RULES, Rule};

use crate::bugs::Bugs;
use crate::queue::Us;

pub fn limits() -> Limits {
    Limits {
        keepalive: 250,
        deadtime: 2_000,
        warntime: 1_000,
        initdead: 20_000,
        gate: 1_500,
        lease: 1_000,
        isolation: 1_500,
        failback_delay: 5_000,
        auto_failback: true,
        lossless: true,
        both_write: false,
        kill_hung: true,
        ping_configured: true,
        fence_configured: false,
        flap_count: 0,
        flap_window: 600_000,
        config_digest: 7,
        arbiter_ttl: None,
    }
}

/// What a seed chooses once.
#[derive(Clone)]
pub struct Setting {
    pub limits: Limits,
    pub rules: &'static [Rule],
    pub bugs: Bugs,
    /// Of a datagram, least and most.
    pub delay_us: [Us; 2],
    /// Per mille of datagrams: lost, delivered twice, and delivered after up to five seconds.
    pub lost: u64,
    pub twice: u64,
    pub late: u64,
    /// Per mille of ARP packets and pings lost.
    pub lan_lost: u64,
    /// Between two writes of the clients on average.
    pub write_us: Us,
    /// How late the kernel ends an address's lease at most (SAFETY M2).
    pub lease_late_us: Us,
    /// Of both clocks, local microseconds per second of the world.
    pub rates: [u64; 2],
    /// Threads wake up and speak to each other within this.
    pub thread_us: Us,
    /// A question's way to the arbiter or back, least and most; and its clock, as `rates`.
    pub etcd_us: [Us; 2],
    pub etcd_rate: u64,
    /// It is reached through the ping target.
    pub etcd_behind_gateway: bool,
}

impl Setting {
    /// Nothing is lost, nothing is late, and everything takes its usual time.
    pub fn calm() -> Setting {
        Setting {
            limits: limits(),
            rules: RULES,
            bugs: Bugs::default(),
            delay_us: [80, 150],
            lost: 0,
            twice: 0,
            late: 0,
            lan_lost: 0,
            write_us: 10_000,
            lease_late_us: 1_300_000,
            rates: [1_000_000; 2],
            thread_us: 100,
            etcd_us: [300, 2_000],
            etcd_rate: 1_000_000,
            etcd_behind_gateway: false,
        }
    }
}
