//! The packet filter rules the operator sees: one chain of ours in the filter table, jumped to first from INPUT, replaced in one transaction and
//! only when it differs. With several floating addresses and named clients a second one lists the clients, and the first leads there for each
//! address: n + m rules instead of n × m. Touches no other rule, and judges no connection by its state: a stray segment must reach the kernel, which answers with
//! RST, so that clients of the old holder notice at once.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::{Config, NodeIndex};
use crate::error::{Error, Result};
use crate::sys::run::run;

pub const CHAIN: &str = "MMHA-IN";
/// Who may use the floating addresses; only where there are several of them and clients are named.
const CLIENTS: &str = "MMHA-CLIENTS";
/// The lock of the legacy tables is waited for 5 s (-w 5); nft takes 20 ms.
const LIMIT: Duration = Duration::from_secs(8);
const JUMP: &str = "INPUT -m comment --comment mmha -j MMHA-IN";

/// IPv4 or IPv6: the same tool under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tables {
    V4,
    V6,
}

impl Tables {
    fn save(self) -> &'static str {
        if self == Tables::V4 { "iptables-save" } else { "ip6tables-save" }
    }
    fn restore(self) -> &'static str {
        if self == Tables::V4 { "iptables-restore" } else { "ip6tables-restore" }
    }
}

/// What must be in force, as input for iptables-restore --noflush. Its rules are written as iptables-save prints them, so that equal text means
/// equal rules.
pub fn render(config: &Config, me: NodeIndex) -> String {
    document(&rules(config, me))
}

/// Put the rules in force. True: something had to be changed.
pub fn apply(config: &Config, me: NodeIndex) -> Result<bool> {
    let changes = changes(config, me)?;
    changes.iter().try_for_each(|change| restore(change.tables, &change.script))?;
    Ok(!changes.is_empty())
}

/// The rules in force are exactly those of `render`, and they come first.
pub fn verify(config: &Config, me: NodeIndex) -> Result<bool> {
    Ok(changes(config, me)?.is_empty())
}

/// Take everything of ours out. True: there was something.
pub fn remove() -> Result<bool> {
    let changes = removals()?;
    changes.iter().try_for_each(|change| restore(change.tables, &change.script))?;
    Ok(!changes.is_empty())
}

/// One transaction that is needed, for the operator to read or for `restore`.
pub struct Change {
    tables: Tables,
    pub script: String,
}

impl Change {
    pub fn text(&self) -> String {
        format!("{} --noflush -w 5 <<EOF\n{}EOF\n", self.tables.restore(), self.script)
    }
}

/// What `apply` would do. Nothing when firewall.manage = false.
pub fn changes(config: &Config, me: NodeIndex) -> Result<Vec<Change>> {
    if !config.firewall.manage {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    let saved = save(Tables::V4)?;
    changes.extend(difference(&rules(config, me), &saved).map(|script| Change { tables: Tables::V4, script }));
    if config.firewall.close {
        let saved = save(Tables::V6)?;
        changes.extend(difference(&rules6(config), &saved).map(|script| Change { tables: Tables::V6, script }));
    } else {
        changes.extend(removal6());
    }
    Ok(changes)
}

/// What `remove` would do.
pub fn removals() -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    changes.extend(removal(&save(Tables::V4)?).map(|script| Change { tables: Tables::V4, script }));
    changes.extend(removal6());
    Ok(changes)
}

/// A box without IPv6 tables has none of ours in them.
fn removal6() -> Option<Change> {
    let saved = save(Tables::V6).unwrap_or_default();
    removal(&saved).map(|script| Change { tables: Tables::V6, script })
}

/// As iptables-save prints them, without "-A CHAIN".
#[derive(Debug, Default)]
struct Rules {
    chain: Vec<String>,
    /// Empty: there is no such chain.
    clients: Vec<String>,
}

