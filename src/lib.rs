//! mmha: two MySQL or MariaDB boxes as one highly available pair. The map, in data-flow order; ARCHITECTURE.md has the picture.

pub mod act; // actuators: address lease, write gate, server role, firewall; they compare want with have
pub mod cli; // arguments in, exit code out
pub mod cmd; // one file per one-shot command
pub mod config; // mmha.toml, authkeys, password files: raw → checked
pub mod control; // the unix socket between service and one-shot commands
pub mod core; // pure decisions: facts, rule table, wants; imports nothing of ours
pub mod daemon; // threads, channel and clock meet here
pub mod error; // the one error type whose Display the operator reads
pub mod mycnf; // our one my.cnf fragment: render, write, verify
pub mod peer; // heartbeat datagrams: codec (pure) and the link thread
pub mod probe; // observers: server health, LAN, carrier; they only look
pub mod report; // what status shows, as text and as JSON
pub mod sql; // every statement, per server family; no decisions
pub mod sys; // each system-call edge a thin file
