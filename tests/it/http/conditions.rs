//! Conditional requests, and what a client has seen.

use super::{HttpTestClient, start_http};
use crate::ftp::ftp_address;
use crate::harness::Cluster;

#[test]
fn unchanged_files_are_not_sent_again() {
    let (_slave, addr) = start_http(&[], &[("f", b"content")]);
    let mut client = HttpTestClient::connect(addr);
    let first = client.get("/f");
    let (tag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    for (fields, status) in [
        (vec![format!("If-None-Match: {tag}")], 304),
        (vec![format!("If-None-Match: \"x\", W/{tag}")], 304),
        (vec!["If-None-Match: \"x\"".to_owned(), format!("If-Modified-Since: {date}")], 200),
        (vec![format!("If-Modified-Since: {date}")], 304),
        (vec!["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned()], 200),
        (vec![format!("If-Match: {tag}")], 200),
        (vec!["If-Match: \"x\"".to_owned()], 412),
        (vec!["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned()], 412),
        (vec!["Range: bytes=0-1".to_owned(), format!("If-Range: {tag}")], 206),
        (vec!["Range: bytes=0-1".to_owned(), "If-Range: \"x\"".to_owned()], 200),
        (vec!["If-Match: x".to_owned()], 400),
    ] {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        for method in ["GET", "HEAD"] {
            let answer = client.request(&format!("{method} /f"), &fields, &[]);
            let expected = if (method, status) == ("HEAD", 206) { 200 } else { status };
            assert_eq!(answer.status, expected, "{method} {fields:?}");
            if status == 304 {
                assert_eq!(answer.header("etag"), Some(tag));
                assert!(answer.body.is_empty());
            }
        }
    }
}

#[test]
fn a_slave_that_is_behind_waits_then_refuses() {
    let cluster = Cluster::of(1).slave_args(&["--http", "127.0.0.1:0"]).start();
    let addr = ftp_address(&cluster.slaves[0].program, "http");
    let mut client = HttpTestClient::connect(addr);
    let stored = client.request("PUT /f", &[], b"x");
    assert_eq!(stored.status, 201, "{}", stored.text());
    let seen = stored.header("relais-change").unwrap().to_owned();
    let own = client.request("GET /f", &[&format!("Relais-Change: {seen}")], &[]);
    assert_eq!(own.status, 200);
    let ahead = client.request("GET /f", &["Relais-Change: 1-1000000"], &[]);
    assert_eq!(ahead.status, 503);
    assert!(ahead.header("retry-after").is_some());
    assert_eq!(client.request("GET /f", &["Relais-Change: x"], &[]).status, 400);
    let browser = ["User-Agent: Mozilla/5.0"];
    let answer = HttpTestClient::connect(addr).request("GET /f", &browser, &[]);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("relais-change-"), "{cookie}");
    let (name, _) = cookie.split_once('=').unwrap();
    let ahead = format!("Cookie: {name}=1-1000000");
    assert_eq!(HttpTestClient::connect(addr).request("GET /f", &[&ahead], &[]).status, 503);
}
