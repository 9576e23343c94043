//! Resumable uploads: draft-ietf-httpbis-resumable-upload-12.

use std::net::SocketAddr;

use super::{HttpAnswer, HttpTestClient, start_http};
use crate::ftp::ftp_address;
use crate::harness::{SOON, Standalone, children, content, eventually, read_bytes};

const VERSION: &str = "Upload-Draft-Interop-Version: 8";
const PART: &str = "Content-Type: application/partial-upload";

/// Begins an upload in parts; returns its URL.
#[track_caller]
pub fn create(addr: SocketAddr, path: &str, size: usize) -> String {
    let fields = ["Upload-Complete: ?0", &format!("Upload-Length: {size}"), "Content-Length: 0"];
    let answer = HttpTestClient::connect(addr).request(&format!("PUT {path}"), &fields, &[]);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("upload-offset"), Some("0"));
    assert!(answer.header("upload-limit").unwrap().contains("max-age="));
    answer.header("location").unwrap().to_owned()
}

/// Appends a part.
pub fn append(
    addr: SocketAddr,
    url: &str,
    offset: usize,
    is_last: bool,
    part: &[u8],
) -> HttpAnswer {
    let offset = format!("Upload-Offset: {offset}");
    let complete = format!("Upload-Complete: ?{}", u8::from(is_last));
    let mut fields = vec![PART, &offset, &complete];
    if part.is_empty() {
        fields.push("Content-Length: 0");
    }
    HttpTestClient::connect(addr).request(&format!("PATCH {url}"), &fields, part)
}

/// Returns offset and completeness of an upload.
#[track_caller]
pub fn progress(addr: SocketAddr, url: &str) -> (usize, bool) {
    let answer = HttpTestClient::connect(addr).request(&format!("HEAD {url}"), &[], &[]);
    assert_eq!(answer.status, 204, "{url}");
    let offset = answer.header("upload-offset").unwrap().parse().unwrap();
    (offset, answer.header("upload-complete") == Some("?1"))
}

#[test]
fn parts_become_one_file() {
    let (mut slave, addr) = start_http(&[], &[]);
    let bytes = content(1, 300_000);
    let url = create(addr, "/f", bytes.len());
    assert_eq!(progress(addr, &url), (0, false));
    assert_eq!(append(addr, &url, 0, false, &bytes[..100_000]).status, 204);
    assert!(!slave.root.join("f").exists());
    let wrong = append(addr, &url, 50_000, false, &bytes[50_000..60_000]);
    assert_eq!((wrong.status, wrong.header("upload-offset")), (409, Some("100000")));
    assert_eq!(slave.program.stop(nix::sys::signal::Signal::SIGTERM), 0);
    slave.restart_on_same_port();
    let addr = ftp_address(&slave.program, "http");
    assert_eq!(progress(addr, &url), (100_000, false), "after a restart");
    assert_eq!(append(addr, &url, 100_000, false, &bytes[100_000..]).status, 204);
    assert_eq!(progress(addr, &url), (300_000, false));
    let end = append(addr, &url, 300_000, true, b"");
    assert_eq!((end.status, end.header("upload-complete")), (201, Some("?1")), "{}", end.text());
    assert!(std::fs::read(slave.root.join("f")).unwrap() == bytes);
    assert_eq!(progress(addr, &url), (300_000, true));
    assert_eq!(append(addr, &url, 300_000, true, b"").status, 400, "it is complete");
}

#[test]
fn a_cut_upload_is_resumed_where_it_was_cut() {
    let (slave, addr) = start_http(&[], &[]);
    let bytes = content(2, 2_000_000);
    let mut client = HttpTestClient::connect(addr);
    let head = format!(
        "PUT /f HTTP/1.1\r\nHost: localhost\r\nUpload-Complete: ?1\r\n{VERSION}\r\n\
         Content-Length: {}\r\n\r\n",
        bytes.len()
    );
    client.send(head.as_bytes());
    client.send(&bytes[..1_000_000]);
    let interim = client.answer(false);
    assert_eq!(interim.status, 104);
    assert_eq!(interim.header("upload-draft-interop-version"), Some("8"));
    let url = interim.header("location").unwrap().to_owned();
    drop(client);
    let (offset, _) = eventually(SOON, "what was sent has come", || {
        Some(progress(addr, &url)).filter(|(offset, _)| *offset > 0)
    });
    assert!(offset <= 1_000_000 && !slave.root.join("f").exists());
    let (offset, _) = progress(addr, &url);
    let end = append(addr, &url, offset, true, &bytes[offset..]);
    assert_eq!(end.status, 201, "{}", end.text());
    assert!(std::fs::read(slave.root.join("f")).unwrap() == bytes);
}

#[test]
fn other_clients_get_no_interim_answer() {
    let (_slave, addr) = start_http(&[], &[]);
    for version in ["Upload-Draft-Interop-Version: 6", "X: y"] {
        let mut client = HttpTestClient::connect(addr);
        let head = format!(
            "PUT /f HTTP/1.1\r\nHost: localhost\r\nUpload-Complete: ?1\r\n{version}\r\n\
             Content-Length: 1\r\n\r\nx"
        );
        client.send(head.as_bytes());
        assert_eq!(client.answer(false).status / 100, 2);
    }
}

