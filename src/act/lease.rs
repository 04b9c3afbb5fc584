//! The floating addresses as kernel leases: each a /32 with a finite lifetime that only a living agent renews (SAFETY M1-M5). They are one thing
//! here, called the address: added, renewed and removed together in one system call, held only when all of them are, absent only when none is.
//! Used by the link thread alone, so that a renewal can never follow a removal. Never makes one permanent.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::core::event::{Address, Ms};
use crate::sys::{clock, netlink};

/// Netlink answers in well under a millisecond (p99 8 ms under load); longer than this and the renewal is in doubt.
const CALL_LIMIT: Duration = Duration::from_millis(200);
/// The kernel may end a lease this much late (SAFETY M2).
const EXPIRY_SLACK_MS: Ms = 1_300;
/// While the address is not wanted, somebody else's copy of it is looked for so often.
const SWEEP_MS: Ms = 1_000;

#[derive(Debug)]
pub struct Lease {
    interface: String,
    leaser: Option<netlink::Leaser>,
    addresses: Vec<Ipv4Addr>,
    seconds: u32,
    state: Address,
    swept_ms: Ms,
    renewed_ms: Ms,
}

impl Lease {
    /// Looks for address leases that an earlier run of this agent has left.
    pub fn find(interface: &str, addresses: Vec<Ipv4Addr>, lease: Duration) -> Lease {
        let seconds = u32::try_from(lease.as_secs()).unwrap_or(1).max(1);
        let mut found = Lease {
            interface: interface.to_owned(),
            leaser: None,
            addresses,
            seconds,
            state: Address::Unknown,
            swept_ms: 0,
            renewed_ms: clock::now_ms(),
        };
        found.state = found.look().unwrap_or(Address::Absent);
        found
    }

    /// Some here and others not: they are running out, or the file names others than the earlier run had. Then nothing is left to carry on with,
    /// and what is here is removed by the first turn that does not hold.
    fn look(&self) -> io::Result<Address> {
        let here = netlink::addresses(CALL_LIMIT)?;
        let age_ms = |ip: &Ipv4Addr| {
            let ours = here.iter().find(|addr| addr.ip == IpAddr::V4(*ip) && addr.prefix == 32)?;
            ours.valid_lft_s.and(ours.age_ms)
        };
        let ages: Vec<u64> = self.addresses.iter().filter_map(age_ms).collect();
        let whole = ages.len() == self.addresses.len();
        let left = |age: u64| if whole { (u64::from(self.seconds) * 1000).saturating_sub(age) } else { 0 };
        Ok(ages.iter().max().map_or(Address::Absent, |oldest| Address::Found { left_ms: left(*oldest) }))
    }

    pub fn state(&self) -> Address {
        self.state
    }

    /// Adds or renews. Renewing cannot be made conditional in the kernel (SAFETY M3), so the clock is read before and after: a renewal
    /// that was decided too long ago is undone at once. `Err` says how late it was. One address that is refused is a renewal that failed:
    /// what is held is then as old as the last one that did not.
    pub fn renew(&mut self, decided_ms: Ms, patience_ms: Ms) -> Result<(), Late> {
        let Ok(leaser) = self.leaser() else { return Ok(()) };
        let outcome = leaser.renew(CALL_LIMIT);
        let now = clock::now_ms();
        self.renewed_ms = now; // or some of them, and those count too for when all have ended
        if outcome.is_err() {
            self.leaser = None; // the interface may come back with another index
            if self.state == Address::Absent {
                self.state = Address::Unknown; // some may be here
            }
            return Ok(());
        }
        if now.saturating_sub(decided_ms) > patience_ms {
            self.state = Address::Held { renewed_ms: decided_ms }; // until the kernel says otherwise
            self.remove(now);
            return Err(Late { by_ms: now.saturating_sub(decided_ms) });
        }
        self.state = Address::Held { renewed_ms: decided_ms };
        Ok(())
    }

    /// Removes all; `Absent` only once the kernel has confirmed it for each, or their leases have certainly ended.
    pub fn remove(&mut self, now: Ms) {
        if self.state == Address::Absent && now.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now;
        let outcome = self.leaser().and_then(|leaser| leaser.remove(CALL_LIMIT));
        let Err(fault) = outcome else {
            self.state = Address::Absent;
            return;
        };
        self.leaser = None; // the interface may come back with another index
        let is_gone = fault.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32);
        if is_gone || now.saturating_sub(self.renewed_ms) > u64::from(self.seconds) * 1000 + EXPIRY_SLACK_MS {
            self.state = Address::Absent;
        }
    }

    fn leaser(&mut self) -> io::Result<&mut netlink::Leaser> {
        let fresh = match self.leaser.take() {
            Some(leaser) => leaser,
            None => {
                let index = netlink::link_by_name(&self.interface, CALL_LIMIT)?.index;
                netlink::Leaser::open(index, &self.addresses, self.seconds)?
            }
        };
        Ok(self.leaser.insert(fresh))
    }
}

/// A renewal came so long after its decision that it was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    pub by_ms: Ms,
}
