//! When the LAN thread does what. Pure: time is an argument.

use std::time::Duration;

use crate::sys::arp::Mac;

/// Announcements after the first: an early one may meet a switch that is still learning, a later one a host that was away.
const SERIES_MS: [u64; 5] = [0, 100, 1000, 3000, 10_000];
const THEN_EVERY_MS: u64 = 30_000;

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

/// A series of announcements: dense, then sparse, without end.
#[derive(Debug)]
pub struct Announcing {
    start: Duration,
    sent: usize,
}

impl Announcing {
    pub fn from(start: Duration) -> Announcing {
        Announcing { start, sent: 0 }
    }
    /// True once per announcement; a thread that comes late makes one of those it missed.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = now >= self.next();
        while now >= self.next() {
            self.sent += 1;
        }
        due
    }
    pub fn next(&self) -> Duration {
        let last = SERIES_MS.len() - 1;
        let beyond = u64::try_from(self.sent.saturating_sub(last)).unwrap_or(u64::MAX);
        let after = SERIES_MS[self.sent.min(last)] + beyond.saturating_mul(THEN_EVERY_MS);
        self.start + Duration::from_millis(after)
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
    fn announcements_come_in_their_series() {
        let mut announcing = Announcing::from(ms(500));
        let at: Vec<u64> = (500..80_600).filter(|now| announcing.due(ms(*now))).map(|now| now - 500).collect();
        assert_eq!(at, [0, 100, 1000, 3000, 10_000, 40_000, 70_000]);
        let mut late = Announcing::from(ms(0));
        assert!(late.due(ms(50_000)) && !late.due(ms(50_001)));
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
