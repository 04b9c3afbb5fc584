//! Words of openssl as it really said them, and a real one at the other end: who is believed, and what is said about the others.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::clock;
use super::super::run::run;
use super::*;

const SOON: Duration = Duration::from_secs(20);
const REFUSED: &str = "it refuses this node's certificate";

#[test]
fn words_of_openssl() {
    fn check(stderr: &str, expect: &str) {
        let output = Output { code: Some(1), stdout: String::new(), stderr: stderr.to_owned() };
        let said = judge(output).expect_err(stderr).to_string();
        assert!(said.contains(expect), "{stderr}\n{said}");
    }
    let failed =
        "80AB62F3E77F0000:error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl/x.c:1889:";
    for (error, expect) in [
        ("20:unable to get local issuer certificate", "signed by nobody this node believes (unable to get local issuer certificate)"),
        ("18:self-signed certificate", "signed by nobody"),
        ("64:IP address mismatch", "for another name (IP address mismatch)"),
        ("62:hostname mismatch", "for another name (hostname mismatch)"),
        ("10:certificate has expired\nnotAfter=Nov 23 23:51:30 2026 GMT", "has expired"),
        ("9:certificate is not yet valid", "not valid yet"),
        ("26:unsuitable certificate purpose", "is refused (unsuitable certificate purpose)"),
    ] {
        check(&format!("depth=0 CN = server\nverify error:num={error}\n{failed}\n"), expect);
    }
    let reason =
        |text: &str| format!("Can't use SSL_get_servername\n802B:error:0A000412:SSL routines:ssl3_read_bytes:{text}:../ssl/x.c:1:alert\n");
    check(&reason("sslv3 alert bad certificate"), "it refuses this node's certificate (bad certificate)");
    check(&reason("tlsv13 alert certificate required"), "it refuses this node's certificate (certificate required)");
    check(&reason("tlsv1 alert unknown ca"), "it refuses this node's certificate (unknown ca)");
    check(&reason("tlsv1 alert protocol version"), "TLS fails (tlsv1 alert protocol version)");
    check(&(reason("wrong version number") + &reason("record layer failure")), "it does not speak TLS");
    check(&reason("unexpected eof while reading"), "TLS fails (unexpected eof while reading)");
    check(&format!("error setting private key\n{}", reason("key values mismatch")), "cert_file and key_file do not belong to each other");
    check("Could not read client certificate private key from /k\n", "cannot use the certificate files (Could not read client");
    check("80DB:error:05800088:x509 routines:X509_load_cert_crl_file_ex:no certificate or crl found:../crypto/x.c:252:\n", "in ca_file");
    check("write:errno=104\n", "TLS fails (Connection reset by peer");
    check("", "TLS fails (it says nothing)");
    check(&format!("\u{1b}[2J{}", "x".repeat(500)), "TLS fails ( [2Jxxx");
    let refused = explain("80EB:error:10000067:BIO routines:BIO_connect:connect error:../crypto/bio/bio_sock2.c:119:\nconnect:errno=111\n");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn an_answer_that_was_cut_is_marked() {
    let cut = "80DB:error:0A000126:SSL routines:ssl3_read_n:unexpected eof while reading:../ssl/record/rec_layer_s3.c:318:\n";
    let output = |code, stderr: &str| Output { code: Some(code), stdout: "HTTP/1.0 200 OK".to_owned(), stderr: stderr.to_owned() };
    assert!(judge(output(0, "")).expect("whole").is_closed);
    assert_eq!(judge(output(1, cut)).expect("cut"), Whole { bytes: b"HTTP/1.0 200 OK".to_vec(), is_closed: false });
    assert!(judge(Output { stdout: String::new(), ..output(1, cut) }).is_err());
}

/// Keys and certificates in a folder of their own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("mmha-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).expect("folder");
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// NAME.key and NAME.pem, signed by itself.
    fn make(&self, name: &str, names: &str) {
        self.make_for(name, names, &["-days", "2"]).expect("a certificate");
    }

    /// Up to openssl 3.3 by a length below zero, since 3.4 by dates.
    fn make_expired(&self, name: &str, names: &str) {
        let dates = ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"];
        self.make_for(name, names, &["-days", "-1"]).or_else(|_| self.make_for(name, names, &dates)).expect("an old certificate");
    }

    fn make_for(&self, name: &str, names: &str, time: &[&str]) -> Result<(), String> {
        let file = |ending: &str| self.file(&format!("{name}.{ending}")).display().to_string();
        let (key, request, extensions, certificate) = (file("key"), file("csr"), file("ext"), file("pem"));
        fs::write(&extensions, format!("subjectAltName={names}\n")).expect("extensions");
        let subject = format!("/CN={name}");
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let ask = [&["req"], curve.as_slice(), &["-keyout", &key, "-out", &request, "-subj", &subject]].concat();
        let sign = ["x509", "-req", "-in", &request, "-signkey", &key, "-extfile", &extensions, "-out", &certificate];
        for arguments in [ask, [sign.as_slice(), time].concat()] {
            let output = run("openssl", &arguments, None, SOON).expect("openssl");
            if !output.ok() {
                return Err(format!("{arguments:?}: {}", output.stderr));
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `openssl s_server -rev`: says each line backwards and closes after the line CLOSE.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "it is killed with the test")]
    fn start(folder: &Folder, name: &str, more: &[&str]) -> Server {
        let mut child = Command::new("openssl")
            .args(["s_server", "-rev", "-accept", "127.0.0.1:0", "-cert"])
            .arg(folder.file(&format!("{name}.pem")))
            .arg("-key")
            .arg(folder.file(&format!("{name}.key")))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl s_server");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout"));
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "s_server has ended");
        }
        // Whatever else it says must not stop it.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        let address = line.trim_start_matches("ACCEPT").trim().parse().expect("an address");
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 40,000 signs that would be commands at the beginning of a line or of a read, and a polite end.
fn question() -> String {
    format!("POST\nQ\nR\n{}\nCLOSE\n", "Q".repeat(10_000))
}

