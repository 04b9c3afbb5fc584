//! How long the service keeps its SQL sessions: one that has taken in much is replaced, by each thread that keeps one, and after its report.
//! The server here is a part of one, so that its answers are as long as a test wants and its connections can be counted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mmha::act::role::{self, Eye, Order};
use mmha::core::event::{RoleOutcome, Sample, ServerSeen};
use mmha::core::want;
use mmha::probe::{disk, server};
use mmha::sql::fence::Spare;
use mmha::sql::{Login, Target};
use mmha::sys::slot::slot;

const LIMIT: Duration = Duration::from_secs(20);
/// An answer that wears its session out; the observer and the role thread read three a look.
const LONG: usize = 600 << 10;
const SHORT: usize = 10;
const VERSION: &str = "10.11.18-MariaDB";

/// Of connections made so far; the server's own way to number them.
#[derive(Clone, Default)]
struct Opened(Arc<AtomicU32>);

impl Opened {
    fn so_far(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A closed MariaDB without replication, whose every answer but the first is longer than needed by `padding`.
fn serve(padding: usize) -> (Login, Opened) {
    serve_from(1, padding)
}

/// The same, which hangs up on the connections before the `first`.
fn serve_from(first: u32, padding: usize) -> (Login, Opened) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let (address, opened) = (listener.local_addr().expect("address"), Opened::default());
    let counted = opened.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let id = counted.0.fetch_add(1, Ordering::SeqCst) + 1;
            if id >= first {
                std::thread::spawn(move || Connection { stream, turn: 0 }.converse(id, &"x".repeat(padding)));
            }
        }
    });
    (login(address), opened)
}

fn login(address: SocketAddr) -> Login {
    Login { target: Target::Tcp(address), user: "root".into(), password: None, connect: LIMIT, io: LIMIT }
}

/// The MySQL client/server protocol ("Connection Phase", "Text Protocol"), as far as a question and its rows need it.
struct Connection {
    stream: TcpStream,
    turn: u8,
}

impl Connection {
    fn converse(mut self, id: u32, padding: &str) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.greet(id)?;
        self.hear()?;
        self.say(&OK)?;
        while let Some((3, statement)) = self.hear()?.split_first().map(|(kind, rest)| (*kind, String::from_utf8_lossy(rest))) {
            if !statement.starts_with("SELECT") && !statement.starts_with("SHOW") {
                self.say(&OK)?;
                continue;
            }
            let row = answer(&statement, id, padding);
            self.say(&[u8::try_from(row.len()).expect("few columns")])?;
            row.iter().try_for_each(|(name, _)| self.say(&column(name)))?;
            self.say(&END)?;
            self.say(&row.iter().flat_map(|(_, value)| counted(value)).collect::<Vec<u8>>())?;
            self.say(&END)?;
        }
        Ok(())
    }

    fn greet(&mut self, id: u32) -> io::Result<()> {
        // Protocol 4.1 with secure passwords and named plugins.
        let capabilities: u32 = 0x0008_8200;
        let [low, high] = [capabilities & 0xffff, capabilities >> 16].map(|half| u16::try_from(half).expect("half").to_le_bytes());
        let parts: [&[u8]; 11] = [
            &[10],
            VERSION.as_bytes(),
            &[0],
            &id.to_le_bytes(),
            b"12345678\0",
            &low,
            &[0x21, 2, 0],
            &high,
            &[21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            b"123456789012\0",
            b"mysql_native_password\0",
        ];
        self.say(&parts.concat())
    }

    fn say(&mut self, payload: &[u8]) -> io::Result<()> {
        let [one, two, three, _] = u32::try_from(payload.len()).expect("one packet").to_le_bytes();
        self.stream.write_all(&[&[one, two, three, self.turn], payload].concat())?;
        self.turn = self.turn.wrapping_add(1);
        Ok(())
    }

    fn hear(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let [one, two, three, turn] = head;
        let mut payload = vec![0; u32::from_le_bytes([one, two, three, 0]) as usize];
        self.stream.read_exact(&mut payload)?;
        self.turn = turn.wrapping_add(1);
        Ok(payload)
    }
}

const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];
const END: [u8; 5] = [0xfe, 0, 0, 2, 0];