fn rules(config: &Config, me: NodeIndex) -> Rules {
    let (mysql, heartbeat) = (config.mysql.port, config.heartbeat.port);
    let other = me.other();
    let mut peers: Vec<Ipv4Addr> = vec![config.node(other).address];
    peers.extend(config.heartbeat.links.iter().map(|link| link[other.at()]).filter(|address| *address != config.node(other).address));
    let mut rules = vec!["-i lo -j RETURN".to_string()];
    rules.push(accept(&format!("-s {}/32", peers[0]), "tcp", mysql, "mmha: replication of the peer"));
    rules.extend(peers.iter().map(|peer| accept(&format!("-s {peer}/32"), "udp", heartbeat, "mmha: heartbeat of the peer")));
    let mut clients = Vec::new();
    match (config.vip.ips().as_slice(), config.firewall.clients.as_slice()) {
        (vips, []) => {
            let anyone = |vip: &Ipv4Addr| accept(&format!("-d {vip}/32"), "tcp", mysql, "mmha: anyone on the floating address");
            rules.extend(vips.iter().map(anyone));
        }
        ([vip], named) => rules.extend(named.iter().map(|(network, prefix)| {
            accept(&format!("-s {network}/{prefix} -d {vip}/32"), "tcp", mysql, "mmha: client on the floating address")
        })),
        (vips, named) => {
            rules.extend(
                vips.iter().map(|vip| format!("{} -j {CLIENTS}", matches(&format!("-d {vip}/32"), "tcp", mysql, "mmha: floating address"))),
            );
            let client = |(network, prefix): &(Ipv4Addr, u8)| {
                accept(&format!("-s {network}/{prefix}"), "tcp", mysql, "mmha: client on a floating address")
            };
            clients.extend(named.iter().map(client));
        }
    }
    if config.firewall.close {
        rules.extend(reject(mysql, heartbeat, "icmp-port-unreachable"));
    }
    Rules { chain: rules, clients }
}

/// Nobody uses the pair over IPv6, so closing means everybody.
fn rules6(config: &Config) -> Rules {
    let mut rules = vec!["-i lo -j RETURN".to_string()];
    rules.extend(reject(config.mysql.port, config.heartbeat.port, "icmp6-port-unreachable"));
    Rules { chain: rules, clients: Vec::new() }
}

fn accept(from_to: &str, protocol: &str, port: u16, comment: &str) -> String {
    format!("{} -j ACCEPT", matches(from_to, protocol, port, comment))
}

fn matches(from_to: &str, protocol: &str, port: u16, comment: &str) -> String {
    format!("{from_to} -p {protocol} -m {protocol} --dport {port} -m comment --comment \"{comment}\"")
}

fn reject(mysql: u16, heartbeat: u16, udp_answer: &str) -> [String; 2] {
    let rule = |protocol: &str, port: u16, answer: &str| {
        format!("-p {protocol} -m {protocol} --dport {port} -m comment --comment \"mmha: nobody else\" -j REJECT --reject-with {answer}")
    };
    [rule("tcp", mysql, "tcp-reset"), rule("udp", heartbeat, udp_answer)]
}

fn document(rules: &Rules) -> String {
    // Writing to a String cannot fail.
    let mut text = format!("*filter\n:{CHAIN} - [0:0]\n");
    if !rules.clients.is_empty() {
        let _ = writeln!(text, ":{CLIENTS} - [0:0]");
    }
    for (chain, rules) in [(CHAIN, &rules.chain), (CLIENTS, &rules.clients)] {
        for rule in rules {
            let _ = writeln!(text, "-A {chain} {rule}");
        }
    }
    text + "COMMIT\n"
}

/// The transaction that makes `saved` hold `rules`; `None`: it does. Declaring a chain empties it; other chains are left alone.
fn difference(rules: &Rules, saved: &str) -> Option<String> {
    let is_first = filter_lines(saved).find(|line| line.starts_with("-A INPUT ")) == Some(&format!("-A {JUMP}"));
    let jumps = jumps(saved);
    let same = |chain, rules: &Vec<String>| chain_rules(saved, chain).eq(rules.iter());
    let is_left_over = rules.clients.is_empty() && has_chain(saved, CLIENTS);
    if is_first && jumps.len() == 1 && same(CHAIN, &rules.chain) && same(CLIENTS, &rules.clients) && !is_left_over {
        return None;
    }
    let mut script = document(rules);
    script.truncate(script.len() - "COMMIT\n".len());
    if is_left_over {
        script.push_str(&discard(CLIENTS));
    }
    jumps.iter().for_each(|jump| script.push_str(&format!("-D {jump}\n")));
    script.push_str(&format!("-I {}\nCOMMIT\n", JUMP.replacen("INPUT", "INPUT 1", 1)));
    Some(script)
}

