//! From the file to `Config`, and who of the two nodes this machine is. Reads; never writes, never looks a name up.

use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::Path;

use sha1::{Digest, Sha1};

use super::authkeys::Authkeys;
use super::secrets::{self, FileKind};
use super::{Config, Filter, NodeIndex, pem};
use crate::error::{Error, Result};

const LARGEST: u64 = 256 * 1024;

impl Config {
    /// Reads the file and its secrets. All faults at once; nothing is kept of a faulty file.
    pub fn load(path: &Path) -> Result<Config> {
        let text = read(path)?;
        let config = Config::parse(path, &text, |kind, path| match kind {
            FileKind::ReplicationPassword => secrets::read_replication_password(path),
            FileKind::Password => secrets::read_password(path),
            FileKind::Certificates => pem::read_certificates(path),
            FileKind::Key => pem::read_key(path),
        })?;
        Authkeys::load(&config.heartbeat.authkeys)?;
        Ok(config)
    }

    /// Which node this machine is, by `uname -n`.
    pub fn me(&self) -> Result<NodeIndex> {
        let name = nix::unistd::gethostname().map_err(|error| Error::failed(format!("cannot ask for this machine's name: {error}")))?;
        self.node_named(&name.to_string_lossy())
    }

    /// The node of that name; capitals do not matter.
    pub fn node_named(&self, name: &str) -> Result<NodeIndex> {
        let found = self.nodes.iter().position(|node| node.name.eq_ignore_ascii_case(name));
        let index = found.and_then(|at| u8::try_from(at).ok()).map(NodeIndex);
        index.ok_or_else(|| {
            let [one, two] = &self.nodes;
            let file = self.path.display();
            Error::config(format!(
                "\"{name}\" is no node of \"{file}\", which names \"{}\" and \"{}\"; a node's name there must be what `uname -n` prints on it",
                one.name, two.name
            ))
        })
    }

    /// What is allowed but dangerous; `check` and `status` say it loudly.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.heartbeat.ping.is_empty() {
            warnings.push(
                "heartbeat.ping is empty: without a ping target a cut between the nodes makes two writers; set it to your gateway"
                    .to_string(),
            );
        }
        if !self.firewall.manage {
            warnings.push(
                "firewall.manage is false: no write gate; a frozen node goes on acknowledging writes on its own address until it is fenced"
                    .to_string(),
            );
        }
        if !self.replication.databases.is_empty() {
            warnings.push(match self.replication.filter {
                Filter::Replica => "replication.databases is set: accounts, grants and all other databases are not replicated".to_string(),
                Filter::Binlog => {
                    "replication.filter = \"binlog\" loses data silently: a statement is judged by the current database (USE), \
                                   not by the one it changes; prefer \"replica\" or no filter"
                        .to_string()
                }
            });
        }
        warnings
    }
}

fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let mut text = String::new();
    let outcome = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    outcome.map_err(|error| {
        Error::config(format!("cannot read \"{shown}\": {error}; `mmha init` writes it, or name another with --config"))
    })?;
    if text.len() as u64 > LARGEST {
        return Err(Error::config(format!("\"{shown}\" is larger than 256 KiB; this is not a configuration of mmha")));
    }
    Ok(text)
}

/// First 8 bytes of SHA-1 over the text, so that nodes whose files differ can say so.
pub fn digest(text: &str) -> u64 {
    let hash = Sha1::digest(text.as_bytes());
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The first address of `address`'s network.
pub fn network_of(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from(u32::from(address) & mask)
}