#[test]
fn lengths_and_digests_have_to_agree() {
    let (slave, addr) = start_http(&[], &[]);
    let mut client = HttpTestClient::connect(addr);
    let no_length = ["Upload-Complete: ?0", "Content-Length: 0"];
    assert_eq!(client.request("PUT /f", &no_length, b"").status, 411);
    let url = create(addr, "/f", 10);
    for (offset, is_last, part, status) in [
        (0, true, &b"short"[..], 400),
        (0, false, b"longer than ten bytes", 400),
        (0, false, b"hello", 204),
        (5, true, b"", 400),
    ] {
        assert_eq!(append(addr, &url, offset, is_last, part).status, status, "{part:?}");
    }
    let digest = "Content-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let fields = [PART, "Upload-Offset: 5", "Upload-Complete: ?1", digest];
    assert_eq!(client.request(&format!("PATCH {url}"), &fields, b"hallo").status, 400);
    assert_eq!(progress(addr, &url), (5, false), "the wrong part does not count");
    assert_eq!(client.request(&format!("PATCH {url}"), &fields, b"hello").status, 201);
    assert_eq!(std::fs::read(slave.root.join("f")).unwrap(), b"hellohello");
    let whole = "Repr-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let fields = ["Upload-Complete: ?0", "Upload-Length: 5", "Content-Length: 0", whole];
    for (content, status) in [(b"hallo", 400), (b"hello", 201)] {
        assert!(!slave.root.join("g").exists());
        let begun = client.request("PUT /g", &fields, b"");
        let url = begun.header("location").unwrap();
        assert_eq!(append(addr, url, 0, true, content).status, status);
    }
}

#[test]
fn conditions_hold_at_the_end_and_uploads_can_be_cancelled() {
    let (slave, addr) = start_http(&[], &[]);
    let mut client = HttpTestClient::connect(addr);
    let fields =
        ["Upload-Complete: ?0", "Upload-Length: 1", "Content-Length: 0", "If-None-Match: *"];
    let url = client.request("PUT /f", &fields, b"").header("location").unwrap().to_owned();
    assert_eq!(client.request("PUT /f", &[], b"other").status, 201);
    assert_eq!(append(addr, &url, 0, true, b"x").status, 412);
    assert_eq!(std::fs::read(slave.root.join("f")).unwrap(), b"other");
    let url = create(addr, "/g", 10);
    assert_eq!(append(addr, &url, 0, false, b"hello").status, 204);
    assert_eq!(client.request(&format!("DELETE {url}"), &[], &[]).status, 204);
    let staging = slave.root.join(".relais/staging");
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
    for url in ["/-/uploads/x", &format!("{url}A"), "/-/uploads/"] {
        let status = client.request(&format!("HEAD {url}"), &[], &[]).status;
        assert_eq!(status, 404, "{url}");
    }
    let options = client.request("OPTIONS /f", &[], &[]);
    assert_eq!(options.header("accept-patch"), Some("application/partial-upload"));
    let wrong = ["Content-Type: text/plain", "Upload-Offset: 0", "Upload-Complete: ?1"];
    assert_eq!(client.request(&format!("PATCH {url}"), &wrong, b"x").status, 415);
    assert_eq!(client.request(&format!("PATCH {url}"), &[PART], b"x").status, 400);
}

#[test]
fn an_upload_whose_bytes_are_gone_is_gone() {
    let (slave, addr) = start_http(&[], &[]);
    let url = create(addr, "/f", 10);
    assert_eq!(progress(addr, &url), (0, false), "it has begun");
    let digest = "Content-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let fields = [PART, "Upload-Offset: 0", "Upload-Complete: ?0", digest];
    let patch = format!("PATCH {url}");
    assert_eq!(HttpTestClient::connect(addr).request(&patch, &fields, b"hallo").status, 400);
    assert_eq!(progress(addr, &url), (0, false), "it is still there after a wrong part");
    assert_eq!(append(addr, &url, 0, false, b"hello").status, 204);
    // As if a limit had evicted it.
    for staged in std::fs::read_dir(slave.root.join(".relais/staging")).unwrap() {
        std::fs::remove_file(staged.unwrap().path()).unwrap();
    }
    let head = HttpTestClient::connect(addr).request(&format!("HEAD {url}"), &[], &[]);
    assert_eq!(head.status, 410);
    for offset in [0, 5] {
        assert_eq!(append(addr, &url, offset, false, b"hello").status, 410);
    }
    assert!(!slave.root.join("f").exists());
}

#[test]
fn parts_are_not_hashed_again_for_each_other_part() {
    let (slave, addr) = start_http(&[], &[]);
    let bytes = content(9, 128 * 1024);
    let (parts, size) = (400, 400 * bytes.len());
    let url = create(addr, "/f", size);
    let mut client = HttpTestClient::connect(addr);
    let read = |slave: &Standalone| -> u64 {
        children(slave.program.pid()).iter().map(|pid| read_bytes(*pid)).sum()
    };
    let before = read(&slave);
    for n in 0..parts {
        let offset = format!("Upload-Offset: {}", n * bytes.len());
        let complete = if n + 1 == parts { "Upload-Complete: ?1" } else { "Upload-Complete: ?0" };
        let fields = [PART, &offset, complete];
        let answer = client.request(&format!("PATCH {url}"), &fields, &bytes);
        assert_eq!(answer.status / 100, 2, "{}", answer.text());
    }
    // Each byte is received, and read once to be hashed.
    let read = read(&slave) - before;
    assert!(read < 3 * size as u64, "{read} bytes were read for {size}");
    assert_eq!(std::fs::metadata(slave.root.join("f")).unwrap().len(), size as u64);
}
