//! The unix socket between the service and the one-shot commands: one request line, one answer line, both JSON. Every read and write is bounded
//! in time and size on both sides, so that neither can hold the other. It carries words; what they mean is decided elsewhere.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::report::Status;
use crate::sys::{clock, timer};

pub const SOCKET: &str = "/run/mmha/control.sock";
/// A longer line is nobody's request.
const LONGEST: usize = 64 * 1024;
/// How long the service waits for a client to say its line, and to take the answer.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// `to`: the node that shall hold the address; `None` = the other one.
    Switchover {
        #[serde(default)]
        to: Option<String>,
        #[serde(default)]
        force: bool,
        /// For the log: who asked.
        #[serde(default)]
        who: String,
    },
    Release {
        #[serde(default)]
        who: String,
    },
    /// Nothing moves for so long, at most a day.
    Pause {
        minutes: u64,
        #[serde(default)]
        who: String,
    },
    /// Ends a pause and releases the flap brake, on both nodes.
    Resume {
        #[serde(default)]
        who: String,
    },
    /// A quarantined node's extra transactions, as `status` lists them: they may flow (`merge`), or are given up.
    Rejoin {
        merge: bool,
        #[serde(default)]
        extra: String,
        #[serde(default)]
        who: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Status(Box<Status>),
    /// It is under way; the sentence says what happens.
    Accepted(String),
    /// It would lose data or make a second writer; the sentence says why.
    Refused(String),
    /// The request made no sense or could not be served.
    Failed(String),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// Nobody listens.
    NotRunning,
    /// Somebody listens and does not answer in time.
    Silent,
    /// Not allowed, or it answered nonsense.
    Other(String),
}

impl From<Unanswered> for Error {
    fn from(why: Unanswered) -> Error {
        match why {
            Unanswered::NotRunning => Error::failed("the service is not running: `systemctl start mmha`"),
            Unanswered::Silent => Error::failed("the service does not answer: look at `systemctl status mmha` and its log"),
            Unanswered::Other(text) => Error::failed(text),
        }
    }
}

/// Ask the running service; back after `limit` at the latest.
pub fn ask(path: &Path, request: &Request, limit: Duration) -> std::result::Result<Answer, Unanswered> {
    let until = clock::now() + limit;
    let stream = reach(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Unanswered::NotRunning,
        ErrorKind::WouldBlock => Unanswered::Silent, // its queue is full
        ErrorKind::PermissionDenied => Unanswered::Other(format!("no permission to use \"{}\": run as root", path.display())),
        _ => Unanswered::Other(format!("cannot connect to \"{}\": {error}", path.display())),
    })?;
    let exchange = write_line(&stream, request, until).and_then(|()| read_line(&stream, until));
    exchange.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => Unanswered::Silent,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Unanswered::NotRunning, // it ended meanwhile
        _ => Unanswered::Other(format!("the service's answer cannot be read: {error}; is it of another version?")),
    })
}

/// The service's end, for root only. A socket that nobody serves any more is replaced; a living one is left alone.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    if reach(path).is_ok() {
        return Err(Error::failed(format!("another mmha serves \"{shown}\": stop it first (`systemctl stop mmha`)")));
    }
    // Renamed into place with its permissions, so that nobody can connect to it before it has them.
    let unfinished = path.with_extension("new");
    let outcome = remove_if_there(&unfinished)
        .and_then(|()| UnixListener::bind(&unfinished))
        .and_then(|listener| fs::set_permissions(&unfinished, Permissions::from_mode(0o600)).map(|()| listener))
        .and_then(|listener| fs::rename(&unfinished, path).map(|()| listener));
    outcome.map_err(|error| Error::failed(format!("cannot make the control socket \"{shown}\": {error}")))
}

/// Serve one client, in about a second at worst. An error is the client's own trouble and worth a debug line.
pub fn handle(stream: UnixStream, mut serve: impl FnMut(Request) -> Answer) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let answer = match read_line(&stream, clock::now() + PATIENCE) {
        Ok(request) => serve(request),
        Err(error) if error.kind() == ErrorKind::InvalidData => Answer::Failed(format!("this request makes no sense here: {error}")),
        Err(error) => return Err(error),
    };
    write_line(&stream, &answer, clock::now() + PATIENCE)
}

