//! The floating address as a kernel lease: a /32 with a finite lifetime that only a living agent renews (SAFETY M1-M5).
//! Used by the link thread alone, so that a renewal can never follow a removal. Never makes the address permanent.

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
    index: Option<u32>,
    leaser: Option<netlink::Leaser>,
    address: Ipv4Addr,
    seconds: u32,
    state: Address,
    swept_ms: Ms,
    renewed_ms: Ms,
}

impl Lease {
    /// Looks for an address lease that an earlier run of this agent has left.
    pub fn find(interface: &str, address: Ipv4Addr, lease: Duration) -> Lease {
        let seconds = u32::try_from(lease.as_secs()).unwrap_or(1).max(1);
        let mut found = Lease {
            interface: interface.to_owned(),
            index: None,
            leaser: None,
            address,
            seconds,
            state: Address::Unknown,
            swept_ms: 0,
            renewed_ms: clock::now_ms(),
        };
        found.state = found.look().unwrap_or(Address::Absent);
        found
    }

    fn look(&self) -> io::Result<Address> {
        let ours = netlink::addresses(CALL_LIMIT)?.into_iter().find(|addr| addr.ip == IpAddr::V4(self.address) && addr.prefix == 32);
        let left =
            ours.and_then(|addr| addr.valid_lft_s.zip(addr.age_ms)).map(|(_, age)| (u64::from(self.seconds) * 1000).saturating_sub(age));
        Ok(left.map_or(Address::Absent, |left_ms| Address::Found { left_ms }))
    }

    pub fn state(&self) -> Address {
        self.state
    }

    /// Adds or renews. Renewing cannot be made conditional in the kernel (SAFETY M3), so the clock is read before and after: a renewal
    /// that was decided too long ago is undone at once. `Err` says how late it was.
    pub fn renew(&mut self, decided_ms: Ms, patience_ms: Ms) -> Result<(), Late> {
        let outcome = self.leaser().and_then(|leaser| leaser.renew(CALL_LIMIT));
        let now = clock::now_ms();
        if outcome.is_err() {
            self.index = None;
            self.leaser = None;
            return Ok(());
        }
        if now.saturating_sub(decided_ms) > patience_ms {
            self.remove(now);
            return Err(Late { by_ms: now.saturating_sub(decided_ms) });
        }
        self.renewed_ms = now;
        self.state = Address::Held { renewed_ms: decided_ms };
        Ok(())
    }

    /// Removes the address; `Absent` only once the kernel has confirmed it or its lease has certainly ended.
    pub fn remove(&mut self, now: Ms) {
        if self.state == Address::Absent && now.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now;
        match self.index().and_then(|index| netlink::del_address(index, self.address, 32, CALL_LIMIT)) {
            Ok(_) => self.state = Address::Absent,
            Err(fault) if fault.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => self.state = Address::Absent,
            Err(_) if now.saturating_sub(self.renewed_ms) > u64::from(self.seconds) * 1000 + EXPIRY_SLACK_MS => {
                self.state = Address::Absent
            }
            Err(_) => self.index = None,
        }
    }

    fn leaser(&mut self) -> io::Result<&mut netlink::Leaser> {
        let fresh = match self.leaser.take() {
            Some(leaser) => leaser,
            None => netlink::Leaser::open(self.index()?, self.address, self.seconds)?,
        };
        Ok(self.leaser.insert(fresh))
    }

    fn index(&mut self) -> io::Result<u32> {
        if let Some(index) = self.index {
            return Ok(index);
        }
        let index = netlink::link_by_name(&self.interface, CALL_LIMIT)?.index;
        self.index = Some(index);
        Ok(index)
    }
}

/// A renewal came so long after its decision that it was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    pub by_ms: Ms,
}
