//! mmha.toml as written: every key read once, every default named once. Values are right one by one; how they fit together is `checked`'s business.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Faults;
use super::reader::{At, Section, as_address, as_link, as_network, as_text};
use super::{Durability, Endpoint, Filter, Writer, keys};

pub struct Raw {
    pub cluster: At<String>,
    pub nodes: Vec<RawNode>,
    pub nodes_span: Range<usize>,
    pub vips: Vec<RawVip>,
    pub vips_span: Range<usize>,
    pub heartbeat: RawHeartbeat,
    pub mysql: RawMysql,
    pub replication: RawReplication,
    pub firewall: RawFirewall,
    pub arbiter: Option<RawArbiter>,
}

pub struct RawNode {
    pub name: At<String>,
    pub address: At<Ipv4Addr>,
    pub server_id: At<u64>,
}

pub struct RawVip {
    pub address: At<(Ipv4Addr, u8)>,
    pub interface: At<Option<String>>,
    pub preferred: At<Option<String>>,
}

pub struct RawHeartbeat {
    pub port: At<u64>,
    pub keepalive: At<Duration>,
    pub deadtime: At<Duration>,
    pub warntime: At<Duration>,
    pub initdead: At<Duration>,
    pub auto_failback: At<bool>,
    pub failback_delay: At<Duration>,
    pub flap_count: At<u64>,
    pub flap_window: At<Duration>,
    pub fence_command: At<Vec<At<String>>>,
    pub fence_timeout: At<Duration>,
    pub authkeys: At<PathBuf>,
    pub links: At<Vec<At<[Ipv4Addr; 2]>>>,
    pub ping: At<Vec<At<Ipv4Addr>>>,
    pub lease: At<Duration>,
    pub gate: At<Duration>,
    pub isolation: At<Duration>,
    pub watchdog: At<Option<PathBuf>>,
    pub watchdog_timeout: At<Duration>,
}

pub struct RawMysql {
    pub socket: At<PathBuf>,
    pub port: At<u64>,
    pub user: At<String>,
    pub password_file: At<Option<PathBuf>>,
    pub service: At<Option<String>>,
    pub config_file: At<Option<PathBuf>>,
    pub writer: At<Writer>,
    pub hang: At<Duration>,
    pub kill_hung: At<bool>,
}

pub struct RawReplication {
    pub user: At<String>,
    pub password_file: At<PathBuf>,
    pub databases: At<Vec<At<String>>>,
    pub filter: At<Filter>,
    pub durability: At<Durability>,
    pub catch_up: At<Duration>,
    pub binlog_expire: At<Duration>,
    pub binlog_size: At<u64>,
}

pub struct RawFirewall {
    pub manage: At<bool>,
    pub clients: At<Vec<At<(Ipv4Addr, u8)>>>,
    pub close: At<bool>,
}

pub struct RawArbiter {
    pub endpoints: At<Vec<At<Endpoint>>>,
    pub ttl: At<Duration>,
    pub user: At<Option<String>>,
    pub password_file: At<Option<PathBuf>>,
    pub ca_file: At<Option<PathBuf>>,
    pub cert_file: At<Option<PathBuf>>,
    pub key_file: At<Option<PathBuf>>,
}

/// A node that is cut off needs so long (SAFETY B4): `timing::CLOSING` and `timing::LINK_LATENESS`.
const LETTING_GO: Duration = Duration::from_millis(25);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const PORTS: std::ops::RangeInclusive<u64> = 1..=65_535;

pub fn read(top: &Spanned<DeTable<'_>>, faults: &Faults<'_>) -> Raw {
    let top = top.get_ref();
    for (key, _) in top {
        if !keys::SECTIONS.iter().any(|(name, _)| *name == key.get_ref().as_ref()) {
            faults.add(&key.span(), format!("unknown section or key \"{}\"{}", key.get_ref(), keys::section_advice(key.get_ref())));
        }
    }
    let (nodes, nodes_span) = repeated(top, "node", faults);
    let (vips, vips_span) = repeated(top, "vip", faults);
    Raw {
        cluster: single(top, "cluster", faults).needed_text("name", "\"a name for this pair\"", word(32)),
        nodes: nodes.iter().enumerate().map(|(at, section)| node(section, at)).collect(),
        nodes_span,
        vips: vips.iter().map(vip).collect(),
        vips_span,
        heartbeat: heartbeat(&single(top, "heartbeat", faults)),
        mysql: mysql(&single(top, "mysql", faults)),
        replication: replication(&single(top, "replication", faults)),
        firewall: firewall(&single(top, "firewall", faults)),
        arbiter: top.contains_key("arbiter").then(|| arbiter(&single(top, "arbiter", faults))),
    }
}

