//! RETR with its offsets, types and interruptions.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::SockRef;

use super::super::{FtpTestClient, start_ftp};
use crate::harness::{SOON, content, eventually};

#[test]
fn retr_sends_whole_files_offsets_and_ranges() {
    let bytes = content(41, 3_000_000);
    let (_slave, addr) = start_ftp(&[], &[("f", &bytes), ("empty", b"")]);
    let mut ftp = FtpTestClient::anonymous(addr);
    assert!(ftp.get("RETR f") == bytes);
    assert!(ftp.get("RETR empty").is_empty());
    for offset in [1, 1_000_001, 3_000_000] {
        ftp.expect(&format!("REST {offset}"), 350);
        assert!(ftp.get("RETR f") == bytes[offset..], "from {offset}");
    }
    assert!(ftp.get("RETR f") == bytes, "REST is for one transfer");
    for (first, last) in [(0, 0), (5, 70_000), (2_999_999, 5_000_000)] {
        ftp.expect(&format!("RANG {first} {last}"), 350);
        let end = (last + 1).min(bytes.len());
        assert!(ftp.get("RETR f") == bytes[first..end], "{first}..={last}");
    }
    assert!(ftp.get("RETR f") == bytes, "RANG is for one transfer");
    // Behind the end there is nothing; an invalid range resets the one before it.
    for kind in ["TYPE A", "TYPE I"] {
        ftp.expect(kind, 200);
        ftp.expect("RANG 9000000 9000009", 350);
        assert!(ftp.get("RETR f").is_empty(), "{kind}");
    }
    ftp.expect("RANG 5 9", 350);
    ftp.expect("RANG 9 5", 501);
    assert!(ftp.get("RETR f") == bytes);
    ftp.expect("REST 3000001", 350);
    drop(ftp.passive());
    ftp.expect("RETR f", 554);
    drop(ftp.passive());
    ftp.expect("RETR nothing", 550);
    ftp.expect("RETR f", 425);
}

#[test]
fn active_mode_reaches_the_client_alone() {
    let bytes = content(42, 300_000);
    let (_slave, addr) = start_ftp(&[], &[("f", &bytes)]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let listener = ftp.active();
    ftp.expect("RETR f", 150);
    let mut got = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
    ftp.reply_of(226);
    assert!(got == bytes);
    ftp.expect("EPRT |1|127.0.0.2|5000|", 501);
    ftp.expect("PORT 127,0,0,2,100,100", 501);
    ftp.expect("PORT 127,0,0,1,0,22", 504);
    ftp.expect("EPRT |3|x|5000|", 522);
    ftp.expect("RETR f", 425);
    ftp.expect("EPSV ALL", 200);
    for refused in ["PASV", "PORT 127,0,0,1,100,100", "EPRT |1|127.0.0.1|5000|"] {
        ftp.expect(refused, 503);
    }
    assert!(ftp.get("RETR f") == bytes);
}

#[test]
fn type_a_converts_line_ends_and_counts_sent_bytes() {
    let text = "one\ntwo\r\n\nthree".repeat(20_000);
    let sent = "one\r\ntwo\r\n\r\nthree".repeat(20_000);
    let (slave, addr) = start_ftp(&[], &[("f", text.as_bytes())]);
    let mut ftp = FtpTestClient::anonymous(addr);
    ftp.expect("TYPE A", 200);
    assert!(ftp.get("RETR f") == sent.as_bytes());
    for offset in [1, 3, 4, 5, 6, 100_003, sent.len()] {
        ftp.expect(&format!("REST {offset}"), 350);
        assert!(ftp.get("RETR f") == sent.as_bytes()[offset..], "from {offset}");
    }
    ftp.expect(&format!("REST {}", sent.len() + 1), 350);
    drop(ftp.passive());
    ftp.expect("RETR f", 554);
    ftp.put("STOR g", b"a\r\nb\nc\rd\r\n");
    assert_eq!(std::fs::read(slave.root.join("g")).unwrap(), b"a\nb\nc\rd\n");
    assert_eq!(ftp.expect("SIZE g", 213).text(), "8");
}

/// Begins a download of content that does not fit into the sockets' buffers.
fn stalled(ftp: &mut FtpTestClient) -> std::net::TcpStream {
    let data = ftp.begin("RETR large");
    data.peek(&mut [0]).unwrap();
    data
}

#[test]
fn abor_and_stat_are_heard_during_a_transfer() {
    let bytes = content(43, 48 << 20);
    let (_slave, addr) = start_ftp(&[], &[("large", &bytes)]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let mut data = stalled(&mut ftp);
    let stat = ftp.command("STAT");
    assert!(matches!(stat.code, 211 | 213) && stat.text().contains("bytes"), "{stat:?}");
    ftp.send("NOOP");
    ftp.send("ABOR");
    ftp.reply_of(426);
    ftp.reply_of(226);
    ftp.reply_of(200);
    let mut got = Vec::new();
    let ended = data.read_to_end(&mut got);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset, "it must not look complete");
    assert!(got.len() < bytes.len());
    assert!(matches!(ftp.command("ABOR").code, 225 | 226), "nothing runs");

    // Telnet interrupt, then data mark as urgent data (RFC 959 section 4.1.3).
    let _data = stalled(&mut ftp);
    ftp.send_bytes(&[255, 244]);
    SockRef::from(ftp.control()).send_out_of_band(&[255, 242]).unwrap();
    ftp.send("ABOR");
    ftp.reply_of(426);
    ftp.reply_of(226);
    assert!(ftp.get("RETR large") == bytes);
}

#[test]
fn download_ends_with_its_control_connection() {
    let bytes = content(44, 48 << 20);
    let (_slave, addr) = start_ftp(&[], &[("large", &bytes)]);
    for is_reset in [false, true] {
        let mut ftp = FtpTestClient::anonymous(addr);
        let mut data = stalled(&mut ftp);
        if is_reset {
            ftp.reset()
        } else {
            ftp.kill()
        }
        let mut got = Vec::new();
        let ended = data.read_to_end(&mut got);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(got.len() < bytes.len());
    }
}

#[test]
fn changed_file_does_not_look_complete() {
    let bytes = content(45, 48 << 20);
    let (slave, addr) = start_ftp(&[], &[("large", &bytes)]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let mut data = stalled(&mut ftp);
    let file = File::options().write(true).open(slave.root.join("large")).unwrap();
    file.write_all_at(b"changed", bytes.len() as u64 - 7).unwrap();
    let ended = data.read_to_end(&mut Vec::new());
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    ftp.reply_of(451);
    ftp.expect("NOOP", 200);

    let mut data = stalled(&mut ftp);
    file.set_len(1000).unwrap();
    let ended = data.read_to_end(&mut Vec::new());
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    ftp.reply_of(451);
}

#[test]
fn stop_lets_a_download_end_in_time() {
    let bytes = content(46, 48 << 20);
    let (mut slave, addr) = start_ftp(&["--grace", "30"], &[("large", &bytes)]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let mut data = stalled(&mut ftp);
    slave.program.signal(Signal::SIGTERM);
    eventually(SOON, "no more logins", || {
        std::net::TcpStream::connect(addr).is_err().then_some(())
    });
    let mut got = Vec::new();
    data.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
    ftp.reply_of(226);
    ftp.reply_of(421);
    assert_eq!(slave.program.wait(Duration::from_secs(20)), 0);
}
