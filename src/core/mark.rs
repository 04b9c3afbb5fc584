//! What of others' writes ever reached this node, and what of its own the peer was seen to have. Only bookkeeping.

use super::event::Ms;
use super::history::History;

/// An applier this far behind catches up while the writer drains.
const NEARLY_MS: Ms = 50;

#[derive(Debug, Default)]
pub struct Marks {
    /// Every write of others that ever reached this node: survives restarts of the server (facts: MariaDB forgets).
    pub received: History,
    /// What that was at least `NEARLY_MS` and at least one look ago: who has applied that is close behind.
    pub before: History,
    /// What it was at `next_ms`: the next `before`.
    next: History,
    next_ms: Ms,
    /// Everything of my own writes that the peer was seen to have: a server that lacks some of it has lost its tail.
    pub own: History,
}

impl Marks {
    /// A look at the server of `my_key` found this in its relay log, or applied. Looks can be 10 ms apart, and an applier that keeps up may still
    /// be further behind than that.
    pub fn reached(&mut self, received: &History, my_key: &str, now: Ms) {
        if !self.received.contains_without(received, my_key) {
            self.received = self.received.union(&received.without(my_key));
        }
        if now.saturating_sub(self.next_ms) >= NEARLY_MS {
            self.before = std::mem::replace(&mut self.next, self.received.clone());
            self.next_ms = now;
        }
    }

    /// What it has now, not ever: what both have lost nobody can wait for.
    pub fn they_have(&mut self, theirs: &History, my_key: &str) {
        if !self.own.agrees_on(theirs, my_key) {
            self.own = theirs.only(my_key);
        }
    }

    /// The peer's server was closed, and had this.
    pub fn closed_at(&mut self, theirs: &History, my_key: &str) {
        self.received = self.received.union(&theirs.without(my_key));
        self.own = self.own.union(&theirs.only(my_key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_behind_is_behind_by_time_and_by_a_look() {
        let history = |last: u64| History::parse(&format!("1:1-{last}")).expect("a history");
        let mut marks = Marks::default();
        let mut before_at = |now: Ms| {
            marks.reached(&history(now), "2", now);
            marks.before.count()
        };
        for at in (1_000..1_100).step_by(10) {
            before_at(at);
        }
        for at in (1_100..2_000).step_by(10) {
            let behind = at - before_at(at);
            assert!((50..=100).contains(&behind), "{behind} ms");
        }
        before_at(2_500);
        assert_eq!(before_at(3_000), 2_500, "looks that are far apart: one look");
    }
}
