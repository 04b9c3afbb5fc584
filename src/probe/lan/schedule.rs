//! When the LAN thread does what. Pure: time is an argument.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::sys::arp::Mac;

/// Announcements after the first: an early one may meet a switch that is still learning, a later one a host that was away.
const SERIES_MS: [u64; 4] = [0, 100, 1000, 3000];
const THEN_EVERY_MS: u64 = 5_000;
/// So many are made in any case: Linux believes no second change of a neighbour within a second (arp(7), locktime).
const AT_LEAST: usize = 3;
/// A real-time thread wakes up within a millisecond.
const TOO_LATE_MS: u64 = 100;
/// And so far apart are they where they may mislead: long enough for that, and short beside the hours for which a router believes a neighbour.
const SELDOM_MS: u64 = 300_000;

/// Something regular, due at once at first. Missed turns are skipped, not made up for.
#[derive(Debug)]
pub struct Every {
    period: Duration,
    next: Duration,
}

impl Every {
    /// A period of nothing would never sleep; a millisecond is the least.
    pub fn new(period: Duration) -> Every {
        Every { period: period.max(Duration::from_millis(1)), next: Duration::ZERO }
    }
    /// True once per turn.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = now >= self.next;
        if due {
            let regular = self.next + self.period;
            self.next = if regular > now { regular } else { now + self.period };
        }
        due
    }
    pub fn next(&self) -> Duration {
        self.next
    }
    /// The next turn no later than `then`.
    pub fn hurry(&mut self, then: Duration) {
        self.next = self.next.min(then);
    }
}

/// Rounds of probes: in each, every address is asked for once.
#[derive(Debug)]
pub struct Probing {
    turn: Every,
    asked: usize,
    rounds: u32,
}

impl Probing {
    pub fn new(spacing: Duration) -> Probing {
        Probing { turn: Every::new(spacing), asked: 0, rounds: 0 }
    }
    pub fn due(&mut self, now: Duration) -> bool {
        self.turn.due(now)
    }
    pub fn next(&self) -> Duration {
        self.turn.next()
    }
    /// Asks for the rest of the round. What cannot be sent ends the turn, and is where the next one goes on.
    pub fn ask(&mut self, addresses: &[Ipv4Addr], send: impl Fn(Ipv4Addr) -> io::Result<()>) -> io::Result<()> {
        while let Some(address) = addresses.get(self.asked) {
            send(*address)?;
            self.asked += 1;
        }
        self.asked = 0;
        Ok(())
    }
    /// What was asked into a dead cable is asked again.
    pub fn begin_round(&mut self) {
        self.asked = 0;
    }
    /// One more counts; returns how many that makes.
    pub fn count(&mut self) -> u32 {
        self.rounds += 1;
        self.rounds
    }
}

/// A series of announcements: dense, then sparse without end.
#[derive(Debug)]
pub struct Announcing {
    start: Duration,
    sent: usize,
    next: Duration,
    seldom: bool,
}

impl Announcing {
    pub fn from(start: Duration) -> Announcing {
        Announcing { start, sent: 0, next: start, seldom: false }
    }
    /// After the first ones only now and then.
    pub fn make_seldom(&mut self, now: Duration) {
        self.seldom = true;
        if self.sent >= AT_LEAST {
            self.next = now + Duration::from_millis(SELDOM_MS);
        }
    }
    /// Against whoever says otherwise, and after each absence.
    pub fn insists(&self) -> bool {
        !self.seldom
    }
    /// From the first one.
    pub fn again(&mut self, start: Duration) {
        (self.start, self.sent, self.next) = (start, 0, start);
    }
    /// True once per announcement. A thread that comes late makes one of the first that it missed, and none of the later: it may have stood still
    /// for so long that the address is another's by now.
    pub fn due(&mut self, now: Duration) -> bool {
        let too_late = self.sent >= AT_LEAST && now >= self.next + Duration::from_millis(TOO_LATE_MS);
        let due = now >= self.next && !too_late;
        while now >= self.next {
            self.sent += 1;
            self.next = self.following();
        }
        due
    }
    pub fn next(&self) -> Duration {
        self.next
    }
    fn following(&self) -> Duration {
        let (dense, period) = if self.seldom { (AT_LEAST, SELDOM_MS) } else { (SERIES_MS.len(), THEN_EVERY_MS) };
        match SERIES_MS[..dense].get(self.sent) {
            Some(after) => self.start + Duration::from_millis(*after),
            None => self.next + Duration::from_millis(period),
        }
    }
}

