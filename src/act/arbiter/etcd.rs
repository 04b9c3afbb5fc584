//! What is asked of etcd's JSON gateway (v3, etcd 3.4 and later) and what is understood of its answers. Believes nothing that is not there: an
//! answer that is garbage, cut off or of another shape is an error and costs nothing else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::config::{Arbiter, Endpoint, Secret, Tls};
use crate::core::event::Ms;
use crate::sys::http::{self, Answer, Request};
use crate::sys::tls::{Refusal, Tls as Trust};
use crate::sys::{clock, resolve};

/// The key, as others have it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub lease: i64,
    /// What stands in it: a node's name and its epoch.
    pub value: String,
}

/// A lease whose length counts from `sent_ms`, before it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub id: i64,
    pub ttl_ms: Ms,
    pub sent_ms: Ms,
    /// etcd's raft term when it answered.
    pub term: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No endpoint could answer; and what to do, where that is known.
    Unreachable { text: String, remedy: Option<&'static str> },
    /// etcd says no (gRPC code and its words).
    Refused { code: u64, text: String },
}

impl Fault {
    pub fn unreachable(text: impl Into<String>) -> Fault {
        Fault::Unreachable { text: text.into(), remedy: None }
    }

    pub fn text(&self) -> String {
        match self {
            Fault::Unreachable { text, .. } => text.clone(),
            Fault::Refused { text, .. } => format!("etcd refuses: {text}"),
        }
    }
}

type Outcome<T> = Result<T, Fault>;

/// gRPC's codes.
const NOT_FOUND: u64 = 5;
const UNAUTHENTICATED: u64 = 16;
/// etcd says 3 (invalid argument) for a user that does not exist or a token that is missing.
const INVALID: u64 = 3;

pub struct Etcd {
    endpoints: Vec<Endpoint>,
    tls: Tls,
    login: Option<(String, Secret)>,
    token: Option<String>,
    /// The endpoint that answered last is asked first.
    first: usize,
    call: Duration,
    /// Names are looked up again only when an address does not answer.
    addresses: Vec<Option<IpAddr>>,
}

impl Etcd {
    pub fn new(arbiter: &Arbiter) -> Etcd {
        Etcd {
            endpoints: arbiter.endpoints.clone(),
            tls: arbiter.tls.clone(),
            login: arbiter.user.clone().zip(arbiter.password.clone()),
            token: None,
            first: 0,
            call: arbiter.call(),
            addresses: vec![None; arbiter.endpoints.len()],
        }
    }

    /// The same for one endpoint only.
    pub fn only(arbiter: &Arbiter, endpoint: &Endpoint) -> Etcd {
        Etcd::new(&Arbiter { endpoints: vec![endpoint.clone()], ..arbiter.clone() })
    }

    /// Who has the key, confirmed by a majority now; and the term of that majority.
    pub fn read(&mut self, key: &str) -> Outcome<(Option<Held>, u64)> {
        let (answer, _) = self.ask("/v3/kv/range", &json!({ "key": BASE64.encode(key) }))?;
        Ok((first_key(&answer)?, term(&answer)?))
    }

    /// A new lease, written down by a majority.
    pub fn grant(&mut self, ttl: Duration) -> Outcome<Granted> {
        let (answer, sent_ms) = self.ask("/v3/lease/grant", &json!({ "TTL": ttl.as_secs().to_string() }))?;
        granted(&answer, sent_ms)?.ok_or_else(|| strange("a lease without a length"))
    }

    /// `None`: the lease has ended. The answer is one member's word: whether that still leads must be asked (`read`, same term).
    pub fn keep_alive(&mut self, id: i64) -> Outcome<Option<Granted>> {
        let (answer, sent_ms) = self.ask("/v3/lease/keepalive", &json!({ "ID": id.to_string() }))?;
        granted(answer.get("result").unwrap_or(&answer), sent_ms)
    }

    /// Writes the key under the lease unless it exists; says who has it then.
    pub fn take(&mut self, key: &str, value: &str, lease: i64) -> Outcome<Option<Held>> {
        let key = BASE64.encode(key);
        let (answer, _) = self.ask(
            "/v3/kv/txn",
            &json!({
                "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
                "success": [{ "request_put": { "key": key, "value": BASE64.encode(value), "lease": lease.to_string() } }],
                "failure": [{ "request_range": { "key": key } }],
            }),
        )?;
        taken(&answer, lease, value)
    }

