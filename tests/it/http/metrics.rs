//! `/-/metrics` of a slave: what it counts, and who may read it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::login::operate;
use super::{HttpAnswer, HttpTestClient, start_http};
use crate::ftp::ftp_address;
use crate::harness::{SOON, Standalone, TestDir, eventually};

const METRICS: &str = "GET /-/metrics";

/// Returns the value of a metric with its labels.
#[track_caller]
fn value(addr: SocketAddr, metric: &str) -> String {
    let text = HttpTestClient::connect(addr).get("/-/metrics").text();
    let prefix = format!("{metric} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{metric} is missing:\n{text}")).to_owned()
}

#[track_caller]
fn becomes(addr: SocketAddr, metric: &str, expected: &str) {
    eventually(SOON, &format!("{metric} is {expected}"), || {
        (value(addr, metric) == expected).then_some(())
    });
}

#[test]
fn sessions_are_counted_by_protocol() {
    let (slave, addr) = start_http(&["--ftp", "127.0.0.1:0"], &[]);
    let sessions = |protocol: &str| format!("relais_sessions{{protocol=\"{protocol}\"}}");
    for protocol in ["native", "ftp", "ftps", "http", "https"] {
        becomes(addr, &sessions(protocol), "0");
    }
    let mut ftp = TcpStream::connect(ftp_address(&slave.program, "ftp")).unwrap();
    ftp.write_all(b"USER anonymous\r\nPASS guest\r\n").unwrap();
    becomes(addr, &sessions("ftp"), "1");
    assert_eq!((value(addr, &sessions("native")), value(addr, &sessions("ftps"))), zeros());
    ftp.write_all(b"QUIT\r\n").unwrap();
    ftp.read_to_end(&mut Vec::new()).unwrap();
    becomes(addr, &sessions("ftp"), "0");
    let free = value(addr, "relais_disk_free_bytes").parse::<u64>().unwrap();
    let size = value(addr, "relais_disk_size_bytes").parse::<u64>().unwrap();
    assert!(free > 0 && free <= size, "{free} of {size}");
}

fn zeros() -> (String, String) {
    ("0".to_owned(), "0".to_owned())
}

#[test]
fn resumed_and_running_transfers_are_counted() {
    // More than the buffers between both sides hold.
    let content = vec![7; 64 << 20];
    let (_slave, addr) = start_http(&[], &[("f", &content)]);
    let mut reader = HttpTestClient::connect(addr);
    reader.send(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n");
    becomes(addr, "relais_active_transfers", "1");
    reader.stream().read_exact(&mut vec![0; 24 << 20]).unwrap();
    let received = "relais_transfer_bytes_total{protocol=\"http\",direction=\"download\"}";
    eventually(SOON, "bytes are counted before the end", || {
        let bytes: u64 = value(addr, received).parse().unwrap();
        (bytes > 0 && bytes < content.len() as u64).then_some(())
    });
    drop(reader);
    becomes(addr, "relais_active_transfers", "0");
    becomes(addr, "relais_resumes_total", "0");
    let range = |range: &str| {
        let field = format!("Range: bytes={range}");
        HttpTestClient::connect(addr).request("GET /f", &[&field], &[]).status
    };
    // A part is no rest.
    assert_eq!((range("1-5"), range("0-"), range("67108860-")), (206, 206, 206));
    becomes(addr, "relais_resumes_total", "1");
    let fields = ["Upload-Complete: ?0", "Upload-Length: 6", "Upload-Draft-Interop-Version: 8"];
    let begun = HttpTestClient::connect(addr).request("PUT /g", &fields, b"abc");
    let url = begun.header("location").unwrap();
    let line = format!("PATCH {url}");
    let fields =
        ["Content-Type: application/partial-upload", "Upload-Offset: 3", "Upload-Complete: ?1"];
    let ended = HttpTestClient::connect(addr).request(&line, &fields, b"def");
    assert!(ended.status < 300, "{}", ended.text());
    becomes(addr, "relais_resumes_total", "2");
    let received = "relais_transfer_bytes_total{protocol=\"http\",direction=\"upload\"}";
    becomes(addr, received, "6");
}

/// Starts a slave with accounts behind a trusted proxy, and a token.
fn guarded() -> (Standalone, SocketAddr) {
    let dir = TestDir::new();
    let root = dir.folder("root");
    let token = dir.path().join("token");
    std::fs::write(&token, "open sesame\n").unwrap();
    operate(&dir, &["add", "ann", "--rights", "write"], "secret");
    operate(&dir, &["add", "boss", "--rights", "admin"], "secret");
    let token = token.to_str().unwrap().to_owned();
    let args = ["--http", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1", "--http-passwords"];
    let args = [&args[..], &["always", "--metrics-token-file", &token]].concat();
    let slave = Standalone::start_in(dir, root, &args, &[]);
    let addr = ftp_address(&slave.program, "http");
    (slave, addr)
}

#[test]
fn other_hosts_need_a_token_or_an_administrator() {
    let (_slave, addr) = guarded();
    let from = |client: &str, fields: &[&str]| -> HttpAnswer {
        let forwarded = format!("Forwarded: for={client}");
        let fields = [&[&*forwarded], fields].concat();
        HttpTestClient::connect(addr).request(METRICS, &fields, &[])
    };
    let far = |fields: &[&str]| from("192.0.2.9", fields).status;
    assert_eq!(HttpTestClient::connect(addr).get("/-/metrics").status, 200);
    assert_eq!(from("127.0.0.1", &[]).status, 401, "it comes through a proxy");
    assert_eq!((far(&[]), far(&["Authorization: Bearer open"])), (401, 401));
    let allowed = from("192.0.2.9", &["Authorization: Bearer open sesame"]);
    assert!(allowed.status == 200 && allowed.text().contains("\nrelais_build_info{"));
    // `ann:secret`, `ann:wrong` and `boss:secret` in Base64.
    assert_eq!(far(&["Authorization: Basic YW5uOnNlY3JldA=="]), 403);
    assert_eq!(far(&["Authorization: Basic YW5uOndyb25n"]), 401);
    assert_eq!(far(&["Authorization: Basic Ym9zczpzZWNyZXQ="]), 200);
    let admin = "Authorization: Basic Ym9zczpzZWNyZXQ=";
    let open = from("192.0.2.9", &[admin, "Accept: application/openmetrics-text"]);
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
}

#[test]
fn without_accounts_other_hosts_need_the_token() {
    let (_slave, addr) = start_http(&["--trusted-proxy", "127.0.0.1"], &[]);
    let far = HttpTestClient::connect(addr).request(METRICS, &["Forwarded: for=192.0.2.9"], &[]);
    assert_eq!(far.status, 403);
}
