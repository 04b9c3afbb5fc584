//! What keeps the link and the core running on a starved machine: no page of ours is swapped, and their threads go before ordinary ones. It
//! refuses to raise the whole process, and children do not inherit it.

use std::io;

/// Above ordinary threads, below the kernel's own (sched(7)); any two SCHED_RR priorities would do.
#[derive(Debug, Clone, Copy)]
pub enum Rank {
    Core = 9,
    /// And whom it waits for.
    Link = 10,
}

const NICE: libc::c_int = -15;

/// Keep the program and every page it will touch in memory (mlockall(2)); wants LimitMEMLOCK=infinity. Call it before threads are started.
/// Future pages are locked as they are touched (MCL_ONFAULT, Linux 4.4): the stacks of short-lived threads, and what malloc reserves
/// for them, would else be made resident in full (100 MB instead of 6, measured).
pub fn lock_memory() -> io::Result<()> {
    for flags in [libc::MCL_CURRENT, libc::MCL_FUTURE | libc::MCL_ONFAULT] {
        // SAFETY: integers only.
        if unsafe { libc::mlockall(flags) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Let all threads share one heap: each new thread would else get one of its own, and what short-lived threads leave there stays resident. And
/// keep large buffers out of it, so that one that is freed is given back; glibc would raise that bound to the size of the first (mallopt(3)).
#[cfg(target_env = "gnu")]
pub fn share_heaps() {
    // SAFETY: integers only; called before other threads exist. Whether it works changes nothing but memory.
    let _ = unsafe { (libc::mallopt(libc::M_ARENA_MAX, 1), libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10)) };
}

/// Other C libraries have one heap anyway.
#[cfg(not(target_env = "gnu"))]
pub fn share_heaps() {}

/// Give the calling thread SCHED_RR, not inherited over fork. When that is refused (EPERM: no CAP_SYS_NICE, or a cgroup without real-time
/// share on RT_GROUP_SCHED kernels) it gets nice -15 instead and the refusal is returned for a warning.
pub fn make_real_time(rank: Rank) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: rank as libc::c_int };
    // The raw call, because musl's wrapper only returns ENOSYS. Thread 0 is the caller.
    // SAFETY: the pointer is to a live sched_param, which the kernel only reads.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if rc == 0 {
        return Ok(());
    }
    let refusal = io::Error::last_os_error();
    // On Linux "process 0" of setpriority(2) is the calling thread alone.
    // SAFETY: integers only. Whether this works too makes no difference to the caller's warning.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policy of the calling thread, with the reset-on-fork bit.
    fn policy() -> i64 {
        // SAFETY: one integer in, one out.
        unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
    }

    #[test]
    fn only_the_calling_thread_is_raised() {
        let raised = std::thread::spawn(|| (make_real_time(Rank::Core).is_ok(), policy())).join().expect("join");
        match raised {
            (true, policy) => assert_eq!(policy, i64::from(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK)),
            (false, policy) => assert_eq!(policy, i64::from(libc::SCHED_OTHER), "refused here"),
        }
        assert_eq!(policy(), i64::from(libc::SCHED_OTHER));
    }
}
