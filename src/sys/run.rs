//! The only place that starts a child process: bounded in time and output, with a clean environment, never by a shell. Secrets go in
//! by stdin, never by argv.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::pidfd::Process;
use super::{clock, timer};
use crate::error::{Error, Result};

/// Where programs are looked for; the caller's PATH is not trusted.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Kept of each of stdout and stderr; what comes after is read and dropped.
const KEPT: usize = 1 << 20;
/// How long a pipe may stay open (held by a grandchild) after the child's own end.
const AFTER_EXIT: Duration = Duration::from_millis(100);
/// How long a killed child may take to go before a thread is left waiting for it.
const AFTER_KILL: Duration = Duration::from_millis(200);

/// What a child said. `code` is `None` when a signal ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// Run `program` to its end, at most for `limit`. An error only when it cannot be started or does not end in time (then it and its
/// process group are killed and reaped); whatever exit code it has is for the caller to judge.
pub fn run(program: &str, args: &[&str], stdin: Option<&str>, limit: Duration) -> Result<Output> {
    run_or_kind(program, args, stdin.map(str::as_bytes), limit).map_err(|fault| match fault.kind() {
        io::ErrorKind::NotFound => Error::failed(format!("cannot start \"{program}\": it is not installed (looked in {PATH})")),
        io::ErrorKind::TimedOut => Error::failed(format!("\"{program}\" did not end within {limit:?} and was killed")),
        _ => Error::failed(format!("cannot run \"{program}\": {fault}")),
    })
}

