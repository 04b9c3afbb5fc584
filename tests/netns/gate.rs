//! The write gate: what passes when it is shut and open, and how exactly it closes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mmha::act::gate;
use mmha::config::{Config, NodeIndex};
use mmha::sys::clock;
use mmha::sys::run::run;
use mmha::sys::udp::LinkSocket;

use crate::stage::{CLIENT, LIMIT, NODE, Other, PEER, VIP, connect_from, group, ip, pair, privileged, sleep_ms};

const ME: NodeIndex = NodeIndex(0);
const GATE_MS: u64 = 1500;
/// How much too early it may end: a tick of the kernel at HZ=100, and a client that is itself kept waiting for the processor.
const EARLY_MS: u64 = 150;

/// How long the server takes for "reset" and "later".
const LATER_MS: u64 = 200;

/// The configuration of the pair on stage.
fn config(name: &str) -> Config {
    config_of(name, &[VIP])
}

/// With these floating addresses.
fn config_of(name: &str, vips: &[Ipv4Addr]) -> Config {
    let vips: String = vips.iter().map(|vip| format!("[[vip]]\naddress = \"{vip}/24\"\n")).collect();
    let directory = std::env::temp_dir().join(format!("mmha-gate-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("mkdir");
    for (file, text) in [("authkeys", "auth 1\n1 sha1 for-this-test-only\n"), ("password", "for-this-test-only\n")] {
        fs::write(directory.join(file), text).expect("write");
        fs::set_permissions(directory.join(file), fs::Permissions::from_mode(0o600)).expect("chmod");
    }
    let directory = directory.display();
    let text = format!(
        "[cluster]\nname = \"stage\"\n[[node]]\nname = \"one\"\naddress = \"{NODE}\"\n[[node]]\nname = \"two\"\naddress = \"{PEER}\"\n\
         {vips}[heartbeat]\nping = []\nauthkeys = \"{directory}/authkeys\"\n\
         [mysql]\n[replication]\npassword_file = \"{directory}/password\"\n[firewall]\nmanage = true\n"
    );
    let path = format!("{directory}/mmha.toml");
    fs::write(&path, text).expect("write");
    let config = Config::load(path.as_ref()).expect("configuration");
    fs::remove_dir_all(directory.to_string()).expect("clean");
    assert_eq!(u128::from(GATE_MS), config.heartbeat.gate.as_millis(), "the default gate");
    config
}

/// The node's heartbeat socket.
struct Holder(LinkSocket);

impl Holder {
    fn new() -> Holder {
        Holder(LinkSocket::bind(NODE, 694, None).expect("bind"))
    }
    fn beat(&mut self, mark: u32) {
        self.0.send_marked(mark, SocketAddrV4::new(PEER, 694), b"beat").expect("heartbeat");
    }
}

/// A server that echoes, on the MySQL port of every address of this namespace.
fn serve() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 3306)).expect("listen");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            std::thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok(got @ 1..) = stream.read(&mut bytes) {
                    match &bytes[..got] {
                        b"reset" => {
                            sleep_ms(LATER_MS);
                            return reset(&stream);
                        }
                        b"later" => {
                            sleep_ms(LATER_MS);
                            let _ = stream.write_all(b"later");
                        }
                        said => drop(stream.write_all(said)),
                    }
                }
            });
        }
    });
}

/// SO_LINGER 0: closing sends RST.
fn reset(stream: &TcpStream) {
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).expect("linger");
    assert!(stream.as_raw_fd() > 2);
}

fn dial(other: &Other, from: impl Into<IpAddr>, to: impl Into<IpAddr>) -> std::io::Result<TcpStream> {
    let (from, to) = (SocketAddr::new(from.into(), 0), SocketAddr::new(to.into(), 3306));
    other.run(move || connect_from(from, to))
}

