//! Heartbeat's authkeys format: `auth N` names the signing key, `N sha1|sha256 SECRET` lists keys; any listed key verifies, so keys are
//! rotated by adding first and switching later. Pure but for `load`. Refuses keyless and broken methods and never repeats a secret.

use std::path::Path;

use super::{Secret, secrets};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Sha1,
    Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authkeys {
    /// Which key signs; it is one of `keys`.
    pub sign: u8,
    /// (key id 0..=15, method, secret), in file order.
    pub keys: Vec<(u8, Method, Secret)>,
}

/// Heartbeat's own limit (its MAXAUTH).
const HIGHEST_KEY: u8 = 15;
/// An HMAC-SHA1 key shorter than this can be guessed from one captured datagram.
const SHORTEST_SECRET: usize = 16;

impl Authkeys {
    pub fn load(path: &Path) -> Result<Authkeys> {
        let text = secrets::read(path)?;
        Authkeys::parse(text.reveal(), &path.display().to_string())
    }

    /// Every fault at once, each at `file:line`.
    pub fn parse(text: &str, file: &str) -> Result<Authkeys> {
        let mut faults = Vec::new();
        let mut keys: Vec<(u8, Method, Secret)> = Vec::new();
        let mut sign = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let outcome = match parse_line(line) {
                Ok(Line::Auth(_)) if sign.is_some() => Err("a second auth line; one key signs".to_string()),
                Ok(Line::Auth(id)) => {
                    sign = Some((id, at + 1));
                    Ok(())
                }
                Ok(Line::Key(id, ..)) if keys.iter().any(|(known, ..)| *known == id) => Err(format!("key {id} is listed twice")),
                Ok(Line::Key(id, method, secret)) => {
                    keys.push((id, method, secret));
                    Ok(())
                }
                Err(wrong) => Err(wrong),
            };
            if let Err(wrong) = outcome {
                faults.push(format!("{file}:{}:1: {wrong}", at + 1));
            }
        }
        let complete = faults.is_empty();
        match sign {
            Some((id, line)) if complete && !keys.iter().any(|(known, ..)| *known == id) => {
                faults.push(format!("{file}:{line}:1: auth {id} names a key that is not listed; add a line `{id} sha1 SECRET`"));
            }
            None if complete => faults.push(format!("{file}:1:1: no auth line; add `auth 1` to say which key signs")),
            _ => {}
        }
        match sign {
            Some((sign, _)) if faults.is_empty() => Ok(Authkeys { sign, keys }),
            _ => Err(Error::config(faults.join("\n"))),
        }
    }
}

enum Line {
    Auth(u8),
    Key(u8, Method, Secret),
}

fn parse_line(line: &str) -> std::result::Result<Line, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words[0] == "auth" {
        let id = words.get(1).filter(|_| words.len() == 2).and_then(|id| key_id(id));
        return id.map(Line::Auth).ok_or_else(|| format!("write `auth N` with one key number, 0 to {HIGHEST_KEY}"));
    }
    let Some(id) = key_id(words[0]) else {
        return Err(format!("a line is `auth N` or `N sha1 SECRET` with N from 0 to {HIGHEST_KEY}"));
    };
    let method = match words.get(1).copied() {
        Some("sha1") => Method::Sha1,
        Some("sha256") => Method::Sha256,
        Some("crc") => {
            return Err(format!("key {id} uses crc, which has no key: anybody on the network could take the address; use sha1 or sha256"));
        }
        Some("md5") => return Err(format!("key {id} uses md5, which is refused as broken; use sha1 or sha256")),
        _ => return Err(format!("key {id} needs its method: `{id} sha1 SECRET` or `{id} sha256 SECRET`")),
    };
    match words[2..] {
        [] => Err(format!("key {id} has no secret")),
        [secret] if secret.len() < SHORTEST_SECRET => Err(format!(
            "the secret of key {id} is shorter than {SHORTEST_SECRET} characters and can be guessed; `mmha init` makes a strong one"
        )),
        [secret] => Ok(Line::Key(id, method, Secret::new(secret))),
        // Heartbeat silently drops the rest, and the two nodes then disagree about nothing visible.
        _ => Err(format!("the secret of key {id} has a space in it; a secret is one word")),
    }
}

fn key_id(text: &str) -> Option<u8> {
    text.parse().ok().filter(|id| *id <= HIGHEST_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123";

    #[test]
    fn accepted() {
        fn check(text: &str, sign: u8, ids: &[(u8, Method)]) {
            let found = Authkeys::parse(text, "authkeys").unwrap();
            let listed: Vec<(u8, Method)> = found.keys.iter().map(|(id, method, _)| (*id, *method)).collect();
            assert_eq!((found.sign, listed.as_slice()), (sign, ids), "{text}");
        }
        use Method::{Sha1, Sha256};
        check(&format!("auth 1\n1 sha1 {SECRET}\n"), 1, &[(1, Sha1)]);
        check(&format!("# keys\n\n  auth 2  \n1 sha1 {SECRET}\n2\tsha256 {SECRET}x\r\n"), 2, &[(1, Sha1), (2, Sha256)]);
        check(&format!("15 sha1 {SECRET}\nauth 15"), 15, &[(15, Sha1)]);
    }

    #[test]
    fn refused_with_the_line_and_without_the_secret() {
        fn check(text: &str, expect: &str) {
            let said = Authkeys::parse(text, "authkeys").unwrap_err().to_string();
            assert!(said.contains(expect), "{text}: {said}");
            assert!(!said.contains(SECRET) && !said.contains("hunter2"), "secret shown: {said}");
        }
        check("", "authkeys:1:1: no auth line");
        check(&format!("1 sha1 {SECRET}"), "no auth line");
        check(&format!("auth 2\n1 sha1 {SECRET}"), "authkeys:1:1: auth 2 names a key that is not listed");
        check("auth 1\n1 crc", "authkeys:2:1: key 1 uses crc");
        check("auth 1\n1 md5 hunter2", "md5");
        check("auth 1\n1 sha1", "has no secret");
        check("auth 1\n1 sha1 hunter2", "shorter than 16");
        check(&format!("auth 1\n1 sha1 {SECRET} hunter2"), "has a space");
        check(&format!("auth 1\n1 sha1 {SECRET}\n1 sha1 {SECRET}"), "authkeys:3:1: key 1 is listed twice");
        check(&format!("auth 1\nauth 1\n1 sha1 {SECRET}"), "authkeys:2:1: a second auth line");
        check("auth 16\n16 sha1 x", "0 to 15");
        check("hunter2", "a line is `auth N`");
        check("auth 1\n1 sha512 hunter2", "needs its method");
    }
}
