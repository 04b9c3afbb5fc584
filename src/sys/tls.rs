//! One question through TLS and its whole answer. The TLS is the system's own: `openssl s_client`, a child for each question, which
//! checks the other side's certificate and its name before a byte of the question leaves. Knows no HTTP, keeps no connection, never asks
//! twice.
//!
//! A child, because every TLS stack for Rust either needs a C compiler or is larger than all that this program has left; the system's is
//! patched with the system. The question (it may hold a password) goes through the pipe; argv has paths and names only.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::run::{Output, run_or_kind};

/// Whom to believe, and who we are.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// An address or a name: what the certificate must be for.
    pub host: &'a str,
    /// `None`: the CAs of the system.
    pub ca_file: Option<&'a Path>,
    /// Certificate and key, for a service that wants one.
    pub identity: Option<(&'a Path, &'a Path)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub bytes: Vec<u8>,
    /// The other side has said that this is all. Else somebody may have cut the rest off, and only a length in the answer tells.
    pub is_closed: bool,
}

/// What only TLS can have against it. `Display` is what failed; `remedy` what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NotInstalled,
    Issuer(String),
    Name(String),
    Expired,
    NotYetValid,
    Certificate(String),
    NotTls,
    Identity(String),
    Pair,
    Files(String),
    Other(String),
}

/// Sends `question` and reads until the other side closes, within `limit` altogether. A `Refusal` is inside of the `io::Error`.
pub fn exchange(address: SocketAddr, tls: &Tls<'_>, question: &[u8], limit: Duration) -> io::Result<Whole> {
    let address = address.to_string();
    let output = run_or_kind("openssl", &arguments(&address, tls)?, Some(question), limit).map_err(|fault| match fault.kind() {
        io::ErrorKind::NotFound => io::Error::other(Refusal::NotInstalled),
        _ => fault,
    })?;
    judge(output)
}

/// `-quiet` also switches off that lines of the question which begin with Q, R or k are commands, and that its end is the end of the
/// connection. The environment of children is empty, so no SSL_CERT_FILE and no configuration of somebody's changes whom we believe.
fn arguments<'a>(address: &'a str, tls: &Tls<'a>) -> io::Result<Vec<&'a str>> {
    let mut arguments = vec!["s_client", "-quiet", "-verify_quiet", "-verify", "10", "-verify_return_error", "-connect", address];
    match tls.host.parse::<IpAddr>() {
        Ok(_) => arguments.extend(["-noservername", "-verify_ip", tls.host]),
        Err(_) => arguments.extend(["-servername", tls.host, "-verify_hostname", tls.host]),
    }
    if let Some(file) = tls.ca_file {
        // Believes what is in the file, an intermediate CA too, and nothing else.
        arguments.extend(["-CAfile", text(file)?, "-partial_chain", "-no-CApath", "-no-CAstore"]);
    }
    if let Some((certificate, key)) = tls.identity {
        // An empty passphrase: it must not ask for one at the terminal.
        arguments.extend(["-cert", text(certificate)?, "-key", text(key)?, "-pass", "pass:"]);
    }
    Ok(arguments)
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::ErrorKind::InvalidFilename.into())
}

/// The verdict of s_client: 0 after the other side's "close notify"; else it says why. What came before a cut is handed on.
fn judge(output: Output) -> io::Result<Whole> {
    let is_closed = output.ok();
    if is_closed || !output.stdout.is_empty() {
        return Ok(Whole { bytes: output.stdout.into_bytes(), is_closed });
    }
    Err(explain(&output.stderr))
}

fn explain(stderr: &str) -> io::Error {
    let after = |mark: &str| stderr.lines().find_map(|line| line.split_once(mark)).map(|(_, rest)| rest.trim());
    let errno = |mark: &str| after(mark).and_then(|number| number.parse().ok()).map(io::Error::from_raw_os_error);
    if let Some((number, reason)) = after("verify error:num=").and_then(|rest| rest.split_once(':')) {
        return io::Error::other(certificate(number, reason));
    }
    if let Some(fault) = errno("connect:errno=") {
        return fault;
    }
    // "…:error:0A000412:SSL routines:ssl3_read_bytes:sslv3 alert bad certificate:../ssl/record/rec_layer_s3.c:1601:"
    let reasons: Vec<&str> = stderr.lines().filter_map(|line| line.split_once(":error:")?.1.split(':').nth(3)).collect();
    if let Some(refusal) = reasons.iter().find_map(|reason| known(reason)) {
        return io::Error::other(refusal);
    }
    if let Some(line) = stderr.lines().find(|line| line.starts_with("Could not ") || line.starts_with("unable to load ")) {
        return io::Error::other(Refusal::Files(short(line)));
    }
    let last = reasons.last().or(stderr.lines().last().as_ref()).map_or("it says nothing", |reason| *reason);
    let fault = errno("read:errno=").or_else(|| errno("write:errno="));
    io::Error::other(Refusal::Other(fault.map_or_else(|| short(last), |fault| fault.to_string())))
}

