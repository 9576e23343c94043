//! The listeners of HTTP: options, ready lines, hosts, health checks, proxies.

use std::net::SocketAddr;

use super::{HttpTestClient, start_http};
use crate::cluster::helpers::{operate, report};
use crate::ftp::ftp_address;
use crate::harness::{Cluster, ProgramBuilder, SOON, Standalone, TestDir, eventually};

#[test]
fn each_http_listener_has_a_ready_line() {
    let args = ["--http", "127.0.0.1:0", "--https", "0"];
    let slave = Standalone::start(&args, &[]);
    let [http, https] = ["http", "https"].map(|protocol| ftp_address(&slave.program, protocol));
    let pid = slave.program.pid();
    let expected = [
        format!("ready role=slave addr={} pid={pid}", slave.addr),
        format!("ready role=slave protocol=http addr={http} pid={pid}"),
        format!("ready role=slave protocol=https addr={https} pid={pid}"),
    ];
    assert_eq!(slave.program.stdout.text().lines().collect::<Vec<_>>(), expected);
    assert!(http.ip().is_loopback() && https.ip().is_loopback());
    assert_eq!(HttpTestClient::connect(http).get("/").status, 200);
}

#[test]
fn options_of_http_need_a_listener() {
    let dir = TestDir::new();
    for args in [
        &["--http-host", "files"][..],
        &["--http-passwords", "always"],
        &["--http", "0", "--http-host", "a/b"],
        &["--http", "localhost:80"],
    ] {
        let mut program = ProgramBuilder::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--root"])
            .args([dir.folder("root")])
            .args(args)
            .start();
        assert_eq!(program.wait(SOON), 2, "{args:?}");
    }
}

#[test]
fn only_own_names_are_served() {
    let (_slave, addr) = start_http(&["--http-host", "files.example"], &[("f", b"x")]);
    let mut client = HttpTestClient::connect(addr);
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("Files.Example:443", 200),
        ("evil.example", 421),
        ("files.example.evil", 421),
    ] {
        client.send(format!("GET /f HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(client.answer(false).status, status, "{host}");
    }
    for path in ["/-/healthz", "/-/readyz"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n").as_bytes());
        assert_eq!(client.answer(false).status, 200, "{path}");
        let mut old = HttpTestClient::connect(addr);
        old.send(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        assert_eq!(old.answer(false).status, 200, "{path}");
        assert!(old.is_closed());
    }
}

#[test]
fn a_draining_slave_is_not_ready_and_ends_its_sessions() {
    let cluster = Cluster::of(1).slave_args(&["--http", "127.0.0.1:0"]).start();
    let addr = ftp_address(&cluster.slaves[0].program, "http");
    let mut kept = HttpTestClient::connect(addr);
    assert_eq!(kept.get("/").status, 200);
    let ready = || HttpTestClient::connect(addr).get("/-/readyz").status;
    eventually(SOON, "the slave is ready", || (ready() == 200).then_some(()));
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    operate(&cluster, &["drain", &id]).ok();
    eventually(SOON, "the slave is draining", || (ready() == 503).then_some(()));
    assert_eq!(HttpTestClient::connect(addr).get("/-/healthz").status, 200);
    let refused = HttpTestClient::connect(addr).get("/");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("connection"), Some("close"));
}

#[test]
fn only_trusted_proxies_name_the_client() {
    let far = "Forwarded: for=192.0.2.9";
    let local = "Forwarded: for=127.0.0.1";
    for (args, field, status) in [
        (&["--trusted-proxy", "127.0.0.1"][..], far, 403),
        (&["--trusted-proxy", "127.0.0.1"], local, 201),
        (&[], local, 403),
        (&[], "X-Other: x", 201),
    ] {
        let (_slave, addr) = start_http(args, &[]);
        // Without accounts only clients on this host may write.
        let answer = HttpTestClient::connect(addr).request("PUT /f", &[field], b"x");
        assert_eq!(answer.status, status, "{args:?} {field}: {}", answer.text());
    }
    let (_slave, addr) = start_http(&["--trusted-proxy", "127.0.0.1"], &[("f", b"x")]);
    let mut proxied = HttpTestClient::connect(addr);
    let client: SocketAddr = "192.0.2.9:5000".parse().unwrap();
    let header =
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &[192, 0, 2, 9], &[127, 0, 0, 1]];
    let ports = [client.port().to_be_bytes(), 80_u16.to_be_bytes()].concat();
    proxied.send(&[&header.concat()[..], &ports].concat());
    assert_eq!(proxied.get("/f").status, 200);
    assert_eq!(proxied.request("PUT /g", &[], b"x").status, 403);
}