/// The same for callers that have words of their own: `NotFound` is a program that is not installed, `TimedOut` one that was killed at
/// the limit.
pub fn run_or_kind(program: &str, args: &[&str], stdin: Option<&[u8]>, limit: Duration) -> io::Result<Output> {
    let until = clock::now() + limit;
    let mut child = spawn(program, args, stdin.is_some())?;
    let outcome = converse(&mut child, stdin.unwrap_or_default(), until);
    if !matches!(outcome, Ok(Some(_))) {
        kill(child);
    }
    outcome?.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

#[expect(clippy::disallowed_methods, reason = "the one starter of children")]
fn spawn(program: &str, args: &[&str], with_stdin: bool) -> io::Result<Child> {
    Command::new(program)
        .args(args)
        .env_clear() // NOTIFY_SOCKET, LD_*, PG*, MYSQL_* and the rest stay here
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(if with_stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// One end of the conversation; `None` once it is closed.
struct Pipe<T> {
    end: Option<T>,
    kept: Vec<u8>,
}

impl<T: Read + AsFd> Pipe<T> {
    fn new(end: Option<T>) -> io::Result<Pipe<T>> {
        end.as_ref().map_or(Ok(()), set_nonblocking)?;
        Ok(Pipe { end, kept: Vec::new() })
    }

    /// Take what is there now.
    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        while let Some(end) = &mut self.end {
            match end.read(&mut chunk) {
                Ok(0) => self.end = None,
                Ok(got) => {
                    let room = KEPT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&chunk[..got.min(room)]);
                    if got < chunk.len() {
                        return Ok(());
                    }
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Feed and read the child until it has ended and its pipes are closed; `None` when `until` comes first.
fn converse(child: &mut Child, mut input: &[u8], until: Duration) -> io::Result<Option<Output>> {
    let process = Process::open(i32::try_from(child.id()).map_err(io::Error::other)?)?;
    let (mut stdout, mut stderr) = (Pipe::new(child.stdout.take())?, Pipe::new(child.stderr.take())?);
    let mut stdin = child.stdin.take();
    stdin.as_ref().map_or(Ok(()), set_nonblocking)?;
    let mut ended: Option<(ExitStatus, Duration)> = None;
    loop {
        if let Some(end) = &mut stdin
            && feed(end, &mut input)?
        {
            stdin = None;
        }
        stdout.read()?;
        stderr.read()?;
        let closed = stdout.end.is_none() && stderr.end.is_none();
        if let Some((status, linger)) = ended
            && (closed || clock::now() >= linger)
        {
            return Ok(Some(Output { code: status.code(), stdout: stdout.text(), stderr: stderr.text() }));
        }
        if ended.is_none() {
            if let Some(status) = child.try_wait()? {
                ended = Some((status, clock::now() + AFTER_EXIT));
                continue; // what it wrote last is read before anything is judged
            }
            if clock::now() >= until {
                return Ok(None);
            }
        }
        let mut polled = Vec::with_capacity(4);
        polled.extend(stdin.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLOUT)));
        polled.extend(stdout.end.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        polled.extend(stderr.end.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        if ended.is_none() {
            polled.push(PollFd::new(process.as_fd(), PollFlags::POLLIN));
        }
        timer::poll_until(&mut polled, ended.map_or(until, |(_, linger)| linger))?;
    }
}

/// Write what the pipe takes now. True when all is written or the child no longer reads.
fn feed(end: &mut impl Write, input: &mut &[u8]) -> io::Result<bool> {
    while !input.is_empty() {
        match end.write(input) {
            Ok(sent) => *input = &input[sent..],
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
            Err(fault) => return Err(fault),
        }
    }
    Ok(true)
}

fn set_nonblocking<T: AsFd>(end: &T) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(end.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(end.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// SIGKILL for the whole group, then reap. A child stuck in the kernel (a dead disk) is left to a thread: nobody waits for it here.
fn kill(mut child: Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        if let Ok(process) = Process::open(pid) {
            let _ = timer::wait(&[process.as_fd()], clock::now() + AFTER_KILL);
        }
    }
    if !matches!(child.try_wait(), Ok(Some(_))) {
        std::thread::spawn(move || child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn sh(script: &str, stdin: Option<&str>) -> Output {
        run("sh", &["-c", script], stdin, SOON).expect("sh runs")
    }

    #[test]
    fn code_and_both_outputs() {
        assert_eq!(sh("echo out; echo err >&2; exit 7", None), Output { code: Some(7), stdout: "out\n".into(), stderr: "err\n".into() });
        assert_eq!(sh("kill -9 $$", None).code, None);
        assert!(sh("true", None).ok());
    }

    #[test]
    fn environment_is_clean() {
        let output = sh("env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL= | sort", None);
        assert_eq!(output.stdout, format!("LC_ALL=C\nPATH={PATH}\n"));
    }

    #[test]
    fn both_directions_at_once_do_not_deadlock() {
        let input = "x".repeat(3 << 20);
        let output = sh("tee /dev/stderr", Some(&input));
        assert_eq!((output.code, output.stdout.len(), output.stderr.len()), (Some(0), KEPT, KEPT));
    }

    #[test]
    fn input_that_nobody_reads_is_no_error() {
        assert_eq!(sh("exec 0<&-; exit 3", Some(&"x".repeat(1 << 20))).code, Some(3));
    }

    #[test]
    fn the_whole_group_dies_at_the_limit() {
        let started = clock::now();
        let fault = run("sh", &["-c", "sleep 61.5 & sleep 61.5"], None, Duration::from_millis(150)).expect_err("too slow");
        assert!(clock::now() - started < Duration::from_secs(10));
        assert_eq!(fault.to_string(), "\"sh\" did not end within 150ms and was killed");
        let left = run("pgrep", &["-f", "sleep 61.5"], None, SOON).expect("pgrep");
        assert_eq!(left.stdout, "", "a grandchild outlived the limit");
    }

    #[test]
    fn a_background_grandchild_with_our_pipe_does_not_hold_us() {
        let started = clock::now();
        let output = sh("sleep 5 & echo done", None);
        assert_eq!(output.stdout, "done\n");
        assert!(clock::now() - started < Duration::from_secs(4));
    }

    #[test]
    fn missing_program_is_named() {
        let fault = run("no-such-program-of-mmha", &[], None, SOON).expect_err("missing");
        assert!(fault.to_string().starts_with("cannot start \"no-such-program-of-mmha\": it is not installed"), "{fault}");
    }
}