/// X509_verify_cert's numbers (x509_vfy.h).
fn certificate(number: &str, reason: &str) -> Refusal {
    match number {
        "2" | "18" | "19" | "20" | "21" => Refusal::Issuer(short(reason)),
        "62" | "64" => Refusal::Name(short(reason)),
        "10" => Refusal::Expired,
        "9" => Refusal::NotYetValid,
        _ => Refusal::Certificate(short(reason)),
    }
}

/// Reasons from openssl's own tables; alerts (RFC 8446, 6.2) are the other side's words.
fn known(reason: &str) -> Option<Refusal> {
    let alert = reason.split_once("alert ").map(|(_, alert)| alert);
    match (reason, alert) {
        ("wrong version number" | "packet length too long" | "http request", _) => Some(Refusal::NotTls),
        ("key values mismatch", _) => Some(Refusal::Pair),
        ("no certificate or crl found", _) => Some(Refusal::Files("no certificate in ca_file".to_owned())),
        (_, Some(alert)) if alert.contains("certificate") || ["unknown ca", "access denied"].contains(&alert) => {
            Some(Refusal::Identity(short(alert)))
        }
        _ => None,
    }
}

/// One line, and not a long one: what others have said goes into sentences and the log.
fn short(text: &str) -> String {
    text.trim().chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotInstalled => f.write_str("https needs the program \"openssl\", which is not installed"),
            Refusal::Issuer(why) => write!(f, "its certificate is signed by nobody this node believes ({why})"),
            Refusal::Name(why) => write!(f, "its certificate is for another name ({why})"),
            Refusal::Expired => f.write_str("its certificate, or one of its CA's, has expired"),
            Refusal::NotYetValid => f.write_str("its certificate is not valid yet"),
            Refusal::Certificate(why) => write!(f, "its certificate is refused ({why})"),
            Refusal::NotTls => f.write_str("it does not speak TLS"),
            Refusal::Identity(why) => write!(f, "it refuses this node's certificate ({why})"),
            Refusal::Pair => f.write_str("cert_file and key_file do not belong to each other"),
            Refusal::Files(why) => write!(f, "openssl cannot use the certificate files ({why})"),
            Refusal::Other(why) => write!(f, "TLS fails ({why})"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    pub fn remedy(&self) -> &'static str {
        match self {
            Refusal::NotInstalled => "apt-get install openssl, on both nodes",
            Refusal::Issuer(_) => {
                "set ca_file in [arbiter] to the CA that signed it (default: the CAs of the system), or find out who answers there"
            }
            Refusal::Name(_) => {
                "write the name of its certificate into endpoints, or give it a certificate with this name or address in subjectAltName"
            }
            Refusal::Expired => "renew it; if it is still good, this node's clock is wrong",
            Refusal::NotYetValid => "compare the clocks of this node and of the machine that signed it",
            Refusal::Certificate(_) => {
                "give the member a certificate for servers (extendedKeyUsage serverAuth) that today's openssl accepts"
            }
            Refusal::NotTls => "write http:// in endpoints, or give etcd --cert-file and --key-file and an https:// --listen-client-urls",
            Refusal::Identity(_) => {
                "set cert_file and key_file in [arbiter] to a valid certificate for clients, signed by the CA in etcd's --trusted-ca-file"
            }
            Refusal::Pair => "set cert_file and key_file in [arbiter] to a certificate and the key it was made for",
            Refusal::Files(_) => "look at them with `openssl x509 -noout -text -in FILE` and `openssl pkey -noout -in FILE`",
            Refusal::Other(_) => "compare the TLS versions and ciphers of both sides; does it want a certificate (cert_file, key_file)?",
        }
    }
}

#[cfg(test)]
mod tests;