fn answer(statement: &str, id: u32, padding: &str) -> Vec<(&'static str, String)> {
    let texts: &[(&'static str, &str)] = if statement.contains("CONNECTION_ID()") {
        return vec![("id", id.to_string()), ("version", VERSION.to_owned())];
    } else if statement.contains("AS read_only") {
        &[("read_only", "1"), ("server_id", "1"), ("server_key", "1"), ("logged", "1-1-7"), ("applied", ""), ("semi_enabled", "0")]
    } else {
        &[("one", "1")]
    };
    texts.iter().chain(&[("padding", padding)]).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn column(name: &str) -> Vec<u8> {
    let texts = ["def", "", "", "", name, ""].into_iter().flat_map(counted);
    texts.chain([12, 0x21, 0, 0, 0, 1, 0, 0xfd, 0, 0, 0, 0, 0]).collect()
}

/// A text behind its length.
fn counted(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short").to_le_bytes();
    let head: &[u8] = if text.len() < 251 { &length[..1] } else { &[0xfd, length[0], length[1], length[2]] };
    [head, text.as_bytes()].concat()
}

/// Starts an observer; each look is told with the number of connections made by then.
fn observer(login: Login, opened: Opened, watch: bool) -> Receiver<u32> {
    let setting = server::Setting {
        login,
        own_key: "1".into(),
        peer_key: "2".into(),
        hang: LIMIT,
        interval_ms: 1,
        patience_until: Arc::new(AtomicU64::new(0)),
        process: Arc::new(Mutex::new(None)),
    };
    let (sender, looks) = channel();
    std::thread::spawn(move || {
        let (_writer, watch) = slot(watch).expect("slot");
        let report = move |seen| {
            assert!(matches!(seen, ServerSeen::Ok(_)), "{seen:?}");
            let _ = sender.send(opened.so_far());
        };
        server::run(&setting, watch, report, |_| {});
    });
    looks
}

fn next<T>(reports: &Receiver<T>) -> T {
    reports.recv_timeout(LIMIT).expect("a report")
}

#[test]
fn the_observer_replaces_a_worn_session_after_its_report() {
    let (login, opened) = serve(LONG);
    let looks = observer(login, opened, false);
    for connections in 1..=5 {
        assert_eq!(next(&looks), connections, "each look wears one out");
    }
}

#[test]
fn no_session_is_replaced_while_every_millisecond_counts() {
    let (login, opened) = serve(LONG);
    let looks = observer(login, opened, true);
    assert_eq!([(); 10].map(|()| next(&looks)), [1; 10]);
}

#[test]
fn short_answers_wear_a_session_slowly() {
    let (login, opened) = serve(SHORT);
    let looks = observer(login, opened, false);
    let lasted = (0..5_000).take_while(|_| next(&looks) == 1).count();
    assert!((200..1_000).contains(&lasted), "replaced after {lasted} looks of about 1 KB");
}

fn role_setting(login: Login) -> role::Setting {
    role::Setting {
        login,
        own_key: "1".into(),
        peer_key: "2".into(),
        server_id: 1,
        spare: Spare::default(),
        patience_until: Arc::new(AtomicU64::new(0)),
    }
}

fn order(order: u64) -> Order {
    Order {
        order,
        writes: want::Writes::Closed,
        receiver: want::Receiver::Keep,
        recover_to: None,
        semi_sync: false,
        applied_first: false,
        spare_waiting: false,
    }
}

/// The server is as ordered all the time, and the observer says so: still whoever waits for the report must have it.
#[test]
fn the_role_thread_does_not_rest_before_it_has_done_its_work() {
    let (login, _) = serve_from(3, SHORT);
    let (writer, orders) = slot(order(1)).expect("slot");
    let eye = Eye::on(writer);
    eye.see(&ServerSeen::Ok(Arc::new(Sample { read_only: true, ..Sample::default() })));
    let (sender, reports) = channel();
    let report = move |_, outcome| sender.send((Instant::now(), outcome)).unwrap_or_default();
    std::thread::spawn(move || role::run(role_setting(login), &eye, orders, report));
    let [(failed, first), (closed, second)] = [(); 2].map(|()| next(&reports));
    assert!(matches!((&first, &second), (RoleOutcome::Failed(_), RoleOutcome::Closed(_))), "{first:?}, {second:?}");
    assert!(closed - failed < Duration::from_secs(5), "{:?}", closed - failed);
}

#[test]
fn the_role_thread_replaces_a_worn_session_after_its_report() {
    let (login, opened) = serve(LONG);
    let setting = role_setting(login);
    let (writer, orders) = slot(order(1)).expect("slot");
    let (sender, reports) = channel();
    let report = move |order, outcome| {
        assert!(matches!(outcome, RoleOutcome::Closed(_)), "{outcome:?}");
        let _ = sender.send((order, opened.so_far()));
    };
    let eye = Eye::on(writer.clone());
    std::thread::spawn(move || role::run(setting, &eye, orders, report));
    assert_eq!(next(&reports), (1, 1), "the new session is opened after the report");
    // A new one that is not had at once, on a busy machine, is left for another time.
    let renewed = (2..50).any(|number| {
        writer.put(order(number));
        next(&reports).1 >= 5
    });
    assert!(renewed, "each look wears one out");
}

#[test]
fn the_look_at_the_disk_replaces_a_worn_session() {
    let looks = [LONG, SHORT].map(|padding| {
        let (login, opened) = serve(padding);
        let (sender, looks) = channel();
        std::thread::spawn(move || disk::run(&login, move |_| sender.send(opened.so_far()).unwrap_or_default()));
        looks
    });
    let connections = looks.map(|looks| [(); 2].map(|()| next(&looks)));
    assert_eq!(connections, [[1, 2], [1, 1]]);
}