#[test]
fn only_the_right_certificate_is_believed() {
    let folder = Folder::new();
    folder.make("good", "IP:127.0.0.1,DNS:etcd-1");
    folder.make("other", "IP:127.0.0.1");
    folder.make_expired("old", "IP:127.0.0.1");
    let (good, old) = (Server::start(&folder, "good", &[]), Server::start(&folder, "old", &[]));
    let ask = |server: &Server, host: &str, ca: Option<&str>| {
        let ca_file = ca.map(|name| folder.file(name));
        let tls = Tls { host, ca_file: ca_file.as_deref(), identity: None };
        exchange(server.address, &tls, question().as_bytes(), SOON).map_err(|fault| fault.to_string())
    };
    for host in ["127.0.0.1", "etcd-1"] {
        let answer = ask(&good, host, Some("good.pem")).expect(host);
        assert!(answer.is_closed);
        assert_eq!(String::from_utf8_lossy(&answer.bytes), format!("TSOP\nQ\nR\n{}\n", "Q".repeat(10_000)));
    }
    for (server, host, ca, expect) in [
        (&good, "127.0.0.2", Some("good.pem"), "for another name"),
        (&good, "etcd-2", Some("good.pem"), "for another name"),
        (&good, "127.0.0.1", Some("other.pem"), "signed by nobody this node believes"),
        (&good, "127.0.0.1", None, "signed by nobody this node believes"),
        (&old, "127.0.0.1", Some("old.pem"), "has expired"),
        (&good, "127.0.0.1", Some("good.key"), "no certificate in ca_file"),
    ] {
        let said = ask(server, host, ca).expect_err(expect);
        assert!(said.contains(expect), "{host} {ca:?}: {said}");
    }
}

#[test]
fn a_service_that_wants_a_certificate_gets_one() {
    let folder = Folder::new();
    for name in ["server", "node", "other"] {
        folder.make(name, "IP:127.0.0.1");
    }
    let (ca, node) = (folder.file("server.pem"), folder.file("node.pem").display().to_string());
    let server = Server::start(&folder, "server", &["-CAfile", &node, "-Verify", "2", "-verify_return_error"]);
    let ask = |identity: Option<(&str, &str)>| {
        let files = identity.map(|(certificate, key)| (folder.file(certificate), folder.file(key)));
        let identity = files.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let tls = Tls { host: "127.0.0.1", ca_file: Some(&ca), identity };
        exchange(server.address, &tls, b"abc\nCLOSE\n", SOON).map_err(|fault| fault.to_string())
    };
    assert_eq!(ask(Some(("node.pem", "node.key"))), Ok(Whole { bytes: b"cba\n".to_vec(), is_closed: true }));
    for (identity, expect) in [
        (None, REFUSED),
        (Some(("other.pem", "other.key")), REFUSED),
        (Some(("node.pem", "other.key")), "do not belong to each other"),
        (Some(("node.pem", "gone.key")), "cannot use the certificate files"),
    ] {
        let said = ask(identity).expect_err(expect);
        // In TLS 1.3 the refusal comes after the question has left, and may be overtaken by the end of the connection.
        let is_overtaken = expect == REFUSED && said.contains("TLS fails (Connection reset");
        assert!(said.contains(expect) || is_overtaken, "{identity:?}: {said}");
    }
}

#[test]
fn no_tls_nobody_and_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    let tls = Tls { host: "127.0.0.1", ca_file: None, identity: None };
    let begun = clock::now();
    let said = exchange(address, &tls, b"x", Duration::from_millis(300)).expect_err("silence");
    assert_eq!(said.kind(), io::ErrorKind::TimedOut);
    assert!(clock::now() - begun < Duration::from_secs(10));
    let plain = std::thread::spawn(move || {
        // The first to come has left again.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("accept");
            let _ = io::Write::write_all(&mut stream, b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    let said = exchange(address, &tls, b"x", SOON).expect_err("no TLS").to_string();
    assert!(said.contains("it does not speak TLS"), "{said}");
    plain.join().expect("server");
    assert_eq!(exchange(address, &tls, b"x", SOON).expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
}
