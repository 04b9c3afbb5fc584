//! The floating addresses: one group on one interface that moves as one, so whatever belongs to the group is said once or the same everywhere.
//! Knows nothing of nodes beyond their addresses and names.

use std::fmt;
use std::net::Ipv4Addr;

use super::diagnostic::Faults;
use super::raw::{Raw, RawVip};
use super::reader::At;
use super::{NodeIndex, network_of};

/// All of them are renewed in one system call, in front of each heartbeat, and asked for on the network before they are taken: both have
/// been measured with so many.
pub const MOST: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// 1 to `MOST`, all different, in the order of the file: the first names the group.
    pub addresses: Vec<Floating>,
    /// `None`: the interface that has this node's own address.
    pub interface: Option<String>,
    pub preferred: NodeIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floating {
    pub ip: Ipv4Addr,
    /// Prefix length of the subnet it belongs to (checks only: it is always added as /32, SAFETY M5).
    pub prefix: u8,
}

impl Vip {
    pub fn ips(&self) -> Vec<Ipv4Addr> {
        self.addresses.iter().map(|floating| floating.ip).collect()
    }
}

impl fmt::Display for Vip {
    /// As sentences name the group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&brief(&self.ips()))
    }
}

/// "192.0.2.243", or "192.0.2.243 and 3 more".
pub fn brief(addresses: &[Ipv4Addr]) -> String {
    match addresses {
        [] => String::new(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    }
}

pub(super) fn check(raw: &Raw, faults: &Faults<'_>) {
    if raw.vips.is_empty() {
        faults.add(&raw.vips_span, "at least one [[vip]] is needed, here is none");
    }
    if let Some(beyond) = raw.vips.get(MOST) {
        faults.add(&beyond.address.span, format!("at most {MOST} [[vip]] entries are possible, here are {}", raw.vips.len()));
    }
    for (at, vip) in raw.vips.iter().enumerate() {
        let earlier = &raw.vips[..at];
        check_preferred(vip, raw, faults);
        if vip.address.sound {
            check_address(vip, earlier, raw, faults);
        }
        let same = |one: &str, other: &str| one == other;
        agree(&vip.interface, earlier.iter().map(|vip| &vip.interface), same, "interface", "they are all on one interface", faults);
        agree(
            &vip.preferred,
            earlier.iter().map(|vip| &vip.preferred),
            str::eq_ignore_ascii_case,
            "preferred",
            "they move together",
            faults,
        );
    }
}

/// Only called when nothing was wrong, so there is an address.
pub(super) fn build(raw: &Raw) -> Vip {
    let named = |key: fn(&RawVip) -> &At<Option<String>>| raw.vips.iter().find_map(|vip| key(vip).value.clone());
    let preferred = named(|vip| &vip.preferred);
    let second = preferred.is_some_and(|name| raw.nodes[1].name.value.eq_ignore_ascii_case(&name));
    Vip {
        addresses: raw.vips.iter().map(|vip| Floating { ip: vip.address.value.0, prefix: vip.address.value.1 }).collect(),
        interface: named(|vip| &vip.interface),
        preferred: NodeIndex(u8::from(second)),
    }
}

/// What belongs to the group is given once, or the same each time.
fn agree<'a>(
    this: &At<Option<String>>,
    earlier: impl Iterator<Item = &'a At<Option<String>>>,
    same: impl Fn(&str, &str) -> bool,
    key: &str,
    why: &str,
    faults: &Faults<'_>,
) {
    let before = earlier.filter(|key| key.sound).find_map(|key| key.value.as_deref());
    if let (Some(value), Some(before), true) = (&this.value, before, this.sound)
        && !same(value, before)
    {
        faults.add(&this.span, format!("{key} \"{value}\" differs from \"{before}\" of a floating address above; {why}"));
    }
}

fn check_preferred(vip: &RawVip, raw: &Raw, faults: &Faults<'_>) {
    if let Some(preferred) = &vip.preferred.value
        && !raw.nodes.iter().any(|node| node.name.value.eq_ignore_ascii_case(preferred))
    {
        let names: Vec<String> = raw.nodes.iter().map(|node| format!("\"{}\"", node.name.value)).collect();
        faults.add(&vip.preferred.span, format!("preferred \"{preferred}\" is no node; the nodes are {}", names.join(" and ")));
    }
}

fn check_address(vip: &RawVip, earlier: &[RawVip], raw: &Raw, faults: &Faults<'_>) {
    let (address, prefix) = vip.address.value;
    let network = network_of(address, prefix);
    let last = Ipv4Addr::from(u32::from(network) | !mask(prefix));
    if earlier.iter().any(|other| other.address.sound && other.address.value.0 == address) {
        faults.add(&vip.address.span, format!("\"{address}\" is a floating address already, see above"));
    }
    if prefix < 31 && (address == network || address == last) {
        faults.add(&vip.address.span, format!("\"{address}\" is the first or last address of {network}/{prefix}, which no host can have"));
    }
    for node in raw.nodes.iter().filter(|node| node.address.sound) {
        let own = node.address.value;
        if own == address {
            faults.add(
                &vip.address.span,
                format!("\"{address}\" is the own address of \"{}\"; the floating address belongs to neither node", node.name.value),
            );
        } else if network_of(own, prefix) != network {
            faults.add(
                &vip.address.span,
                format!("\"{address}/{prefix}\" is not in the subnet of \"{}\" ({own}): clients could not reach it there", node.name.value),
            );
        }
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_its_first() {
        let ip = |last| Ipv4Addr::new(192, 0, 2, last);
        assert_eq!(brief(&[ip(243)]), "192.0.2.243");
        assert_eq!(brief(&[ip(243), ip(244), ip(245), ip(9)]), "192.0.2.243 and 3 more");
    }
}
