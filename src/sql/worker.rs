//! Disposable threads for calls that may never come back. The caller waits no longer than its bound; a thread that is still busy then
//! is left behind, one that has come back takes the next call. Refuses to start more once too many are left behind, because each is a symptom of the same hung server.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sql::error::SqlError;

/// How many abandoned threads may be alive at a time.
const ABANDONED_AT_MOST: usize = 16;
/// The client library's deepest recursion is far below this; it is address space, not memory.
const STACK_BYTES: usize = 1 << 20;

/// Threads that wait for another call: the observer's and the role's, most of the time.
const IDLE_AT_MOST: usize = 2;

static ABANDONED: AtomicUsize = AtomicUsize::new(0);
static IDLE: Mutex<Vec<SyncSender<Task>>> = Mutex::new(Vec::new());

type Task = Box<dyn FnOnce() + Send>;

/// Runs `call` on its own thread and waits at most `limit` for it. `what` names it in the error.
pub fn bounded<T, F>(what: &str, limit: Duration, call: F) -> Result<T, SqlError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SqlError> + Send + 'static,
{
    let call = Box::new(move || call().map(|answer| Box::new(answer) as Anything));
    let answer = bounded_anything(what, limit, call)?.downcast::<T>();
    answer.map(|answer| *answer).map_err(|_| SqlError::other(format!("{what}: the answer is of another kind than asked for")))
}

/// One copy for all kinds of answers: threads and channels are large, and there are many callers.
type Anything = Box<dyn Any + Send>;

fn bounded_anything(
    what: &str,
    limit: Duration,
    call: Box<dyn FnOnce() -> Result<Anything, SqlError> + Send>,
) -> Result<Anything, SqlError> {
    if ABANDONED.load(Ordering::SeqCst) >= ABANDONED_AT_MOST {
        return Err(SqlError::timeout(format!("{what}: not tried, {ABANDONED_AT_MOST} earlier calls still hang in the server")));
    }
    let job = Job::start(what, call)?;
    match job.answer.recv_timeout(limit) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Disconnected) => Err(SqlError::other(format!("{what}: the worker ended without an answer"))),
        Err(RecvTimeoutError::Timeout) => {
            job.abandon();
            Err(SqlError::timeout(format!("{what}: no answer within {} ms", limit.as_millis())))
        }
    }
}

/// A call under way on its own thread, for a caller that does something else meanwhile.
pub(super) struct Job<T> {
    pub(super) answer: Receiver<Result<T, SqlError>>,
    /// Set by whoever comes first, the thread when it is done or the caller when it gives up.
    settled: Arc<AtomicBool>,
}

impl<T: Send + 'static> Job<T> {
    pub(super) fn start<F>(what: &str, call: F) -> Result<Job<T>, SqlError>
    where
        F: FnOnce() -> Result<T, SqlError> + Send + 'static,
    {
        let (sender, answer) = sync_channel(1);
        let settled = Arc::new(AtomicBool::new(false));
        let (name, done) = (what.to_owned(), Arc::clone(&settled));
        let body = move || {
            // A hostile or broken server can make the client library panic; that must cost this call only.
            let result = catch_unwind(AssertUnwindSafe(call))
                .unwrap_or_else(|_| Err(SqlError::other(format!("{name}: the MySQL client library panicked on the server's answer"))));
            let _ = sender.send(result);
            if done.swap(true, Ordering::SeqCst) {
                ABANDONED.fetch_sub(1, Ordering::SeqCst);
            }
        };
        hand_out(Box::new(body)).map_err(|error| SqlError::other(format!("{what}: cannot start a thread: {error}")))?;
        Ok(Job { answer, settled })
    }

    /// Counts the thread as left behind until it ends by itself.
    pub(super) fn abandon(self) {
        ABANDONED.fetch_add(1, Ordering::SeqCst);
        if self.settled.swap(true, Ordering::SeqCst) {
            ABANDONED.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// To a thread that waits, or to a new one.
fn hand_out(mut task: Task) -> std::io::Result<()> {
    while let Some(waiting) = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop() {
        match waiting.send(task) {
            Ok(()) => return Ok(()),
            Err(SendError(back)) => task = back,
        }
    }
    std::thread::Builder::new().name("mysql".to_owned()).stack_size(STACK_BYTES).spawn(|| work(task)).map(drop)
}

fn work(mut task: Task) {
    let (sender, inbox) = sync_channel(1);
    loop {
        task();
        {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() >= IDLE_AT_MOST {
                return;
            }
            idle.push(sender.clone());
        }
        match inbox.recv() {
            Ok(next) => task = next,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Fault;
    use std::sync::mpsc::channel;

    /// One test, because the count of abandoned threads is one per process.
    #[test]
    fn answers_panics_timeouts_and_the_limit_on_the_abandoned() {
        let second = Duration::from_secs(1);
        assert_eq!(bounded("seven", second, || Ok(7)), Ok(7));
        let panicked = bounded("boom", second, || -> Result<(), SqlError> { panic!("by a server") }).unwrap_err();
        assert!(panicked.text.contains("boom") && panicked.text.contains("panicked"));

        let mut held = Vec::new();
        for _ in 0..ABANDONED_AT_MOST {
            let (release, wait) = channel::<()>();
            held.push(release);
            let hung = bounded("hung", Duration::from_millis(1), move || {
                let _ = wait.recv();
                Ok(())
            });
            assert_eq!(hung.unwrap_err().fault, Fault::Timeout);
        }
        let refused = bounded("next", second, || Ok(())).unwrap_err();
        assert!(refused.text.contains("not tried"), "{refused}");
        drop(held);
        let freed = std::time::Instant::now();
        while bounded("again", second, || Ok(())).is_err() {
            assert!(freed.elapsed() < second * 10, "abandoned workers that ended still count");
            std::thread::yield_now();
        }
    }
}
