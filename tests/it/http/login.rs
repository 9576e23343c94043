//! Logins: Basic, cookies, and what other sites may cause.

use std::net::SocketAddr;

use super::{HttpAnswer, HttpTestClient};
use crate::ftp::ftp_address;
use crate::harness::{ProgramBuilder, SOON, Standalone, TestDir};

/// `ann:secret` and `ann:wrong` in Base64.
pub const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==";
pub const WRONG: &str = "Authorization: Basic YW5uOndyb25n";

pub fn operate(dir: &TestDir, args: &[&str], password: &str) {
    let file = dir.path().join("password");
    std::fs::write(&file, password).unwrap();
    let mut program = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["user"])
        .args(args)
        .args(["--password-file"])
        .args([&file])
        .args(["--state"])
        .args([dir.folder("state")])
        .start();
    assert_eq!(program.wait(SOON), 0, "{}", program.stderr.text());
}

/// Starts a standalone slave with HTTP and the account `ann`.
pub fn with_account(args: &[&str]) -> (Standalone, SocketAddr) {
    let dir = TestDir::new();
    let root = dir.folder("root");
    std::fs::write(root.join("f"), b"content").unwrap();
    operate(&dir, &["add", "ann", "--rights", "write"], "secret");
    let args = [&["--http", "127.0.0.1:0"], args].concat();
    let slave = Standalone::start_in(dir, root, &args, &[]);
    let addr = ftp_address(&slave.program, "http");
    (slave, addr)
}

