//! The write gate: while it is shut, no statement reaches our server from the network and no acknowledgement leaves it, on the floating
//! addresses and the node's own alike (SAFETY A1, M7). It is one element with a timeout in an nftables set of our own table `inet mmha`; the
//! kernel refreshes it whenever a heartbeat that carries `MARK_OPEN` leaves for the peer, and deletes it when anything with `MARK_SHUT` leaves,
//! inside the send call itself. "No heartbeat sent: no acknowledgement leaves" is then a fact of the kernel, with no timer or child of ours.
//!
//! It never opens the gate: only heartbeats do. It touches no other table. Loopback and the peer's node address (replication) always pass, so
//! programs on this box and on the peer's are not fenced by it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::config::{Config, NodeIndex, Writer};
use crate::error::{Error, Result};
use crate::sys::run::{Output, run};
use crate::sys::udp::LinkSocket;

/// On heartbeats of a holder (SO_MARK): the gate is open for `heartbeat.gate` from now.
pub const MARK_OPEN: u32 = 0x6d6d_0001;
/// On anything: the gate is shut from now.
pub const MARK_SHUT: u32 = 0x6d6d_0002;

/// One nft call takes about 5 ms; the kernel's transaction lock may be held by others.
const LIMIT: Duration = Duration::from_secs(5);
/// Each of our rules carries a comment that begins so; `verify` counts them.
const RULE_TAG: &str = "comment \"mmha: ";

/// Does this configuration have a gate? Not with writer "both" (nobody is fenced), nor when the firewall is not ours to manage.
pub fn wanted(config: &Config) -> bool {
    config.mysql.writer == Writer::Vip && config.firewall.manage
}

/// Put the gate up, shut, unless it already stands as this configuration wants it: then it is left alone with its element, so that a
/// restarted agent does not cut its clients. Where none is wanted, one left behind is removed. Every error begins with "no write gate": the
/// daemon goes on with the address lease alone and says so.
pub fn install(config: &Config, me: NodeIndex) -> Result<()> {
    if !wanted(config) {
        return remove().map_err(no_gate);
    }
    if verify(config, me).map_err(no_gate)? {
        return Ok(());
    }
    let mut refused = String::new();
    for strays in STRAYS {
        let output = nft(&["-f", "-"], Some(&render(config, me, strays))).map_err(no_gate)?;
        if output.ok() {
            return Ok(());
        }
        refused = refusal(&output);
    }
    Err(no_gate(Error::failed(refused)))
}

/// Does the gate stand, whole, as this configuration wants it? A foreign `nft flush ruleset` takes it away, and then everything passes:
/// look again every few seconds.
pub fn verify(config: &Config, me: NodeIndex) -> Result<bool> {
    let listing = nft(&["list", "table", "inet", "mmha"], None)?;
    let rules = |text: &str| text.matches(RULE_TAG).count();
    let stands = |body: String| listing.stdout.contains(&format!("comment \"{}\"", stamp(&body))) && rules(&listing.stdout) == rules(&body);
    Ok(listing.ok() && STRAYS.into_iter().any(|strays| stands(body(config, me, strays))))
}

/// Take the gate away, and with it every restriction. That there is none, or no nft, or no nf_tables, is fine.
pub fn remove() -> Result<()> {
    let listing = match nft(&["list", "table", "inet", "mmha"], None) {
        Ok(listing) => listing,
        Err(_) if nft(&["--version"], None).is_err() => return Ok(()),
        Err(fault) => return Err(fault.context("the write gate cannot be removed")),
    };
    if !listing.ok() && !listing.stderr.contains("not permitted") {
        return Ok(());
    }
    let output = nft(&["delete", "table", "inet", "mmha"], None)?;
    match output.ok() {
        true => Ok(()),
        false => Err(Error::failed(format!("the write gate cannot be removed: {}", refusal(&output)))),
    }
}

/// Is the gate open now? For `status` and tests: it starts a child, and is old news when it returns.
pub fn is_open() -> Result<bool> {
    let set = nft(&["list", "set", "inet", "mmha", "gate"], None).map_err(no_gate)?;
    match set.ok() {
        true => Ok(set.stdout.contains("elements")),
        false => Err(no_gate(Error::failed(refusal(&set)))),
    }
}

/// Shut it from any thread, without a child and without a route to the peer: one marked datagram to ourselves, seen by the kernel before this
/// returns. Whoever sends heartbeats must have stopped marking them `MARK_OPEN` before, or the next one opens it again.
pub fn shut() -> io::Result<()> {
    let discard = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
    LinkSocket::bind(Ipv4Addr::LOCALHOST, 0, None)?.send_marked(MARK_SHUT, discard, b"")
}

