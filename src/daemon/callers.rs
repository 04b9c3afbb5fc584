//! Tells the clients of the address that it leaves: for the link thread, but not on it. The kernel waits for a socket that the server is at
//! work on as long as that work takes (net/ipv4/tcp.c, tcp_abort), and be it a page from a disk that is dead.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::sys::netlink::Callers;

struct Question {
    limit: Duration,
    done: SyncSender<()>,
}

/// The link thread's end.
pub struct Asker(SyncSender<Question>);

/// The other thread's end.
pub struct Teller {
    callers: Callers,
    questions: Receiver<Question>,
}

pub fn pair(callers: Callers) -> (Asker, Teller) {
    // None waits for a teller that is still at work: they have all been told, or cannot be.
    let (ask, questions) = sync_channel(0);
    (Asker(ask), Teller { callers, questions })
}

impl Asker {
    /// Have every connection to the address reset, and wait for that, but no longer than `limit`. Who is not told by then waits until its own
    /// patience ends.
    pub fn have_told(&self, limit: Duration) {
        let (done, answer) = sync_channel(1);
        if self.0.try_send(Question { limit, done }).is_ok() {
            let _ = answer.recv_timeout(limit);
        }
    }
}

impl Teller {
    /// Runs until the link thread ends.
    pub fn run(&self) {
        while let Ok(Question { limit, done }) = self.questions.recv() {
            let _ = self.callers.hang_up(limit);
            let _ = done.try_send(());
        }
    }
}
