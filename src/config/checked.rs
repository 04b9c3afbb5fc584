//! How the values fit together: two different nodes, floating addresses in their subnet that are nobody's own, names that exist. Turns raw values
//! into `Config`, or says everything that is wrong.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostic::Faults;
use super::raw::Raw;
use super::reader::At;
use super::secrets::FileKind;
use super::{Config, Firewall, Heartbeat, Mysql, Node, Replication, Secret, arbiter, raw, timing, vip};
use crate::error::Result;

impl Config {
    /// `read` is asked for each file that the configuration names; its refusals are reported like every other fault, at the key that names
    /// the file.
    pub fn parse(path: &Path, text: &str, mut read: impl FnMut(FileKind, &Path) -> Result<Secret>) -> Result<Config> {
        let faults = Faults::new(path.display().to_string(), text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What the parser recovered is a guess; judging it would bury the real fault.
            errors.iter().for_each(|error| faults.add(&error.span().unwrap_or_default(), error.message().trim()));
            faults.finish()?;
        }
        let raw = raw::read(&table, &faults);
        check_nodes(&raw, &faults);
        vip::check(&raw, &faults);
        check_lan(&raw, &faults);
        check_accounts(&raw, &faults);
        check_fence(&raw, &faults);
        arbiter::check(&raw, &faults);
        timing::check(&raw, &faults);
        let mut read = |kind: FileKind, key: &At<Option<PathBuf>>| {
            let outcome = read(kind, key.value.as_deref().filter(|_| key.sound)?);
            outcome.map_err(|error| faults.add(&key.span, error.to_string())).ok()
        };
        let needed = &raw.replication.password_file;
        let needed = At { value: Some(needed.value.clone()), span: needed.span.clone(), sound: needed.sound };
        let replication = read(FileKind::ReplicationPassword, &needed).unwrap_or_else(|| Secret::new(""));
        let mysql = read(FileKind::Password, &raw.mysql.password_file);
        let mut arbiter = None;
        if let Some(section) = &raw.arbiter {
            arbiter = read(FileKind::Password, &section.password_file);
            for (_, kind, key) in section.tls_files() {
                read(kind, key);
            }
        }
        faults.finish()?;
        Ok(build(path, text, raw, Secrets { replication, mysql, arbiter }))
    }
}

fn check_nodes(raw: &Raw, faults: &Faults<'_>) {
    if raw.nodes.len() != 2 {
        faults.add(&raw.nodes_span, format!("a pair has exactly two [[node]] entries, here are {}", raw.nodes.len()));
    }
    let [first, second] = raw.nodes.as_slice() else { return };
    if first.name.sound && second.name.sound && first.name.value.eq_ignore_ascii_case(&second.name.value) {
        faults.add(&second.name.span, format!("both nodes are named \"{}\"", second.name.value));
    }
    if first.address.sound && second.address.sound && first.address.value == second.address.value {
        faults.add(&second.address.span, format!("both nodes have the address \"{}\"", second.address.value));
    }
    if first.server_id.sound && second.server_id.sound && first.server_id.value == second.server_id.value {
        let id = second.server_id.value;
        faults.add(&second.server_id.span, format!("both nodes have server_id {id}: each would throw away the other's changes as its own"));
    }
}

/// Ping targets and links: addresses that could not say what they are asked for.
fn check_lan(raw: &Raw, faults: &Faults<'_>) {
    let floats = |address: Ipv4Addr| raw.vips.iter().any(|vip| vip.address.value.0 == address);
    let owner = |address: Ipv4Addr| raw.nodes.iter().find(|node| node.address.value == address).map(|node| node.name.value.clone());
    for target in &raw.heartbeat.ping.value {
        if let Some(name) = owner(target.value) {
            faults.add(
                &target.span,
                format!("ping \"{}\" is node \"{name}\": it cannot tell \"cut off\" from \"peer dead\"; name the gateway", target.value),
            );
        }
        if floats(target.value) {
            faults.add(
                &target.span,
                format!("ping \"{}\" is the floating address, which may be on this very node; name the gateway", target.value),
            );
        }
    }
    for link in &raw.heartbeat.links.value {
        let [one, two] = link.value;
        if one == two {
            faults.add(&link.span, format!("both ends of this link are \"{one}\""));
        }
        for end in link.value {
            if let Some(name) = owner(end) {
                faults.add(&link.span, format!("\"{end}\" is the own address of \"{name}\", which is a link already"));
            }
            if floats(end) {
                faults.add(&link.span, format!("\"{end}\" is the floating address and moves; a link needs fixed addresses"));
            }
        }
    }
}

