//! `mmha init`: writes a commented configuration and strong keys, checked before anything is written. Never overwrites without --force, leaves
//! nothing half-written, and touches neither server nor network.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::say;
use crate::config::{Config, Secret};
use crate::error::{Error, Kind, Result};
use crate::sys::{file, netlink};

pub struct Options {
    pub nodes: Vec<(String, Ipv4Addr)>,
    pub vips: Vec<String>,
    pub interface: Option<String>,
    pub cluster: String,
    pub clients: Vec<String>,
    pub ping: Vec<Ipv4Addr>,
    pub preferred: Option<String>,
    pub dir: PathBuf,
    pub force: bool,
}

/// HMAC-SHA1 uses up to 64 bytes of key; 160 bits are as strong as its digest.
const KEY_BYTES: usize = 20;
/// 32 hexadecimal digits: as long as a replication password may be.
const PASSWORD_BYTES: usize = 16;

pub fn run(options: &Options) -> Result<()> {
    say(&perform(options)?);
    Ok(())
}

/// What the operator is told when all is written.
fn perform(options: &Options) -> Result<String> {
    let mut ping = options.ping.clone();
    if ping.is_empty() {
        // No route table, no gateway: the same as none found.
        ping.extend(netlink::default_gateway(Duration::from_secs(1)).ok().flatten());
    }
    let text = render(options, &ping)?;
    let path = options.dir.join("mmha.toml");
    let config = Config::parse(&path, &text, |_, _| Ok(Secret::new("not written yet")))
        .map_err(|error| Error::new(Kind::Usage, format!("these options make no valid configuration:\n{error}")))?;
    let files = [
        (
            options.dir.join("authkeys"),
            format!(
                "# Both nodes need the same file. Rotate: add a key on both, then change the auth line.\nauth 1\n1 sha1 {}\n",
                random_hex(KEY_BYTES)?
            ),
            0o600,
        ),
        (options.dir.join("replication.password"), format!("{}\n", random_hex(PASSWORD_BYTES)?), 0o600),
        (path.clone(), text, 0o644), // last: once it is there, all is there
    ];
    write(&files, &options.dir, options.force)?;
    let mut told = format!("wrote {}, authkeys and replication.password\n", path.display());
    if config.heartbeat.ping.is_empty() {
        told.push_str("\nWARNING: no default gateway found, so heartbeat.ping is empty: a cut between the nodes makes two writers.\n");
        told.push_str("Name a router or another steady host there, on both nodes.\n");
    }
    Ok(told + &next_steps(&config, &options.dir))
}

fn write(files: &[(PathBuf, String, u32)], dir: &Path, force: bool) -> Result<()> {
    let present: Vec<String> =
        files.iter().filter(|(path, ..)| path.exists()).map(|(path, ..)| format!("\"{}\"", path.display())).collect();
    if !present.is_empty() && !force {
        return Err(Error::refused(format!(
            "{} exists already; --force replaces it, and then both nodes need the new files",
            present.join(" and ")
        )));
    }
    fs::create_dir_all(dir).map_err(|error| Error::failed(format!("cannot make \"{}\": {error}", dir.display())))?;
    let mut made = Vec::new();
    for (path, content, mode) in files {
        let is_new = !path.exists();
        if let Err(error) = file::write_atomic(path, content.as_bytes(), *mode) {
            // Keys without the configuration they belong to would stop the next try.
            made.iter().for_each(|path: &&PathBuf| drop(fs::remove_file(path)));
            return Err(Error::failed(format!("cannot write \"{}\": {error}; nothing new was left behind", path.display())));
        }
        if is_new {
            made.push(path);
        }
    }
    Ok(())
}

fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    let outcome = fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    outcome.map_err(|error| Error::failed(format!("cannot read random bytes from /dev/urandom: {error}")))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn next_steps(config: &Config, dir: &Path) -> String {
    let me = config.me();
    let peer = me.as_ref().map_or_else(|_| "THE-OTHER-NODE".to_string(), |me| config.node(me.other()).address.to_string());
    let dir = dir.display();
    let note = match me {
        Ok(_) => String::new(),
        Err(error) => format!("\nNote: {error}.\n"),
    };
    format!(
        "{note}\nNext:\n  1. give the other node the same files:  rsync -a {dir}/ root@{peer}:{dir}/\n     \
         (or: scp -p {dir}/mmha.toml {dir}/authkeys {dir}/replication.password root@{peer}:{dir}/)\n  \
         2. on both nodes, in any order:         mmha bootstrap\n  \
         3. on both nodes:                       systemctl enable --now mmha\n  \
         4. see how it is:                       mmha status; mmha check"
    )
}

/// The configuration with a comment to every choice. What is not said is left at its default.
pub fn render(options: &Options, ping: &[Ipv4Addr]) -> Result<String> {
    let [one, two] = options.nodes.as_slice() else {
        let count = options.nodes.len();
        return Err(Error::new(Kind::Usage, format!("a pair has exactly two nodes: give --node NAME=ADDR twice (here: {count})")));
    };
    Ok(template(options, one, two, ping).lines().map(align).collect())
}

fn template(options: &Options, (one, first): &(String, Ipv4Addr), (two, second): &(String, Ipv4Addr), ping: &[Ipv4Addr]) -> String {
    let interface = match &options.interface {
        Some(name) => format!("interface = {}", quote(name)),
        None => "# interface = \"eth0\"  # default: the interface that has the node's own address".to_string(),
    };
    let ping_note = if ping.is_empty() { "# EMPTY: a cut between the nodes makes two writers. Name your gateway here!\n" } else { "" };
    let dir = options.dir.display();
    let first_vip = options.vips.first().map_or("", String::as_str);
    let more: String = options.vips.iter().skip(1).map(|vip| format!("\n[[vip]]\naddress = {}\n", quote(vip))).collect();
    format!(
        r#"# mmha: two MySQL or MariaDB boxes as one. The same file on both nodes; mmha.toml(5) explains every key.

[cluster]
name = {cluster}  # goes into every heartbeat: two pairs on one segment never mix

[[node]]  # exactly two
name = {one}  # what `uname -n` prints there
address = "{first}"  # its own address: replication, heartbeat
server_id = 1

[[node]]
name = {two}
address = "{second}"
server_id = 2

[[vip]]  # the floating address; it belongs to neither node. Up to 64 such sections: they move together
address = {vip}
{interface}
preferred = {preferred}  # who has it when both are well
{more}
[heartbeat]
port = 694
keepalive = "250ms"  # how often each node speaks
deadtime = "2s"  # silence that means death
initdead = "20s"  # how long a booting node waits for its peer before acting alone
auto_failback = true  # the preferred node takes the address back once it is healthy and has caught up
authkeys = {authkeys}
links = []  # more address pairs, like a crossover cable: [["10.0.0.1", "10.0.0.2"]]
{ping_note}ping = {ping}  # tells "I am cut off" from "my peer is dead"
# watchdog = "/dev/watchdog0"  # resets the box when the agent stands still while it may hold the address; see mmha(8)

[mysql]
socket = "/run/mysqld/mysqld.sock"
port = 3306
user = "root"  # over the socket, by unix user; password_file for anything else
writer = "vip"  # only the holder of the floating address is writable; "both" = the old recipe

[replication]
user = "replication"
password_file = {password}
databases = []  # empty: everything is replicated. A list filters, with traps: see mmha.toml(5)
durability = "lossless"  # a commit is acknowledged when both nodes have it; or "async"

[firewall]
manage = true  # also the write gate that stops a frozen node; false needs deadtime >= 2.5s
clients = {clients}  # who may reach MySQL on the floating address; empty: anyone
close = false  # true: both ports closed to everybody not named here

# [arbiter]  # an etcd on other machines: never two writers, at the price of its lease's time in a takeover
# endpoints = ["https://192.0.2.21:2379", "https://192.0.2.22:2379", "https://192.0.2.23:2379"]  # or http://
# ca_file = "/etc/mmha/etcd-ca.pem"  # who signs the members' certificates; with cert_file and key_file for an etcd that wants one of ours
# ttl = "5s"
"#,
        cluster = quote(&options.cluster),
        one = quote(one),
        two = quote(two),
        vip = quote(first_vip),
        preferred = quote(options.preferred.as_ref().unwrap_or(one)),
        authkeys = quote(&format!("{dir}/authkeys")),
        password = quote(&format!("{dir}/replication.password")),
        ping = list(ping),
        clients = list(&options.clients),
    )
}

