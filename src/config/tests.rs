//! The configuration as a whole: what is accepted with which values, and what is refused with which sentence at which place.

use std::path::Path;
use std::time::Duration;

use super::secrets::FileKind;
use super::{Config, Durability, Filter, NodeIndex, Secret, Writer};
use crate::error::Error;

const BASE: &str = r#"[cluster]
name = "shop"
[[node]]
name = "db-01.example.net"
address = "192.0.2.241"
[[node]]
name = "db-02.example.net"
address = "192.0.2.242"
[[vip]]
address = "192.0.2.243/24"
[heartbeat]
ping = ["192.0.2.1"]
"#;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(Path::new("mmha.toml"), text, |_, _| Ok(Secret::new("s3cret")))
}

#[test]
fn defaults() {
    let config = parse(BASE).unwrap();
    let ms = Duration::from_millis;
    assert_eq!((config.nodes[0].server_id, config.nodes[1].server_id), (1, 2));
    assert_eq!((config.vip.addresses[0].prefix, config.vip.preferred, &config.vip.interface), (24, NodeIndex(0), &None));
    let heartbeat = &config.heartbeat;
    assert_eq!((heartbeat.port, heartbeat.keepalive, heartbeat.deadtime, heartbeat.warntime), (694, ms(250), ms(2000), ms(1000)));
    assert_eq!((heartbeat.initdead, heartbeat.lease, heartbeat.gate, heartbeat.isolation), (ms(20_000), ms(1000), ms(1500), ms(1500)));
    assert_eq!((heartbeat.auto_failback, heartbeat.failback_delay), (true, ms(5000)));
    assert_eq!(heartbeat.authkeys, Path::new("/etc/mmha/authkeys"));
    assert_eq!((config.mysql.port, config.mysql.user.as_str(), config.mysql.writer), (3306, "root", Writer::Vip));
    assert_eq!((config.mysql.hang, config.mysql.kill_hung, config.mysql.password.is_none()), (ms(800), true, true));
    assert_eq!((config.replication.filter, config.replication.durability), (Filter::Replica, Durability::Lossless));
    assert_eq!((config.replication.binlog_size, config.replication.binlog_expire), (100 << 20, ms(864_000_000)));
    assert_eq!(config.replication.password.reveal(), "s3cret");
    assert!(config.firewall.manage && !config.firewall.close && config.firewall.clients.is_empty());
    assert_eq!(config.digest, super::digest(BASE));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn everything_set() {
    fn check(extra: &str, holds: impl Fn(&Config) -> bool) {
        let config = parse(&format!("{BASE}{extra}")).unwrap_or_else(|error| panic!("{extra}:\n{error}"));
        assert!(holds(&config), "{extra}");
    }
    check("links = [[\"10.0.0.1\", \"10.0.0.2\"]]\n", |c| {
        c.heartbeat.links == [["10.0.0.1", "10.0.0.2"].map(|a| a.parse::<std::net::Ipv4Addr>().unwrap())]
    });
    check("deadtime = \"10s\"\n", |c| c.heartbeat.warntime == Duration::from_secs(5) && c.heartbeat.gate == Duration::from_millis(7500));
    check("keepalive = \"20ms\"\ndeadtime = \"100ms\"\n", |c| {
        let ms = Duration::from_millis;
        (c.heartbeat.warntime, c.heartbeat.gate, c.heartbeat.isolation) == (ms(60), ms(75), ms(65))
    });
    check("keepalive = \"20ms\"\ndeadtime = \"100ms\"\nwarntime = \"60ms\"\ngate = \"70ms\"\nisolation = \"65ms\"\n", |c| {
        c.heartbeat.lease.as_secs() == 1
    });
    check("keepalive = \"500ms\"\ndeadtime = \"4s\"\n", |c| c.heartbeat.lease.as_secs() == 2);
    let watchdog = |c: &Config| (c.heartbeat.watchdog.is_some(), c.heartbeat.watchdog_timeout.as_secs());
    check("watchdog = \"/dev/watchdog0\"\n", |c| watchdog(c) == (true, 1));
    check("watchdog = \"/dev/watchdog0\"\ndeadtime = \"9500ms\"\n", |c| watchdog(c) == (true, 8));
    check("deadtime = \"1500ms\"\n", |c| watchdog(c) == (false, 1));
    check("[mysql]\npassword_file = \"/etc/mmha/x\"\n", |c| c.mysql.password.as_ref().is_some_and(|p| p.reveal() == "s3cret"));
    check("[mysql]\nwriter = \"both\"\nservice = \"mariadb.service\"\n", |c| c.mysql.writer == Writer::Both);
    check("[replication]\ndatabases = [\"my_application\"]\nfilter = \"binlog\"\ndurability = \"async\"\n", |c| c.warnings().len() == 1);
    check("[replication]\nbinlog_size = \"256M\"\n", |c| c.replication.binlog_size == 256 << 20);
    check("[firewall]\nclients = [\"192.0.2.10\", \"198.51.100.0/24\"]\nclose = true\n", |c| c.firewall.clients[1].1 == 24);
    check("[arbiter]\nendpoints = [\"http://192.0.2.21\", \"http://etcd-2:2380/\"]\n", |c| {
        c.arbiter.as_ref().is_some_and(|a| a.ttl.as_secs() == 5 && a.endpoints[1].port == 2380 && a.password.is_none())
    });
    check("[arbiter]\nendpoints = [\"http://192.0.2.21\"]\nttl = \"10s\"\nuser = \"mmha\"\npassword_file = \"/etc/mmha/x\"\n", |c| {
        c.arbiter.as_ref().is_some_and(|a| a.password.as_ref().is_some_and(|p| p.reveal() == "s3cret"))
    });
    check("[arbiter]\nendpoints = [\"https://a\", \"http://b\"]\n", |c| {
        c.arbiter.as_ref().is_some_and(|a| (a.endpoints[0].is_tls, a.endpoints[1].is_tls, &a.tls.ca_file) == (true, false, &None))
    });
    check("[arbiter]\nendpoints = [\"https://a\"]\nca_file = \"/ca\"\ncert_file = \"/c\"\nkey_file = \"/k\"\n", |c| {
        c.arbiter.as_ref().is_some_and(|a| a.tls.ca_file == Some("/ca".into()) && a.tls.identity == Some(("/c".into(), "/k".into())))
    });
    let second = BASE.replace("/24\"", "/24\"\npreferred = \"DB-02.example.net\"\ninterface = \"eth0\"");
    assert_eq!(parse(&second).unwrap().vip.preferred, NodeIndex(1));
    assert!(parse(&BASE.replace("[\"192.0.2.1\"]", "[]")).unwrap().warnings()[0].contains("two writers"));
}

/// Each fault is at the place where it was written.
#[test]
fn refused() {
    fn check(from: &str, to: &str, expect: &[&str]) {
        let text = if from.is_empty() { format!("{BASE}{to}") } else { BASE.replace(from, to) };
        let said = parse(&text).expect_err(&text).to_string();
        for part in expect {
            assert!(said.contains(part), "\n{text}\nshould say {part:?}, says:\n{said}");
        }
    }
    check(
        "",
        "keepaliv = \"1s\"\n",
        &[
            "mmha.toml:13:1: unknown key \"keepaliv\" in [heartbeat]; did you mean \"keepalive\"?",
            "\n  13 | keepaliv = \"1s\"\n     | ^^^^^^^^",
        ],
    );
    check("", "keepalive = 5\n", &["mmha.toml:13:13: keepalive must be a text in \"quotes\", not the number 5"]);
    check("", "keepalive = \"5\"\n", &["is not a duration"]);
    check(
        "",
        "port = 70000\nauto_failback = \"yes\"\n",
        &["13:8: port 70000 must be between 1 and 65535", "14:17: auto_failback must be true or false"],
    );
    check("", "links = [[\"10.0.0.1\"]]\n", &["a link is a pair"]);
    check("", "links = [[\"10.0.0.1\", \"192.0.2.243\"]]\n", &["is the floating address and moves"]);
    check("", "[hearbeat]\n", &["unknown section or key \"hearbeat\"; did you mean \"heartbeat\"?"]);
    check("", "[mysql]\nwriter = \"all\"\n", &["writer \"all\" must be \"vip\" or \"both\""]);
    check("", "[mysql]\nsocket = \"mysqld.sock\"\n", &["socket must be an absolute path"]);
    check("", "[replication]\npassword = \"hunter2\"\n", &["did you mean \"password_file\"", "| password = \"***\""]);
    check("", "[replication]\npassword_file = \"hunter2\"\n", &["must be an absolute path", "| password_file = \"***\""]);
    check("", "[replication]\ndatabases = [\"a\", \"mysql\"]\n", &["14:19: databases: \"mysql\" belongs to the server"]);
    check("", "[replication]\nuser = \"root\"\n", &["must be an account of its own"]);
    check("", "[firewall]\nclients = [\"192.0.2.10/24\"]\n", &["has host bits set; the network is \"192.0.2.0/24\""]);
    check("", "[arbiter]\n", &["13:2: [arbiter] needs endpoints", "leave the section out"]);
    check("", "[arbiter]\nendpoints = [\"192.0.2.21:2379\"]\n", &["14:14: endpoints: \"192.0.2.21:2379\" is not an endpoint"]);
    check("", "[arbiter]\nendpoints = [\"http://a\"]\nca_file = \"/ca\"\n", &["15:11: [arbiter] ca_file is for https:// endpoints"]);
    let both = &["15:13: [arbiter] cert_file is for https", "16:12: [arbiter] key_file is for https"];
    check("", "[arbiter]\nendpoints = [\"http://a\"]\ncert_file = \"/c\"\nkey_file = \"/k\"\n", both);
    check("", "[arbiter]\nendpoints = [\"https://a\"]\nkey_file = \"/k\"\n", &["15:12: [arbiter] cert_file and key_file belong together"]);
    check("", "[arbiter]\nendpoints = [\"https://a\"]\nca_file = \"ca.pem\"\n", &["15:11: ca_file must be an absolute path"]);
    check("", "[arbiter]\nendpoints = [\"http://192.0.2.241\"]\n", &["14:14: endpoints: \"http://192.0.2.241:2379\" is on node \"db-01"]);
    check("", "[arbiter]\nendpoints = [\"http://a\"]\nuser = \"mmha\"\n", &["15:8: [arbiter] user and password_file belong together"]);
    let in_clear = &["14:27: endpoints: \"http://b:2379\" would be told the password in clear: write https:// for all of them"];
    check("", "[arbiter]\nendpoints = [\"https://a\", \"http://b\"]\nuser = \"mmha\"\npassword_file = \"/p\"\n", in_clear);
    check("name = \"shop\"", "", &["1:2: [cluster] needs name"]);
    check("[cluster]\nname = \"shop\"\n", "", &["[cluster] needs name"]);
    check("192.0.2.242", "192.0.2.241", &["8:11: both nodes have the address"]);
    check("db-02", "DB-01", &["both nodes are named"]);
    check("192.0.2.242\"", "192.0.2.242\"\nserver_id = 1", &["9:13: both nodes have server_id 1"]);
    check("192.0.2.242", "198.51.100.2", &["10:11: \"192.0.2.243/24\" is not in the subnet of \"db-02.example.net\""]);
    check("192.0.2.243/24", "192.0.2.241/24", &["own address of \"db-01.example.net\""]);
    check("192.0.2.243/24", "192.0.2.255/24", &["which no host can have"]);
    check("192.0.2.243/24", "192.0.2.243", &["needs its prefix length"]);
    check("/24\"", "/24\"\npreferred = \"db-03\"", &["11:13: preferred \"db-03\" is no node"]);
    check("192.0.2.1\"", "192.0.2.242\"", &["12:9: ping \"192.0.2.242\" is node \"db-02.example.net\""]);
    check("192.0.2.1\"", "192.0.2.243\"", &["is the floating address"]);
    check("192.0.2.1\"", "gateway\"", &["is not an IPv4 address"]);
    check("[[vip]]\naddress = \"192.0.2.243/24\"\n", "", &["at least one [[vip]] is needed, here is none"]);
    check("[[node]]\nname = \"db-02.example.net\"\naddress = \"192.0.2.242\"\n", "", &["exactly two [[node]] entries, here are 1"]);
    check("[[vip]]", "[vip]", &["write [[vip]] in double brackets"]);
    check("[cluster]", "[cluster", &["mmha.toml:1:"]);
}

/// BASE with more [[vip]] sections behind its own.
fn with_vips(more: &str) -> String {
    BASE.replace("[heartbeat]", &format!("{more}[heartbeat]"))
}

#[test]
fn several_floating_addresses_are_one_group() {
    let many: String = (1..64).map(|last| format!("[[vip]]\naddress = \"192.0.2.{last}/25\"\n")).collect();
    let text = with_vips(&many.replace("/25", "/24")).replace("[\"192.0.2.1\"]", "[\"192.0.2.200\"]");
    let config = parse(&text).unwrap();
    assert_eq!((config.vip.addresses.len(), config.vip.to_string().as_str()), (64, "192.0.2.243 and 63 more"));
    assert_eq!((config.vip.interface.clone(), config.vip.preferred), (None, NodeIndex(0)));
    let second = "[[vip]]\naddress = \"192.0.2.244/24\"\ninterface = \"eth1\"\npreferred = \"DB-02.example.net\"\n";
    let config = parse(&with_vips(second)).unwrap();
    assert_eq!((config.vip.interface.as_deref(), config.vip.preferred), (Some("eth1"), NodeIndex(1)), "said once, of all");
    let same = second.replace(".244", ".245").replace("DB-02", "db-02");
    assert_eq!(parse(&with_vips(&format!("{second}{same}"))).unwrap().vip.preferred, NodeIndex(1));
    assert_ne!(config.digest, parse(&with_vips(&second.replace(".244", ".245"))).unwrap().digest, "the nodes' files are compared whole");
}

#[test]
fn floating_addresses_that_are_no_group() {
    fn check(more: &str, expect: &str) {
        let said = parse(&with_vips(more)).expect_err(more).to_string();
        assert!(said.contains(expect), "{more} should say {expect:?}, says:\n{said}");
    }
    check("[[vip]]\naddress = \"192.0.2.243/24\"\n", "mmha.toml:12:11: \"192.0.2.243\" is a floating address already");
    check("[[vip]]\naddress = \"192.0.2.242/24\"\n", "12:11: \"192.0.2.242\" is the own address of \"db-02.example.net\"");
    check("[[vip]]\naddress = \"192.0.2.1/24\"\n", "ping \"192.0.2.1\" is the floating address");
    check("[[vip]]\naddress = \"198.51.100.1/24\"\n", "12:11: \"198.51.100.1/24\" is not in the subnet");
    check("[[vip]]\n", "11:1: [vip] needs address");
    let other = |key: &str, one: &str, two: &str| {
        let vip = |last: u8, value: &str| format!("[[vip]]\naddress = \"192.0.2.{last}/24\"\n{key} = \"{value}\"\n");
        format!("{}{}", vip(244, one), vip(245, two))
    };
    check(&other("interface", "eth0", "eth1"), "16:13: interface \"eth1\" differs from \"eth0\" of a floating address above");
    check(&other("preferred", "db-01.example.net", "db-02.example.net"), "16:13: preferred \"db-02.example.net\" differs from");
    check(&other("preferred", "db-01.example.net", "db-03"), "16:13: preferred \"db-03\" is no node");
    let many: String = (2..66).map(|last| format!("[[vip]]\naddress = \"192.0.2.{last}/24\"\n")).collect();
    check(&many, "138:11: at most 64 [[vip]] entries are possible, here are 65");
}

#[test]
fn timing() {
    fn check(lines: &str, expect: &str) {
        let said = parse(&format!("{BASE}{lines}\n")).expect_err(lines).to_string();
        assert!(said.contains(expect), "{lines}: {said}");
    }
    check("deadtime = \"1s\"", "deadtime 1s is too short for keepalive 250ms");
    check("warntime = \"700ms\"", "warntime 700ms is too short");
    check("warntime = \"1900ms\"", "leaves no time before deadtime 2s");
    check("initdead = \"5s\"", "initdead 5s is too short");
    check("lease = \"1500ms\"", "whole seconds");
    check("lease = \"3s\"", "longer than deadtime");
    check("keepalive = \"400ms\"\ndeadtime = \"3s\"\nlease = \"1s\"", "lease 1s is too short");
    check("gate = \"1900ms\"", "gate 1900ms is too long");
    check("gate = \"700ms\"", "gate 700ms is too short");
    check("isolation = \"1900ms\"", "isolation 1900ms is too long");
    check("isolation = \"700ms\"", "isolation 700ms is too short");
    let dog = "watchdog = \"/dev/watchdog0\"\n";
    check(&format!("{dog}watchdog_timeout = \"2s\""), "14:20: watchdog_timeout 2s is too long for deadtime 2s");
    check(&format!("{dog}deadtime = \"1900ms\"\ngate = \"1s\""), "watchdog_timeout 1s is too long for deadtime 1900ms");
    check(&format!("{dog}watchdog_timeout = \"1500ms\"\ndeadtime = \"4s\""), "14:20: watchdog_timeout must be whole seconds");
    check(&format!("{dog}watchdog_timeout = \"1s\"\nkeepalive = \"300ms\"\ndeadtime = \"4s\""), "14:20: watchdog_timeout 1s is too short");
    check("watchdog = \"watchdog0\"", "watchdog must be an absolute path");
    check("[firewall]\nmanage = false", "without the write gate");
    check(
        "deadtime = \"2500ms\"\nlease = \"2s\"\n[firewall]\nmanage = false",
        "lease 2s is too long for deadtime 2500ms without the write gate",
    );
    check("[arbiter]\nendpoints = [\"http://a\"]\nttl = \"4s\"", "ttl \"4s\" must be between 5s and 1h");
    check("[arbiter]\nendpoints = [\"http://a\"]\nttl = \"5500ms\"", "ttl must be whole seconds");
    check("deadtime = \"10s\"\n[arbiter]\nendpoints = [\"http://a\"]", "ttl 5s is too short for gate 7500ms");
    check(
        "deadtime = \"4s\"\nlease = \"2s\"\n[firewall]\nmanage = false\n[arbiter]\nendpoints = [\"http://a\"]",
        "ttl 5s is too short for lease and 1.3s 3300ms",
    );
    assert!(parse(&format!("{BASE}deadtime = \"3s\"\n[firewall]\nmanage = false\n")).is_ok());
}

#[test]
fn all_faults_at_once() {
    let text = BASE.replace("192.0.2.1\"", "nowhere\"").replace("/24", "/33") + "deadtim = \"2s\"\n[mysql]\nport = 0\n";
    let said = parse(&text).unwrap_err().to_string();
    let places: Vec<&str> = said.lines().filter(|line| line.starts_with("mmha.toml:")).collect();
    assert_eq!(places.len(), 4, "{said}");
}

#[test]
fn unreadable_file_is_reported_at_its_key() {
    let text = format!("{BASE}[replication]\npassword_file = \"/nowhere\"\n");
    let refuse =
        |_: FileKind, path: &Path| if path == Path::new("/nowhere") { Err(Error::config("cannot open it")) } else { Ok(Secret::new("x")) };
    let said = Config::parse(Path::new("mmha.toml"), &text, refuse).unwrap_err().to_string();
    assert!(said.starts_with("mmha.toml:14:17: cannot open it"), "{said}");
    for (section, kind) in [
        ("[replication]", FileKind::ReplicationPassword),
        ("[mysql]", FileKind::Password),
        ("[arbiter]\nendpoints = [\"http://a\"]\nuser = \"mmha\"", FileKind::Password),
    ] {
        let text = format!("{BASE}{section}\npassword_file = \"/nowhere\"\n");
        let refuse = |is: FileKind, path: &Path| {
            if path == Path::new("/nowhere") { Err(Error::config(format!("no {is:?}"))) } else { Ok(Secret::new("x")) }
        };
        let said = Config::parse(Path::new("mmha.toml"), &text, refuse).unwrap_err().to_string();
        assert!(said.contains(&format!(": no {kind:?}\n")), "{section}: {said}");
    }
    for (key, kind) in [("ca_file", FileKind::Certificates), ("cert_file", FileKind::Certificates), ("key_file", FileKind::Key)] {
        let other = if key == "key_file" { "cert_file" } else { "key_file" };
        let text = format!("{BASE}[arbiter]\nendpoints = [\"https://a\"]\n{other} = \"/there\"\n{key} = \"/nowhere\"\n");
        let refuse = |is: FileKind, path: &Path| {
            if path == Path::new("/nowhere") { Err(Error::config(format!("no {is:?}"))) } else { Ok(Secret::new("x")) }
        };
        let said = Config::parse(Path::new("mmha.toml"), &text, refuse).unwrap_err().to_string();
        assert!(said.contains(&format!("mmha.toml:16:{}: no {kind:?}", key.len() + 4)), "{key}: {said}");
    }
}

#[test]
fn who_am_i() {
    let config = parse(BASE).unwrap();
    assert_eq!(config.node_named("db-02.example.net"), Ok(NodeIndex(1)));
    let said = config.node_named("db-02").unwrap_err().to_string();
    assert!(said.contains("\"db-02\" is no node of") && said.contains("db-01.example.net") && said.contains("uname -n"), "{said}");
}
