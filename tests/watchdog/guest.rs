//! Runs in a virtual machine of its own (tests/watchdog/run), on a real kernel with its softdog driver: the link thread with a watchdog device.
//! Each story ends with a line for the host, or with the reset that it is about: the machine has no other way to end then.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mmha::act::lease::Lease;
use mmha::act::watchdog::{Guard, Timer};
use mmha::config::authkeys::Authkeys;
use mmha::config::{Config, NodeIndex, Secret};
use mmha::core::Core;
use mmha::core::event::Ms;
use mmha::core::state::State;
use mmha::core::want::Hold;
use mmha::daemon::link::{self, Order, Statistics};
use mmha::daemon::{Message, callers, limits};
use mmha::peer::session::Sessions;
use mmha::sys::queue::{Receiver, queue};
use mmha::sys::rt::{self, Rank};
use mmha::sys::slot::{Writer, slot};
use mmha::sys::udp::LinkSocket;
use mmha::sys::watchdog::describe;
use mmha::sys::{clock, netlink, timer};

const DEVICE: &str = "/dev/watchdog0";
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 243);
const FILE: &str = r#"[cluster]
name = "guest"
[[node]]
name = "one"
address = "192.0.2.241"
[[node]]
name = "two"
address = "192.0.2.242"
[[vip]]
address = "192.0.2.243/24"
[heartbeat]
watchdog = "/dev/watchdog0"
"#;

fn main() {
    let story = std::env::args().nth(1).unwrap_or_default();
    match story.as_str() {
        "live" => live(),
        "nowayout" => nowayout(),
        "starve" => starve(),
        "killed" => killed(),
        // What `killed` kills, and what `live` replaces.
        "holder" => drop(Link::holding(guard())),
        _ => panic!("no story \"{story}\""),
    }
    println!("GUEST {story}: ok");
}

fn config() -> Config {
    Config::parse(Path::new("guest.toml"), FILE, |_, _| Ok(Secret::new("x"))).expect("the configuration of the guest")
}

fn guard() -> Guard {
    Guard::open(&config().heartbeat).expect("a device").expect("is configured")
}

fn sleep(ms: Ms) {
    timer::wait_readable(&[], clock::now_ms() + ms).expect("wait");
}

fn is_armed() -> bool {
    describe(Path::new(DEVICE)).expect("device").expect("sysfs").active
}

fn timeout() -> String {
    std::fs::read_to_string("/sys/class/watchdog/watchdog0/timeout").expect("sysfs").trim().to_owned()
}

fn has_address() -> bool {
    netlink::addresses(Duration::from_secs(1)).expect("netlink").iter().any(|addr| addr.ip == VIP)
}

/// The host measures from here to the end of the machine.
fn say(what: &str) {
    println!("GUEST {what} at {} ms", clock::now_ms());
}

/// A link thread that really renews the address, on the loopback interface.
struct Link {
    orders: Writer<Order>,
    order: Order,
    events: Receiver<Message>,
    statistics: Arc<Mutex<Statistics>>,
}

impl Link {
    fn start(watchdog: Guard) -> Link {
        let (config, me) = (config(), NodeIndex(0));
        let heartbeat = &config.heartbeat;
        let core = Core::new(limits::identity(&config, me), limits::limits(&config), clock::now_ms());
        let keys = Authkeys::parse("auth 1\n1 sha1 0123456789abcdef0123\n", "authkeys").expect("keys");
        let order = Order {
            order: 1,
            vip: Hold::No,
            gate: Hold::No,
            say: core.want().say.clone(),
            blessed_until_ms: Ms::MAX,
            keys: Arc::new(keys),
        };
        let (orders, wanted) = slot(order.clone()).expect("slot");
        let (sender, events) = queue(4096);
        let socket = LinkSocket::bind(Ipv4Addr::LOCALHOST, 694, None).expect("bind");
        let setting = link::Setting {
            paths: vec![link::Path { socket, peer: std::net::SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 694) }],
            sessions: Sessions::new(1, 1, 7, limits::millis(heartbeat.deadtime)),
            lease: Lease::find("lo", vec![VIP], heartbeat.lease),
            callers: callers::pair(netlink::Callers { ips: vec![VIP], port: 3306 }).0,
            watchdog: Some(watchdog),
            gate_available: false,
            keepalive_ms: limits::millis(heartbeat.keepalive),
            gate_ms: limits::millis(heartbeat.gate),
            lease_ms: limits::millis(heartbeat.lease),
        };
        let statistics = Arc::new(Mutex::new(Statistics { paths: vec![Default::default()], ..Statistics::default() }));
        let shared = Arc::clone(&statistics);
        std::thread::spawn(move || {
            rt::make_real_time(Rank::Link).expect("real time");
            link::run(setting, wanted, sender, shared);
        });
        Link { orders, order, events, statistics }
    }

    fn holding(watchdog: Guard) -> Link {
        let mut link = Link::start(watchdog);
        link.want(State::Active, Hold::Yes);
        sleep(500);
        assert!(has_address() && is_armed(), "held without a guard");
        assert_eq!(timeout(), "1");
        say("holds");
        sleep(3_000);
        link
    }

    fn want(&mut self, state: State, vip: Hold) {
        self.order.order += 1;
        let say = Arc::make_mut(&mut self.order.say);
        say.version += 1;
        (say.state, self.order.vip) = (state, vip);
        self.orders.put(self.order.clone());
    }

    fn timer(&self) -> Option<Timer> {
        self.statistics.lock().expect("lock").watchdog
    }
}