    /// Ends the lease, and the key with it. One that has ended already is as good.
    pub fn revoke(&mut self, id: i64) -> Outcome<()> {
        match self.ask("/v3/lease/revoke", &json!({ "ID": id.to_string() })) {
            Ok(_) | Err(Fault::Refused { code: NOT_FOUND, .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// The version of the member, and whether it knows a leader.
    pub fn member(&mut self) -> Outcome<(String, bool)> {
        let (answer, _) = self.ask("/v3/maintenance/status", &json!({}))?;
        let version = answer.get("version").and_then(Value::as_str).ok_or_else(|| strange("no version"))?;
        Ok((printable(version), knows_leader(&answer)))
    }

    /// Logs in when there is no token, and once more when the token has run out.
    fn ask(&mut self, path: &str, body: &Value) -> Outcome<(Value, Ms)> {
        if self.login.is_none() {
            return self.ask_all(path, body, None);
        }
        let fresh = self.token.is_none();
        let token = self.log_in()?;
        match self.ask_all(path, body, Some(&token)) {
            Err(Fault::Refused { code: UNAUTHENTICATED | INVALID, .. }) if !fresh => {
                self.token = None;
                let token = self.log_in()?;
                self.ask_all(path, body, Some(&token))
            }
            outcome => outcome,
        }
    }

    fn log_in(&mut self) -> Outcome<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let Some((user, password)) = self.login.clone() else { return Ok(String::new()) };
        let body = json!({ "name": user, "password": password.reveal() });
        let (answer, _) = self.ask_all("/v3/auth/authenticate", &body, None)?;
        let token = answer.get("token").and_then(Value::as_str).ok_or_else(|| strange("no token"))?;
        self.token = Some(token.to_owned());
        Ok(token.to_owned())
    }

    /// Each endpoint once, beginning with the one that answered last; the answer, and when it was asked for.
    fn ask_all(&mut self, path: &str, body: &Value, token: Option<&str>) -> Outcome<(Value, Ms)> {
        let body = body.to_string();
        let (mut faults, mut remedy) = (Vec::new(), None);
        for offset in 0..self.endpoints.len() {
            let at = (self.first + offset) % self.endpoints.len();
            let sent_ms = clock::now_ms();
            match self.ask_one(at, path, &body, token) {
                Ok(value) => {
                    self.first = at;
                    return Ok((value, sent_ms));
                }
                Err(Fault::Unreachable { text, remedy: known }) => {
                    self.addresses[at] = None;
                    remedy = remedy.or(known);
                    faults.push(format!("{}: {text}", self.endpoints[at]));
                }
                Err(refused) => return Err(refused),
            }
        }
        let text = match faults.as_slice() {
            [only] => only.clone(),
            all => format!("no endpoint of the arbiter gives an answer ({})", all.join("; ")),
        };
        Err(Fault::Unreachable { text, remedy })
    }

    fn ask_one(&mut self, at: usize, path: &str, body: &str, token: Option<&str>) -> Outcome<Value> {
        let endpoint = self.endpoints[at].clone();
        let address = match self.addresses[at] {
            Some(address) => address,
            None => {
                let found = resolve::resolve(&endpoint.host, self.call).map_err(|fault| Fault::unreachable(fault.to_string()))?;
                *found.first().ok_or_else(|| strange("no address"))?
            }
        };
        self.addresses[at] = Some(address);
        let tls = endpoint.is_tls.then(|| Trust {
            host: &endpoint.host,
            ca_file: self.tls.ca_file.as_deref(),
            identity: self.tls.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path())),
        });
        let request = Request { host: &endpoint.authority(), path, authorization: token, body: body.as_bytes(), tls };
        let answer = http::post(SocketAddr::new(address, endpoint.port), &request, self.call);
        judge(&answer.map_err(|fault| explain(&fault, endpoint.is_tls))?)
    }
}

const PERHAPS_TLS: &str = "is that etcd's port for clients, and does it speak TLS? then write https:// in endpoints";

fn explain(fault: &io::Error, is_tls: bool) -> Fault {
    let remedy = match fault.kind() {
        // An etcd with TLS hangs up on plain HTTP without a word (3.4 does).
        io::ErrorKind::InvalidData | io::ErrorKind::ConnectionReset if !is_tls => Some(PERHAPS_TLS),
        _ => fault.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()).map(Refusal::remedy),
    };
    let text = match fault.kind() {
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => fault.to_string(),
    };
    Fault::Unreachable { text, remedy }
}