fn removal(saved: &str) -> Option<String> {
    let jumps = jumps(saved);
    // The one that leads to the other goes first.
    let chains: Vec<&str> = [CHAIN, CLIENTS].into_iter().filter(|chain| has_chain(saved, chain)).collect();
    if chains.is_empty() && jumps.is_empty() {
        return None;
    }
    let jumps: String = jumps.iter().map(|jump| format!("-D {jump}\n")).collect();
    let chains: String = chains.into_iter().map(discard).collect();
    Some(format!("*filter\n{jumps}{chains}COMMIT\n"))
}

fn discard(chain: &str) -> String {
    format!("-F {chain}\n-X {chain}\n")
}

fn has_chain(saved: &str, chain: &str) -> bool {
    filter_lines(saved).any(|line| line.starts_with(&format!(":{chain} ")))
}

/// Rules of other chains that lead into ours, without their "-A ".
fn jumps(saved: &str) -> Vec<&str> {
    let ends = format!(" -j {CHAIN}");
    filter_lines(saved).filter_map(|line| line.strip_prefix("-A ")).filter(|rule| rule.ends_with(&ends)).collect()
}

fn chain_rules<'a>(saved: &'a str, chain: &str) -> impl Iterator<Item = &'a str> {
    filter_lines(saved).filter_map(move |line| line.strip_prefix("-A ")?.strip_prefix(chain)?.strip_prefix(' '))
}

/// Only the filter table: other tables may have an INPUT chain too.
fn filter_lines(saved: &str) -> impl Iterator<Item = &str> {
    saved.lines().map(str::trim_end).skip_while(|line| *line != "*filter").take_while(|line| *line != "COMMIT")
}

fn save(tables: Tables) -> Result<String> {
    let output = run(tables.save(), &["-t", "filter"], None, LIMIT)?;
    if output.ok() { Ok(output.stdout) } else { Err(Error::failed(format!("{} failed: {}", tables.save(), output.stderr.trim()))) }
}