/// At rest for longer than the timeout; armed and fed; at rest again; a second program is refused; a killed agent that comes back in time.
fn live() {
    assert!(!is_armed());
    let mut patient = config().heartbeat;
    patient.watchdog_timeout = Duration::from_secs(100_000);
    let refused = Guard::open(&patient).expect_err("softdog counts to 65535").to_string();
    assert!(refused.contains("cannot be armed for") && !is_armed(), "{refused}");

    let mut link = Link::holding(guard());
    assert_eq!(link.timer(), Some(Timer::Armed));
    let refused = Guard::open(&config().heartbeat).expect_err("it is in use").to_string();
    assert!(refused.contains("belongs to another program"), "{refused}");
    assert!(has_address() && is_armed());
    link.want(State::Open, Hold::No);
    sleep(1_500);
    assert!(is_armed() && !has_address(), "claimed is claimed, with or without the address");
    link.want(State::Standby, Hold::No);
    sleep(500);
    assert_eq!((link.timer(), is_armed(), has_address()), (Some(Timer::Stopped), false, false));
    say("rests");
    sleep(3_000);
    link.want(State::Active, Hold::Yes);
    sleep(500);
    assert!(is_armed() && has_address());
    let mut events = std::iter::from_fn(|| link.events.receive(Duration::ZERO));
    assert!(!events.any(|message| matches!(message, Message::Lost(_))));
    link.want(State::Standby, Hold::No);
    sleep(500);
    assert!(!is_armed());
    drop(link);
}

/// A driver that cannot be stopped is fed while nothing is held, with a timeout that is long then.
fn nowayout() {
    let mut link = Link::start(guard());
    link.want(State::Standby, Hold::No);
    for _ in 0..2 {
        sleep(500);
        assert_eq!((timeout().as_str(), is_armed()), ("60", true));
        link.want(State::Active, Hold::Yes);
        sleep(3_000);
        assert_eq!((timeout().as_str(), has_address()), ("1", true));
        link.want(State::Standby, Hold::No);
    }
    sleep(500);
    assert_eq!(link.timer(), Some(Timer::Unstoppable { seconds: 60 }));
}

/// The core's thread stands still: its blessing ends, and nobody feeds.
fn starve() {
    let mut link = Link::holding(guard());
    link.order.blessed_until_ms = clock::now_ms();
    say("starves");
    link.orders.put(link.order.clone());
    sleep(10_000);
    panic!("a node that does not come round lives on");
}

fn holder() -> Child {
    // tests/watchdog/run has put this very program there.
    let own = std::env::current_exe().expect("path");
    let child = spawn(&own);
    sleep(2_000);
    assert!(is_armed() && has_address());
    child
}

#[allow(clippy::disallowed_methods, reason = "the child is to be killed in the middle, which sys::run does not do")]
fn spawn(program: &Path) -> Child {
    Command::new(program).arg("holder").spawn().expect("spawn")
}

/// Killed, and back in time: nothing happens. Killed, and nobody comes back: the machine ends.
fn killed() {
    for round in 1..=3 {
        let mut child = holder();
        child.kill().expect("kill");
        let status = child.wait().expect("wait");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert!(is_armed(), "a timer that dies with its program guards nothing");
        say("killed");
        if round == 3 {
            break;
        }
        sleep(300);
        let returned = guard();
        assert!(!is_armed());
        sleep(2_000);
        drop(returned);
    }
    sleep(10_000);
    panic!("a killed holder's box lives on");
}
