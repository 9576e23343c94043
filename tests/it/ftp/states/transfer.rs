//! Commands that come while a file is sent.

use std::io::Read;
use std::net::TcpStream;

use super::table::{ROWS, Row};
use super::{BIG, State, start};
use crate::ftp::{FtpTestClient, start_ftp};

/// Begins a transfer that cannot end before its data is read.
fn begin(client: &mut FtpTestClient) -> TcpStream {
    client.begin("RETR big")
}

/// Reads the data to its end.
fn finish(mut data: TcpStream) -> usize {
    let mut bytes = Vec::with_capacity(BIG);
    data.read_to_end(&mut bytes).unwrap();
    bytes.len()
}

/// All commands but ABOR and STAT wait for the end of the transfer, and none is lost.
#[test]
fn commands_during_a_transfer_wait_for_its_end() {
    let (_slave, addr) = start();
    let mut client = State::Writer.enter(addr);
    let rows: Vec<&Row> = ROWS.iter().filter(|row| waits(row)).collect();
    for some in rows.chunks(40) {
        let data = begin(&mut client);
        for row in some {
            client.send(row.line);
            client.send("CWD /");
            client.send("REST 0");
        }
        // STAT is answered first, although it was sent last: the others are still waiting.
        client.expect("STAT", 211);
        assert_eq!(finish(data), BIG);
        client.reply_of(226);
        for row in some {
            let reply = client.reply();
            assert_eq!(reply.code, row.codes[3], "{}: {reply:?}", row.line);
            client.reply_of(250);
            client.reply_of(350);
        }
    }
}

/// Whether a row can wait, and the rows after it do not depend on it.
fn waits(row: &Row) -> bool {
    let during = ["ABOR", "STAT"].iter().any(|name| row.line.starts_with(name));
    let sets_address =
        ["PASV", "EPSV", "PORT", "EPRT"].iter().any(|name| row.line.starts_with(name))
            && row.codes[3] < 300;
    !during && !sets_address && !row.has_data && row.before.is_empty() && !row.is_last
}

#[test]
fn quit_during_a_transfer_completes_it() {
    let (_slave, addr) = start();
    let mut client = State::Reader.enter(addr);
    let data = begin(&mut client);
    client.send("QUIT");
    assert_eq!(finish(data), BIG);
    client.reply_of(226);
    client.reply_of(221);
    assert_eq!(client.try_reply(), None);
}

#[test]
fn abor_ends_a_transfer_and_the_session_continues() {
    let (_slave, addr) = start();
    let mut client = State::Reader.enter(addr);
    for abort in [&b"ABOR\r\n"[..], b"\xff\xf4\xff\xf2ABOR\r\n"] {
        let data = begin(&mut client);
        client.send("NOOP");
        client.send_bytes(abort);
        client.reply_of(426);
        client.reply_of(226);
        client.reply_of(200);
        drop(data);
        client.expect("ABOR", 225);
    }
    assert_eq!(client.get("RETR f"), b"content\n");
}

#[test]
fn an_over_long_line_gets_one_reply_in_each_state() {
    let (_slave, addr) = start();
    for (state, length) in [
        // The pool reads at most 64 KiB of a connection before its login.
        (State::Connected, 50_000),
        (State::Named, 50_000),
        (State::Reader, 500_000),
        (State::Writer, 500_000),
    ] {
        let mut client = state.enter(addr);
        client.send(&"x".repeat(length));
        client.reply_of(500);
        client.expect("NOOP", 200);
    }
    let mut client = State::Reader.enter(addr);
    let data = begin(&mut client);
    client.send(&"x".repeat(100_000));
    client.send("NOOP");
    assert_eq!(finish(data), BIG);
    client.reply_of(226);
    client.reply_of(500);
    client.reply_of(200);
}

#[test]
fn a_second_abor_has_a_reply_of_its_own() {
    let (_slave, addr) = start();
    let mut client = State::Reader.enter(addr);
    let data = begin(&mut client);
    client.send_bytes(b"ABOR\r\nABOR\r\nNOOP\r\n");
    for code in [426, 226, 225, 200] {
        client.reply_of(code);
    }
    drop(data);
}

#[test]
fn commands_after_rein_are_kept_during_a_transfer() {
    let (_slave, addr) = start_ftp(&[], &[("big", &vec![b'x'; BIG])]);
    let mut client = FtpTestClient::anonymous(addr);
    let data = begin(&mut client);
    client.send_bytes(b"REIN\r\nUSER anonymous\r\nPASS x\r\nSTAT\r\nPWD\r\n");
    // STAT is answered at once, so that the others are waiting by now.
    client.reply_of(211);
    assert_eq!(finish(data), BIG);
    for code in [226, 220, 331, 230, 257] {
        client.reply_of(code);
    }
}
