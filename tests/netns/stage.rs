//! What the tests share: a namespace per thread, a pair of them joined by a cable, and commands that must succeed.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use mmha::sys::run::run;
use mmha::sys::{clock, timer};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

pub const LIMIT: Duration = Duration::from_secs(10);
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 241);
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 242);
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 243);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// So many floating addresses, `VIP` first.
pub fn group(count: u8) -> Vec<Ipv4Addr> {
    std::iter::once(VIP).chain((100..).map(|last| Ipv4Addr::new(192, 0, 2, last))).take(count.into()).collect()
}

/// True when namespaces can be made. In CI the answer must be yes.
pub fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var("CI").as_deref() != Ok("true"), "CI must run this as root");
    root
}

/// Put this thread, and what it starts from now on, into a fresh network namespace.
pub fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
    ip("link set lo up");
}

pub fn ip(arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let output = run("ip", &arguments, None, LIMIT).expect("ip runs");
    assert!(output.ok(), "ip {arguments:?}: {}", output.stderr);
    output.stdout
}

pub fn sleep_ms(ms: u64) {
    timer::wait_readable(&[], clock::now_ms() + ms).expect("wait");
}

type Job = Box<dyn FnOnce() + Send>;

/// The other box: a thread in a namespace of its own. A socket made there keeps its namespace wherever it is used.
pub struct Other(Sender<Job>);

impl Other {
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        self.0.send(Box::new(move || drop(sender.send(job())))).expect("the other box lives");
        receiver.recv_timeout(LIMIT).expect("the other box answers")
    }
}

/// This thread becomes the node (`here`, 192.0.2.241 and 2001:db8::241), a new one the peer's box (`there`, .242 and .10, 2001:db8::10).
pub fn pair() -> Other {
    enter_namespace();
    let (jobs, inbox) = channel::<Job>();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        enter_namespace();
        sender.send(nix::unistd::gettid()).expect("listened to");
        inbox.iter().for_each(|job| job());
    });
    let thread = receiver.recv_timeout(LIMIT).expect("a second namespace");
    ip(&format!("link add here type veth peer name there netns {thread}"));
    ip(&format!("addr add {NODE}/24 dev here"));
    ip("addr add 2001:db8::241/64 dev here nodad");
    ip("link set here up");
    let other = Other(jobs);
    other.run(|| {
        ip(&format!("addr add {PEER}/24 dev there"));
        ip(&format!("addr add {CLIENT}/24 dev there"));
        ip("addr add 2001:db8::10/64 dev there nodad");
        ip("link set there up");
    });
    other
}

/// A TCP connection from a given address, with time limits on connect, read and write.
pub fn connect_from(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    let stream = TcpStream::from(fd);
    stream.set_write_timeout(Some(Duration::from_secs(2)))?; // bounds connect(2) as well (socket(7), SO_SNDTIMEO)
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    connect(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
