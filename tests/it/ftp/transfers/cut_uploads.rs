//! Uploads that are cut: never published, kept, and continued.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use super::super::{FtpTestClient, reset, start_ftp};
use crate::harness::{SOON, content, eventually};

/// Bytes that were sent before the cut.
const SENT: usize = 300_000;

/// How an upload is cut; the last reply, if the control connection is left for one.
type Cut = fn(FtpTestClient, TcpStream) -> Option<u16>;

fn by_closed_control(ftp: FtpTestClient, data: TcpStream) -> Option<u16> {
    ftp.kill();
    drop(data);
    None
}

fn by_reset_control(ftp: FtpTestClient, data: TcpStream) -> Option<u16> {
    ftp.reset();
    drop(data);
    None
}

fn by_reset_data(mut ftp: FtpTestClient, data: TcpStream) -> Option<u16> {
    reset(data);
    Some(ftp.reply().code)
}

fn by_abor(mut ftp: FtpTestClient, _data: TcpStream) -> Option<u16> {
    ftp.send("ABOR");
    let code = ftp.reply().code;
    ftp.reply_of(226);
    Some(code)
}

fn by_fewer_bytes_than_announced(mut ftp: FtpTestClient, data: TcpStream) -> Option<u16> {
    drop(data);
    Some(ftp.reply().code)
}

/// Begins an upload, cuts it after [`SENT`] bytes, and waits until they are kept.
#[track_caller]
fn cut(addr: SocketAddr, name: &str, bytes: &[u8], how: Cut) {
    cut_announced(addr, name, &bytes[..SENT], None, how);
}

/// As [`cut`], after all of `bytes`, and after ALLO.
#[track_caller]
fn cut_announced(addr: SocketAddr, name: &str, bytes: &[u8], allo: Option<usize>, how: Cut) {
    let sent = bytes.len();
    let mut ftp = FtpTestClient::anonymous(addr);
    if let Some(announced) = allo {
        ftp.expect(&format!("ALLO {announced}"), 200);
    }
    let mut data = ftp.begin(&format!("STOR {name}"));
    data.write_all(bytes).unwrap();
    // A reset destroys what the slave has not read.
    eventually(SOON, "the bytes are received", || {
        ftp.command("STAT").text().contains(&format!(" {sent} bytes")).then_some(())
    });
    let code = how(ftp, data);
    assert!(code.is_none_or(|code| matches!(code, 426 | 451)), "{code:?}");
    let mut ftp = FtpTestClient::anonymous(addr);
    eventually(SOON, "the cut upload is kept", || {
        let size = ftp.command(&format!("SIZE {name}"));
        (size.code == 213 && size.text() == sent.to_string()).then_some(())
    });
}

#[test]
fn cut_uploads_are_kept_and_continued() {
    const CUTS: [(&str, bool, Cut); 5] = [
        ("closed", false, by_closed_control),
        ("reset-control", false, by_reset_control),
        ("reset-data", false, by_reset_data),
        ("aborted", false, by_abor),
        ("short", true, by_fewer_bytes_than_announced),
    ];
    const LINES: [&str; 2] = ["APPE", "STOR"];
    let names = CUTS.map(|(name, ..)| LINES.map(|line| format!("{name}-{line}")));
    let files: Vec<_> = names.iter().flatten().map(|name| (&**name, &b"old content"[..])).collect();
    let (slave, addr) = start_ftp(&[], &files);
    let bytes = content(61, 500_000);
    for ((_, is_announced, how), names) in CUTS.iter().zip(&names) {
        for (line, name) in LINES.iter().zip(names) {
            let announced = is_announced.then_some(bytes.len());
            cut_announced(addr, name, &bytes[..SENT], announced, *how);
            let stored = slave.root.join(name);
            assert_eq!(fs::read(&stored).unwrap(), b"old content", "{name}: not published");
            let mut ftp = FtpTestClient::anonymous(addr);
            assert_eq!(ftp.get(&format!("RETR {name}")), b"old content", "{name}");
            assert_eq!(ftp.expect(&format!("SIZE {name}"), 213).text(), SENT.to_string());
            if *line == "STOR" {
                ftp.expect(&format!("REST {SENT}"), 350);
            }
            ftp.put(&format!("{line} {name}"), &bytes[SENT..]);
            assert!(fs::read(&stored).unwrap() == bytes, "{name}: continued");
            assert_eq!(ftp.expect(&format!("SIZE {name}"), 213).text(), bytes.len().to_string());
        }
    }
}

#[test]
fn large_cut_uploads_are_continued_and_have_their_digest() {
    let (slave, addr) = start_ftp(&[], &[]);
    let bytes = content(64, 5_000_003);
    // The bytes after the first MiB go through a pipe, and a thread hashes them.
    let (before, after) = bytes.split_at(3_000_001);
    let cuts: [(&str, Cut); 3] =
        [("closed", by_closed_control), ("reset", by_reset_data), ("aborted", by_abor)];
    for (name, how) in cuts {
        cut_announced(addr, name, before, None, how);
        let mut ftp = FtpTestClient::anonymous(addr);
        ftp.put(&format!("APPE {name}"), after);
        assert!(fs::read(slave.root.join(name)).unwrap() == bytes, "{name}");
        // The native client compares the content with the digest.
        let client = slave.client();
        client.get(name);
        assert!(fs::read(client.folder().join(name)).unwrap() == bytes, "{name}");
    }
}

#[test]
fn stor_from_the_start_replaces_a_cut_upload() {
    let bytes = content(62, 500_000);
    let (slave, addr) = start_ftp(&[], &[]);
    cut(addr, "f", &bytes, by_closed_control);
    assert!(!slave.root.join("f").exists());
    let mut ftp = FtpTestClient::anonymous(addr);
    drop(ftp.passive());
    ftp.expect("RETR f", 550);
    ftp.put("STOR f", b"other");
    assert_eq!(fs::read(slave.root.join("f")).unwrap(), b"other");
}

#[test]
fn curl_continues_both_ways() {
    let bytes = content(63, 500_000);
    let (slave, addr) = start_ftp(&[], &[("down", &bytes)]);
    cut(addr, "up", &bytes, by_closed_control);
    let local = |name: &str| slave.dir.path().join(name);
    fs::write(local("up"), &bytes).unwrap();
    fs::write(local("down"), &bytes[..SENT]).unwrap();
    let curl = |args: &[&str]| {
        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--verbose", "--max-time", "60", "-C", "-"])
            .args(args)
            .current_dir(slave.dir.path())
            .output();
        let output = output.expect("curl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    curl(&["-T", "up", &format!("ftp://{addr}/up")]);
    assert!(fs::read(slave.root.join("up")).unwrap() == bytes);
    let log = curl(&["-o", "down", &format!("ftp://{addr}/down")]);
    assert!(fs::read(local("down")).unwrap() == bytes);
    assert!(log.contains(&format!("REST {SENT}")), "{log}");
}
