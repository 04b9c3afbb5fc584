//! One HTTP POST and its whole answer, for JSON services on the local network. Spoken as HTTP/1.0, so that an answer has no chunks and ends
//! where the connection does; nothing is kept, followed or looked up. For https the bytes go through `tls`.
//!
//! Written here because the crates cost more than they bring: ureq 3 without any feature adds 480 kB to a program that has 160 kB left,
//! and asks the C library for addresses; TLS adds 1.8 MB (rustls with graviola, the one maintained provider that needs no C compiler).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::clock;
use super::tls::{self, Tls, Whole};

/// No answer that anybody here waits for is longer, head included.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

pub struct Request<'a> {
    /// As the Host line names the service.
    pub host: &'a str,
    pub path: &'a str,
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
    /// `None`: http.
    pub tls: Option<Tls<'a>>,
}

/// Sends the request and reads the answer to its end, within `limit` altogether, however slowly the other side drips.
pub fn post(address: SocketAddr, request: &Request<'_>, limit: Duration) -> io::Result<Answer> {
    let question = [head(request)?.as_bytes(), request.body].concat();
    let answer = match &request.tls {
        Some(tls) => tls::exchange(address, tls, &question, limit)?,
        None => exchange(address, &question, limit)?,
    };
    parse(&answer)
}

fn exchange(address: SocketAddr, question: &[u8], limit: Duration) -> io::Result<Whole> {
    let until = clock::now() + limit;
    let mut stream = TcpStream::connect_timeout(&address, left(until)?)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(question)?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while bytes.len() <= LONGEST {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(fault) => return Err(fault),
        }
    }
    Ok(Whole { bytes, is_closed: true })
}

fn left(until: Duration) -> io::Result<Duration> {
    let left = until.saturating_sub(clock::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// What others have said (a token) must not add lines of its own.
fn head(request: &Request<'_>) -> io::Result<String> {
    let authorization = request.authorization.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
    let said = [request.host, request.path, request.authorization.unwrap_or_default()];
    if said.iter().any(|text| text.chars().any(|c| c.is_control())) {
        return Err(wrong("a control character in a header"));
    }
    Ok(format!(
        "POST {} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{authorization}\r\n",
        request.path,
        request.host,
        request.body.len()
    ))
}

/// An answer without a length is whole only when the other side has closed the connection, and did not just vanish.
fn parse(Whole { bytes, is_closed }: &Whole) -> io::Result<Answer> {
    if bytes.len() > LONGEST {
        return Err(wrong("its answer is longer than 64 KiB"));
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| wrong("its answer is no HTTP, or is cut off"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("its answer is no HTTP"))?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(status).ok_or_else(|| wrong("its answer is no HTTP"))?;
    let mut is_whole = *is_closed;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-length") {
            if value.trim().parse() != Ok(body.len()) {
                return Err(wrong("its answer is cut off"));
            }
            is_whole = true;
        }
        if is("transfer-encoding") {
            return Err(wrong("it answers HTTP/1.0 in chunks"));
        }
    }
    if !is_whole {
        return Err(wrong("its answer is cut off"));
    }
    Ok(Answer { status, body: body.to_vec() })
}

/// "HTTP/1.1 200 OK".
fn status(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    let number = rest.get(..3).filter(|_| rest.len() == 3 || rest.as_bytes()[3] == b' ')?;
    version.strip_prefix("HTTP/1.")?;
    number.parse().ok().filter(|status| (100..600).contains(status))
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn answers_whole_and_broken() {
        fn check(text: &str, expect: Option<(u16, &str)>) {
            check_end(text, true, expect);
        }
        fn check_end(text: &str, is_closed: bool, expect: Option<(u16, &str)>) {
            let found = parse(&Whole { bytes: text.into(), is_closed }).ok();
            assert_eq!(
                found.as_ref().map(|answer| (answer.status, answer.body.as_slice())),
                expect.map(|(s, b)| (s, b.as_bytes())),
                "{text:?}"
            );
        }
        check("HTTP/1.0 200 OK\r\n\r\n{}", Some((200, "{}")));
        check("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}", Some((503, "{}")));
        check("HTTP/1.1 404\r\n\r\n", Some((404, "")));
        check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}", None);
        check("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n{}", None);
        check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", None);
        check_end("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", false, Some((200, "{}")));
        check_end("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}", false, None);
        check_end("HTTP/1.0 200 OK\r\n\r\n{}", false, None);
        for broken in [
            "",
            "\r\n\r\n",
            "HTTP/1.0 200 OK",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 99é\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            check(broken, None);
        }
        assert!(parse(&Whole { bytes: b"HTTP/1.0 200 \xff\r\n\r\n".to_vec(), is_closed: true }).is_err());
    }

    /// A server that reads the request and then says `parts`, a while apart, and hangs up.
    fn server(parts: Vec<Vec<u8>>, apart: Duration) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut seen = [0; 1024];
            let count = stream.read(&mut seen).expect("request");
            for part in parts {
                if stream.write_all(&part).is_err() {
                    break;
                }
                std::thread::sleep(apart);
            }
            String::from_utf8_lossy(&seen[..count]).into_owned()
        });
        (address, thread)
    }

    const REQUEST: Request<'_> = Request { host: "etcd", path: "/v3/x", authorization: Some("t"), body: b"{}", tls: None };

    #[test]
    fn asks_and_reads_to_the_end() {
        let (address, thread) = server(vec![b"HTTP/1.0 200 OK\r\n\r\n{\"a\"".to_vec(), b":1}".to_vec()], Duration::from_millis(20));
        let answer = post(address, &REQUEST, Duration::from_secs(5)).expect("answer");
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"{\"a\":1}".as_slice()));
        let asked = thread.join().expect("server");
        assert!(asked.starts_with("POST /v3/x HTTP/1.0\r\nHost: etcd\r\n") && asked.ends_with("Authorization: t\r\n\r\n{}"), "{asked}");
        let forged = Request { authorization: Some("t\r\nX: y"), ..REQUEST };
        assert_eq!(post(address, &forged, Duration::from_secs(5)).expect_err("forged").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn neither_silence_nor_dripping_nor_a_flood_holds_it() {
        let (silent, _) = server(vec![Vec::new()], Duration::from_secs(3));
        let begun = clock::now();
        assert_eq!(post(silent, &REQUEST, Duration::from_millis(200)).expect_err("silence").kind(), io::ErrorKind::TimedOut);
        let (dripping, _) = server(vec![b"H".to_vec(); 40], Duration::from_millis(50));
        assert_eq!(post(dripping, &REQUEST, Duration::from_millis(200)).expect_err("drips").kind(), io::ErrorKind::TimedOut);
        assert!(clock::now() - begun < Duration::from_secs(2));
        let (flooding, _) = server(vec![vec![b'x'; LONGEST]; 2], Duration::ZERO);
        assert_eq!(post(flooding, &REQUEST, Duration::from_secs(5)).expect_err("flood").kind(), io::ErrorKind::InvalidData);
    }
}
