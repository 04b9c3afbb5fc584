//! What my server's history is to the peer's and to the marks. A step asks that some twenty times and most steps change none of them: it is found
//! out once after each change. Only set arithmetic.

use super::Core;
use super::beat::Beat;
use super::belief::Belief;
use super::history::History;
use super::key::ServerKey;

/// Without a look at my server, or without the peer's history, what needs it is false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relation {
    /// My server has everything that the peer's has, and the other way round.
    pub i_have_all: bool,
    pub they_have_all: bool,
    /// ... of what my server wrote.
    pub i_have_mine: bool,
    pub they_have_mine: bool,
    /// It has them, or they have reached it and its applier runs.
    pub they_get_all: bool,
    pub they_get_mine: bool,
    /// ... of what the peer's server wrote.
    pub i_have_theirs: bool,
    pub they_have_theirs: bool,
    /// Some of what the peer's server wrote has not even been received here; and how much of it has.
    pub missing: bool,
    pub got: u64,
    /// My server has applied what is in the mark, what was in it a moment earlier, and what is in the own mark.
    pub mark_applied: bool,
    pub mark_before_applied: bool,
    pub own_mark_kept: bool,
    /// The peer has everything of mine up to where I closed.
    pub closed_there: bool,
}

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    mine: Option<(History, ServerKey)>,
    theirs: Option<(Option<History>, Option<History>, ServerKey)>,
    marks: [History; 3],
    closed: Option<History>,
}

/// A relation and what it is about.
#[derive(Debug, Default)]
pub struct Known {
    relation: Relation,
    of: Compared,
}

impl Core {
    pub(super) fn relation(&self) -> &Relation {
        &self.belief.known.relation
    }

    /// After an event: has it changed any of the histories?
    pub(super) fn relate(&mut self) {
        if !self.belief.known.of.is_of(&self.belief) {
            self.belief.known = Known { relation: Relation::of(&self.belief), of: Compared::of(&self.belief) };
        }
        debug_assert_eq!(self.belief.known.relation, Relation::of(&self.belief));
    }
}

impl Relation {
    fn of(belief: &Belief) -> Relation {
        let Some(sample) = &belief.sample else { return Relation::default() };
        let (mine, my_key) = (&sample.history, &sample.server_key);
        let marks = Relation {
            mark_applied: mine.contains(&belief.marks.received),
            mark_before_applied: mine.contains(&belief.marks.before),
            own_mark_kept: mine.contains(&belief.marks.own),
            ..Relation::default()
        };
        let Some(beat) = belief.peer.as_ref().map(|peer| &peer.beat) else { return marks };
        let their_key = &beat.server_key;
        // As a rule the mark has all of theirs that is here: no sum is needed.
        let marked = belief.marks.received.contains_of(mine, their_key);
        let received = if marked { belief.marks.received.clone() } else { mine.union(&belief.marks.received) };
        let marks = Relation { got: received.count_of(their_key), ..marks };
        let Some(theirs) = &beat.history else { return marks };
        let coming = waiting(beat).map(|waiting| theirs.union(waiting));
        let coming = coming.as_ref().unwrap_or(theirs);
        Relation {
            i_have_all: mine.contains(theirs),
            they_have_all: theirs.contains(mine),
            i_have_mine: mine.contains_of(theirs, my_key),
            they_have_mine: theirs.contains_of(mine, my_key),
            they_get_all: coming.contains(mine),
            they_get_mine: coming.contains_of(mine, my_key),
            i_have_theirs: mine.contains_of(theirs, their_key),
            they_have_theirs: theirs.contains_of(mine, their_key),
            missing: !received.contains_of(theirs, their_key),
            closed_there: belief.closed.as_ref().is_some_and(|(_, closed)| theirs.contains_of(closed, my_key)),
            ..marks
        }
    }
}

impl Compared {
    fn of(belief: &Belief) -> Compared {
        let beat = belief.peer.as_ref().map(|peer| &peer.beat);
        Compared {
            mine: belief.sample.as_ref().map(|sample| (sample.history.clone(), sample.server_key.clone())),
            theirs: beat.map(|beat| (beat.history.clone(), waiting(beat).cloned(), beat.server_key.clone())),
            marks: [&belief.marks.received, &belief.marks.before, &belief.marks.own].map(History::clone),
            closed: belief.closed.as_ref().map(|(_, history)| history.clone()),
        }
    }

    fn is_of(&self, belief: &Belief) -> bool {
        let beat = belief.peer.as_ref().map(|peer| &peer.beat);
        let mine = belief.sample.as_ref().map(|sample| (&sample.history, &sample.server_key));
        let theirs = beat.map(|beat| (beat.history.as_ref(), waiting(beat), &beat.server_key));
        self.mine.as_ref().map(|(history, key)| (history, key)) == mine
            && self.theirs.as_ref().map(|(history, waiting, key)| (history.as_ref(), waiting.as_ref(), key)) == theirs
            && self.marks.each_ref() == [&belief.marks.received, &belief.marks.before, &belief.marks.own]
            && self.closed.as_ref() == belief.closed.as_ref().map(|(_, history)| history)
    }
}

/// What has reached the peer and will soon be in its history. As a rule nothing waits.
fn waiting(beat: &Beat) -> Option<&History> {
    (beat.applying && !beat.unapplied.is_empty()).then_some(&beat.unapplied)
}