/// One statement and its answer.
fn asks(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

fn refused(result: std::io::Result<impl Sized>) {
    let fault = result.err().expect("the gate is shut");
    assert_eq!(fault.kind(), ErrorKind::ConnectionRefused, "{fault}");
}

#[test]
fn heartbeats_open_keep_and_shut_it_for_every_address() {
    if !privileged() {
        return;
    }
    let other = pair();
    ip(&format!("addr add {VIP}/32 dev here"));
    serve();
    let config = config("keep");
    let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let fault = gate::is_open().expect_err("none yet").to_string();
    assert!(fault.starts_with("no write gate: "), "{fault}");
    assert!(!gate::verify(&config, ME).expect("verify"));
    gate::install(&config, ME).expect("install");
    assert!(gate::verify(&config, ME).expect("verify") && !gate::is_open().expect("state"));

    for target in [NODE, VIP] {
        refused(dial(&other, CLIENT, target));
    }
    refused(dial(&other, v6(0x10), v6(0x241)));
    let mut replication = dial(&other, PEER, NODE).expect("replication passes");
    asks(&mut replication).expect("replication passes");
    asks(&mut TcpStream::connect((VIP, 3306)).expect("loopback passes")).expect("loopback passes");

    let mut holder = Holder::new();
    holder.beat(0);
    assert!(!gate::is_open().expect("state"), "a standby's heartbeat opens nothing");
    holder.beat(gate::MARK_OPEN);
    let mut clients = [
        dial(&other, CLIENT, NODE).expect("open"),
        dial(&other, CLIENT, VIP).expect("open"),
        dial(&other, v6(0x10), v6(0x241)).expect("open"),
    ];
    for _ in 0..10 {
        holder.beat(gate::MARK_OPEN);
        sleep_ms(250);
        clients.iter_mut().for_each(|client| asks(client).expect("open"));
    }
    gate::install(&config, ME).expect("install again");
    clients.iter_mut().for_each(|client| asks(client).expect("a restarted agent cuts nobody"));

    holder.beat(gate::MARK_SHUT);
    for client in &mut clients {
        assert_eq!(asks(client).expect_err("shut").kind(), ErrorKind::ConnectionReset);
    }
    assert!(!gate::is_open().expect("state"));
    asks(&mut replication).expect("replication passes");

    holder.beat(gate::MARK_OPEN);
    let mut client = dial(&other, CLIENT, VIP).expect("open");
    gate::shut().expect("shut");
    assert_eq!(asks(&mut client).expect_err("shut").kind(), ErrorKind::ConnectionReset);
    gate::remove().expect("remove");
    gate::remove().expect("remove twice");
    asks(&mut dial(&other, CLIENT, VIP).expect("no gate, no fence")).expect("no gate, no fence");
}

#[test]
fn it_closes_in_time_and_resets_get_out() {
    if !privileged() {
        return;
    }
    let other = pair();
    serve();
    let config = config("end");
    gate::install(&config, ME).expect("install");
    let mut holder = Holder::new();
    for round in 0..3 {
        sleep_ms(round * 7); // against different phases of the kernel's tick
        holder.beat(gate::MARK_OPEN);
        let mut client = dial(&other, CLIENT, NODE).expect("open");
        holder.beat(gate::MARK_OPEN);
        let sent = clock::now();
        let mut last = Duration::ZERO;
        loop {
            let asked = clock::now();
            if asks(&mut client).is_err() {
                break;
            }
            last = asked - sent;
        }
        // The time of asking, because a client that is kept waiting for the processor sees its answer late.
        println!("the last statement that was answered came {last:?} after the last heartbeat");
        assert!(last >= Duration::from_millis(GATE_MS - EARLY_MS), "closed too early: {last:?}");
        assert!(last <= Duration::from_millis(GATE_MS), "answered after the gate's end: {last:?}");
    }
    for (said, expect) in [("later", ErrorKind::WouldBlock), ("reset", ErrorKind::ConnectionReset)] {
        holder.beat(gate::MARK_OPEN);
        let mut client = dial(&other, CLIENT, NODE).expect("open");
        client.write_all(said.as_bytes()).expect("send");
        sleep_ms(LATER_MS / 4);
        holder.beat(gate::MARK_SHUT);
        assert_eq!(client.read(&mut [0]).expect_err("shut").kind(), expect, "after \"{said}\"");
    }
}

#[test]
fn whoever_asks_for_an_address_that_has_left_is_told_at_once() {
    if !privileged() {
        return;
    }
    let other = pair();
    serve();
    for (name, vips) in [("stray", vec![VIP]), ("strays", group(64))] {
        let vip = vips[vips.len() - 1];
        let config = config_of(name, &vips);
        ip(&format!("addr add {vip}/32 dev here"));
        gate::install(&config, ME).expect("install");
        assert!(gate::verify(&config, ME).expect("verify"), "{name}");
        let mut holder = Holder::new();
        holder.beat(gate::MARK_OPEN);
        let mut client = dial(&other, CLIENT, vip).expect("open");
        ip(&format!("addr del {vip}/32 dev here"));
        assert_eq!(asks(&mut client).expect_err("it left").kind(), ErrorKind::ConnectionReset);
        // The client has not heard yet that the address has moved.
        let show = ip("link show here");
        let mac = show.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC").to_owned();
        other.run(move || ip(&format!("neigh replace {vip} lladdr {mac} dev there")));
        let asked = clock::now();
        refused(dial(&other, CLIENT, vip));
        assert!(clock::now() - asked < Duration::from_millis(500), "a lost SYN is repeated after a second");
    }
}

#[test]
fn a_peer_that_is_gone_from_the_cable_still_counts_as_sent_to() {
    if !privileged() {
        return;
    }
    let other = pair();
    gate::install(&config("gone"), ME).expect("install");
    let mut holder = Holder::new();
    other.run(|| ip("link set there down"));
    holder.beat(gate::MARK_OPEN);
    assert!(gate::is_open().expect("state"), "the output hook comes before the neighbour is looked for");
    ip("link set here down");
    assert!(holder.0.send_marked(gate::MARK_SHUT, SocketAddrV4::new(PEER, 694), b"").is_err(), "no route: the hook sees nothing");
    assert!(gate::is_open().expect("state"));
    gate::shut().expect("shut");
    assert!(!gate::is_open().expect("state"), "shutting needs no route");
    run("nft", &["flush", "ruleset"], None, LIMIT).expect("nft");
    assert!(!gate::verify(&config("gone"), ME).expect("verify"), "a flushed ruleset is noticed");
}
