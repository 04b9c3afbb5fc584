//! A mailbox for the newest value only, whose arrival can be polled for. A reader that is late misses what no longer matters.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

struct Inner<T> {
    value: Mutex<T>,
    ring: UnixStream,
}

/// The writing side; clones share the mailbox.
pub struct Writer<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Writer<T> {
    fn clone(&self) -> Writer<T> {
        Writer { inner: Arc::clone(&self.inner) }
    }
}

/// The one reading side. Its descriptor is readable after `put` until `take_bell`.
pub struct Reader<T> {
    inner: Arc<Inner<T>>,
    bell: UnixStream,
}

/// A mailbox that holds `first`.
pub fn slot<T>(first: T) -> io::Result<(Writer<T>, Reader<T>)> {
    let (ring, bell) = UnixStream::pair()?;
    ring.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    let inner = Arc::new(Inner { value: Mutex::new(first), ring });
    Ok((Writer { inner: Arc::clone(&inner) }, Reader { inner, bell }))
}

impl<T> Writer<T> {
    /// Replaces the value and wakes the reader.
    pub fn put(&self, value: T) {
        self.put_quietly(value);
        self.ring();
    }

    /// Wakes the reader, which finds what it knows.
    pub fn ring(&self) {
        // A full pipe means that the bell rings already.
        let _ = (&self.inner.ring).write(&[1]);
    }

    /// Replaces the value; the reader finds it when it next looks.
    pub fn put_quietly(&self, value: T) {
        *self.inner.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// Another pair of eyes on the same mailbox.
pub struct Glance<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Glance<T> {
    fn clone(&self) -> Glance<T> {
        Glance { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Clone> Glance<T> {
    pub fn get(&self) -> T {
        self.inner.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: Clone> Writer<T> {
    pub fn get(&self) -> T {
        self.inner.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: Clone> Reader<T> {
    /// For another thread that must know the newest value, without the bell.
    pub fn glance(&self) -> Glance<T> {
        Glance { inner: Arc::clone(&self.inner) }
    }

    pub fn get(&self) -> T {
        self.inner.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> Reader<T> {
    /// Silences the bell; the value is whatever is newest.
    pub fn take_bell(&mut self) {
        let mut sink = [0; 64];
        while matches!(self.bell.read(&mut sink), Ok(count) if count == sink.len()) {}
    }
}

impl<T> AsFd for Reader<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, timer};

    #[test]
    fn the_newest_value_wins_and_the_bell_rings_once() {
        let (writer, mut reader) = slot(0).expect("slot");
        writer.put(1);
        writer.put(2);
        assert!(timer::wait_readable(&[reader.as_fd()], clock::now_ms()).expect("poll")[0]);
        reader.take_bell();
        assert_eq!(reader.get(), 2);
        assert!(!timer::wait_readable(&[reader.as_fd()], clock::now_ms()).expect("poll")[0]);
    }
}
