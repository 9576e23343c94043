//! HTTP clients of a master, with slaves that only link.

use std::io::{Read, Write};
use std::net::TcpStream;

use relais_auth::UrlSignature;
use relais_proto::{
    Change, ChangeId, ChangeRequest, ContentHashes, HttpListeners, Sha256, ToMaster, TreePath,
};

use super::changes::{committed_up_to, join, propose, put, say, version};
use super::*;

/// An answer: the status line with the fields, and the body.
pub(super) struct Answer {
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(other, _)| *other == name).map(|(_, value)| value).collect()
    }

    pub fn field(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or("")
    }
}

/// Sends bytes on a connection, and reads one answer.
pub(super) fn exchange(stream: &mut TcpStream, request: &str) -> Answer {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let mut answer = Answer { head: String::from_utf8(head).unwrap(), body: String::new() };
    if !request.starts_with("HEAD") {
        let mut body = vec![0; answer.field("Content-Length").parse().unwrap_or(0)];
        stream.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
    }
    answer
}

pub(super) fn ask(master: &Running, method: &str, target: &str, fields: &str) -> Answer {
    let mut stream = TcpStream::connect(master.http).unwrap();
    exchange(
        &mut stream,
        &format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", master.http),
    )
}

pub(super) fn get(master: &Running, target: &str) -> Answer {
    ask(master, "GET", target, "")
}

pub(super) fn with_http(n: u8) -> Registration {
    let clear = vec![SocketAddr::from(([127, 0, 0, 1], 8000 + u16::from(n)))];
    let http = Some(HttpListeners { clear, encrypted: Vec::new() });
    Registration { http, ..registration(n) }
}

/// Joins a slave that serves HTTP and follows the master.
pub(super) fn joined(master: &Running, n: u8) -> Connection {
    let mut connection = try_slave(master, n, with_http(n)).unwrap();
    join(&mut connection, n, Default::default());
    let missing = ToMaster::MissingContents { upto: Lsn::default(), puts: Vec::new(), last: true };
    say(&mut connection, missing);
    say(&mut connection, ToMaster::Ready);
    connection
}

/// Two slaves, of which the first one has put `/a` as change 1.
fn cluster() -> (Running, Connection, Connection) {
    let master = Running::start();
    let (mut one, mut two) = (joined(&master, 1), joined(&master, 2));
    master.wait_for_slaves(2);
    propose(&mut one, put(1, "a"));
    committed_up_to(&mut one, 1);
    committed_up_to(&mut two, 1);
    (master, one, two)
}

fn applied(connection: &mut Connection, upto: u64) {
    say(connection, ToMaster::Applied { upto: version(upto) });
}

fn holds(connection: &mut Connection, put: u64) {
    say(connection, ToMaster::Holds { put: version(put), has: true });
}

/// Polls until an answer names this many slaves.
fn wait_for_copies(master: &Running, target: &str, copies: usize) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = get(master, target);
        if answer.status() == 307 && answer.all("Link").len() + 1 == copies {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", answer.head);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_is_redirected_to_those_that_hold_and_have_applied_it() {
    let (master, mut one, mut two) = cluster();
    applied(&mut two, 1);
    let answer = get(&master, "/a");
    assert_eq!(answer.status(), 503, "the holder has not applied it: {}", answer.head);
    assert!(!answer.field("Retry-After").is_empty());
    applied(&mut one, 1);
    let answer = wait_for_copies(&master, "/a", 1);
    assert_eq!(answer.field("Location"), "http://127.0.0.1:8001/a");
    assert_eq!(answer.field("Referrer-Policy"), "no-referrer");
    holds(&mut two, 1);
    wait_for_copies(&master, "/a", 2);
    let mut firsts: Vec<String> = Vec::new();
    for _ in 0..4 {
        let answer = ask(&master, "HEAD", "/a?x=1", "");
        let first = answer.field("Location").to_owned();
        let other = if first.contains(":8001/") { 8002 } else { 8001 };
        let link = format!("<http://127.0.0.1:{other}/a?x=1>; rel=duplicate; pri=2");
        assert_eq!(answer.all("Link"), [link.as_str()]);
        firsts.push(first);
    }
    assert!(firsts[0] == firsts[2] && firsts[1] == firsts[3] && firsts[0] != firsts[1]);
}

