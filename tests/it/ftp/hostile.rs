//! FTP clients that misbehave after their login. Only their own sessions are affected.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use relais_proto::metric;
use socket2::{Domain, SockAddr, Socket, Type};

use super::client::with_patience;
use super::{FtpTestClient, start_ftp};
use crate::harness::{content, eventually, group_memory, sessions};

/// Two windows of the minimum throughput, plus the time that other tests take.
const STALLED: Duration = Duration::from_secs(200);

/// Connects with small buffers, from an address of this host.
fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((from, 0)))).unwrap();
    socket.connect(&SockAddr::from(to)).unwrap();
    socket.into()
}

fn log_in(control: TcpStream) -> FtpTestClient {
    let mut ftp = FtpTestClient::over(control);
    ftp.expect("USER anonymous", 331);
    ftp.expect("PASS x", 230);
    ftp.expect("TYPE I", 200);
    ftp
}

#[test]
fn other_addresses_get_no_data_connection() {
    let (_slave, addr) = start_ftp(&[], &[("f", b"content")]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let data = SocketAddr::new(addr.ip(), ftp.passive_port());
    let mut thieves: Vec<_> = (0..20).map(|_| connect_from([127, 0, 0, 2], data)).collect();
    let mut own = with_patience(TcpStream::connect(data).unwrap());
    ftp.expect("RETR f", 150);
    let mut got = Vec::new();
    own.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"content");
    ftp.reply_of(226);
    for thief in &mut thieves {
        assert!(matches!(thief.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn a_data_connection_that_never_comes_ends_the_wait() {
    let (_slave, addr) = start_ftp(&[], &[("f", b"content")]);
    let mut ftp = FtpTestClient::anonymous(addr);
    for _ in 0..200 {
        ftp.passive_port();
    }
    ftp.expect("RETR f", 425);
    ftp.expect("RETR f", 425);
    ftp.expect("NOOP", 200);
    assert_eq!(ftp.get("RETR f"), b"content");
}

#[test]
fn pipelined_commands_are_answered_in_order_in_bounded_memory() {
    let (slave, addr) = start_ftp(&["--workers", "1"], &[]);
    let mut ftp = log_in(connect_from([127, 0, 0, 1], addr));
    let before = group_memory(slave.program.pid());
    ftp.control().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let lines = b"NOOP\r\nPWD\r\n".repeat(1000);
    let mut sent = 0;
    // The client reads no reply, so that at last the slave stops reading.
    let ended = loop {
        match ftp.control().write(&lines[sent % lines.len()..]) {
            Ok(written) => sent += written,
            Err(e) => break e.kind(),
        }
    };
    assert_eq!(ended, ErrorKind::WouldBlock);
    let grown = group_memory(slave.program.pid()).saturating_sub(before);
    assert!(grown < 1 << 20, "{grown}");
    let complete = sent / 11 * 2 + usize::from(sent % 11 >= 6);
    for number in 0..complete {
        ftp.reply_of(if number % 2 == 0 { 200 } else { 257 });
    }
}

#[test]
fn names_with_control_characters_are_rejected() {
    let (slave, addr) = start_ftp(&[], &[]);
    let mut ftp = FtpTestClient::anonymous(addr);
    for (name, code) in [
        (&b"a\0b"[..], 500),
        (b"a\rb", 500),
        (b"a\xffb", 500),
        (b"a\x1bb", 553),
        (b"a\x7fb", 553),
        (b"a\xc2\x85b", 553),
        (b"a\xe9b", 501),
        (b"../a", 550),
        (b".relais", 550),
        (b".Relais/x", 550),
    ] {
        ftp.send_bytes(&[b"MKD ", name, b"\r\n"].concat());
        let reply = ftp.reply();
        assert_eq!(reply.code, code, "{:?}", String::from_utf8_lossy(name));
        assert!(!reply.text().contains(|c: char| c.is_control() && c != '\n'), "{reply:?}");
    }
    // A line feed ends the command, so the rest is a command of its own.
    ftp.send_bytes(b"MKD a\nDELE b\r\n");
    ftp.reply_of(257);
    ftp.reply_of(550);
    let names = std::fs::read_dir(&slave.root).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.filter(|name| name != ".relais").collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn patterns_have_a_bounded_cost() {
    let names: Vec<String> = (0..200).map(|n| format!("{}{n}", "a".repeat(200))).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let (_slave, addr) = start_ftp(&[], &files);
    let mut ftp = FtpTestClient::anonymous(addr);
    let began = Instant::now();
    let fill = |text: &str| text.repeat(4000 / text.len());
    for pattern in [
        format!("{}b", "*a".repeat(100)),
        format!("{}b", fill("*a")),
        fill("?"),
        fill("[a-z]*"),
        format!("{}b{}", "{a,".repeat(60), "}".repeat(60)),
        fill("{a,"),
        fill("[["),
        fill("\\*"),
    ] {
        let data = ftp.passive();
        let reply = ftp.command(&format!("LIST {pattern}"));
        if reply.code == 150 {
            ftp.reply_of(226);
        } else {
            assert!(matches!(reply.code, 550 | 553), "{reply:?}");
        }
        drop(data);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(ftp.get("NLST *").split(|byte| *byte == b'\n').count(), 201);
}

#[test]
fn many_uploads_of_a_standalone_slave_cause_no_warning() {
    let (slave, addr) = start_ftp(&[], &[]);
    let mut ftp = FtpTestClient::anonymous(addr);
    let warnings = || slave.program.stderr.text().matches(" WARN ").count();
    let before = warnings();
    for n in 0..600 {
        ftp.put(&format!("STOR {}", n % 7), b"x");
    }
    assert_eq!(warnings(), before);
}

/// Calls `step` every half second until it fails because the server has closed the connection.
fn until_closed(mut step: impl FnMut() -> bool) {
    let began = Instant::now();
    while step() {
        assert!(began.elapsed() < STALLED, "the connection does not end");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// All cases run in parallel, because each takes a window.
#[test]
fn stalled_and_trickling_sessions_end() {
    let (slave, addr) = start_ftp(
        &["--workers", "1", "--sessions-per-worker", "8"],
        &[("f", b"small"), ("large", &content(1, 64 << 20))],
    );
    let mut asker = sessions(slave.addr, 1).remove(0);
    let open = || log_in(connect_from([127, 0, 0, 1], addr));
    let (mut deaf, mut sender, beginner, silent) = (open(), open(), open(), open());
    // Reads no data; sends a byte of data now and then; sends a byte of a command now and then;
    // reads no replies.
    let deaf_data = deaf.begin("RETR large");
    let mut sender_data = sender.begin("STOR new");
    silent.control().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || until_closed(|| sender_data.write_all(b"x").is_ok()));
        scope.spawn(move || until_closed(|| beginner.control().write(b"x").is_ok()));
        scope.spawn(move || {
            until_closed(|| match silent.control().write(&b"HELP\r\n".repeat(10_000)) {
                Ok(_) => true,
                Err(e) => e.kind() == ErrorKind::WouldBlock,
            });
        });
        // A transfer that has ended leaves its session.
        for ftp in [&mut deaf, &mut sender] {
            ftp.control().set_read_timeout(Some(STALLED)).unwrap();
            ftp.reply_of(426);
            ftp.expect("NOOP", 200);
        }
    });
    drop((deaf_data, deaf, sender));
    eventually(STALLED, "all their sessions have ended", || {
        (asker.status().1.get(metric::SESSIONS) == 1).then_some(())
    });
    let mut ftp = FtpTestClient::anonymous(addr);
    ftp.expect("MLST new", 550);
    assert_eq!(ftp.get("RETR f"), b"small");
}
