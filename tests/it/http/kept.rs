//! Connections that are kept: they cost neither a thread nor a slot while they are idle.

use super::{HttpTestClient, start_http};
use crate::harness::{SOON, eventually};

#[test]
fn idle_connections_leave_their_slot() {
    let args = ["--workers", "1", "--sessions-per-worker", "2", "--queue", "0"];
    let (_slave, addr) = start_http(&args, &[("f", b"x")]);
    let mut clients: Vec<HttpTestClient> = Vec::new();
    for _ in 0..12 {
        let mut client = HttpTestClient::connect(addr);
        eventually(SOON, "a slot", || (client.get("/f").status == 200).then_some(()));
        clients.push(client);
    }
    // Each of them works again, although all are connected.
    for client in &mut clients {
        eventually(SOON, "a slot again", || (client.get("/f").status == 200).then_some(()));
    }
}

#[test]
fn without_a_slot_the_answer_is_to_try_later() {
    let args = ["--workers", "1", "--sessions-per-worker", "1", "--queue", "0"];
    let (_slave, addr) = start_http(&args, &[("f", b"x")]);
    let mut busy = HttpTestClient::connect(addr);
    eventually(SOON, "the slot", || (busy.get("/f").status == 200).then_some(()));
    busy.send(b"PUT /g HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab");
    let mut other = HttpTestClient::connect(addr);
    let refused = eventually(SOON, "the slot is taken", || {
        Some(other.get("/f")).filter(|answer| answer.status == 503)
    });
    assert!(refused.header("retry-after").is_some());
    busy.send(b"cde");
    assert_eq!(busy.answer(false).status, 201);
    eventually(SOON, "the slot is free", || (other.get("/f").status == 200).then_some(()));
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let (_slave, addr) = start_http(&[], &[("f", b"abc")]);
    let mut client = HttpTestClient::connect(addr);
    // Pipelined, with a body in between, and across the return to the pool.
    let get = "GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let put = "PUT /g HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nxyz";
    let health = "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(format!("{get}{put}{health}{get}{get}").as_bytes());
    let answers: Vec<_> = (0..5).map(|_| client.answer(false)).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 201, 200, 200, 200]);
    assert_eq!((&*answers[2].body, &*answers[4].body), (b"ok\n".as_slice(), b"abc".as_slice()));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(client.get("/g").body, b"xyz", "after an idle time");
    let closed = client.request("GET /f", &["Connection: close"], &[]);
    assert_eq!(closed.header("connection"), Some("close"));
    assert!(client.is_closed());
    let mut old = HttpTestClient::connect(addr);
    old.send(b"GET /f HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old.answer(false).header("connection"), Some("keep-alive"));
    old.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = old.answer(false);
    assert!(answer.status == 200 && answer.text().contains("</html>") && old.is_closed());
}

#[test]
fn bad_requests_are_answered_and_end_the_connection() {
    let (_slave, addr) = start_http(&[], &[("f", b"abc")]);
    let long_head = format!("GET /f HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n", "x".repeat(20_000));
    let long_target = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9_000));
    for (bytes, status) in [
        ("GET /f HTTP/1.1\r\n\r\n", 400),
        ("GET /f HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("\x16\x03\x01\x02", 400),
        (
            "GET /f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            400,
        ),
        (
            "PUT /f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET /f HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        (&long_head, 431),
        (&long_target, 414),
    ] {
        for in_session in [false, true] {
            let mut client = HttpTestClient::connect(addr);
            if in_session {
                assert_eq!(client.get("/f").status, 200);
            }
            client.send(bytes.as_bytes());
            let answer = client.answer(false);
            let shown = &bytes[..bytes.len().min(60)];
            assert_eq!(answer.status, status, "{shown:?} {in_session}");
            assert!(client.is_closed(), "{shown:?}");
        }
    }
}