fn check_accounts(raw: &Raw, faults: &Faults<'_>) {
    let user = &raw.replication.user;
    if user.value == "mmha_peer" || (user.value == raw.mysql.user.value && user.sound) {
        faults.add(&user.span, format!("the replication account \"{}\" is taken; it must be an account of its own", user.value));
    }
}

/// A relative program would be looked for in whatever PATH there is; it runs as root.
fn check_fence(raw: &Raw, faults: &Faults<'_>) {
    if let Some(program) = raw.heartbeat.fence_command.value.first()
        && !program.value.starts_with('/')
    {
        faults.add(&program.span, format!("fence_command \"{}\" must begin with the absolute path of a program", program.value));
    }
}

/// What stands in the password files.
struct Secrets {
    replication: Secret,
    mysql: Option<Secret>,
    arbiter: Option<Secret>,
}

/// Only called when nothing was wrong, so both nodes and the address exist.
fn build(path: &Path, text: &str, raw: Raw, secrets: Secrets) -> Config {
    let node = |at: usize| {
        let node = &raw.nodes[at];
        Node {
            name: node.name.value.clone(),
            address: node.address.value,
            server_id: u32::try_from(node.server_id.value).unwrap_or(u32::MAX),
        }
    };
    let nodes = [node(0), node(1)];
    let port = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    Config {
        path: path.to_path_buf(),
        cluster: raw.cluster.value.clone(),
        vip: vip::build(&raw),
        nodes,
        heartbeat: Heartbeat {
            port: port(raw.heartbeat.port.value),
            keepalive: raw.heartbeat.keepalive.value,
            deadtime: raw.heartbeat.deadtime.value,
            warntime: raw.heartbeat.warntime.value,
            initdead: raw.heartbeat.initdead.value,
            auto_failback: raw.heartbeat.auto_failback.value,
            failback_delay: raw.heartbeat.failback_delay.value,
            flap_count: raw.heartbeat.flap_count.value,
            flap_window: raw.heartbeat.flap_window.value,
            fence_command: values(raw.heartbeat.fence_command),
            fence_timeout: raw.heartbeat.fence_timeout.value,
            authkeys: raw.heartbeat.authkeys.value,
            links: values(raw.heartbeat.links),
            ping: values(raw.heartbeat.ping),
            lease: raw.heartbeat.lease.value,
            gate: raw.heartbeat.gate.value,
            isolation: raw.heartbeat.isolation.value,
            watchdog: raw.heartbeat.watchdog.value,
            watchdog_timeout: raw.heartbeat.watchdog_timeout.value,
        },
        mysql: Mysql {
            socket: raw.mysql.socket.value,
            port: port(raw.mysql.port.value),
            user: raw.mysql.user.value,
            password: secrets.mysql,
            service: raw.mysql.service.value,
            config_file: raw.mysql.config_file.value,
            writer: raw.mysql.writer.value,
            hang: raw.mysql.hang.value,
            kill_hung: raw.mysql.kill_hung.value,
        },
        replication: Replication {
            user: raw.replication.user.value,
            password: secrets.replication,
            databases: values(raw.replication.databases),
            filter: raw.replication.filter.value,
            durability: raw.replication.durability.value,
            catch_up: raw.replication.catch_up.value,
            binlog_expire: raw.replication.binlog_expire.value,
            binlog_size: raw.replication.binlog_size.value,
        },
        firewall: Firewall { manage: raw.firewall.manage.value, clients: values(raw.firewall.clients), close: raw.firewall.close.value },
        arbiter: raw.arbiter.map(|raw| arbiter::build(raw, secrets.arbiter)),
        digest: super::digest(text),
    }
}

fn values<T>(list: At<Vec<At<T>>>) -> Vec<T> {
    list.value.into_iter().map(|item| item.value).collect()
}