#[test]
fn a_request_waits_for_a_change_that_is_about_to_be_applied() {
    let (master, mut one, _two) = cluster();
    let http = master.http;
    let waiting = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(http).unwrap();
        exchange(&mut stream, "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").status()
    });
    std::thread::sleep(Duration::from_millis(100));
    applied(&mut one, 1);
    assert_eq!(waiting.join().unwrap(), 307);
}

#[test]
fn what_is_not_there_is_not_found_and_folders_and_writes_go_to_a_slave() {
    let (master, mut one, mut two) = cluster();
    applied(&mut one, 1);
    applied(&mut two, 1);
    wait_for_copies(&master, "/a", 1);
    for path in ["/b", "/a/b", "/.relais/x", "/-/nothing", "/-"] {
        assert_eq!(get(&master, path).status(), 404, "{path}");
    }
    assert_eq!(get(&master, "/%2e%2e/a").status(), 400);
    let root = get(&master, "/").field("Location").to_owned();
    assert!(root == "http://127.0.0.1:8001/" || root == "http://127.0.0.1:8002/", "{root}");
    for (method, target) in [("PUT", "/new"), ("DELETE", "/a"), ("MKCOL", "/f"), ("PROPFIND", "/")]
    {
        let answer = ask(&master, method, target, "Content-Length: 5\r\n");
        assert_eq!(answer.status(), 307, "{method}");
        assert!(answer.field("Location").ends_with(target) && answer.all("Link").is_empty());
        assert_eq!(answer.field("Connection"), "close", "the body is not read");
    }
    assert_eq!(ask(&master, "BREW", "/a", "").status(), 405);
}

#[test]
fn a_kept_connection_answers_requests_in_a_row() {
    let (master, mut one, _two) = cluster();
    applied(&mut one, 1);
    wait_for_copies(&master, "/a", 1);
    let mut stream = TcpStream::connect(master.http).unwrap();
    let request = "GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n";
    for _ in 0..100 {
        assert_eq!(exchange(&mut stream, request).status(), 307);
    }
    stream.write_all(request.repeat(50).as_bytes()).unwrap();
    for _ in 0..50 {
        assert_eq!(exchange(&mut stream, "").status(), 307);
    }
    let last = "GET /b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&mut stream, last).status(), 421, "another host");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn health_checks_follow_the_slaves_and_need_no_host() {
    let master = Running::start();
    let check = |path: &str| {
        let mut stream = TcpStream::connect(master.http).unwrap();
        let answer = exchange(&mut stream, &format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "HTTP/1.0 ends with the answer");
        answer.status()
    };
    assert_eq!((check("/-/healthz"), check("/-/readyz")), (200, 503));
    let slave = joined(&master, 1);
    master.wait_for_slaves(1);
    assert_eq!(check("/-/readyz"), 200);
    drop(slave);
    let begun = Instant::now();
    while check("/-/readyz") == 200 {
        assert!(begun.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(5));
    }
    let none = get(&master, "/");
    assert!(none.status() == 503 && !none.field("Retry-After").is_empty());
    let json = ask(&master, "GET", "/x", "Accept: application/json\r\n");
    assert!(json.body.starts_with("{\"error\":{\"code\":\"not-found\""), "{}", json.body);
}

#[test]
fn slaves_that_serve_no_http_are_not_named() {
    let master = Running::start();
    let mut one = try_slave(&master, 1, registration(1)).unwrap();
    join(&mut one, 1, Default::default());
    master.wait_for_slaves(1);
    assert_eq!(get(&master, "/").status(), 503);
    let _two = joined(&master, 2);
    master.wait_for_slaves(2);
    for _ in 0..4 {
        assert_eq!(get(&master, "/").field("Location"), "http://127.0.0.1:8002/");
    }
}

