//! Observers: they look at the server and the LAN and report what they saw. They change nothing but what a look needs: an ARP probe, a ping.

pub mod disk;
pub mod lan;
pub mod server;
