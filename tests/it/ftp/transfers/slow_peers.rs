//! Data connections that are silent, stalled or missing end in time.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::super::{FtpTestClient, start_ftp};
use crate::harness::content;

/// Time in which a transfer has to move 30 KiB, and in which a data connection has to come.
const WINDOW: Duration = Duration::from_secs(30);

#[test]
fn silent_stalled_and_missing_data_connections_end() {
    let bytes = content(81, 48 << 20);
    let (slave, addr) = start_ftp(&[], &[("large", &bytes)]);
    let began = Instant::now();
    let mut silent = FtpTestClient::anonymous(addr);
    let mut upload = silent.begin("STOR silent");
    upload.write_all(b"a few bytes").unwrap();
    let mut stalled = FtpTestClient::anonymous(addr);
    let mut download = stalled.begin("RETR large");
    let mut missing = FtpTestClient::anonymous(addr);
    missing.passive_port();
    missing.send("RETR large");
    let mut trickling = FtpTestClient::anonymous(addr);
    let mut trickle = trickling.begin("STOR trickle");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It ends with the connection.
            for _ in 0..WINDOW.as_secs() * 20 {
                if trickle.write_all(b"x").is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        missing.reply_of(425);
        for client in [&mut silent, &mut stalled, &mut trickling] {
            client.reply_of(426);
            client.expect("NOOP", 200);
        }
    });
    let took = began.elapsed();
    assert!(took >= WINDOW - Duration::from_secs(1) && took < 2 * WINDOW, "{took:?}");
    assert!(!slave.root.join("silent").exists() && !slave.root.join("trickle").exists());
    let cut = download.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    assert_eq!(silent.expect("SIZE silent", 213).text(), "11");
    assert_eq!(fs::read_dir(&slave.root).unwrap().count(), 2, "nothing was published");
}