/// Lets the same host through once per interval, another one at once.
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    last: Option<(Mac, Duration)>,
}

impl Limiter {
    pub fn new(interval: Duration) -> Limiter {
        Limiter { interval, last: None }
    }
    pub fn passes(&mut self, mac: Mac, now: Duration) -> bool {
        let passes = self.last.is_none_or(|(who, when)| who != mac || now >= when + self.interval);
        if passes {
            self.last = Some((mac, now));
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_skips_what_it_missed() {
        let mut every = Every::new(ms(100));
        assert!(every.due(ms(1000)), "at once");
        assert!(!every.due(ms(1099)));
        assert!(every.due(ms(1100)));
        assert!(every.due(ms(1750)), "one for six");
        assert!(!every.due(ms(1849)));
        assert!(every.due(ms(1850)));
        every.hurry(ms(1900));
        every.hurry(ms(1940));
        assert!(every.due(ms(1900)));
        assert_eq!(every.next(), ms(2000));
    }

    #[test]
    fn a_round_goes_on_where_it_stopped() {
        let addresses: Vec<Ipv4Addr> = (0..64).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
        let mut probing = Probing::new(ms(50));
        let asked = std::cell::RefCell::new(Vec::new());
        let turn = |probing: &mut Probing, room: usize| {
            let full = asked.borrow().len() + room;
            let send = |address| {
                if asked.borrow().len() == full {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                asked.borrow_mut().push(address);
                Ok(())
            };
            probing.ask(&addresses, send).is_ok()
        };
        assert_eq!([30, 0, 30, 30].map(|room| turn(&mut probing, room)), [false, false, false, true]);
        assert_eq!(asked.take(), addresses, "each once, in four turns");
        assert!(turn(&mut probing, 64), "the next round");
        assert_eq!(asked.take(), addresses);
        assert!(!turn(&mut probing, 30));
        asked.take();
        probing.begin_round();
        assert!(turn(&mut probing, 64));
        assert_eq!(asked.take(), addresses, "from the beginning");
        assert_eq!([probing.count(), probing.count()], [1, 2]);
    }

    #[test]
    fn announcements_come_in_their_series() {
        let mut announcing = Announcing::from(ms(500));
        let at: Vec<u64> = (500..19_000).filter(|now| announcing.due(ms(*now))).map(|now| now - 500).collect();
        assert_eq!(at, [0, 100, 1000, 3000, 8_000, 13_000, 18_000]);
        announcing.make_seldom(ms(19_000));
        assert_eq!(announcing.next(), ms(319_000));
        let mut seldom = Announcing::from(ms(500));
        assert!(seldom.due(ms(600)), "two at once");
        seldom.make_seldom(ms(600));
        let at: Vec<u64> = (601..700_000).filter(|now| seldom.due(ms(*now))).map(|now| now - 500).collect();
        assert_eq!(at, [1000, 301_000, 601_000]);
        seldom.again(ms(800_000));
        let at: Vec<u64> = (700_000..802_000).filter(|now| seldom.due(ms(*now))).map(|now| now - 800_000).collect();
        assert_eq!(at, [0, 100, 1000]);
        let mut late = Announcing::from(ms(0));
        assert!(late.due(ms(50_000)) && !late.due(ms(50_001)));
        assert!(!late.due(ms(60_000)) && late.due(ms(63_050)), "the next one after 50 s is at 53 s");
    }

    #[test]
    fn a_storm_of_one_host_is_told_once_per_interval() {
        let mut limiter = Limiter::new(ms(5));
        assert!(limiter.passes([1; 6], ms(10)));
        assert!(!limiter.passes([1; 6], ms(14)));
        assert!(limiter.passes([2; 6], ms(14)));
        assert!(limiter.passes([2; 6], ms(19)));
    }
}
