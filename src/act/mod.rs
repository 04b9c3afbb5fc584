//! Actuators: they compare what is wanted with what is, act on the difference, and report. They do not decide.

pub mod arbiter;
pub mod fence;
pub mod firewall;
pub mod gate;
pub mod lease;
pub mod quarantine;
pub mod remote;
pub mod role;
pub mod store;
pub mod watchdog;