/// What becomes of a client's segment that still comes here for a floating address when it is no longer here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strays {
    /// Answered by a reset, so that the client asks the network again instead of repeating itself for a second or more.
    Reset,
    /// The kernel knows no reset before routing (Linux before 5.9), or cannot tell whose an address is.
    Lost,
}

/// The best first.
const STRAYS: [Strays; 2] = [Strays::Reset, Strays::Lost];

/// What `nft -f` is given: one transaction that replaces our table whole.
pub fn render(config: &Config, me: NodeIndex, strays: Strays) -> String {
    let body = body(config, me, strays);
    format!("add table inet mmha\ndelete table inet mmha\ntable inet mmha {{\n  comment \"{}\"\n{body}}}\n", stamp(&body))
}

/// Sets and chains. The key of the one element must come out the same for a heartbeat going out (IPv4, UDP) and a client's segment (IPv4 or
/// IPv6, TCP, in or out): the packet type is "host" for all that this box makes, and for all that its TCP accepts (tcp_v4_rcv and tcp_v6_rcv
/// discard every other). A key that ever failed to match would leave the gate shut, not open.
///
/// Priority -10: before the filter table's chains, so that an accept there cannot let past what is shut here. What the server says to an
/// existing connection is dropped, a reset excepted; what a client says is answered by a reset, so that it looks for the new holder.
fn body(config: &Config, me: NodeIndex, strays: Strays) -> String {
    let (peer, port) = (config.nodes[me.other().at()].address, config.mysql.port);
    let (link_port, gate_ms) = (config.heartbeat.port, config.heartbeat.gate.as_millis());
    let mut remotes: Vec<String> = config.heartbeat.links.iter().map(|link| link[me.other().at()].to_string()).collect();
    remotes.push(peer.to_string());
    remotes.sort_unstable();
    remotes.dedup();
    let remotes = remotes.join(", ");
    let strays = match strays {
        Strays::Reset => stray_chain(config),
        Strays::Lost => String::new(),
    };
    format!(
        r#"  set gate {{
    type pkt_type
    flags dynamic, timeout
  }}
  chain request {{
    ip saddr {peer} return {RULE_TAG}replication"
    meta pkttype @gate return {RULE_TAG}open"
    meta l4proto tcp reject with tcp reset {RULE_TAG}shut"
  }}
  chain answer {{
    ip daddr {peer} return {RULE_TAG}replication"
    meta pkttype @gate return {RULE_TAG}open"
    tcp flags & rst == rst return {RULE_TAG}resets may leave"
    drop {RULE_TAG}shut"
  }}
{strays}  chain in {{
    type filter hook input priority -10; policy accept;
    iifname != "lo" tcp dport {port} jump request {RULE_TAG}clients"
  }}
  chain out {{
    type filter hook output priority -10; policy accept;
    meta mark {MARK_OPEN:#x} ip daddr {{ {remotes} }} udp sport {link_port} update @gate {{ meta pkttype timeout {gate_ms}ms }} {RULE_TAG}open"
    meta mark {MARK_SHUT:#x} delete @gate {{ meta pkttype }} {RULE_TAG}shut"
    oifname != "lo" tcp sport {port} jump answer {RULE_TAG}clients"
  }}
"#
    )
}

/// Only segments that were sent to this box's own MAC come so far (ip_rcv discards every other).
fn stray_chain(config: &Config) -> String {
    let (vips, port) = (config.vip.ips(), config.mysql.port);
    let vip = match vips.as_slice() {
        [only] => only.to_string(),
        several => format!("{{ {} }}", several.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")),
    };
    format!(
        r#"  chain stray {{
    type filter hook prerouting priority raw; policy accept;
    iifname != "lo" ip daddr {vip} tcp dport {port} fib daddr type != local reject with tcp reset {RULE_TAG}not here"
  }}
"#
    )
}

/// Tells one configuration's gate from another's: FNV-1a, 64 bits, over the text.
fn stamp(body: &str) -> String {
    let digest = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("mmha {digest:016x}")
}

fn nft(arguments: &[&str], stdin: Option<&str>) -> Result<Output> {
    run("nft", arguments, stdin, LIMIT)
}

/// nft's first line names the fault; the rest draws carets under our own text.
fn refusal(output: &Output) -> String {
    output.stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("nft failed without a word").trim().to_owned()
}

fn no_gate(fault: Error) -> Error {
    fault.context("no write gate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_changes_with_the_text() {
        assert_eq!(stamp(""), "mmha cbf29ce484222325");
        assert_eq!(stamp("a"), "mmha af63dc4c8601ec8c");
    }
}
