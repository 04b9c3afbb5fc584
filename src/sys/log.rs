//! The service's voice: the `log` macros to syslog, or to stderr in the foreground. The syslog crate alone blocks for ever on a stuck syslogd
//! and never reconnects; here a message that cannot be taken at once is dropped and counted, and the count is told when syslog is back.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::error::{Error, Result};

const SOCKET: &str = "/dev/log";
const IDENT: &str = "mmha";
/// RFC 3164 speaks of 1024 bytes in all; every syslogd of today takes more, none is asked for more than this per line.
const LINE_LIMIT: usize = 2000;

/// Start logging, once per process. In the foreground (a terminal, a test) lines go to stderr only.
pub fn init(foreground: bool) -> Result<()> {
    let logger: Box<dyn Log> = if foreground { Box::new(Stderr) } else { Box::new(Syslog::new(SOCKET.into())) };
    log::set_boxed_logger(logger).map_err(|_| Error::failed("logging was started twice"))?;
    log::set_max_level(LevelFilter::Info);
    Ok(())
}

/// Our own lines from INFO on; of the libraries only warnings (netlink_proto tells every message it sees).
fn wanted(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target() == IDENT || metadata.target().starts_with("mmha::");
    metadata.level() <= if ours { Level::Info } else { Level::Warn }
}

/// One line each, none too long.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty()).map(|line| match line.char_indices().find(|(at, _)| *at >= LINE_LIMIT) {
        Some((at, _)) => &line[..at],
        None => line,
    })
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata)
    }
    fn log(&self, record: &Record<'_>) {
        if wanted(record.metadata()) {
            use io::Write;
            let _ = writeln!(io::stderr(), "{}: {}", record.level().as_str().to_ascii_lowercase(), record.args());
        }
    }
    fn flush(&self) {}
}

type Connection = Logger<LoggerBackend, Formatter3164>;

/// Worst call measured with a stuck syslogd: 0.1 ms.
struct Syslog {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
    lost: AtomicU64,
}

impl Syslog {
    fn new(path: PathBuf) -> Syslog {
        Syslog { path, connection: Mutex::new(None), lost: AtomicU64::new(0) }
    }

    fn connect(&self) -> io::Result<Connection> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        let formatter = Formatter3164 { facility: Facility::LOG_DAEMON, hostname: None, process: IDENT.into(), pid: std::process::id() };
        Ok(Logger::new(LoggerBackend::Unix(socket), formatter))
    }

    fn say(&self, connection: &mut Option<Connection>, level: Level, line: &str) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.send(connection, Level::Warn, &format!("{lost} log lines were lost: syslog did not take them")) {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if !self.send(connection, level, line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Two tries: after a restart of syslogd the old socket fails and a new one works.
    fn send(&self, connection: &mut Option<Connection>, level: Level, line: &str) -> bool {
        for _ in 0..2 {
            if connection.is_none() {
                *connection = self.connect().ok();
            }
            let Some(logger) = connection.as_mut() else { return false };
            match put(logger, level, line) {
                Ok(()) => return true,
                Err(syslog::Error::Write(fault) | syslog::Error::Io(fault)) if fault.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => *connection = None,
            }
        }
        false
    }
}

fn put(logger: &mut Connection, level: Level, line: &str) -> std::result::Result<(), syslog::Error> {
    match level {
        Level::Error => logger.err(line),
        Level::Warn => logger.warning(line),
        Level::Info => logger.info(line),
        Level::Debug | Level::Trace => logger.debug(line),
    }
}

impl Log for Syslog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata)
    }
    fn log(&self, record: &Record<'_>) {
        if !wanted(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let Ok(mut connection) = self.connection.lock() else { return };
        for line in lines(&text) {
            self.say(&mut connection, record.level(), line);
        }
    }
    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(syslog: &Syslog, text: &str) {
        syslog.log(&Record::builder().args(format_args!("{text}")).level(Level::Info).target("mmha::test").build());
    }

    fn receive(server: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let got = server.recv(&mut buffer).expect("a line arrived");
        String::from_utf8_lossy(&buffer[..got]).into_owned()
    }

    #[test]
    fn survives_a_missing_restarted_and_stuck_syslogd() {
        let path = std::env::temp_dir().join(format!("mmha-log-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let syslog = Syslog::new(path.clone());
        say(&syslog, "nobody listens");
        assert_eq!(syslog.lost.load(Ordering::Relaxed), 1);
        for round in 0..2 {
            let server = UnixDatagram::bind(&path).expect("bind");
            server.set_nonblocking(true).expect("nonblocking");
            say(&syslog, "first\nsecond");
            if round == 0 {
                assert!(receive(&server).ends_with("1 log lines were lost: syslog did not take them"));
            }
            let line = receive(&server);
            assert!(line.starts_with("<30>") && line.contains(" mmha[") && line.ends_with("first"), "{line}");
            assert!(receive(&server).ends_with("second"));
            std::fs::remove_file(&path).expect("remove");
        }
        let _stuck = UnixDatagram::bind(&path).expect("bind");
        for _ in 0..5000 {
            say(&syslog, "a stuck syslogd holds nobody");
        }
        assert!(syslog.lost.load(Ordering::Relaxed) > 0);
        std::fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn libraries_are_heard_from_warning_on() {
        let level = |target, level| wanted(&Metadata::builder().target(target).level(level).build());
        assert!(level("mmha::daemon", Level::Info) && level("netlink_proto", Level::Warn));
        assert!(!level("mmha", Level::Debug) && !level("netlink_proto::connection", Level::Info) && !level("mmhax", Level::Info));
    }

    #[test]
    fn lines_are_cut_between_characters() {
        let long = "ä".repeat(3000);
        assert_eq!(lines(&format!("{long}\n\nb")).map(str::len).collect::<Vec<_>>(), [LINE_LIMIT, 1]);
    }
}