/// connect(2) on a unix socket has no timeout and sleeps while the queue is full: never wait for it.
fn reach(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let end = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(end.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(end))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_line(mut stream: &UnixStream, message: &impl Serialize, until: Duration) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut left = line.as_slice();
    while !left.is_empty() {
        match stream.write(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(sent) => left = &left[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(stream, PollFlags::POLLOUT, until)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_line<T: DeserializeOwned>(mut stream: &UnixStream, until: Duration) -> io::Result<T> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while !line.contains(&b'\n') {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(got) => line.extend_from_slice(&chunk[..got]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(stream, PollFlags::POLLIN, until)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if line.len() > LONGEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "the line is longer than 64 KiB"));
        }
        if clock::now() >= until && !line.contains(&b'\n') {
            return Err(ErrorKind::TimedOut.into()); // a client that drips bytes is no better than a silent one
        }
    }
    let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
    serde_json::from_slice(&line[..end]).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn wait(stream: &UnixStream, what: PollFlags, until: Duration) -> io::Result<()> {
    timer::poll_until(&mut [PollFd::new(stream.as_fd(), what)], until)?;
    if clock::now() >= until { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn place(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("mmha-{name}-{}.sock", std::process::id()))
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn requests_as_the_wire_has_them() {
        fn check(line: &str, expect: Option<Request>) {
            assert_eq!(serde_json::from_str(line).ok(), expect, "{line}");
        }
        let switchover = |to: Option<&str>, force| Request::Switchover { to: to.map(str::to_string), force, who: String::new() };
        check(r#"{"command":"status"}"#, Some(Request::Status));
        check(r#"{"command":"switchover"}"#, Some(switchover(None, false)));
        check(r#"{"command":"switchover","to":"db-02","force":true}"#, Some(switchover(Some("db-02"), true)));
        check(r#"{"command":"release"}"#, Some(Request::Release { who: String::new() }));
        let rejoin = Request::Rejoin { merge: true, extra: "1:15-18".into(), who: String::new() };
        check(r#"{"command":"rejoin","merge":true,"extra":"1:15-18"}"#, Some(rejoin));
        check(r#"{"command":"rejoin"}"#, None);
        for bad in ["", "{}", "null", r#"{"command":"reboot"}"#, r#"{"command":"switchover","force":"yes"}"#] {
            check(bad, None);
        }
    }

    #[test]
    fn question_and_answer() {
        let path = place("talk");
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (stream, _) = listener.accept().unwrap();
                let _ = handle(stream, |request| match request {
                    Request::Release { who } => Answer::Accepted(format!("for {who}")),
                    _ => Answer::Status(Box::new(crate::report::tests::example())),
                });
            }
            listener
        });
        let answer = ask(&path, &Request::Release { who: "me".into() }, SOON).unwrap();
        assert_eq!(answer, Answer::Accepted("for me".into()));
        assert!(matches!(ask(&path, &Request::Status, SOON).unwrap(), Answer::Status(_)));
        let listener = server.join().unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("another mmha"), "a living socket is taken over");
        drop(listener);
        assert!(matches!(ask(&path, &Request::Status, SOON), Err(Unanswered::NotRunning)));
        listen(&path).expect("a stale socket is replaced");
        fs::remove_file(&path).unwrap();
        assert!(matches!(ask(&path, &Request::Status, SOON), Err(Unanswered::NotRunning)));
    }

    #[test]
    fn a_silent_service_costs_the_limit_and_no_more() {
        let path = place("silent");
        let listener = listen(&path).unwrap();
        let before = clock::now();
        assert!(matches!(ask(&path, &Request::Status, Duration::from_millis(80)), Err(Unanswered::Silent)));
        let took = clock::now() - before;
        assert!(took >= Duration::from_millis(80) && took < SOON, "{took:?}");
        drop(listener);
        fs::remove_file(&path).unwrap();
    }

    /// Nonsense is answered or dropped, never waited for and never obeyed.
    #[test]
    fn hostile_clients() {
        fn check(bytes: &[u8], expect: &str) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let sent = bytes.to_vec();
            let client = thread::spawn(move || {
                let mut theirs = theirs;
                let _ = theirs.write_all(&sent);
                let _ = theirs.shutdown(std::net::Shutdown::Write);
                let mut said = String::new();
                let _ = theirs.read_to_string(&mut said);
                said
            });
            let _ = handle(ours, |_| panic!("obeyed"));
            assert!(client.join().unwrap().contains(expect));
        }
        check(b"\n", "makes no sense");
        check(b"{\"command\":\"halt\"}\n", "makes no sense");
        check(b"\xff\xfe\n", "makes no sense");
        check(&vec![b'x'; 70_000], "longer than 64 KiB");
        check(b"{\"command\":\"sta", "");
        check(b"", "");
    }
}