#[test]
fn a_metalink_waits_for_hashes_that_one_slave_computes() {
    let (master, mut one, mut two) = cluster();
    applied(&mut one, 1);
    applied(&mut two, 1);
    holds(&mut two, 1);
    wait_for_copies(&master, "/a", 2);
    let http = master.http;
    let ask_for = |target: &'static str, accept: &'static str| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(http).unwrap();
            let fields = format!("Host: localhost\r\n{accept}");
            exchange(&mut stream, &format!("GET {target} HTTP/1.1\r\n{fields}\r\n"))
        })
    };
    let waiting = [
        ask_for("/a?meta4", ""),
        ask_for("/a", "Accept: application/metalink4+xml\r\n"),
        ask_for("/a?meta4", ""),
    ];
    let holder = if asked_of(&mut one, &mut two) == 1 { &mut one } else { &mut two };
    // aria2 takes the file while there are no hashes.
    let either = "Accept: */*,application/metalink4+xml\r\n";
    assert_eq!(ask(&master, "GET", "/a", either).status(), 307);
    let hashes =
        ContentHashes { sha256: Sha256([0xab; 32]), piece_size: 1 << 20, pieces: Vec::new() };
    let change = Change::RecordSha256 { put: version(1), hashes };
    propose(holder, ChangeRequest { id: ChangeId([9; 16]), change, ..put(9, "x") });
    for waiting in waiting {
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.field("Content-Type"), "application/metalink4+xml");
        assert_eq!(answer.body.matches("<url ").count(), 2);
        assert!(answer.body.contains(&"ab".repeat(32)) && answer.body.contains("<size>3</size>"));
    }
    assert_eq!(ask(&master, "GET", "/a", either).status(), 200);
    let redirect = get(&master, "/a");
    assert!(redirect.field("Digest").starts_with("SHA-256=q6ur"));
    assert!(redirect.field("Repr-Digest").starts_with("sha-256=:q6ur"));
    assert_eq!(redirect.all("Link").len(), 2);
    assert_eq!(get(&master, "/?meta4").status(), 307, "a folder");
    assert_eq!(get(&master, "/b?meta4").status(), 404);
}

/// Returns which slave the master asks to hash `/a`; it asks one alone.
fn asked_of(one: &mut Connection, two: &mut Connection) -> u8 {
    for (n, connection) in [(1, one), (2, two)] {
        connection.set_silence(Duration::from_millis(500));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            match next(connection) {
                Ok(LinkMessage::HashContent { path }) => {
                    assert_eq!(path.as_str(), "a");
                    return n;
                }
                Ok(_) => beaten(connection),
                Err(_) => break,
            }
        }
    }
    panic!("no slave is asked");
}

#[test]
fn with_accounts_a_url_is_signed_for_one_path_and_reading() {
    let master = Running::start();
    let mut one = joined(&master, 1);
    master.wait_for_slaves(1);
    propose(&mut one, put(1, "a b"));
    committed_up_to(&mut one, 1);
    applied(&mut one, 1);
    wait_for_copies(&master, "/a%20b", 1);
    super::logins::add(&master, "ann", relais_auth::Rights::Read, "");
    let begun = Instant::now();
    while get(&master, "/a%20b").status() != 401 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let refused = get(&master, "/nothing");
    assert_eq!(refused.field("WWW-Authenticate"), "Basic realm=\"Relais\", charset=\"UTF-8\"");
    // ann:secret and ann:wrong
    let right = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
    let wrong = ask(&master, "GET", "/a%20b", "Authorization: Basic YW5uOndyb25n\r\n");
    assert_eq!(wrong.status(), 401);
    std::thread::sleep(Duration::from_millis(1100));
    let answer = ask(&master, "GET", "/a%20b?q", right);
    let (url, signature) = answer.field("Location").split_once("&relais-signature=").unwrap();
    assert_eq!(url, "http://127.0.0.1:8001/a%20b?q");
    let check = |path: &str| {
        UrlSignature::check(signature, &master.key, &TreePath::new(path).unwrap(), 0, 1)
    };
    assert_eq!(check("a b").unwrap().user, "ann");
    assert!(check("a").is_err());
    let write = ask(&master, "DELETE", "/a%20b", right);
    assert_eq!(write.field("Location"), "http://127.0.0.1:8001/a%20b", "not signed");
    // The second request costs no hash.
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&master, "GET", "/a%20b", right).status(), 307);
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
