//! Addresses, links and the default route over rtnetlink(7), as plain blocking calls with a deadline. One socket per call, so that nothing
//! stale is read after a timeout (a call costs about 0.1 ms); who asks often keeps one (`Conversation`). It decides nothing and never touches
//! an address it was not told about.
//!
//! Trust: a dump may be partial without a word (NLM_F_DUMP_INTR is not surfaced), so lists are hints, repeated periodically; what counts is the
//! result of adding and deleting. A request the library cannot decode never ends by itself: the deadline ends it.

mod callers;
mod drive;
mod leaser;
mod monitor;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{AddressMessageBuilder, Error, RouteMessageBuilder};

pub use callers::Callers;
pub use drive::Conversation;
use drive::call;
pub use leaser::Leaser;
pub use monitor::Monitor;

/// `struct ifa_cacheinfo` counts in these: "for ever" (linux/if_addr.h, INFINITY_LIFE_TIME).
const FOR_EVER: u32 = u32::MAX;

/// A network interface as it is now. `carrier`: the other end of the cable is alive (IFF_LOWER_UP).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub carrier: bool,
    /// All zero for an interface without Ethernet addresses.
    pub mac: [u8; 6],
    /// IFF_NOARP: nobody answers probes here, so no proof of a silent address is possible (SAFETY M11).
    pub noarp: bool,
}

/// An address of this box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addr {
    pub index: u32,
    pub ip: IpAddr,
    pub prefix: u8,
    /// Whole seconds it has left; `None` = for ever.
    pub valid_lft_s: Option<u32>,
    /// How long ago its lease was set or renewed, to 10 ms; `None` when the kernel does not say.
    pub age_ms: Option<u64>,
}

/// The interface called `name`; absent: ENODEV.
pub fn link_by_name(name: &str, limit: Duration) -> io::Result<Link> {
    Conversation::default().link_by_name(name, limit)
}

impl Conversation {
    /// The interface called `name`; absent: ENODEV.
    pub fn link_by_name(&mut self, name: &str, limit: Duration) -> io::Result<Link> {
        let wanted = name.to_owned();
        self.call(limit, |handle| async move {
            // Asked often: the counters would be most of the answer.
            let query = handle.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
            let mut answers = pin!(query.match_name(wanted).execute());
            answers.try_next().await?.ok_or(Error::RequestFailed)
        })
        .map(|message| link_of(&message))
    }
}

/// Every interface.
pub fn links(limit: Duration) -> io::Result<Vec<Link>> {
    let messages: Vec<LinkMessage> = call(limit, |handle| handle.link().get().execute().try_collect())?;
    Ok(messages.iter().map(link_of).collect())
}

/// Every address, both families.
pub fn addresses(limit: Duration) -> io::Result<Vec<Addr>> {
    let messages: Vec<AddressMessage> = call(limit, |handle| handle.address().get().execute().try_collect())?;
    let now = centiseconds();
    Ok(messages.iter().filter_map(|message| addr_of(message, now)).collect())
}

/// The interface that has `ip`, permanent or leased.
pub fn interface_with(ip: IpAddr, limit: Duration) -> io::Result<Option<Link>> {
    let Some(owner) = addresses(limit)?.into_iter().find(|addr| addr.ip == ip) else { return Ok(None) };
    Ok(links(limit)?.into_iter().find(|link| link.index == owner.index))
}

/// Add `ip` as /32 for `seconds`, or set its lease to `seconds` from now. See `Leaser` for the same in a loop.
pub fn lease_address(index: u32, ip: Ipv4Addr, seconds: u32, limit: Duration) -> io::Result<()> {
    call(limit, |handle| {
        let mut request = handle.address().add(index, ip.into(), 32).replace();
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetime(seconds)));
        request.execute()
    })
}

