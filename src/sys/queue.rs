//! A bounded queue into one thread, in which everybody who waits sleeps. std's `sync_channel` spins while a writer is between claiming a place and
//! filling it: on one CPU a real-time reader would spin for ever at the ordinary writer that it has just preempted there.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct Inner<T> {
    line: Mutex<Line<T>>,
    limit: usize,
    filled: Condvar,
    room: Condvar,
}

struct Line<T> {
    values: VecDeque<T>,
    /// Until it has woken up: a writer that should wake it may be kept from a processor, and then the next one does.
    reader_sleeps: bool,
}

impl<T> Inner<T> {
    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut line: MutexGuard<'_, Line<T>>, value: T) {
        line.values.push_back(value);
        let sleeps = line.reader_sleeps;
        drop(line);
        if sleeps {
            self.filled.notify_one();
        }
    }
}

/// The writing side; clones share the queue.
pub struct Sender<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { inner: Arc::clone(&self.inner) }
    }
}

/// The one reading side.
pub struct Receiver<T> {
    inner: Arc<Inner<T>>,
}

/// A queue of at most `limit` values.
pub fn queue<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let line = Line { values: VecDeque::with_capacity(limit), reader_sleeps: false };
    let inner = Arc::new(Inner { line: Mutex::new(line), limit, filled: Condvar::new(), room: Condvar::new() });
    (Sender { inner: Arc::clone(&inner) }, Receiver { inner })
}

impl<T> Sender<T> {
    /// Waits for room, for as long as the reader takes.
    pub fn send(&self, value: T) {
        let full = |line: &mut Line<T>| line.values.len() >= self.inner.limit;
        let line = self.inner.room.wait_while(self.inner.line(), full).unwrap_or_else(PoisonError::into_inner);
        self.inner.push(line, value);
    }

    /// Whether there was room for it.
    #[must_use]
    pub fn offer(&self, value: T) -> bool {
        let line = self.inner.line();
        let room = line.values.len() < self.inner.limit;
        if room {
            self.inner.push(line, value);
        }
        room
    }

    /// The same without waking the reader: it finds the value when it wakes up for another, or at the end of its wait.
    #[must_use]
    pub fn offer_quietly(&self, value: T) -> bool {
        let mut line = self.inner.line();
        let room = line.values.len() < self.inner.limit;
        if room {
            line.values.push_back(value);
        }
        room
    }
}

impl<T> Receiver<T> {
    /// The oldest value; `None` when there is none within `wait`.
    pub fn receive(&self, wait: Duration) -> Option<T> {
        let until = Instant::now() + wait;
        let mut line = self.inner.line();
        while line.values.is_empty() {
            let left = until.checked_duration_since(Instant::now())?;
            line.reader_sleeps = true;
            line = self.inner.filled.wait_timeout(line, left).unwrap_or_else(PoisonError::into_inner).0;
            line.reader_sleeps = false;
        }
        let was_full = line.values.len() == self.inner.limit;
        let value = line.values.pop_front();
        drop(line);
        if was_full {
            self.inner.room.notify_all();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn values_come_in_order_and_no_more_than_fit() {
        let (sender, receiver) = queue(2);
        assert!(sender.offer(1) && sender.offer(2) && !sender.offer(3));
        assert_eq!([receiver.receive(SOON), receiver.receive(SOON)], [Some(1), Some(2)]);
        assert_eq!(receiver.receive(Duration::from_millis(1)), None);
        assert!(sender.offer(4));
        assert_eq!(receiver.receive(Duration::ZERO), Some(4));
    }

    #[test]
    fn what_comes_quietly_wakes_nobody_and_is_there_at_the_end_of_the_wait() {
        let (sender, receiver) = queue(2);
        let reader = std::thread::spawn(move || (Instant::now(), receiver.receive(SOON / 10), receiver.receive(SOON), Instant::now()));
        while !sender.inner.line().reader_sleeps {
            std::thread::yield_now();
        }
        assert!(sender.offer_quietly(1) && sender.offer_quietly(2) && !sender.offer_quietly(3));
        let (begin, first, second, end) = reader.join().expect("the reader");
        assert_eq!((first, second), (Some(1), Some(2)));
        assert!(end - begin >= SOON / 10);
    }

    #[test]
    fn nobody_sleeps_through_what_it_waits_for() {
        let (sender, receiver) = queue(1);
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || (0..500).for_each(|value| sender.send(value)))
            })
            .collect();
        let sum: Option<u64> = (0..2000).map(|_| receiver.receive(SOON)).sum();
        assert_eq!(sum, Some(4 * 499 * 500 / 2));
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    }
}
