//! The packet filter rules against the real iptables, in a network namespace of the test's own. Needs root and iptables; without root it passes
//! only on a desk, never in CI.

use std::path::Path;
use std::time::Duration;

use mmha::act::firewall::{apply, remove, render, verify};
use mmha::config::{Config, NodeIndex, Secret};
use mmha::sys::run::run;
use nix::sched::{CloneFlags, unshare};

const BASE: &str = "[cluster]\nname = \"shop\"\n[[node]]\nname = \"a\"\naddress = \"192.0.2.241\"\n[[node]]\nname = \"b\"\n\
                    address = \"192.0.2.242\"\n[[vip]]\naddress = \"192.0.2.243/24\"\n[heartbeat]\nlinks = [[\"10.0.0.1\", \"10.0.0.2\"]]\n";

fn config(extra: &str) -> Config {
    Config::parse(Path::new("mmha.toml"), &format!("{BASE}{extra}"), |_, _| Ok(Secret::new("x"))).expect("valid")
}

fn sh(script: &str) -> String {
    let output = run("sh", &["-ec", script], None, Duration::from_secs(20)).expect("sh runs");
    assert!(output.ok(), "{script}: {}", output.stderr);
    output.stdout
}

#[test]
fn rules_are_put_in_force_kept_and_taken_out() {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var("CI").as_deref() != Ok("true"), "CI must run this as root");
    if !root {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
    let me = NodeIndex(0);
    let open = config("[firewall]\nclients = [\"192.0.2.10\", \"198.51.100.0/24\"]\n");
    let closed = config("[firewall]\nclients = [\"192.0.2.10\"]\nclose = true\n");
    let foreign = "-A INPUT -p icmp -m comment --comment \"the operator's\" -j ACCEPT";
    sh("iptables -A INPUT -p icmp -m comment --comment \"the operator's\" -j ACCEPT");
    let before = sh("iptables-save -t filter | grep -v '^#'");

    assert!(!verify(&open, me).expect("verify"));
    assert!(apply(&open, me).expect("apply"), "fresh");
    assert!(!apply(&open, me).expect("apply"), "equal rules are rewritten");
    let saved = sh("iptables-save -t filter");
    for line in render(&open, me).lines().filter(|line| line.starts_with("-A")) {
        assert!(saved.contains(line), "{line} is not what iptables-save prints:\n{saved}");
    }
    assert!(saved.contains(&foreign.replace('\'', "\\'")), "{saved}");

    sh("iptables -I INPUT -p udp -j DROP");
    assert!(!verify(&open, me).expect("verify"), "somebody came first");
    assert!(apply(&open, me).expect("apply"));
    sh("iptables -D INPUT -p udp -j DROP; iptables -F MMHA-IN");
    assert!(apply(&open, me).expect("apply"), "emptied");
    sh("iptables -F INPUT; iptables -A INPUT -p icmp -m comment --comment \"the operator's\" -j ACCEPT");
    assert!(apply(&open, me).expect("apply"), "jump lost");

    assert!(apply(&closed, me).expect("apply"));
    assert!(!apply(&closed, me).expect("apply"), "equal rules are rewritten");
    assert!(sh("ip6tables-save -t filter").contains("-A MMHA-IN -p tcp -m tcp --dport 3306"));
    assert!(apply(&open, me).expect("apply"));
    assert!(!sh("ip6tables-save -t filter").contains("MMHA-IN"), "IPv6 is no longer closed, its rules stay");

    // Of one version and the next: each recognises what the other left.
    let vips: String = (1..64).map(|last| format!("[[vip]]\naddress = \"192.0.2.{last}/24\"\n")).collect();
    let clients = "[firewall]\nclients = [\"198.51.100.10\", \"198.51.100.128/25\"]\n";
    let several = config(&format!("{vips}{clients}close = true\n"));
    assert!(apply(&several, me).expect("apply"), "one address became 64");
    assert!(!apply(&several, me).expect("apply"), "equal rules are rewritten");
    let saved = sh("iptables-save -t filter");
    for line in render(&several, me).lines().filter(|line| line.starts_with("-A")) {
        assert!(saved.contains(line), "{line} is not what iptables-save prints:\n{saved}");
    }
    assert_eq!(saved.lines().filter(|line| line.starts_with("-A MMHA-")).count(), 4 + 64 + 2 + 2, "a sum, not a product:\n{saved}");
    sh("iptables -F MMHA-CLIENTS");
    assert!(apply(&several, me).expect("apply"), "the second chain was emptied");
    assert!(apply(&open, me).expect("apply"), "64 became one");
    assert!(!sh("iptables-save -t filter").contains("MMHA-CLIENTS"), "the second chain stays");
    assert!(!apply(&open, me).expect("apply"));
    assert!(apply(&several, me).expect("apply"));

    assert!(remove().expect("remove"));
    assert!(!remove().expect("remove"));
    assert_eq!(sh("iptables-save -t filter | grep -v '^#'"), before);
}
