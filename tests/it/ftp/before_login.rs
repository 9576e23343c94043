//! Unauthenticated peers of FTP that are silent, slow or many.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{FtpTestClient, ftp_address, start_ftp};
use crate::harness::{SOON, Standalone, anonymous_memory, children};

/// Most memory that a waiting connection may take in a worker.
const MEMORY_EACH: u64 = 4096;

/// Counts the threads of a process.
fn threads(pid: nix::unistd::Pid) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

fn greeted(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut greeting = [0; 256];
    let len = stream.read(&mut greeting).unwrap();
    assert!(greeting[..len].starts_with(b"220 "));
    stream
}

#[test]
fn waiting_connections_have_no_thread_and_little_memory() {
    let (slave, addr) = start_ftp(&["--workers", "1"], &[]);
    FtpTestClient::anonymous(addr).expect("QUIT", 221);
    let worker = *children(slave.program.pid()).last().unwrap();
    let before = (threads(worker), anonymous_memory(worker));
    const CONNECTIONS: u64 = 400;
    let open: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|n| {
            let mut stream = greeted(addr);
            // Some have sent a part of a line.
            if n % 2 == 0 {
                stream.write_all(b"USER a").unwrap();
            }
            stream
        })
        .collect();
    let grown = anonymous_memory(worker).saturating_sub(before.1);
    assert!(threads(worker) <= before.0, "{} threads", threads(worker));
    assert!(grown <= CONNECTIONS * MEMORY_EACH, "{} bytes each", grown / CONNECTIONS);
    drop(open);
}

#[test]
fn silent_connections_beyond_the_pool_block_no_good_client() {
    let (_slave, addr) = start_ftp(&["--workers", "1"], &[]);
    let silent: Vec<TcpStream> = (0..700).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let began = Instant::now();
    FtpTestClient::anonymous(addr).expect("PWD", 257);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn a_stalled_handshake_ends_with_the_login_time() {
    let args = ["--ftp", "127.0.0.1:0", "--ftps", "127.0.0.1:0"];
    let slave = Standalone::start(&args, &[]);
    let [ftp, ftps] = ["ftp", "ftps"].map(|protocol| ftp_address(&slave.program, protocol));
    let mut explicit = FtpTestClient::connect(ftp);
    explicit.expect("AUTH TLS", 234);
    let mut implicit = TcpStream::connect(ftps).unwrap();
    implicit.set_read_timeout(Some(SOON)).unwrap();
    // The beginning of a record.
    implicit.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
    let mut rest = Vec::new();
    let mut control = explicit.control();
    control.read_to_end(&mut rest).unwrap();
    implicit.read_to_end(&mut rest).unwrap();
    // Only closing alerts.
    assert!(rest.starts_with(&[0x15]) && !rest.windows(3).any(|part| part == b"220"), "{rest:?}");
}

#[test]
fn an_endless_line_ends_the_connection() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let mut stream = greeted(addr);
    let began = Instant::now();
    // The slave closes, so that not all can be sent.
    while stream.write_all(&[b'x'; 4096]).is_ok() {
        assert!(began.elapsed() < SOON, "an endless line is read");
    }
    assert!(began.elapsed().as_secs() < 9, "before the login time is over");
}

#[test]
fn a_byte_a_second_does_not_outlive_the_login() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let mut stream = greeted(addr);
    let began = Instant::now();
    while stream.write_all(b"N").is_ok() {
        assert!(began.elapsed() < SOON, "the connection is still open");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    assert!(began.elapsed().as_secs() >= 9, "{:?}", began.elapsed());
}

/// A web page can have a browser send FTP commands in the body of a request.
#[test]
fn requests_of_web_browsers_end_the_connection() {
    let (slave, addr) = start_ftp(&[], &[]);
    let long = "x".repeat(5000);
    for (path, errors) in [("/", 0), (long.as_str(), 1)] {
        let mut client = FtpTestClient::connect(addr);
        let body = "USER anonymous\r\nPASS x\r\nMKD made\r\n";
        client.send_bytes(format!("POST {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n{body}").as_bytes());
        for _ in 0..errors {
            client.reply_of(500);
        }
        client.reply_of(421);
        assert_eq!(client.try_reply(), None);
    }
    let mut client = FtpTestClient::anonymous(addr);
    client.expect("MLST made", 550);
    assert!(!slave.root.join("made").exists());
}
