//! The commands of a session at a real slave: listings, changes, and the end of the slave.

use std::io::Read;
use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::{FtpTestClient, start_ftp};
use crate::harness::{SOON, Standalone};

/// Starts a slave with a folder `d`, in which `a`, `b.txt` and `.h` are.
fn start() -> (Standalone, SocketAddr) {
    start_ftp(&[], &[("d/a", b"1"), ("d/b.txt", b"12345"), ("d/.h", b"")])
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn listings_have_the_forms_that_clients_read() {
    let (_slave, addr) = start();
    let mut client = FtpTestClient::anonymous(addr);
    client.expect("MFMT 20200102030405 d/b.txt", 213);
    let list = text(client.get("LIST d"));
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    let line = format!("-rw-r--r--   1 ftp      ftp      {:>12} Jan  2  2020 b.txt", 5);
    assert_eq!(lines[1], line);
    for (line, names) in [
        ("NLST", "d\r\n"),
        ("NLST d", "d/a\r\nd/b.txt\r\n"),
        ("NLST -a d/", "d/.h\r\nd/a\r\nd/b.txt\r\n"),
        ("NLST d/*.txt", "d/b.txt\r\n"),
        ("NLST d/a", "d/a\r\n"),
        ("NLST d/z*", ""),
    ] {
        assert_eq!(text(client.get(line)), names, "{line}");
    }
    assert_eq!(text(client.get("LIST -la d")).lines().count(), 3);
    client.expect("OPTS MLST type;size;modify;", 200);
    let facts = text(client.get("MLSD d"));
    assert!(facts.contains("type=file;size=5;modify=20200102030405; b.txt\r\n"), "{facts}");
    assert!(facts.contains(" .h\r\n"), "{facts}");
    client.expect("CWD d", 250);
    assert_eq!(text(client.get("NLST")), "a\r\nb.txt\r\n");
    for (line, code) in [("LIST nothing", 550), ("MLSD b.txt", 501), ("LIST ../..", 550)] {
        client.passive();
        client.expect(line, code);
    }
    client.expect("LIST", 425);
}

#[test]
fn changes_are_seen_by_every_listing_at_once() {
    let (slave, addr) = start();
    let mut client = FtpTestClient::anonymous(addr);
    client.expect("MKD new", 257);
    client.put("STOR new/f", b"content");
    client.expect("SIZE new/f", 213);
    assert_eq!(text(client.get("NLST new")), "new/f\r\n");
    client.expect("RNFR new/f", 350);
    client.expect("RNTO new/g", 250);
    client.expect("SITE CHMOD 640 new/g", 200);
    assert!(text(client.get("LIST new")).starts_with("-rw-r-----"));
    client.expect("RMD new", 550);
    client.expect("DELE new/g", 250);
    client.expect("RMD new", 250);
    assert!(!slave.root.join("new").exists());
    let hash = client.expect("HASH d/b.txt", 213).text();
    let sha256 = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5";
    assert_eq!(hash, format!("SHA-256 0-4 {sha256} d/b.txt"));
}

#[test]
fn a_stopping_slave_says_421() {
    let (mut slave, addr) = start();
    let mut client = FtpTestClient::anonymous(addr);
    slave.program.signal(Signal::SIGTERM);
    client.reply_of(421);
    assert!(client.try_reply().is_none());
    assert_eq!(slave.program.wait(SOON), 0);
}

#[test]
fn a_transfer_ends_before_the_slave_stops() {
    let content = vec![7; 8 << 20];
    let (slave, addr) = start_ftp(&[], &[("f", &content)]);
    let mut client = FtpTestClient::anonymous(addr);
    let mut data = client.begin("RETR f");
    let mut first = [0; 1000];
    data.read_exact(&mut first).unwrap();
    slave.program.signal(Signal::SIGTERM);
    let mut rest = Vec::new();
    data.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() + first.len(), content.len());
    client.reply_of(226);
    client.reply_of(421);
    assert!(client.try_reply().is_none());
}