/// Logs in by the form; returns the cookie and the token of its requests.
fn log_in(addr: SocketAddr) -> (String, String) {
    let fields = ["Content-Type: application/x-www-form-urlencoded"];
    let mut client = HttpTestClient::connect(addr);
    let answer = client.request("POST /-/login", &fields, b"user=ann&password=secret");
    assert_eq!(answer.status, 204, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("relais-"), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let value = cookie.split(';').next().unwrap();
    (format!("Cookie: {value}"), answer.header("x-csrf-token").unwrap().to_owned())
}

pub fn get(addr: SocketAddr, fields: &[&str]) -> HttpAnswer {
    HttpTestClient::connect(addr).request("GET /f", fields, &[])
}

#[test]
fn passwords_are_asked_for_and_checked() {
    let (slave, addr) = with_account(&[]);
    let refused = get(addr, &[]);
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    assert_eq!(get(addr, &[WRONG]).status, 401);
    assert_eq!(get(addr, &["Authorization: Bearer x"]).status, 401);
    for _ in 0..20 {
        assert_eq!(get(addr, &[ANN]).status, 200);
    }
    // One connection, several logins.
    let mut client = HttpTestClient::connect(addr);
    for (field, status) in [(ANN, 200), (WRONG, 401), (ANN, 200), ("X: y", 401), (ANN, 200)] {
        assert_eq!(client.request("GET /f", &[field], &[]).status, status, "{field}");
    }
    assert_eq!(client.request("PUT /g", &[ANN], b"x").status, 201);
    operate(&slave.dir, &["passwd", "ann"], "other");
    crate::harness::eventually(SOON, "the old password is refused", || {
        (get(addr, &[ANN]).status == 401).then_some(())
    });
    assert_eq!(client.request("GET /f", &[ANN], &[]).status, 401);
}

#[test]
fn guesses_on_one_connection_end_it() {
    let (_slave, addr) = with_account(&[]);
    let mut client = HttpTestClient::connect(addr);
    let closed = (0..10).any(|_| {
        let answer = client.request("GET /f", &[WRONG], &[]);
        assert!(matches!(answer.status, 401 | 503), "{}", answer.status);
        answer.header("connection") == Some("close")
    });
    assert!(closed && client.is_closed());
}

#[test]
fn passwords_of_other_hosts_need_tls() {
    let far = "X-Forwarded-For: 192.0.2.9";
    for (args, proto, status) in [
        (&["--trusted-proxy", "127.0.0.1"][..], "http", 403),
        (&["--trusted-proxy", "127.0.0.1"], "https", 200),
        (&["--trusted-proxy", "127.0.0.1", "--http-passwords", "always"], "http", 200),
    ] {
        let (_slave, addr) = with_account(args);
        let proto = format!("X-Forwarded-Proto: {proto}");
        assert_eq!(get(addr, &[ANN, far, &proto]).status, status, "{args:?} {proto}");
        // A password that was verified over TLS is not accepted in the clear.
        assert_eq!(get(addr, &[ANN, far, "X-Forwarded-Proto: https"]).status, 200);
        assert_eq!(get(addr, &[ANN, far, &proto]).status, status, "{args:?} {proto}");
        let asked = get(addr, &[far, &proto]);
        assert_eq!(asked.status, 401);
        // A browser must not ask its user for a password that would be sent in the clear.
        assert_eq!(asked.header("www-authenticate").is_some(), status == 200);
    }
}

#[test]
fn a_cookie_is_a_login_until_it_is_given_up() {
    let (mut slave, addr) = with_account(&[]);
    let (cookie, token) = log_in(addr);
    assert_eq!(get(addr, &[&cookie]).status, 200);
    // Credentials of one kind do not stand for those of another.
    let value = cookie.split_once('=').unwrap().1;
    assert_eq!(get(addr, &[&format!("Authorization: {value}")]).status, 401);
    assert_eq!(get(addr, &[ANN]).status, 200);
    let (name, basic) = (cookie.split('=').next().unwrap(), ANN.split_once(": ").unwrap().1);
    assert_eq!(get(addr, &[&format!("{name}={basic}")]).status, 401);
    let mut altered = cookie.clone();
    let last = if altered.ends_with('A') { 'B' } else { 'A' };
    altered.pop();
    altered.push(last);
    assert_eq!(get(addr, &[&altered]).status, 401);
    assert_eq!(slave.program.stop(nix::sys::signal::Signal::SIGTERM), 0);
    slave.restart_on_same_port();
    let addr = ftp_address(&slave.program, "http");
    assert_eq!(get(addr, &[&cookie]).status, 200, "the login survives a restart");
    let logout = |fields: &[&str], body: &[u8]| {
        HttpTestClient::connect(addr).request("POST /-/logout", fields, body)
    };
    assert_eq!(logout(&[&cookie], b"x").status, 403);
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(logout(&[&cookie, form], b"csrf=x").status, 403);
    let answer = logout(&[&cookie, form], format!("csrf={token}").as_bytes());
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    let (cookie, _) = log_in(addr);
    operate(&slave.dir, &["passwd", "ann"], "other");
    crate::harness::eventually(SOON, "the cookie is refused", || {
        (get(addr, &[&cookie]).status == 401).then_some(())
    });
}

#[test]
fn wrong_forms_give_no_cookie() {
    let (_slave, addr) = with_account(&[]);
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (body, status) in [
        (&b"user=ann&password=wrong"[..], 401),
        (b"user=&password=", 401),
        (b"%zz", 400),
        (b"user=\xff", 400),
    ] {
        let answer = HttpTestClient::connect(addr).request("POST /-/login", &[form], body);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.header("set-cookie").is_none());
    }
    let long = vec![b'x'; 20_000];
    let answer = HttpTestClient::connect(addr).request("POST /-/login", &[form], &long);
    assert_eq!(answer.status, 413);
    let mut browser = HttpTestClient::connect(addr);
    let page = browser.request("GET /-/login", &["Accept: text/html"], &[]);
    assert!(page.status == 200 && page.text().contains("<form"));
    let fields = [form, "Accept: text/html"];
    let answer = browser.request("POST /-/login", &fields, b"user=ann&password=secret");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
}