fn strange(what: &str) -> Fault {
    Fault::unreachable(format!("it answers, but not as etcd does: {what}"))
}

/// 200 with JSON is an answer, 4xx with etcd's JSON a refusal; 5xx, or anything else, is a member that cannot answer now.
fn judge(answer: &Answer) -> Outcome<Value> {
    let value: Value = serde_json::from_slice(&answer.body).map_err(|_| no_json(answer))?;
    // A stream's error comes with status 200.
    let error = value.get("error").filter(|error| !error.is_null());
    if answer.status == 200 && error.is_none() && value.is_object() {
        return Ok(value);
    }
    let inner = error.filter(|error| error.is_object()).unwrap_or(&value);
    let said = inner.get("message").or_else(|| inner.get("error")).and_then(Value::as_str).unwrap_or("no reason given");
    let text = printable(said);
    match (answer.status, number(inner.get("code"))) {
        (400..500, Some(code)) => Err(Fault::Refused { code: u64::try_from(code).unwrap_or(0), text }),
        (200, _) => Err(Fault::unreachable(text)),
        (status, _) => Err(Fault::unreachable(format!("HTTP status {status}: {text}"))),
    }
}

fn no_json(answer: &Answer) -> Fault {
    // The words of Go's HTTP server, in which etcd is written.
    if String::from_utf8_lossy(&answer.body).contains("HTTP request to an HTTPS server") {
        return Fault::Unreachable { text: "it speaks TLS only".to_owned(), remedy: Some("write https:// in endpoints") };
    }
    strange(&format!("HTTP status {} without JSON", answer.status))
}

/// 64-bit numbers come as texts; zero is left out.
fn number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    }
}

/// Members have unsigned numbers, and zero is nobody.
fn knows_leader(status: &Value) -> bool {
    let leader = status.get("leader").and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
    leader.is_some_and(|leader| leader != 0)
}

fn term(answer: &Value) -> Outcome<u64> {
    let term = number(answer.get("header").and_then(|header| header.get("raft_term")));
    term.and_then(|term| u64::try_from(term).ok()).filter(|term| *term > 0).ok_or_else(|| strange("no raft_term"))
}

fn granted(answer: &Value, sent_ms: Ms) -> Outcome<Option<Granted>> {
    let id = number(answer.get("ID")).ok_or_else(|| strange("no lease ID"))?;
    let seconds = answer.get("TTL").map_or(Some(0), |ttl| number(Some(ttl))).ok_or_else(|| strange("no TTL"))?;
    // A gone lease has none, in some versions -1.
    let ttl_ms = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    if ttl_ms == 0 { Ok(None) } else { Ok(Some(Granted { id, ttl_ms, sent_ms, term: term(answer)? })) }
}

fn first_key(range: &Value) -> Outcome<Option<Held>> {
    let Some(kvs) = range.get("kvs") else { return Ok(None) };
    let kvs = kvs.as_array().ok_or_else(|| strange("kvs is no list"))?;
    let Some(kv) = kvs.first() else { return Ok(None) };
    let value = kv.get("value").map_or(Some(""), Value::as_str).ok_or_else(|| strange("a value that is no text"))?;
    let value = BASE64.decode(value).map_err(|_| strange("a value that is not base64"))?;
    // A key without a lease is somebody's handiwork: it never ends by itself.
    Ok(Some(Held { lease: number(kv.get("lease")).unwrap_or(0), value: printable(&String::from_utf8_lossy(&value)) }))
}

/// Done, or already there: under this very lease when an earlier answer was lost.
fn taken(answer: &Value, lease: i64, value: &str) -> Outcome<Option<Held>> {
    if answer.get("succeeded").and_then(Value::as_bool) == Some(true) {
        return Ok(Some(Held { lease, value: value.to_owned() }));
    }
    let responses = answer.get("responses").and_then(Value::as_array).ok_or_else(|| strange("no responses"))?;
    let range = responses.first().and_then(|response| response.get("response_range").or_else(|| response.get("responseRange")));
    first_key(range.ok_or_else(|| strange("no range in the responses"))?)
}

/// What others wrote goes into sentences and the log: one line, and not a long one.
fn printable(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