fn node(section: &Section<'_>, at: usize) -> RawNode {
    RawNode {
        name: section.needed_text("name", "\"what uname -n prints on that node\"", word(64)),
        address: section.address("address", "\"that node's own address\""),
        server_id: section.number("server_id", at as u64 + 1, 1..=u64::from(u32::MAX)),
    }
}

fn vip(section: &Section<'_>) -> RawVip {
    RawVip {
        address: section.address_and_prefix("address", "\"the floating address/its prefix length\""),
        interface: section.optional_text("interface", interface),
        preferred: section.optional_text("preferred", |_| Ok(())),
    }
}

fn heartbeat(section: &Section<'_>) -> RawHeartbeat {
    let keepalive = section.duration("keepalive", 250 * MS, 10 * MS..=10 * SECOND);
    let deadtime = section.duration("deadtime", 2 * SECOND, 100 * MS..=600 * SECOND);
    // SAFETY B2-B4: with the default keepalive three quarters leave room for the renewals before and the claim after.
    let three_quarters = deadtime.value * 3 / 4;
    // SAFETY B6: a lease is renewed with every heartbeat and survives three lost turns; the kernel counts whole seconds.
    let lease = Duration::from_secs(u64::try_from((keepalive.value * 4).as_millis().div_ceil(1000)).unwrap_or(1).max(1));
    let warntime = (deadtime.value / 2).max(keepalive.value * 3);
    let isolation = three_quarters.min(deadtime.value.saturating_sub(keepalive.value / 2 + LETTING_GO));
    let long = MS..=600 * SECOND;
    // SAFETY B14: the longest that fits, whole seconds.
    let watchdog_timeout = Duration::from_secs(deadtime.value.as_secs().saturating_sub(1).max(1));
    RawHeartbeat {
        port: section.number("port", 694, PORTS),
        warntime: section.duration("warntime", warntime, long.clone()),
        initdead: section.duration("initdead", 20 * SECOND, SECOND..=HOUR),
        auto_failback: section.flag("auto_failback", true),
        failback_delay: section.duration("failback_delay", 5 * SECOND, SECOND..=24 * HOUR),
        flap_count: section.number("flap_count", 3, 0..=100),
        flap_window: section.duration("flap_window", 600 * SECOND, 10 * SECOND..=24 * HOUR),
        fence_command: section.list("fence_command", |value| as_text(value).map(str::to_owned)),
        fence_timeout: section.duration("fence_timeout", 10 * SECOND, SECOND..=600 * SECOND),
        authkeys: section.path("authkeys", "/etc/mmha/authkeys"),
        links: section.list("links", as_link),
        ping: section.list("ping", |value| as_address(as_text(value)?)),
        lease: section.duration("lease", lease, SECOND..=60 * SECOND),
        gate: section.duration("gate", three_quarters, long.clone()),
        isolation: section.duration("isolation", isolation, long),
        watchdog: section.optional_path("watchdog"),
        watchdog_timeout: section.duration("watchdog_timeout", watchdog_timeout, SECOND..=600 * SECOND),
        keepalive,
        deadtime,
    }
}

fn mysql(section: &Section<'_>) -> RawMysql {
    RawMysql {
        socket: section.path("socket", "/run/mysqld/mysqld.sock"),
        port: section.number("port", 3306, PORTS),
        user: section.text("user", "root", account),
        password_file: section.optional_path("password_file"),
        service: section.optional_text("service", unit),
        config_file: section.optional_path("config_file"),
        writer: section.choice("writer", &[("vip", Writer::Vip), ("both", Writer::Both)], Writer::Vip),
        hang: section.duration("hang", 800 * MS, 300 * MS..=10 * SECOND),
        kill_hung: section.flag("kill_hung", true),
    }
}

