//! The commands of a session at a real slave: listings, changes, states, deadlines and the end.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use relais_proto::limits;

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
fn names_that_clients_could_misuse_are_refused() {
    let (_slave, addr) = start();
    let mut client = FtpTestClient::anonymous(addr);
    for (line, code) in [
        (&b"MKD a\0b\r\n"[..], 500),
        (b"MKD a\rb\r\n", 500),
        (b"MKD a\x1bb\r\n", 553),
        (b"MKD a\xfeb\r\n", 501),
        (b"CWD .relais\r\n", 550),
        (b"MKD .RELAIS\r\n", 550),
        (b"RETR .relais/x\r\n", 425),
        (b"SIZE .relais/x\r\n", 550),
        (b"MKD ../x\r\n", 550),
    ] {
        client.send_bytes(line);
        client.reply_of(code);
    }
}

#[test]
fn patterns_cost_no_more_than_their_length() {
    let name = "a".repeat(200);
    let files: Vec<_> = (0..50).map(|n| (format!("{name}{n:02}"), b"".as_slice())).collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let (_slave, addr) = start_ftp(&[], &files);
    let mut client = FtpTestClient::anonymous(addr);
    let since = Instant::now();
    assert_eq!(client.get(&format!("NLST {}b", "*a".repeat(100))), b"");
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_flood_of_commands_is_answered_in_order() {
    const FLOOD: usize = 20_000;
    let (_slave, addr) = start();
    let mut client = FtpTestClient::anonymous(addr);
    let mut flood = client.control().try_clone().unwrap();
    std::thread::scope(|scope| {
        // The slave reads little ahead, so the sender waits for the replies.
        scope.spawn(move || {
            flood.write_all(&b"NOOP\r\n".repeat(FLOOD)).unwrap();
            flood.write_all(b"PWD\r\n").unwrap();
        });
        (0..FLOOD).for_each(|_| drop(client.reply_of(200)));
        client.reply_of(257);
    });
}

#[test]
fn half_lines_and_unread_replies_end_the_session() {
    let files: Vec<_> = (0..1000).map(|n| (format!("d/{n:0100}"), b"".as_slice())).collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let (_slave, addr) = start_ftp(&[], &files);
    let mut deaf = FtpTestClient::anonymous(addr);
    // Their answers are larger than the buffers of a connection.
    deaf.send_bytes(&b"STAT d\r\n".repeat(100));
    let mut slow = FtpTestClient::anonymous(addr);
    let since = Instant::now();
    let mut trickle = slow.control().try_clone().unwrap();
    while since.elapsed() < limits::FRAME_TIME - Duration::from_secs(5) {
        trickle.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
    slow.reply_of(421);
    assert!(slow.try_reply().is_none());
    let took = since.elapsed();
    let latest = limits::FRAME_TIME + Duration::from_secs(15);
    assert!((limits::FRAME_TIME - Duration::from_secs(1)..latest).contains(&took), "{took:?}");
    std::thread::sleep(Duration::from_secs(10));
    let mut unread = Vec::new();
    // The connection was cut in the middle of a reply.
    let _ = deaf.control().read_to_end(&mut unread);
    assert!(unread.len() < 100 * 1000 * 100, "{}", unread.len());
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
