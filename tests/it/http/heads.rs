//! HEAD tells what GET tells, and hashes that are wanted.

use super::{HttpAnswer, HttpTestClient, start_http};
use crate::harness::content;

/// The fields of an answer that two equal requests have in common.
fn common(answer: &HttpAnswer) -> (u16, Vec<(String, String)>) {
    // Pages have a random value in their policy.
    const OTHERS: [&str; 3] = ["Date", "Content-Security-Policy", "Relais-Change"];
    let fields = answer.headers.iter().filter(|(name, _)| !OTHERS.contains(&name.as_str()));
    let mut fields: Vec<_> = fields.cloned().collect();
    fields.sort();
    (answer.status, fields)
}

#[test]
fn head_has_the_fields_of_get() {
    let (large, small) = (content(3, 2_000_000), b"content");
    let (_slave, addr) = start_http(&[], &[("f", small), ("empty", b""), ("large", &large)]);
    let mut http = HttpTestClient::connect(addr);
    assert_eq!(http.request("MKCOL /d", &[], &[]).status, 201);
    let wanted = ["Want-Repr-Digest: sha-256=10"];
    assert!(http.request("GET /f", &wanted, &[]).header("repr-digest").is_some());
    for target in [
        "/f",
        "/f?download",
        "/f/",
        "/empty",
        "/large",
        "/none",
        "/d",
        "/",
        "/?tar",
        "/?zip",
        "/?search=f",
        "/-/healthz",
        "/-/login",
        "/-/assets/page.js",
        "/-/none",
        "/?%zz",
    ] {
        for field in
            ["X: y", "Accept: application/json", "Accept: text/html", "If-Match: \"x\"", wanted[0]]
        {
            let [get, head] = ["GET", "HEAD"].map(|method| {
                let line = format!("{method} {target}");
                HttpTestClient::connect(addr).request(&line, &[field], &[])
            });
            assert_eq!(common(&head), common(&get), "{target} {field}");
            assert!(head.body.is_empty());
        }
    }
    // A range is for GET alone.
    let head = http.request("HEAD /f", &["Range: bytes=0-1"], &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
}

#[test]
fn the_first_request_that_wants_a_hash_gets_it() {
    let large = content(4, 2_000_000);
    let (_slave, addr) = start_http(&[], &[("a", &large), ("b", &large)]);
    for target in ["GET /a", "HEAD /b"] {
        let fields = ["Want-Repr-Digest: sha-256=10"];
        let wanted = HttpTestClient::connect(addr).request(target, &fields, &[]);
        let hash = wanted.header("repr-digest").expect(target);
        assert!(wanted.header("etag").is_some(), "{target}");
        let later = HttpTestClient::connect(addr).request(target, &[], &[]);
        assert_eq!(later.header("repr-digest"), Some(hash), "{target}");
    }
}
