//! Every system-call edge as a thin file: no decisions, every wait bounded, all `unsafe` of the program.

pub mod arp;
pub mod clock;
pub mod disk;
pub mod file;
pub mod http;
pub mod icmp;
pub mod log;
pub mod netlink;
pub mod notify;
pub mod pidfd;
pub mod queue;
pub mod resolve;
pub mod rt;
pub mod run;
pub mod signal;
pub mod slot;
pub mod sysctl;
pub mod timer;
pub mod tls;
pub mod udp;
pub mod watchdog;
