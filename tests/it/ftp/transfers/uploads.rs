//! STOR, APPE and STOU that come to their end.

use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;

use super::super::{FtpTestClient, start_ftp};
use crate::harness::{SOON, content, eventually};

#[test]
fn uploads_are_stored_replaced_and_appended() {
    let (slave, addr) = start_ftp(&[], &[("old", b"old content")]);
    let read = |name: &str| fs::read(slave.root.join(name)).unwrap();
    let mut ftp = FtpTestClient::anonymous(addr);
    let bytes = content(51, 3_000_000);
    ftp.put("STOR new", &bytes);
    assert!(read("new") == bytes);
    ftp.put("STOR empty", b"");
    assert!(read("empty").is_empty());
    ftp.put("STOR old", b"new content");
    assert_eq!(read("old"), b"new content");
    ftp.put("APPE old", b", and more");
    assert_eq!(read("old"), b"new content, and more");
    ftp.put("APPE other", b"first");
    assert_eq!(read("other"), b"first");
    ftp.expect("REST 4", 350);
    ftp.put("STOR old", b"words");
    assert_eq!(read("old"), b"new words", "from the old prefix");
    ftp.expect("REST 100", 350);
    drop(ftp.passive());
    ftp.expect("STOR old", 554);
    assert_eq!(read("old"), b"new words");
    drop(ftp.passive());
    ftp.expect("STOR no/folder/f", 550);
}

#[test]
fn stou_chooses_names_that_are_free() {
    let (slave, addr) = start_ftp(&[], &[("report", b"old")]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let mut store = |line: &str, bytes: &[u8]| {
        let mut data = ftp.passive();
        let begun = ftp.expect(line, 150).text();
        data.write_all(bytes).unwrap();
        drop(data);
        ftp.reply_of(226);
        let name = begun.strip_prefix("FILE: ").unwrap_or_else(|| panic!("{begun:?}")).to_owned();
        assert_eq!(fs::read(slave.root.join(&name)).unwrap(), bytes);
        name
    };
    let names = [store("STOU", b"1"), store("STOU report", b"2"), store("STOU report", b"3")];
    assert!(names[1].starts_with("report.") && names[2] != names[1], "{names:?}");
    assert_eq!(fs::read(slave.root.join("report")).unwrap(), b"old");
}

#[test]
fn allo_announces_the_least_that_comes() {
    let (slave, addr) = start_ftp(&[], &[]);
    let mut ftp = FtpTestClient::anonymous(addr);
    assert!(matches!(ftp.command("ALLO 5").code, 200 | 202));
    ftp.put("STOR exact", b"12345");
    assert!(matches!(ftp.command("ALLO 3").code, 200 | 202));
    ftp.put("STOR more", b"12345");
    assert_eq!(fs::read(slave.root.join("more")).unwrap(), b"12345");
    let too_much = u64::MAX / 4;
    if ftp.command(&format!("ALLO {too_much}")).code != 552 {
        drop(ftp.passive());
        ftp.expect("STOR huge", 552);
    }
}

#[test]
fn pipelined_quit_ends_after_the_upload() {
    let (slave, addr) = start_ftp(&[], &[]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let mut data = ftp.begin("STOR f");
    ftp.send("QUIT");
    data.write_all(b"all of it").unwrap();
    drop(data);
    ftp.reply_of(226);
    ftp.reply_of(221);
    assert_eq!(ftp.try_reply(), None);
    assert_eq!(fs::read(slave.root.join("f")).unwrap(), b"all of it");
}

#[test]
fn stop_lets_an_upload_end_in_time() {
    let (mut slave, addr) = start_ftp(&["--grace", "30"], &[]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let mut data = ftp.begin("STOR f");
    data.write_all(b"first ").unwrap();
    slave.program.signal(Signal::SIGTERM);
    eventually(SOON, "no more logins", || {
        std::net::TcpStream::connect(addr).is_err().then_some(())
    });
    data.write_all(b"last").unwrap();
    drop(data);
    let reply = ftp.reply();
    // The order of changes may have ended before.
    let stored = fs::read(slave.root.join("f")).ok();
    match reply.code {
        226 => assert_eq!(stored.as_deref(), Some(&b"first last"[..])),
        450 | 421 => assert!(stored.is_none_or(|stored| stored == b"first last")),
        _ => panic!("{reply:?}"),
    }
    assert_eq!(slave.program.wait(SOON), 0);
}
