//! Requests on one connection: heads and bodies in any pieces, pipelined, slow, cut, smuggled.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use common::{Pair, is_cut};
use relais_http::{Response, Status};
use relais_os::SplicePipe;
use relais_proto::limits::LOGIN_TIME;
use relais_web::{NextRequest, ResponseBody, WebError};

fn answer(pair: &mut Pair) {
    pair.server.respond(&Response::new(Status::OK), ResponseBody::Bytes(b"ok")).unwrap();
}

#[test]
fn requests_follow_each_other() {
    let mut pair = Pair::with(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPUT /2 ", |_| ());
    assert_eq!(pair.head().target.path, "/1");
    assert_eq!(pair.body().unwrap(), b"");
    answer(&mut pair);
    pair.send("HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /3 HTTP/1.1\r\n");
    assert_eq!(pair.head().target.path, "/2");
    assert_eq!(pair.server.body().left(), Some(5));
    assert_eq!(pair.body().unwrap(), b"hello");
    answer(&mut pair);
    pair.send("Host: a\r\nConnection: close\r\n\r\n");
    assert_eq!(pair.head().target.path, "/3");
    answer(&mut pair);
    assert!(!pair.server.is_kept());
    assert!(matches!(pair.next(), Ok(NextRequest::Closed)));
    let answers = String::from_utf8(pair.rest().unwrap()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3);
    assert_eq!(answers.matches("Connection: close\r\n").count(), 1);
}

#[test]
fn input_ahead_goes_to_the_next_owner() {
    let mut pair = Pair::new();
    pair.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HT");
    pair.head();
    answer(&mut pair);
    let (_, input) = pair.server.into_parts();
    assert_eq!(input, b"GET /2 HT");
}

#[test]
fn bodies_in_chunks_are_decoded_across_reads() {
    let mut pair = Pair::new();
    let mut client = pair.client.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let text = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nTrailer: z\r\n\r\n\
                    GET /2 HTTP/1.0\r\n\r\n";
        for byte in text.as_bytes() {
            client.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    pair.head();
    assert_eq!(pair.server.body().left(), None);
    assert_eq!(pair.body().unwrap(), b"hello, world");
    assert_eq!(pair.body().unwrap(), b"", "the end is remembered");
    answer(&mut pair);
    assert_eq!(pair.head().target.path, "/2");
    writer.join().unwrap();
}

#[test]
fn a_body_goes_to_a_pipe_up_to_its_end() {
    let (mut pair, mut pipe) = (Pair::new(), SplicePipe::new().unwrap());
    pair.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello");
    pair.head();
    let mut body = pair.server.body();
    assert!(!body.can_be_spliced(), "the first bytes were read with the head");
    assert!(body.read_into(&mut pipe).is_err());
    assert_eq!(body.read(&mut [0; 9]).unwrap(), 5, "they have to be read");
    pair.send(", worldGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut body = pair.server.body();
    assert!(body.can_be_spliced());
    while body.read_into(&mut pipe).unwrap() > 0 {}
    let file = tempfile::tempfile().unwrap();
    pipe.empty_into(Some((&file, 0))).unwrap();
    let mut content = [0; 9];
    assert_eq!(file.read_at(&mut content, 0).unwrap(), 7);
    assert_eq!(&content[..7], b", world");
    answer(&mut pair);
    assert_eq!(pair.head().target.path, "/2");
}

#[test]
fn the_body_is_asked_for_when_it_is_read() {
    let mut pair = Pair::new();
    pair.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    pair.head();
    let mut client = pair.client.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut interim = [0; 25];
        std::io::Read::read_exact(&mut client, &mut interim).unwrap();
        client.write_all(b"hi").unwrap();
        interim
    });
    assert_eq!(pair.body().unwrap(), b"hi");
    assert_eq!(&reader.join().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    answer(&mut pair);
    assert!(pair.server.is_kept() && pair.received().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_refused_body_is_not_asked_for() {
    let mut pair = Pair::new();
    pair.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    pair.head();
    let refusal = Response::new(Status::FORBIDDEN);
    pair.server.respond(&refusal, ResponseBody::Empty).unwrap();
    // The client may send the body or the next request: the connection cannot be kept.
    assert!(!pair.server.is_kept());
    let answer = pair.received();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("Connection: close\r\n"));
}

#[test]
fn an_early_answer_drops_a_short_body_and_closes_before_a_long_one() {
    let mut pair = Pair::new();
    pair.send(
        "PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET /evilGET /2 HTTP/1.0\r\n\r\n",
    );
    pair.head();
    answer(&mut pair);
    assert_eq!(pair.head().target.path, "/2");

    let mut pair = Pair::new();
    pair.send("PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n");
    pair.head();
    answer(&mut pair);
    assert!(!pair.server.is_kept());

    // The end of this one is not known before.
    let mut pair = Pair::new();
    let mut client = pair.client.try_clone().unwrap();
    let head = "PUT /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let writer = std::thread::spawn(move || {
        client.write_all(head.as_bytes()).unwrap();
        let chunk = [b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat();
        while client.write_all(&chunk).is_ok() {}
    });
    pair.head();
    answer(&mut pair);
    assert!(matches!(pair.next(), Ok(NextRequest::Closed)));
    drop(pair);
    writer.join().unwrap();
}

#[test]
fn a_connection_may_be_idle_until_a_time() {
    let mut pair = Pair::new();
    let until = Instant::now() + Duration::from_millis(50);
    assert!(matches!(pair.server.read_head(until), Ok(NextRequest::Idle)));
    assert!(Instant::now() >= until);
    pair.send("GET / HTTP/1.0\r\n\r\n");
    pair.head();
}

#[test]
fn closed_connections_end_heads_and_bodies() {
    let mut pair = Pair::new();
    pair.end_sending();
    assert!(matches!(pair.next(), Ok(NextRequest::Closed)));

    let mut pair = Pair::new();
    pair.send("GET / HTTP/1.1\r\nHo");
    pair.end_sending();
    assert!(matches!(pair.next(), Ok(NextRequest::Closed)));

    for body in [
        "Content-Length: 5\r\n\r\nhell",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let mut pair = Pair::new();
        pair.send(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{body}"));
        pair.end_sending();
        pair.head();
        assert!(is_cut(&pair.body().unwrap_err()), "{body}");
    }
}

#[test]
fn a_slow_head_is_answered_with_408() {
    let mut pair = Pair::new();
    let mut client = pair.client.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
        // A byte now and then does not extend the time.
        while client.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let since = Instant::now();
    assert_eq!(pair.rejected(), 408);
    let time = LOGIN_TIME;
    assert!(since.elapsed() >= time && since.elapsed() < time * 2);
    drop(pair);
    writer.join().unwrap();
}

#[test]
fn smuggled_requests_end_the_connection() {
    for (fields, body, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /evil", 400),
        ("Content-Length: 0\r\nContent-Length: 9\r\n", "GET /evil", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "GET /evil", 400),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\nGET /evil", 501),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\nGET /evil", 400),
        ("Content-Length: 0\r\n 9\r\n", "GET /evil", 400),
        ("Expect: 200-ok\r\n", "", 417),
    ] {
        let mut pair = Pair::new();
        let more = " HTTP/1.1\r\nHost: a\r\n\r\n";
        pair.send(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{more}"));
        assert_eq!(pair.rejected(), status, "{fields}");
        let response = Response::new(Status::BAD_REQUEST);
        pair.server.respond(&response, ResponseBody::Bytes(b"bad")).unwrap();
        assert!(!pair.server.is_kept());
        assert!(matches!(pair.next(), Ok(NextRequest::Closed)), "{fields}");
        let answer = pair.received();
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
}

#[test]
fn malformed_chunks_end_the_connection() {
    for body in ["5\nhello", "x\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\r\n-1\r\n"] {
        let mut pair = Pair::new();
        pair.send(&format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ));
        pair.head();
        let error = pair.body().unwrap_err();
        assert!(
            matches!(&error, WebError::Request(e) if e.status == Status::BAD_REQUEST),
            "{body}"
        );
        answer(&mut pair);
        assert!(!pair.server.is_kept());
    }
}

#[test]
fn a_body_has_a_cap() {
    for framing in ["Content-Length: 11\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nb\r\n"] {
        let mut pair = Pair::new();
        pair.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}hello world\r\n0\r\n\r\n"));
        pair.head();
        let error = pair.server.body().read_all(10).unwrap_err();
        assert!(matches!(error, WebError::Request(e) if e.status == Status::CONTENT_TOO_LARGE));
    }
}

#[test]
fn the_last_answer_arrives_though_input_is_unread() {
    let mut pair = Pair::new();
    pair.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n");
    pair.head();
    pair.send(&"x".repeat(200_000));
    answer(&mut pair);
    let Pair { server, mut client } = pair;
    let closing = std::thread::spawn(move || server.close());
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut client, &mut answer).unwrap();
    assert!(answer.ends_with(b"\r\n\r\nok"));
    drop(client);
    closing.join().unwrap();
}