/// Delete an address. `false`: it (or its interface) was not there. Deleting a *primary* address takes its secondaries along unless
/// promote_secondaries is set; a /32 has none.
pub fn del_address(index: u32, ip: Ipv4Addr, prefix: u8, limit: Duration) -> io::Result<bool> {
    let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, prefix).build();
    match call(limit, |handle| handle.address().del(message).execute()) {
        Ok(()) => Ok(true),
        Err(fault) if [Some(Errno::EADDRNOTAVAIL as i32), Some(Errno::ENODEV as i32)].contains(&fault.raw_os_error()) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// The gateway of the IPv4 default route with the lowest metric.
pub fn default_gateway(limit: Duration) -> io::Result<Option<Ipv4Addr>> {
    let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes: Vec<RouteMessage> = call(limit, |handle| handle.route().get(query).execute().try_collect())?;
    Ok(routes.iter().filter_map(default_route).min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway))
}

/// (metric, gateway) of a default route.
fn default_route(route: &RouteMessage) -> Option<(u32, Ipv4Addr)> {
    if route.header.destination_prefix_length != 0 || route.header.address_family != AddressFamily::Inet {
        return None;
    }
    let (mut metric, mut gateway) = (0, None);
    let next_hop = |attributes: &[RouteAttribute]| {
        attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(*ip),
            _ => None,
        })
    };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(hops) => gateway = gateway.or_else(|| hops.iter().find_map(|hop| next_hop(&hop.attributes))),
            _ => {}
        }
    }
    Some((metric, next_hop(&route.attributes).or(gateway)?))
}

/// Valid and preferred for the same time: it vanishes without a deprecated phase. 0 is not a lease (the kernel refuses it with EINVAL).
fn lifetime(seconds: u32) -> CacheInfo {
    let mut info = CacheInfo::default();
    info.ifa_valid = seconds;
    info.ifa_preferred = seconds;
    info
}

fn link_of(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mac: [0; 6],
        noarp: flags.contains(LinkFlags::Noarp),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            _ => {}
        }
    }
    link
}

fn addr_of(message: &AddressMessage, now: u32) -> Option<Addr> {
    let (mut address, mut local, mut info) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip), // differs from `address` on a point-to-point link, and is ours
            AddressAttribute::CacheInfo(cache) => info = Some(*cache),
            _ => {}
        }
    }
    Some(Addr {
        index: message.header.index,
        ip: local.or(address)?,
        prefix: message.header.prefix_len,
        valid_lft_s: info.map(|info| info.ifa_valid).filter(|valid| *valid != FOR_EVER),
        age_ms: info.map(|info| age_ms(now, info.tstamp)),
    })
}

/// IFA_CACHEINFO's stamps are jiffies in hundredths of a second, cut to 32 bits: they wrap every 497 days, so only differences count. A stamp
/// a little in the future (clock and jiffies differ by a tick) is "now".
fn age_ms(now: u32, stamp: u32) -> u64 {
    let passed = now.wrapping_sub(stamp);
    if passed > u32::MAX - 100 { 0 } else { u64::from(passed) * 10 }
}

/// Hundredths of a second of CLOCK_MONOTONIC, on which jiffies run (they stand still in a suspend, as the leases do).
fn centiseconds() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u32::try_from(now.as_millis() / 10 % (1 << 32)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_survives_the_wrap_and_a_tick_of_disagreement() {
        assert_eq!(age_ms(1000, 990), 100);
        assert_eq!(age_ms(5, u32::MAX - 4), 100);
        assert_eq!(age_ms(990, 991), 0);
    }

    #[test]
    fn loopback_is_seen() {
        let limit = Duration::from_secs(5);
        let lo = link_by_name("lo", limit).expect("lo");
        assert_eq!((lo.index, lo.name.as_str(), lo.mac), (1, "lo", [0; 6]));
        assert!(links(limit).expect("links").contains(&lo));
        let mut kept = Conversation::default();
        for _ in 0..3 {
            let fault = kept.link_by_name("no-such-link", limit).expect_err("absent");
            assert_eq!(fault.raw_os_error(), Some(Errno::ENODEV as i32));
            assert_eq!(kept.link_by_name("lo", limit).expect("lo"), lo);
        }
        addresses(limit).expect("addresses");
        default_gateway(limit).expect("routes");
    }
}
