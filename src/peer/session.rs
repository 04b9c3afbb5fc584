//! Who may be believed: sessions, counters and echoes. Pure; time is an argument.
//!
//! A datagram of the peer's current session counts when its counter is higher than any before. A new session becomes current only
//! when it echoes a datagram of mine that is younger than the deadtime: recordings cannot do that, whatever they say. And younger than any that the
//! current one has echoed: what the peer sent before its restart may arrive after what it sent since, on a second path for instance.

use std::collections::VecDeque;

use super::codec::{Echo, Header, MAX_ECHOES};

/// Datagrams of mine whose sending time is remembered: at one a millisecond more than any sensible deadtime of a fast pair.
const REMEMBERED: usize = 512;
const RETIRED: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Sent {
    counter: u64,
    at_us: u64,
    version: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    session: u64,
    counter: u64,
    at_us: u64,
}

#[derive(Debug)]
pub struct Sessions {
    cluster: u64,
    me: u8,
    own: u64,
    counter: u64,
    deadtime_us: u64,
    sent: VecDeque<Sent>,
    current: Option<Seen>,
    /// The last datagram of mine that the current session has echoed.
    echoed: u64,
    /// Sessions that have not proved themselves; the oldest makes room.
    pending: Vec<Seen>,
    retired: VecDeque<u64>,
}

/// What a datagram amounts to, judged before its MAC is looked at; nothing moves until `accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Other cluster, own echo, replayed, older than what was heard, or of a retired session.
    Ignore,
    /// Of the current session, and new.
    Fresh,
    /// Of a session that proves by its echo that it is live: the peer has restarted.
    NewSession,
    /// Of an unknown session without proof: to be echoed, not to be believed.
    Unproved,
}

/// What an accepted datagram proves about my own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    pub echo_sent_us: Option<u64>,
    pub echo_version: u64,
    pub round_trip_us: Option<u64>,
}

impl Sessions {
    pub fn new(cluster: u64, me: u8, own: u64, deadtime_ms: u64) -> Sessions {
        Sessions {
            cluster,
            me,
            own,
            counter: 0,
            deadtime_us: deadtime_ms * 1000,
            sent: VecDeque::with_capacity(REMEMBERED),
            current: None,
            echoed: 0,
            pending: Vec::new(),
            retired: VecDeque::new(),
        }
    }

    /// The header of the next datagram, which says `version` of my stance.
    pub fn next(&mut self, version: u64, now_us: u64) -> Header {
        self.counter += 1;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { counter: self.counter, at_us: now_us, version });
        let heard = self.current.iter().chain(self.pending.iter().rev());
        let echo = |seen: &Seen| {
            let held_us = u32::try_from(now_us.saturating_sub(seen.at_us)).unwrap_or(u32::MAX);
            Echo { session: seen.session, counter: seen.counter, held_us }
        };
        let echoes = heard.take(MAX_ECHOES).map(echo).collect();
        Header { sender: self.me, cluster: self.cluster, session: self.own, counter: self.counter, echoes }
    }

    /// Freshness: cheap, before any cryptography.
    pub fn judge(&self, header: &Header, now_us: u64) -> Verdict {
        if header.cluster != self.cluster || header.sender == self.me || header.session == self.own {
            return Verdict::Ignore;
        }
        if self.retired.contains(&header.session) {
            return Verdict::Ignore;
        }
        if let Some(current) = self.current.filter(|seen| seen.session == header.session) {
            return if header.counter > current.counter { Verdict::Fresh } else { Verdict::Ignore };
        }
        let known = self.pending.iter().find(|seen| seen.session == header.session);
        if known.is_some_and(|seen| header.counter <= seen.counter) {
            return Verdict::Ignore;
        }
        let lives = |sent: &Sent| sent.counter > self.echoed && now_us.saturating_sub(sent.at_us) < self.deadtime_us;
        let live = self.echo(header).is_some_and(|(sent, _)| lives(sent));
        if live { Verdict::NewSession } else { Verdict::Unproved }
    }

    /// Moves the marks; only for a datagram whose MAC was right.
    pub fn accept(&mut self, header: &Header, verdict: Verdict, now_us: u64) -> Proof {
        let seen = Seen { session: header.session, counter: header.counter, at_us: now_us };
        match verdict {
            Verdict::Ignore => {}
            Verdict::Fresh => {
                self.current = Some(seen);
                self.echoed = self.echo(header).map_or(0, |(sent, _)| sent.counter).max(self.echoed);
            }
            Verdict::NewSession => {
                self.pending.retain(|other| other.session != header.session);
                self.echoed = self.echo(header).map_or(0, |(sent, _)| sent.counter);
                if let Some(old) = self.current.replace(seen) {
                    if self.retired.len() == RETIRED {
                        self.retired.pop_front();
                    }
                    self.retired.push_back(old.session);
                }
            }
            Verdict::Unproved => {
                self.pending.retain(|other| other.session != header.session);
                if self.pending.len() == MAX_ECHOES - 1 {
                    self.pending.remove(0);
                }
                self.pending.push(seen);
            }
        }
        self.proof(header, now_us)
    }

    /// Which datagram of mine it echoes, if that is still remembered.
    fn echo<'a>(&self, header: &'a Header) -> Option<(&Sent, &'a Echo)> {
        let echo = header.echoes.iter().find(|echo| echo.session == self.own)?;
        Some((self.sent.iter().rev().find(|sent| sent.counter == echo.counter)?, echo))
    }

    fn proof(&self, header: &Header, now_us: u64) -> Proof {
        let Some((sent, echo)) = self.echo(header) else { return Proof::default() };
        let round_trip = now_us.saturating_sub(sent.at_us).checked_sub(u64::from(echo.held_us));
        Proof { echo_sent_us: Some(sent.at_us), echo_version: sent.version, round_trip_us: round_trip }
    }
}

#[cfg(test)]
mod tests;
