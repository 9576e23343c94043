//! `?tar` and `?zip`: what is in them, what is not, and what they cost.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use super::{HttpTestClient, start_http};
use crate::harness::{Standalone, anonymous_memory, content, eventually, process_of};

/// Starts a slave with a tree, and waits until all of it is listed.
fn start_tree(files: &[(&str, &[u8])]) -> (Standalone, SocketAddr) {
    let (slave, addr) = start_http(&["--workers", "1"], &[]);
    for (path, bytes) in files {
        let path = slave.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir(slave.root.join("top/empty")).unwrap();
    eventually(Duration::from_secs(60), "the tree is listed", || {
        let mut http = HttpTestClient::connect(addr);
        let mut is_listed = |path: &str| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let line = format!("GET /{folder}{}", if folder.is_empty() { "" } else { "/" });
            let listing = http.request(&line, &["Accept: application/json"], &[]);
            listing.text().contains(&format!("\"name\":\"{name}\""))
        };
        let all = files.iter().all(|(path, _)| is_listed(path)) && is_listed("top/empty");
        all.then_some(())
    });
    (slave, addr)
}

/// Returns paths and contents of a tar archive; a folder's path ends with a slash.
fn untar(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    });
    entries.collect()
}

/// Returns the paths in the central directory of a zip archive.
fn zip_paths(bytes: &[u8]) -> Vec<String> {
    let number = |at: usize, len: usize| {
        bytes[at..at + len].iter().rev().fold(0, |n, byte| (n << 8) | usize::from(*byte))
    };
    let end = bytes.len() - 22;
    assert_eq!(number(end, 4), 0x0605_4b50);
    let mut at = number(end + 16, 4);
    let entries = (0..number(end + 10, 2)).map(|_| {
        assert_eq!(number(at, 4), 0x0201_4b50);
        let len = number(at + 28, 2);
        let path = String::from_utf8(bytes[at + 46..at + 46 + len].to_vec()).unwrap();
        at += 46 + len + number(at + 30, 2);
        path
    });
    entries.collect()
}

#[test]
fn archives_have_the_whole_folder() {
    let large = content(3, 200_000);
    let files = [
        ("top/a b", &b"1"[..]),
        ("top/deep/er/é", b"2"),
        ("top/large", &large),
        ("top/zero", b""),
        ("other", b"3"),
    ];
    let (_slave, addr) = start_tree(&files);
    let mut http = HttpTestClient::connect(addr);
    let tar = http.get("/top/?tar");
    assert_eq!((tar.status, tar.header("content-type")), (200, Some("application/x-tar")));
    assert_eq!(tar.header("content-disposition"), Some("attachment; filename=\"top.tar\""));
    let folder = |path: &str| (path.to_owned(), Vec::new());
    let file = |n: usize| (files[n].0.to_owned(), files[n].1.to_vec());
    let expected = [
        file(0),
        folder("top/deep/"),
        folder("top/deep/er/"),
        file(1),
        folder("top/empty/"),
        file(2),
        file(3),
    ];
    let got = untar(&tar.body);
    let names: Vec<_> = got.iter().map(|(path, _)| path).collect();
    assert!(got == expected, "{names:?}");
    let zip = http.get("/top/?zip");
    assert_eq!((zip.status, zip.header("content-type")), (200, Some("application/zip")));
    let paths: Vec<_> = expected.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(zip_paths(&zip.body), paths);
    // The root has a name of its own, and the server's folder is not in it.
    let root = untar(&http.get("/?tar").body);
    assert!(root.contains(&("files/other".to_owned(), b"3".to_vec())), "{root:?}");
    assert!(root.iter().all(|(path, _)| !path.contains(".relais")));
    // Without the slash of a folder, and of no folder at all.
    let redirect = http.get("/top?zip");
    assert_eq!((redirect.status, redirect.header("location")), (308, Some("/top/?zip")));
    assert_eq!(http.get("/missing/?tar").status, 404);
    assert_eq!(http.get("/top/?tar=%zz").status, 400);
    let head = http.request("HEAD /top/?tar", &[], &[]);
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(http.get("/other").body, b"3", "the connection is kept");
}

#[test]
fn archives_of_many_files_need_little_memory() {
    const FILES: usize = 4000;
    let (slave, addr) = start_tree(&[("top/first", b"1")]);
    let long = "x".repeat(200);
    for number in 0..FILES {
        fs::write(slave.root.join(format!("top/{long}{number:04}")), b"content").unwrap();
    }
    let last = format!("/top/{long}{:04}", FILES - 1);
    let mut http = HttpTestClient::connect(addr);
    eventually(Duration::from_secs(120), "all files are listed", || {
        // Each of them has two headers, a long name and content.
        let count = http.get("/top/?tar").body.len() / 2048;
        (count >= FILES && http.get(&last).status == 200).then_some(())
    });
    eventually(Duration::from_secs(120), "all files are numbered", || {
        let list = http.request("GET /top/", &["Accept: application/json"], &[]);
        (!list.text().contains("\"version\":null")).then_some(())
    });
    let worker = process_of(&slave.program, "Worker(0)");
    let mut before = 0;
    for turn in 0..5 {
        // The first turn fills the caches of the catalogue, which have a limit.
        if turn == 1 {
            before = anonymous_memory(worker);
        }
        assert_eq!(zip_paths(&http.get("/top/?zip").body).len(), FILES + 2);
        assert!(http.get("/top/?tar").body.len() > FILES * 1024);
    }
    let grown = anonymous_memory(worker).saturating_sub(before);
    // The central directory alone has more than 1 MiB.
    assert!(grown < 1 << 20, "{grown}");
    assert_eq!(fs::read_dir(slave.root.join(".relais/staging")).unwrap().count(), 0);
}

#[test]
fn an_archive_is_cut_when_its_content_changes() {
    let (slave, addr) = start_tree(&[("top/first", b"1"), ("top/large", &content(4, 64 << 20))]);
    let mut http = HttpTestClient::connect(addr);
    http.send(b"GET /top/?tar HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // The slave cannot send all of it before it is read.
    std::thread::sleep(Duration::from_millis(500));
    fs::write(slave.root.join("top/large"), b"changed in place").unwrap();
    assert!(http.try_answer(false).is_none(), "the archive looks complete");
    assert_eq!(HttpTestClient::connect(addr).get("/top/first").body, b"1");
}
