//! One heartbeat as bytes. Refuses, in this order: wrong size, version or cluster; then, after the caller's freshness check, a wrong MAC.
//! Nothing of a datagram is interpreted beyond its fixed header before its MAC is verified.
//!
//! Layout, big endian: "MMHA" · version u8 · sender u8 · key id u8 · cluster u64 · session u64 · counter u64 ·
//! echo count u8 · echoes (session u64, counter u64, held µs u32) · body length u16 · body (JSON of `Beat`) · MAC over all before it.

use hmac::{Hmac, Mac};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::config::Secret;
use crate::config::authkeys::{Authkeys, Method};
use crate::core::beat::Beat;
use crate::core::history::History;

const MAGIC: &[u8; 4] = b"MMHA";
const VERSION: u8 = 1;
const FIXED: usize = 4 + 1 + 1 + 1 + 8 + 8 + 8 + 1;
const ECHO: usize = 8 + 8 + 4;
/// Echoes in one datagram: the peer's current session and those that try to become it.
pub const MAX_ECHOES: usize = 4;
/// A datagram fits one Ethernet frame; a history that does not is left out by the sender.
pub const MAX_DATAGRAM: usize = 1_452;

/// What stands before the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Node number of the sender, 1 or 2.
    pub sender: u8,
    pub cluster: u64,
    pub session: u64,
    pub counter: u64,
    pub echoes: Vec<Echo>,
}

/// "I have heard counter `counter` of session `session`, `held_us` microseconds ago."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    pub session: u64,
    pub counter: u64,
    pub held_us: u32,
}

/// Why a datagram was not believed; counted, never logged one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Malformed,
    /// Another version of mmha: its number.
    Version(u8),
    UnknownKey,
    WrongMac,
}

/// A datagram whose form is right and whose MAC is not yet checked.
#[derive(Debug)]
pub struct Unverified<'a> {
    pub header: Header,
    key: u8,
    signed: &'a [u8],
    body: &'a [u8],
    tag: &'a [u8],
}

/// The number that stands for a cluster's name on the wire.
pub fn cluster_id(name: &str) -> u64 {
    let digest = Sha1::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

fn find(keys: &Authkeys, id: u8) -> Option<(Method, &Secret)> {
    keys.keys.iter().find(|(key, _, _)| *key == id).map(|(_, method, secret)| (*method, secret))
}

/// Signs `beat` under `header`. A body that does not fit goes out without its histories.
pub fn encode(header: &Header, beat: &Beat, keys: &Authkeys) -> Vec<u8> {
    let room = MAX_DATAGRAM - FIXED - ECHO * header.echoes.len() - 2 - 32;
    let mut body = serde_json::to_vec(beat).unwrap_or_default();
    if body.len() > room {
        let short = Beat { history: None, unapplied: History::default(), closed: None, why: "".into(), ..beat.clone() };
        body = serde_json::to_vec(&short).unwrap_or_default();
    }
    let mut bytes = Vec::with_capacity(FIXED + body.len() + 128);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, header.sender, keys.sign]);
    for number in [header.cluster, header.session, header.counter] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.push(u8::try_from(header.echoes.len().min(MAX_ECHOES)).unwrap_or(0));
    for echo in header.echoes.iter().take(MAX_ECHOES) {
        bytes.extend_from_slice(&echo.session.to_be_bytes());
        bytes.extend_from_slice(&echo.counter.to_be_bytes());
        bytes.extend_from_slice(&echo.held_us.to_be_bytes());
    }
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(&body);
    if let Some((method, secret)) = find(keys, keys.sign) {
        let tag = sign(method, secret, &bytes);
        bytes.extend_from_slice(&tag);
    }
    bytes
}

/// Takes the form apart; believes nothing yet.
pub fn open(bytes: &[u8]) -> Result<Unverified<'_>, Refusal> {
    let mut at = Reader { bytes, at: 0 };
    if at.take(4)? != MAGIC {
        return Err(Refusal::Malformed);
    }
    let version = at.take(1)?[0];
    if version != VERSION {
        return Err(Refusal::Version(version));
    }
    let sender = at.take(1)?[0];
    let key = at.take(1)?[0];
    let (cluster, session, counter) = (at.u64()?, at.u64()?, at.u64()?);
    let count = usize::from(at.take(1)?[0]);
    if count > MAX_ECHOES || !(1..=2).contains(&sender) {
        return Err(Refusal::Malformed);
    }
    let mut echoes = Vec::with_capacity(count);
    for _ in 0..count {
        echoes.push(Echo { session: at.u64()?, counter: at.u64()?, held_us: at.u32()? });
    }
    let length = at.take(2)?;
    let body = at.take(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
    let (signed, tag) = bytes.split_at(at.at);
    Ok(Unverified { header: Header { sender, cluster, session, counter, echoes }, key, signed, body, tag })
}

impl Unverified<'_> {
    /// Checks the MAC in constant time, then reads the body.
    pub fn verify(&self, keys: &Authkeys) -> Result<Beat, Refusal> {
        let (method, secret) = find(keys, self.key).ok_or(Refusal::UnknownKey)?;
        if !matches(method, secret, self.signed, self.tag) {
            return Err(Refusal::WrongMac);
        }
        serde_json::from_slice(self.body).map_err(|_| Refusal::Malformed)
    }
}

/// HMAC takes keys of any length (RFC 2104), so making one cannot fail.
fn keyed<M: Mac + hmac::digest::KeyInit>(secret: &Secret) -> Option<M> {
    <M as Mac>::new_from_slice(secret.reveal().as_bytes()).ok()
}

fn sign(method: Method, secret: &Secret, bytes: &[u8]) -> Vec<u8> {
    match method {
        Method::Sha1 => keyed::<Hmac<Sha1>>(secret).map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec()),
        Method::Sha256 => keyed::<Hmac<Sha256>>(secret).map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec()),
    }
    .unwrap_or_default()
}

fn matches(method: Method, secret: &Secret, bytes: &[u8], tag: &[u8]) -> bool {
    match method {
        Method::Sha1 => keyed::<Hmac<Sha1>>(secret).is_some_and(|mac| mac.chain_update(bytes).verify_slice(tag).is_ok()),
        Method::Sha256 => keyed::<Hmac<Sha256>>(secret).is_some_and(|mac| mac.chain_update(bytes).verify_slice(tag).is_ok()),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let end = self.at.checked_add(count).ok_or(Refusal::Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Refusal::Malformed)?;
        self.at = end;
        Ok(taken)
    }
    fn u64(&mut self) -> Result<u64, Refusal> {
        let taken = self.take(8)?;
        Ok(taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
    fn u32(&mut self) -> Result<u32, Refusal> {
        let taken = self.take(4)?;
        Ok(taken.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests;
