//! The control connection: hostile lines, interrupts, and the end of the slave.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use relais_ftp::LineBuffer;
use relais_net::Stream;
use relais_proto::{Lsn, limits};

use super::super::control::{Control, Received};
use super::host::Fixture;
use super::{TestSession, with_session};

#[test]
fn over_long_and_bad_lines_get_one_reply() {
    with_session(|client, _| {
        let mut line = vec![b'x'; 1_000_000];
        line.extend_from_slice(b"\r\nNOOP\r\n");
        client.send(&line);
        assert!(client.reply().starts_with("500 "));
        assert!(client.reply().starts_with("200 "));
        client.send(b"DELE a\0b\r\nDELE a\rb\r\nCWD \xff\xff\xfe\r\nNOOP\n");
        let replies = [client.reply(), client.reply(), client.reply(), client.reply()];
        let codes = replies.each_ref().map(|reply| &reply[..4]);
        assert_eq!(codes, ["500 ", "500 ", "501 ", "200 "], "{replies:?}");
    });
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    with_session(|client, _| {
        client.send(b"MKD a\r\nCWD a\r\nMKD b\r\nPWD\r\nRMD b\r\nQUIT\r\nPWD\r\n");
        let codes: Vec<_> = (0..6).map(|_| client.reply()[..3].to_owned()).collect();
        assert_eq!(codes, ["257", "250", "257", "257", "250", "221"]);
        assert_eq!(client.line(), None);
    });
}

#[test]
fn abor_and_stat_reach_the_command_that_runs() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = TestSession::of("ann");
        session.principal.seen_lsn = Lsn { epoch: 1, number: 100 };
        session.run(&fixture, |client, _| {
            // It waits for changes that this slave does not have yet.
            client.send(b"SIZE f\r\nNOOP\r\nSTAT\r\n");
            assert!(client.reply().starts_with("211 SIZE: 0 bytes in "));
            // A Telnet interrupt and data mark come before ABOR.
            client.send(b"\xff\xf4\xff\xf2ABOR\r\n");
            let replies = [client.reply(), client.reply(), client.reply()];
            let codes = replies.each_ref().map(|reply| &reply[..4]);
            assert_eq!(codes, ["426 ", "226 ", "200 "], "{replies:?}");
            fixture.state.applied.store(100, SeqCst);
            client.expect("SIZE f", "550 ");
        });
    });
}

#[test]
fn urgent_bytes_stay_in_their_place() {
    with_session(|client, _| {
        let tcp = client.tcp.try_clone().unwrap();
        client.send(b"\xff\xf4\xff");
        rustix::net::send(&tcp, b"\xf2", rustix::net::SendFlags::OOB).unwrap();
        client.expect("ABOR", "225 ");
        client.expect("NOOP", "200 ");
    });
}

#[test]
fn stopping_slaves_say_so_and_close() {
    let fixture = Fixture::new();
    TestSession::of("ann").run(&fixture, |client, stream| {
        client.expect("NOOP", "200 ");
        stream.shutdown(Shutdown::Read).unwrap();
        assert!(client.reply().starts_with("421 "));
        assert_eq!(client.line(), None);
    });
}

#[test]
fn idle_sessions_end_and_each_command_begins_the_time_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Arc::new(Stream::tcp(listener.accept().unwrap().0).unwrap());
    let mut control = Control::new(stream, LineBuffer::default()).unwrap();
    assert_eq!(control.idle_time, limits::IDLE_TIME);
    control.idle_time = Duration::from_millis(400);
    for _ in 0..3 {
        let wake = Instant::now() + Duration::from_millis(250);
        assert!(matches!(control.next_line(Some(wake), None), Ok(Received::Woken)));
        client.write_all(b"NOOP\r\n").unwrap();
        assert!(matches!(control.next_line(None, None), Ok(Received::Line(Ok(_)))));
    }
    let began = Instant::now();
    let error = control.next_line(None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("idle"), "{error}");
    assert!(began.elapsed() >= control.idle_time);
}
