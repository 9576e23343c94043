//! HTTP clients that attack: smuggling, caps, ranges, traversal, other hosts and sites, stalls.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use relais_proto::{limits, metric};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{HttpAnswer, HttpTestClient, start_http};
use crate::ftp::ftp_address;
use crate::harness::{content, eventually, group_memory, sessions};

/// Two windows of the minimum throughput, plus the time that other tests take.
const STALLED: Duration = Duration::from_secs(200);

/// Sends bytes; returns the answer, and whether the connection is closed after it.
fn answer_to(addr: SocketAddr, bytes: &[u8]) -> (HttpAnswer, bool) {
    let mut http = HttpTestClient::connect(addr);
    http.send(bytes);
    let answer = http.answer(false);
    let closes = answer.header("connection") == Some("close") && http.is_closed();
    (answer, closes)
}

#[test]
fn smuggled_requests_are_not_carried_out() {
    let (slave, addr) = start_http(&[], &[("f", b"content")]);
    let evil = "DELETE /f HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let len = evil.len();
    for (fields, body, status) in [
        (format!("Content-Length: {len}\r\nContent-Length: 0"), "", 400),
        (format!("Content-Length: {len}\r\nContent-Length: {len}"), "", 400),
        (format!("Content-Length: 0, {len}"), "", 400),
        ("Content-Length: +0".to_owned(), "", 400),
        ("Content-Length: 0\r\n 1".to_owned(), "", 400),
        ("Content-Length : 0".to_owned(), "", 400),
        (format!("Content-Length: {len}\r\nTransfer-Encoding: chunked"), "0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(), "0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked".to_owned(), "0\r\n\r\n", 501),
        ("Transfer-Encoding: \u{b}chunked".to_owned(), "0\r\n\r\n", 400),
        ("Transfer-Encoding\t: chunked".to_owned(), "0\r\n\r\n", 400),
        ("X: a\rTransfer-Encoding: chunked".to_owned(), "0\r\n\r\n", 400),
        ("X: a\nTransfer-Encoding: chunked".to_owned(), "0\r\n\r\n", 400),
        ("Host: other".to_owned(), "", 400),
        ("Transfer-Encoding: chunked".to_owned(), "0\n\n", 400),
        ("Transfer-Encoding: chunked".to_owned(), "0x0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked".to_owned(), "1\r\nxx\r\n0\r\n\r\n", 400),
    ] {
        let head = format!("PUT /new HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
        let (answer, closes) = answer_to(addr, format!("{head}{body}{evil}").as_bytes());
        assert_eq!(answer.status, status, "{fields:?} {body:?}: {}", answer.text());
        assert!(closes, "{fields:?} {body:?}");
    }
    let (answer, closes) =
        answer_to(addr, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(answer.status == 400 && closes);
    assert!(slave.root.join("f").exists() && !slave.root.join("new").exists());
}

#[test]
fn heads_have_caps() {
    let (_slave, addr) = start_http(&[], &[("f", b"content")]);
    let field = |len: usize| format!("X: {}\r\n", "x".repeat(len));
    for (head, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9000)), 414),
        (format!("GET /f HTTP/1.1\r\nHost: localhost\r\n{}\r\n", field(17_000)), 431),
        (format!("GET /f HTTP/1.1\r\nHost: localhost\r\n{}\r\n", field(1).repeat(101)), 431),
        (format!("GET /f HTTP/1.1\r\nHost: localhost\r\n{}\r\n", field(15_000)), 200),
        ("GET /f HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /f\r\n\r\n".to_owned(), 400),
        ("GET /f HTTP/1.2\r\nHost: localhost\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 501),
        ("GET ftp://localhost/f HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
    ] {
        let (answer, closes) = answer_to(addr, head.as_bytes());
        let shown: String = head.chars().take(60).collect();
        assert_eq!(answer.status, status, "{shown:?}");
        assert_eq!(closes, status != 200, "{shown:?}");
    }
}

#[test]
fn https_without_encryption_gets_one_answer() {
    let (slave, clear) = start_http(&["--https", "127.0.0.1:0"], &[("f", b"content")]);
    let https = ftp_address(&slave.program, "https");
    let (answer, closes) = answer_to(https, b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.status == 400 && closes && answer.text().contains("https://"), "{answer:?}");
    // A client that encrypts where TLS is not spoken.
    let (answer, closes) = answer_to(clear, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    assert!(answer.status == 400 && closes, "{answer:?}");
}

#[test]
fn ranges_do_not_multiply_content() {
    let bytes = content(5, 100_000);
    let (_slave, addr) = start_http(&[], &[("f", &bytes)]);
    let mut http = HttpTestClient::connect(addr);
    let mut get = |ranges: &str| http.request("GET /f", &[&format!("Range: bytes={ranges}")], &[]);
    for (ranges, status) in [
        ("0-,".repeat(16), 206),
        ("0-,".repeat(17), 200),
        ("0-,".repeat(4000), 200),
        ((0..1000).map(|n| format!("{n}-{n},")).collect(), 200),
        ("-0".to_owned(), 416),
        ("100000-".to_owned(), 416),
        ("99999999999999999999999-".to_owned(), 416),
        ("5-4".to_owned(), 200),
        ("0-18446744073709551616".to_owned(), 206),
    ] {
        let answer = get(&ranges);
        assert_eq!(answer.status, status, "{ranges:.60}");
        assert!(answer.body.len() <= bytes.len() + 2000, "{ranges:.60}");
    }
    let parts = get("0-0,50000-50009,-1");
    assert!(parts.header("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
    assert_eq!(parts.status, 206);
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let (slave, addr) = start_http(&[], &[("f", b"content")]);
    fs::write(slave.dir.path().join("secret"), b"secret").unwrap();
    for path in [
        "/../secret",
        "/..",
        "/f/../../secret",
        "/./f",
        "/%2e%2e/secret",
        "/.%2e/secret",
        "/%2E%2E%2Fsecret",
        "/..%2fsecret",
        "/%2fetc/passwd",
        "/f%00",
        "/%c0%ae%c0%ae/secret",
        "/%e0%80%ae%e0%80%ae/secret",
        "/%ff",
        "/%u002e%u002e/secret",
        "/%",
        "/%2",
        "/-/files/../secret",
        "/-/files/%2e%2e/secret",
        "http://localhost/../secret",
        "secret",
        "//..//secret",
    ] {
        for method in ["GET", "PUT", "DELETE", "PROPFIND", "MKCOL"] {
            let mut http = HttpTestClient::connect(addr);
            let answer = http.request(&format!("{method} {path}"), &[], &[]);
            assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text());
        }
    }
    let mut http = HttpTestClient::connect(addr);
    for path in ["/%252e%252e/secret", "/..%5csecret", "/.relais/id", "/.RELAIS/", "/%2erelais"] {
        assert_eq!(http.get(path).status, 404, "{path}");
    }
}

#[test]
fn other_hosts_and_sites_are_refused() {
    let (slave, addr) = start_http(&["--http-host", "files.example"], &[("f", b"content")]);
    let ask = |request: &str, host: &str, fields: &str| {
        let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        answer_to(addr, head.as_bytes()).0
    };
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:99", 200),
        ("[::1]", 200),
        ("FILES.example:80", 200),
        ("evil.example", 421),
        ("files.example.evil", 421),
        ("localhost.evil:80", 421),
        ("127.0.0.1.evil", 421),
    ] {
        assert_eq!(ask("GET /f", host, "").status, status, "{host}");
        assert_eq!(ask("GET /-/healthz", host, "").status, 200, "{host}");
    }
    assert_eq!(ask("GET http://evil/f", "localhost", "").status, 421);
    for (fields, status) in [
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: http://localhost:81\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
        ("Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n", 204),
    ] {
        assert_eq!(ask("DELETE /f", "localhost", fields).status, status, "{fields}");
    }
    assert!(!slave.root.join("f").exists());
    // No other site may read an answer.
    for request in ["GET /f", "OPTIONS /f", "OPTIONS *", "PROPFIND /", "GET /"] {
        let cors = "Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n";
        let answer = ask(request, "localhost", cors);
        let is_cors = |(name, _): &(String, String)| name.to_ascii_lowercase().contains("access-c");
        assert!(!answer.headers.iter().any(is_cors), "{request}: {answer:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_in_bounded_memory() {
    let (slave, addr) = start_http(&["--workers", "1"], &[("f", b"content")]);
    let before = group_memory(slave.program.pid());
    for (target, body) in [("/f", "content"), ("/-/healthz", "")] {
        let mut http = HttpTestClient::over(connect_narrow(addr));
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut writer = http.stream().try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let requests = head.repeat(1000);
        let mut sent = 0;
        // The client reads no answer, so that at last the slave stops reading.
        let ended = loop {
            match writer.write(&requests.as_bytes()[sent % requests.len()..]) {
                Ok(written) => sent += written,
                Err(e) => break e.kind(),
            }
        };
        assert_eq!(ended, ErrorKind::WouldBlock);
        let grown = group_memory(slave.program.pid()).saturating_sub(before);
        assert!(grown < 2 << 20, "{grown}");
        for _ in 0..sent / head.len() {
            let answer = http.answer(false);
            assert!(answer.status == 200 && (body.is_empty() || answer.text() == body));
        }
    }
}

/// Connects with small buffers.
pub fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.connect(&SockAddr::from(to)).unwrap();
    socket.into()
}

/// Sends a byte every half second until the server has closed the connection.
fn trickle(mut client: TcpStream, begin: &[u8], byte: &[u8]) -> (Duration, String) {
    let began = Instant::now();
    client.write_all(begin).unwrap();
    let mut reader = client.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut answer = Vec::new();
        // The end may be a reset.
        let _ = reader.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    while client.write_all(byte).is_ok() && !answer.is_finished() {
        assert!(began.elapsed() < STALLED, "the connection does not end");
        std::thread::sleep(Duration::from_millis(500));
    }
    (began.elapsed(), answer.join().unwrap())
}

/// All cases run in parallel, because each takes a window.
#[test]
fn stalled_and_trickling_clients_end() {
    let (slave, addr) = start_http(
        &["--workers", "1", "--sessions-per-worker", "8"],
        &[("f", b"small"), ("large", &content(1, 64 << 20))],
    );
    let mut asker = sessions(slave.addr, 1).remove(0);
    let host = "Host: localhost\r\n";
    std::thread::scope(|scope| {
        let head = scope.spawn(|| trickle(connect_narrow(addr), b"GET /f HTTP/1.1\r\nX: ", b"x"));
        let body = scope.spawn(|| {
            let begin = format!("PUT /new HTTP/1.1\r\n{host}Content-Length: 9999\r\n\r\n");
            trickle(connect_narrow(addr), begin.as_bytes(), b"x")
        });
        let chunks = scope.spawn(|| {
            let begin = format!("PUT /new HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n");
            trickle(connect_narrow(addr), begin.as_bytes(), b"1\r\nx\r\n")
        });
        // These do not read their answers.
        let deaf: Vec<_> = ["/large", "/?tar", "/?zip"]
            .iter()
            .map(|target| {
                let mut client = connect_narrow(addr);
                client
                    .write_all(format!("GET {target} HTTP/1.1\r\n{host}\r\n").as_bytes())
                    .unwrap();
                client
            })
            .collect();
        // Others are served meanwhile.
        for _ in 0..20 {
            assert_eq!(HttpTestClient::connect(addr).get("/f").body, b"small");
        }
        let (took, answer) = head.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(took >= limits::LOGIN_TIME, "{took:?}");
        for trickling in [body, chunks] {
            let (took, answer) = trickling.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(took >= limits::RATE_WINDOW, "{took:?}");
        }
        eventually(STALLED, "all their sessions have ended", || {
            (asker.status().1.get(metric::SESSIONS) == 1).then_some(())
        });
        drop(deaf);
    });
    let mut http = HttpTestClient::connect(addr);
    assert_eq!((http.get("/new").status, http.get("/f").status), (404, 200));
}