fn restore(tables: Tables, script: &str) -> Result<()> {
    let output = run(tables.restore(), &["--noflush", "-w", "5"], Some(script), LIMIT)?;
    if output.ok() {
        Ok(())
    } else {
        Err(Error::failed(format!("{} refused the rules, nothing was changed: {}", tables.restore(), output.stderr.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use std::path::Path;

    fn config(extra: &str) -> Config {
        let text = format!(
            "[cluster]\nname = \"shop\"\n[[node]]\nname = \"a\"\naddress = \"192.0.2.241\"\n[[node]]\nname = \"b\"\naddress = \"192.0.2.242\"\n\
             [[vip]]\naddress = \"192.0.2.243/24\"\n{extra}"
        );
        Config::parse(Path::new("mmha.toml"), &text, |_, _| Ok(Secret::new("x"))).unwrap()
    }

    const BARE: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p icmp -j ACCEPT\nCOMMIT\n";

    #[test]
    fn rules_by_peer_client_and_close() {
        fn check(extra: &str, me: u8, expect: &[&str]) {
            let rules = rules(&config(extra), NodeIndex(me));
            assert_eq!(rules.chain, expect);
            assert!(rules.clients.is_empty(), "one address needs no second chain");
        }
        let mysql = "-p tcp -m tcp --dport 3306 -m comment --comment";
        let link = "-p udp -m udp --dport 694 -m comment --comment";
        check(
            "",
            0,
            &[
                "-i lo -j RETURN",
                &format!("-s 192.0.2.242/32 {mysql} \"mmha: replication of the peer\" -j ACCEPT"),
                &format!("-s 192.0.2.242/32 {link} \"mmha: heartbeat of the peer\" -j ACCEPT"),
                &format!("-d 192.0.2.243/32 {mysql} \"mmha: anyone on the floating address\" -j ACCEPT"),
            ],
        );
        check(
            "[heartbeat]\nlinks = [[\"10.0.0.1\", \"10.0.0.2\"]]\n[firewall]\nclients = [\"198.51.100.0/24\"]\nclose = true\n",
            1,
            &[
                "-i lo -j RETURN",
                &format!("-s 192.0.2.241/32 {mysql} \"mmha: replication of the peer\" -j ACCEPT"),
                &format!("-s 192.0.2.241/32 {link} \"mmha: heartbeat of the peer\" -j ACCEPT"),
                &format!("-s 10.0.0.1/32 {link} \"mmha: heartbeat of the peer\" -j ACCEPT"),
                &format!("-s 198.51.100.0/24 -d 192.0.2.243/32 {mysql} \"mmha: client on the floating address\" -j ACCEPT"),
                &format!("{mysql} \"mmha: nobody else\" -j REJECT --reject-with tcp-reset"),
                &format!("{link} \"mmha: nobody else\" -j REJECT --reject-with icmp-port-unreachable"),
            ],
        );
    }

    #[test]
    fn only_what_differs() {
        let chain = ["-i lo -j RETURN", "-s 192.0.2.242/32 -j ACCEPT"].map(str::to_string);
        let ours = format!(":{CHAIN} - [0:0]\n-A {JUMP}\n-A INPUT -p icmp -j ACCEPT\n-A {CHAIN} {}\n-A {CHAIN} {}", chain[0], chain[1]);
        let rules = Rules { chain: chain.to_vec(), clients: Vec::new() };
        let good = format!("# Generated\n*nat\n:INPUT ACCEPT [0:0]\n-A INPUT -j X\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n{ours}\nCOMMIT\n");
        assert_eq!(difference(&rules, &good), None);
        let fresh = difference(&rules, BARE).unwrap();
        assert_eq!(
            fresh,
            format!(
                "*filter\n:{CHAIN} - [0:0]\n-A {CHAIN} {}\n-A {CHAIN} {}\n-I INPUT 1 -m comment --comment mmha -j MMHA-IN\nCOMMIT\n",
                chain[0], chain[1]
            )
        );
        let changed = |from: &str, to: &str| difference(&rules, &good.replace(from, to));
        assert!(changed("-i lo -j RETURN", "-i lo -j DROP").unwrap().contains(&format!("-D {JUMP}\n")));
        assert!(changed("-A INPUT -p icmp", &format!("-A {JUMP}\n-A INPUT -p icmp")).is_some(), "two jumps");
        let second = format!("-A INPUT -p icmp -j ACCEPT\n-A {JUMP}\n");
        assert!(changed(&format!("-A {JUMP}\n-A INPUT -p icmp -j ACCEPT\n"), &second).is_some(), "not the first rule");
        let left_over = good.replace("\n-A INPUT -p icmp", &format!("\n:{CLIENTS} - [0:0]\n-A INPUT -p icmp"));
        assert!(difference(&rules, &left_over).unwrap().contains(&format!("-F {CLIENTS}\n-X {CLIENTS}\n")), "there was a second chain");
        assert!(removal(&left_over).unwrap().ends_with(&format!("-F {CHAIN}\n-X {CHAIN}\n-F {CLIENTS}\n-X {CLIENTS}\nCOMMIT\n")));
        assert!(removal(BARE).is_none());
        assert_eq!(removal(&good).unwrap(), format!("*filter\n-D {JUMP}\n-F {CHAIN}\n-X {CHAIN}\nCOMMIT\n"));
    }

    #[test]
    fn many_addresses_and_clients_make_a_sum_of_rules() {
        let vips = |from: u8, to: u8| -> String { (from..=to).map(|last| format!("[[vip]]\naddress = \"192.0.2.{last}/24\"\n")).collect() };
        let named = "[firewall]\nclients = [\"198.51.100.0/24\", \"192.0.2.10\"]\nclose = true\n";
        let many = rules(&config(&format!("{}{named}", vips(100, 162))), NodeIndex(0));
        assert_eq!((many.chain.len(), many.clients.len()), (3 + 64 + 2, 2));
        let mysql = "-p tcp -m tcp --dport 3306 -m comment --comment";
        assert_eq!(many.chain[3], format!("-d 192.0.2.243/32 {mysql} \"mmha: floating address\" -j MMHA-CLIENTS"));
        assert_eq!(many.clients[0], format!("-s 198.51.100.0/24 {mysql} \"mmha: client on a floating address\" -j ACCEPT"));
        let anyone = rules(&config(&vips(100, 162)), NodeIndex(0));
        assert_eq!((anyone.chain.len(), anyone.clients.len()), (3 + 64, 0));
    }
}