#[test]
fn other_sites_change_nothing() {
    let (slave, addr) = with_account(&[]);
    let (cookie, token) = log_in(addr);
    let token = format!("X-CSRF-Token: {token}");
    let own = format!("Origin: http://{addr}");
    let host = format!("Host: {addr}");
    for (fields, status) in [
        (&[&*cookie, "X: y"][..], 403),
        (&[&cookie, "X-CSRF-Token: 00"], 403),
        (&[&cookie, &token, "Origin: http://evil.example"], 403),
        (&[&cookie, &token, "Origin: null"], 403),
        (&[&cookie, &token, "Sec-Fetch-Site: same-site"], 403),
        (&[ANN, "Origin: http://evil.example"], 403),
        (&[ANN, "Sec-Fetch-Site: cross-site"], 403),
        (&[&cookie, &token], 201),
        (&[&cookie, &token, &own], 204),
        (&[ANN, "Sec-Fetch-Site: same-origin"], 204),
    ] {
        let mut client = HttpTestClient::connect(addr);
        let mut head = format!("PUT /g HTTP/1.1\r\n{host}\r\nContent-Length: 1\r\n");
        fields.iter().for_each(|field| head += &format!("{field}\r\n"));
        client.send(format!("{head}\r\nx").as_bytes());
        let answer = client.answer(false);
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text());
        assert_eq!(slave.root.join("g").exists(), status != 403);
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("Access-Control")));
    }
}

#[test]
fn a_log_out_ends_the_cookie_in_all_workers() {
    let (mut slave, addr) = with_account(&["--workers", "3"]);
    let (cookie, token) = log_in(addr);
    let (other, _) = log_in(addr);
    // Connections to several workers, whose caches and sessions know the login.
    let mut clients: Vec<_> = (0..12).map(|_| HttpTestClient::connect(addr)).collect();
    for client in &mut clients {
        assert_eq!(client.request("GET /f", &[&cookie], &[]).status, 200);
    }
    let csrf = format!("X-CSRF-Token: {token}");
    let answer = HttpTestClient::connect(addr).request("POST /-/logout", &[&cookie, &csrf], &[]);
    assert_eq!(answer.status, 204);
    for client in &mut clients {
        assert_eq!(client.request("GET /f", &[&cookie], &[]).status, 401);
    }
    for _ in 0..12 {
        assert_eq!(get(addr, &[&cookie]).status, 401);
        assert_eq!(get(addr, &[&other]).status, 200, "another login of the same user goes on");
    }
    assert_eq!(slave.program.stop(nix::sys::signal::Signal::SIGTERM), 0);
    slave.restart();
    let addr = ftp_address(&slave.program, "http");
    assert_eq!(get(addr, &[&cookie]).status, 401, "after a restart");
    assert_eq!(get(addr, &[&other]).status, 200);
}

#[test]
fn a_cookie_of_the_same_name_shadows_no_other() {
    let (_slave, addr) = with_account(&[]);
    let ((cookie, token), (ended, ended_token)) = (log_in(addr), log_in(addr));
    let csrf = format!("X-CSRF-Token: {ended_token}");
    let answer = HttpTestClient::connect(addr).request("POST /-/logout", &[&ended, &csrf], &[]);
    assert_eq!(answer.status, 204);
    let (name, value) = cookie.strip_prefix("Cookie: ").unwrap().split_once('=').unwrap();
    let ended = ended.split_once('=').unwrap().1;
    let csrf = format!("X-CSRF-Token: {token}");
    for cookies in [
        format!("{name}=x; {name}={value}"),
        format!("{name}=; {name}={value}; {name}=y"),
        format!("{name}={ended}; other=1; {name}={value}"),
    ] {
        let field = format!("Cookie: {cookies}");
        assert_eq!(get(addr, &[&field]).status, 200, "{cookies}");
        let put = HttpTestClient::connect(addr).request("PUT /h", &[&field, &csrf], b"x");
        assert!(matches!(put.status, 201 | 204), "{cookies}: {}", put.text());
    }
    let field = format!("Cookie: {name}=x; {name}={ended}");
    assert_eq!(get(addr, &[&field]).status, 401);
}
