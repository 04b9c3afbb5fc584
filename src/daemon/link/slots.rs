//! When the next heartbeat leaves: an absolute schedule, so that late turns do not add up.

use crate::core::event::Ms;

pub struct Slots {
    keepalive_ms: Ms,
    next_ms: Ms,
    last_ms: Ms,
}

impl Slots {
    /// The first is due now.
    pub fn from(now: Ms, keepalive_ms: Ms) -> Slots {
        Slots { keepalive_ms, next_ms: now, last_ms: now }
    }

    pub fn next_ms(&self) -> Ms {
        self.next_ms
    }

    /// Whether one is due; then the next one counts. Slots that were missed are skipped, never made up for in a burst.
    pub fn pass(&mut self, now: Ms) -> bool {
        let due = now >= self.next_ms;
        if due {
            let next = self.next_ms + self.keepalive_ms;
            self.next_ms = if next > now { next } else { now + self.keepalive_ms };
            self.last_ms = now;
        }
        due
    }

    /// The peer's heartbeat has come: the own one leaves at once, unless the last is younger than half a keepalive, and from then on both nodes
    /// wake up once for the two. Never later than without the peer, and at most twice as often.
    pub fn meet(&mut self, now: Ms) {
        if now >= self.last_ms + self.keepalive_ms / 2 {
            self.next_ms = self.next_ms.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_schedule_that_makes_up_for_nothing() {
        let mut slots = Slots::from(1000, 250);
        assert!(slots.pass(1003) && !slots.pass(1249));
        assert!(slots.pass(1250), "late once, in time again");
        assert!(slots.pass(9000) && !slots.pass(9249) && slots.pass(9250), "missed slots come once");
    }

    #[test]
    fn two_that_hear_each_other_beat_together() {
        let (mut ours, mut theirs) = (Slots::from(0, 250), Slots::from(140, 250));
        let (mut alone, mut together) = (0, 0);
        for now in 0..10_000 {
            let we = ours.pass(now);
            if we {
                theirs.meet(now);
            }
            let they = theirs.pass(now);
            if they {
                ours.meet(now);
            }
            alone += u32::from(we != they);
            together += u32::from(we && they);
        }
        assert!(alone <= 4 && (38..=40).contains(&together), "{alone} and {together}");
    }

    #[test]
    fn a_peer_that_chatters_is_not_answered_each_time() {
        let mut slots = Slots::from(0, 250);
        let sent = (0..10_000).filter(|now| {
            slots.meet(*now);
            slots.pass(*now)
        });
        assert_eq!(sent.count(), 80);
        assert!(slots.pass(10_190), "late");
        slots.meet(10_200);
        assert!(!slots.pass(10_200));
    }
}