/// Comments behind values stand in one column.
fn align(line: &str) -> String {
    match line.split_once("  # ") {
        Some((value, comment)) if !value.is_empty() => format!("{:<33} # {comment}\n", value.trim_end()),
        _ => format!("{line}\n"),
    }
}

/// A JSON string is a TOML basic string.
fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let node = |name: &str, last| (name.to_string(), Ipv4Addr::new(192, 0, 2, last));
        Options {
            nodes: vec![node("db-01.example.net", 241), node("db-02.example.net", 242)],
            vips: vec!["192.0.2.243/24".to_string()],
            interface: None,
            cluster: "shop".to_string(),
            clients: vec!["192.0.2.10".to_string()],
            ping: vec![Ipv4Addr::new(192, 0, 2, 1)],
            preferred: None,
            dir: PathBuf::from("/etc/mmha"),
            force: false,
        }
    }

    /// The shipped example is what `init` writes, so neither can drift.
    #[test]
    fn example_is_what_init_writes() {
        let options = options();
        assert_eq!(render(&options, &options.ping).unwrap(), include_str!("../../etc/mmha.toml"));
    }

    #[test]
    fn written_files_load_and_are_kept() {
        let dir = std::env::temp_dir().join(format!("mmha-init-{}", std::process::id()));
        let options = |force| Options { dir: dir.clone(), force, ..options() };
        perform(&options(false)).unwrap();
        let config = Config::load(&dir.join("mmha.toml")).unwrap();
        assert_eq!((config.cluster.as_str(), config.replication.password.reveal().len()), ("shop", 32));
        let before = fs::read(dir.join("authkeys")).unwrap();
        let refused = perform(&options(false)).unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        assert_eq!(fs::read(dir.join("authkeys")).unwrap(), before);
        perform(&options(true)).unwrap();
        assert_ne!(fs::read(dir.join("authkeys")).unwrap(), before);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn several_floating_addresses() {
        let several = Options { vips: ["243", "244", "250"].map(|last| format!("192.0.2.{last}/24")).to_vec(), ..options() };
        let text = render(&several, &several.ping).unwrap();
        let config = Config::parse(Path::new("mmha.toml"), &text, |_, _| Ok(Secret::new("x"))).unwrap();
        assert_eq!(config.vip.to_string(), "192.0.2.243 and 2 more");
        assert!(
            text.contains("\n[[vip]]\naddress = \"192.0.2.244/24\"\n\n[[vip]]\naddress = \"192.0.2.250/24\"\n\n[heartbeat]\n"),
            "{text}"
        );
    }

    #[test]
    fn senseless_options() {
        fn check(change: impl Fn(&mut Options), expect: &str) {
            let mut options = Options { dir: PathBuf::from("/nonexistent/mmha"), ..options() };
            change(&mut options);
            let error = perform(&options).unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
            assert!(error.to_string().contains(expect), "{error}");
        }
        check(|o| o.vips[0] = "198.51.100.1/24".to_string(), "is not in the subnet");
        check(|o| o.vips[0] = "192.0.2.243".to_string(), "needs its prefix length");
        check(|o| o.vips.push("192.0.2.243/24".to_string()), "is a floating address already");
        check(|o| o.preferred = Some("db-03".to_string()), "is no node");
        check(|o| drop(o.nodes.pop()), "exactly two nodes");
        check(|o| o.cluster = "a\"\nb = 1\n".to_string(), "letters, digits");
    }
}
