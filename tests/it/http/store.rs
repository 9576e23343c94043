//! PUT and DELETE.

use super::{HttpTestClient, start_http, wait_published};
use crate::harness::{SOON, content, eventually};

/// The SHA-256 of `hello`, in Base64.
const HELLO: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

#[test]
fn files_are_made_replaced_and_removed() {
    let (slave, addr) = start_http(&[], &[]);
    let mut client = HttpTestClient::connect(addr);
    let made = client.request("PUT /f", &["X-OC-Mtime: 1000000000"], b"hello");
    assert_eq!((made.status, made.header("x-oc-mtime")), (201, Some("accepted")));
    let tag = made.header("etag").unwrap().to_owned();
    let read = client.get("/f");
    assert_eq!(read.header("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    assert_eq!(read.header("etag"), Some(&*tag));
    assert_eq!(client.request("PUT /f", &[], b"new").status, 204);
    assert_eq!(std::fs::read(slave.root.join("f")).unwrap(), b"new");
    assert_eq!(client.request("PUT /empty", &["Content-Length: 0"], b"").status, 201);
    let big = content(3, 3_000_000);
    let mut chunked = HttpTestClient::connect(addr);
    chunked.send(b"PUT /big HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in big.chunks(70_001) {
        chunked.send(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.send(part);
        chunked.send(b"\r\n");
    }
    chunked.send(b"0\r\n\r\n");
    assert_eq!(chunked.answer(false).status, 201);
    assert!(chunked.get("/big").body == big);
    assert_eq!(client.request("DELETE /f", &[], &[]).status, 204);
    assert_eq!(client.request("DELETE /f", &[], &[]).status, 404);
    std::fs::create_dir(slave.root.join("d")).unwrap();
    std::fs::write(slave.root.join("d/x"), b"x").unwrap();
    // Beside `empty` and `big`.
    wait_published(addr, 3);
    assert_eq!(client.request("DELETE /d/", &["Depth: 0"], &[]).status, 400);
    // As long as an entry below is not published, the answer is to try later.
    eventually(SOON, "the folder is removed", || {
        (client.request("DELETE /d/", &[], &[]).status == 204).then_some(())
    });
    assert!(!slave.root.join("d").exists());
    assert_eq!(client.request("DELETE /", &[], &[]).status, 403);
}

#[test]
fn what_cannot_be_put_is_refused_before_its_body() {
    let (slave, addr) = start_http(&[], &[]);
    std::fs::create_dir(slave.root.join("d")).unwrap();
    slave.wait_listed("d", true);
    for (path, fields, status) in [
        ("/d", &[][..], 405),
        ("/d/", &[], 405),
        ("/new/", &[], 405),
        ("/no/f", &[], 409),
        ("/f", &["Content-Range: bytes 0-1/9"], 400),
        ("/f", &["Content-Encoding: gzip"], 415),
        ("/f", &["X-OC-Mtime: yesterday"], 400),
        ("/f", &["If-Match: \"x\""], 412),
        ("/f", &["Expect: magic"], 417),
        ("/.relais/f", &[], 404),
    ] {
        let mut client = HttpTestClient::connect(addr);
        let fields = [fields, &["Expect: 100-continue", "Content-Length: 100000"]].concat();
        let fields = if fields[0].contains("magic") { vec![fields[0], fields[2]] } else { fields };
        // No body is sent, so an answer proves that none was awaited.
        let answer = client.request(&format!("PUT {path}"), &fields, &[]);
        assert_eq!(answer.status, status, "{path} {fields:?}: {}", answer.text());
        assert!(client.is_closed(), "{path}");
    }
    let mut client = HttpTestClient::connect(addr);
    client.send(
        b"PUT /f HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    assert_eq!(client.answer(false).status, 100);
    client.send(b"hello");
    assert_eq!(client.answer(false).status, 201);
}

#[test]
fn conditions_are_version_checks() {
    let (_slave, addr) = start_http(&[], &[("f", b"one")]);
    let mut client = HttpTestClient::connect(addr);
    let one = client.get("/f").header("etag").unwrap().to_owned();
    let absent = ["If-None-Match: *"];
    assert_eq!(client.request("PUT /f", &absent, b"two").status, 412);
    assert_eq!(client.request("PUT /g", &absent, b"two").status, 201);
    let matches_one = format!("If-Match: {one}");
    let stored = client.request("PUT /f", &[&matches_one], b"two");
    assert_eq!(stored.status, 204);
    assert_eq!(client.request("PUT /f", &[&matches_one], b"three").status, 412);
    assert_eq!(client.request("DELETE /f", &[&matches_one], &[]).status, 412);
    assert_eq!(client.get("/f").body, b"two");
    let two = format!("If-Match: {}", stored.header("etag").unwrap());
    assert_eq!(client.request("DELETE /f", &[&two], &[]).status, 204);
    assert_eq!(client.request("PUT /f", &["If-Match: *"], b"four").status, 412);
}

#[test]
fn a_wrong_digest_publishes_nothing() {
    let (slave, addr) = start_http(&[], &[]);
    let mut client = HttpTestClient::connect(addr);
    for field in ["Content-Digest", "Repr-Digest"] {
        let right = format!("{field}: sha-256=:{HELLO}:");
        assert_eq!(client.request("PUT /right", &[&right], b"hello").status / 100, 2, "{field}");
        assert_eq!(client.request("PUT /wrong", &[&right], b"hallo").status, 400, "{field}");
        let malformed = format!("{field}: sha-256={HELLO}");
        assert_eq!(client.request("PUT /wrong", &[&malformed], b"hello").status, 400, "{field}");
        let unknown = format!("{field}: md5=:XUFAKrxLKna5cZ2REBfFkg==:");
        assert_eq!(client.request("PUT /right", &[&unknown], b"other").status, 204, "{field}");
    }
    assert!(!slave.root.join("wrong").exists());
    assert_no_staged_files(&slave);
}

#[test]
fn a_cut_body_leaves_nothing() {
    let (slave, addr) = start_http(&[], &[]);
    for head in ["Content-Length: 200000", "Transfer-Encoding: chunked"] {
        let mut client = HttpTestClient::connect(addr);
        let head = format!("PUT /f HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n");
        client.send(head.as_bytes());
        if head.contains("chunked") {
            client.send(b"fffff\r\n");
        }
        client.send(&content(1, 100_000));
        drop(client);
        eventually(SOON, "the staged file is gone", || no_staged_files(&slave).then_some(()));
        assert!(!slave.root.join("f").exists());
    }
    let mut client = HttpTestClient::connect(addr);
    client.send(b"PUT /f HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(client.answer(false).status, 400);
    assert!(client.is_closed() && !slave.root.join("f").exists());
    eventually(SOON, "the staged file is gone", || no_staged_files(&slave).then_some(()));
}

fn no_staged_files(slave: &crate::harness::Standalone) -> bool {
    let folder = std::fs::read_dir(slave.root.join(".relais/staging"));
    folder.is_ok_and(|mut names| names.next().is_none())
}

#[track_caller]
fn assert_no_staged_files(slave: &crate::harness::Standalone) {
    assert!(no_staged_files(slave), "staged files are left");
}
