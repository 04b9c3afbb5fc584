//! When the core must be asked again although nothing happens: every comparison of an age with a limit notes when its answer will change
//! (`Age`), and after anything has changed a few steps follow soon.

use std::cell::Cell;
use std::cmp::Ordering;

use super::Core;
use super::event::Ms;
use super::want::Want;

/// After anything has changed so many whole steps must find everything as it was: what a step writes down, the next may read.
const UNTIL_CALM: u8 = 2;

/// How long ago something was. To be compared with a limit only.
#[derive(Clone, Copy)]
pub(super) struct Age<'a> {
    pub then: Ms,
    pub now: Ms,
    /// The earliest moment at which any comparison so far comes out differently.
    pub next: &'a Cell<Ms>,
}

impl Age<'_> {
    /// Whether it has come to `limit`.
    fn reached(&self, limit: Ms) -> bool {
        let at = self.then.saturating_add(limit);
        if at > self.now {
            self.next.set(self.next.get().min(at));
        }
        at <= self.now
    }
}

impl PartialEq<Ms> for Age<'_> {
    fn eq(&self, limit: &Ms) -> bool {
        self.reached(*limit) && !self.reached(limit.saturating_add(1))
    }
}

impl PartialOrd<Ms> for Age<'_> {
    fn partial_cmp(&self, limit: &Ms) -> Option<Ordering> {
        let (reached, passed) = (self.reached(*limit), self.reached(limit.saturating_add(1)));
        Some(if passed {
            Ordering::Greater
        } else if reached {
            Ordering::Equal
        } else {
            Ordering::Less
        })
    }
    fn lt(&self, limit: &Ms) -> bool {
        !self.reached(*limit)
    }
    fn ge(&self, limit: &Ms) -> bool {
        self.reached(*limit)
    }
    fn le(&self, limit: &Ms) -> bool {
        !self.reached(limit.saturating_add(1))
    }
    fn gt(&self, limit: &Ms) -> bool {
        self.reached(limit.saturating_add(1))
    }
}

impl Core {
    /// A limit has changed, or something else that no event tells.
    pub(super) fn disturb(&mut self) {
        self.restless = UNTIL_CALM;
    }

    /// After a step: was anything new in it?
    pub(super) fn settle(&mut self, moved: bool) {
        self.restless = if moved { UNTIL_CALM } else { self.restless.saturating_sub(1) };
    }

    /// When `step` must be called again even if nothing happens: when the next comparison with a limit comes out differently.
    pub fn deadline(&self) -> Ms {
        if self.unjudged {
            return self.belief.now;
        }
        let next = match self.restless {
            0 => self.belief.next.get().max(self.belief.now + 1),
            _ => self.belief.now + (self.limits.deadtime / 200).clamp(2, 10),
        };
        let limit = self.want().hold_until_ms;
        if limit > self.belief.now { next.min(limit) } else { next }
    }
}

/// Whether anybody but the peer is to do something else.
pub(super) fn asks_for_more(old: &Want, new: &Want) -> bool {
    let kernel =
        |want: &Want| (want.order, want.vip, want.announce, want.gate, want.probe, want.remote, want.watch, want.arbiter, want.exit);
    let server = |want: &Want| (want.writes, want.receiver, want.semi_sync, want.spare_waiting, want.kill_server, want.save);
    kernel(old) != kernel(new)
        || server(old) != server(new)
        || (&old.recover_to, &old.extra, &old.merge, old.fence) != (&new.recover_to, &new.extra, &new.merge, new.fence)
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::super::sync::tests::holder;

    #[test]
    fn what_goes_on_as_before_keeps_its_date_and_is_judged_at_once() {
        let mut core = holder();
        let now = core.belief.now + 300;
        core.absorb(Event::PingAnswered { at_ms: now - 40 }, now);
        assert_eq!((core.belief.ping_ms, core.deadline()), (Some(now - 40), now));
        core.step(Event::Tick, now);
        assert!(core.belief.ping_ms == Some(now - 40) && core.deadline() > now);
    }
}