fn replication(section: &Section<'_>) -> RawReplication {
    let durabilities = [("lossless", Durability::Lossless), ("async", Durability::Async)];
    RawReplication {
        user: section.text("user", "replication", account),
        password_file: section.path("password_file", "/etc/mmha/replication.password"),
        databases: section.list("databases", database),
        filter: section.choice("filter", &[("replica", Filter::Replica), ("binlog", Filter::Binlog)], Filter::Replica),
        durability: section.choice("durability", &durabilities, Durability::Lossless),
        catch_up: section.duration("catch_up", 30 * SECOND, SECOND..=HOUR),
        // The servers count 99 days at most (binlog_expire_logs_seconds, MariaDB).
        binlog_expire: section.duration("binlog_expire", 240 * HOUR, HOUR..=2376 * HOUR),
        binlog_size: section.size("binlog_size", 100 << 20, 1 << 20..=1 << 30),
    }
}

fn firewall(section: &Section<'_>) -> RawFirewall {
    RawFirewall {
        manage: section.flag("manage", true),
        clients: section.list("clients", |value| as_network(as_text(value)?)),
        close: section.flag("close", false),
    }
}

fn arbiter(section: &Section<'_>) -> RawArbiter {
    RawArbiter {
        endpoints: section.list("endpoints", |value| Endpoint::parse(as_text(value)?)),
        // SAFETY B15.
        ttl: section.duration("ttl", 5 * SECOND, 5 * SECOND..=HOUR),
        user: section.optional_text("user", account),
        password_file: section.optional_path("password_file"),
        ca_file: section.optional_path("ca_file"),
        cert_file: section.optional_path("cert_file"),
        key_file: section.optional_path("key_file"),
    }
}

fn single<'a>(top: &'a DeTable<'a>, name: &'static str, faults: &'a Faults<'a>) -> Section<'a> {
    let Some((key, value)) = top.get_key_value(name) else { return Section::absent(name, faults) };
    match value.get_ref() {
        DeValue::Table(table) => Section::new(name, table, key.span(), faults),
        _ => {
            faults.add(&key.span(), format!("\"{name}\" is a section: write [{name}] on a line of its own"));
            Section::absent(name, faults)
        }
    }
}

fn repeated<'a>(top: &'a DeTable<'a>, name: &'static str, faults: &'a Faults<'a>) -> (Vec<Section<'a>>, Range<usize>) {
    let Some((key, value)) = top.get_key_value(name) else { return (Vec::new(), faults.end()) };
    let mut sections = Vec::new();
    for item in value.get_ref().as_array().into_iter().flatten() {
        if let DeValue::Table(table) = item.get_ref() {
            sections.push(Section::new(name, table, item.span(), faults));
        }
    }
    if sections.is_empty() {
        faults.add(&key.span(), format!("write [[{name}]] in double brackets: there can be several"));
    }
    (sections, key.span())
}

/// Letters, digits, dot, underscore, hyphen: what a host or cluster name needs and a log line, a file and SQL can carry.
fn word(longest: usize) -> impl Fn(&str) -> Result<(), String> {
    move |text| {
        let fine =
            !text.is_empty() && text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fine { Ok(()) } else { Err(format!("must be 1 to {longest} letters, digits, dots, underscores or hyphens")) }
    }
}

fn interface(text: &str) -> Result<(), String> {
    let fine = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:\"".contains(&byte));
    if fine { Ok(()) } else { Err("is not an interface name (at most 15 characters, as `ip link` shows it)".to_string()) }
}

fn account(text: &str) -> Result<(), String> {
    let fine = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"`\\".contains(&byte));
    if fine { Ok(()) } else { Err("is not an account name (1 to 32 printable characters, no quotes)".to_string()) }
}

fn unit(text: &str) -> Result<(), String> {
    let fine = text.ends_with(".service") && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@._:-".contains(&byte));
    if fine { Ok(()) } else { Err("is not a systemd service (it ends in .service)".to_string()) }
}

fn database(value: &DeValue<'_>) -> Result<String, String> {
    const SERVERS_OWN: [&str; 5] = ["mysql", "sys", "information_schema", "performance_schema", "mmha"];
    let text = as_text(value)?;
    if SERVERS_OWN.contains(&text.to_ascii_lowercase().as_str()) {
        return Err(format!("\"{text}\" belongs to the server or to mmha; list your own databases only"));
    }
    let fine = (1..=64).contains(&text.chars().count())
        && !text.contains(|c: char| c.is_control() || "`'\",%*\\/".contains(c))
        && text == text.trim();
    if fine { Ok(text.to_string()) } else { Err(format!("\"{text}\" is not a database name that a filter can carry")) }
}
