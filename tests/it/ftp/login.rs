//! What FTP clients may do before their login, and how they log in.

use std::net::SocketAddr;

use super::{FtpTestClient, ftp_address, start_ftp};
use crate::harness::{SOON, Standalone, TestDir, eventually};

/// Adds an account to the state folder of a standalone slave.
fn add_account(dir: &TestDir, name: &str, password: &str, rights: &str) {
    let file = dir.path().join("password");
    std::fs::write(&file, password).unwrap();
    let mut program = crate::harness::ProgramBuilder::new("ftpmaster", dir.path())
        .args(["user", "add", name, "--rights", rights, "--password-file"])
        .args([&file])
        .args(["--state"])
        .args([dir.folder("state")])
        .start();
    assert_eq!(program.wait(SOON), 0, "{}", program.stderr.text());
}

/// Starts a standalone slave with FTP and the accounts `ann` and, if wanted, `anonymous`.
fn with_accounts(with_anonymous: bool, args: &[&str]) -> (Standalone, SocketAddr) {
    let dir = TestDir::new();
    let root = dir.folder("root");
    add_account(&dir, "ann", "secret", "write");
    if with_anonymous {
        add_account(&dir, "anonymous", "whatever", "read");
    }
    let args = [&["--ftp", "127.0.0.1:0"], args].concat();
    let slave = Standalone::start_in(dir, root, &args, &[]);
    let addr = ftp_address(&slave.program, "ftp");
    (slave, addr)
}

#[test]
fn commands_before_the_login() {
    let (_slave, addr) = start_ftp(&[], &[("f", b"content")]);
    let mut client = FtpTestClient::connect(addr);
    for (line, code) in [
        ("NOOP", 200),
        ("SYST", 215),
        ("HELP", 214),
        ("FEAT", 211),
        ("CLNT a test", 200),
        ("OPTS UTF8 ON", 200),
        ("LANG", 200),
        ("HOST files.example", 220),
        ("PASS secret", 503),
        ("PBSZ 0", 503),
        ("PROT P", 503),
        ("PWD", 530),
        ("PASV", 530),
        ("RETR f", 530),
        ("DELE f", 530),
        ("SITE CHMOD 600 f", 530),
        ("STAT", 530),
        ("XYZZY", 500),
        ("ACCT a", 502),
        ("USER anonymous", 331),
        ("HOST files.example", 503),
        ("REIN", 220),
        ("PASS secret", 503),
        ("USER ftp", 331),
        ("PASS a@b", 230),
        ("PWD", 257),
        ("QUIT", 221),
    ] {
        client.expect(line, code);
    }
    assert!(client.try_reply().is_none());
}

#[test]
fn the_greeting_tells_no_version() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    let mut greeting = [0; 64];
    let len = std::io::Read::read(&mut stream, &mut greeting).unwrap();
    let greeting = std::str::from_utf8(&greeting[..len]).unwrap();
    assert!(greeting.starts_with("220 Relais"), "{greeting}");
    assert!(!greeting.contains(|c: char| c.is_ascii_digit() && !"220".contains(c)), "{greeting}");
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let mut client = FtpTestClient::connect(addr);
    client.send_bytes(b"NOOP\r\nUSER anonymous\r\nPASS x\r\nPWD\r\nSYST\r\nQU");
    for code in [200, 331, 230, 257, 215] {
        client.reply_of(code);
    }
    client.send_bytes(b"IT\r\n");
    client.reply_of(221);
}

#[test]
fn over_long_and_malformed_lines_are_answered_once() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let mut client = FtpTestClient::connect(addr);
    client.send_bytes(&[&[b'x'; 20_000][..], b"\r\nNOOP\r\nUS\0ER a\r\nNOOP\r\n"].concat());
    for code in [500, 200, 500, 200] {
        client.reply_of(code);
    }
    client.expect("USER anonymous", 331);
    client.expect("PASS x", 230);
}

#[test]
fn a_client_that_does_not_log_in_is_cut_off() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let mut client = FtpTestClient::connect(addr);
    client.send_bytes(&b"NOOP\r\n".repeat(101));
    (0..100).for_each(|_| drop(client.reply_of(200)));
    client.reply_of(421);
    assert!(client.try_reply().is_none());
    let mut client = FtpTestClient::connect(addr);
    client.reply_of(421);
    assert!(client.try_reply().is_none());
}

#[test]
fn accounts_decide_who_logs_in() {
    let (_slave, addr) = with_accounts(false, &[]);
    let mut client = FtpTestClient::connect(addr);
    client.expect("USER anonymous", 331);
    client.expect("PASS x", 530);
    client.expect("USER ann", 331);
    client.expect("PASS wrong", 530);
    client.expect("PWD", 530);
    client.expect("USER ann", 331);
    client.expect("PASS secret", 230);
    client.expect("MKD made", 257);
    let mut guesser = FtpTestClient::connect(addr);
    for _ in 0..3 {
        guesser.expect("USER ann", 331);
        guesser.expect("PASS guess", 530);
    }
    assert!(guesser.try_reply().is_none(), "closed after three refused logins");
}

#[test]
fn the_account_anonymous_admits_without_a_password() {
    let (_slave, addr) = with_accounts(true, &[]);
    let mut client = FtpTestClient::anonymous(addr);
    client.expect("PWD", 257);
    client.expect("MKD made", 550);
}

#[test]
fn rein_begins_another_login() {
    let (_slave, addr) = with_accounts(true, &["--workers", "1"]);
    let mut client = FtpTestClient::anonymous(addr);
    client.expect("MKD made", 550);
    client.send_bytes(b"REIN\r\nNOOP\r\nPWD\r\n");
    client.reply_of(220);
    // Nothing of the session is left.
    for code in [200, 530] {
        client.reply_of(code);
    }
    client.expect("USER ann", 331);
    client.expect("PASS secret", 230);
    client.expect("MKD made", 257);
    client.expect("REIN", 220);
    client.expect("QUIT", 221);
}

#[test]
fn a_full_slave_answers_421() {
    let args = ["--workers", "1", "--sessions-per-worker", "1", "--queue", "1"];
    let (slave, addr) = start_ftp(&args, &[]);
    let served = FtpTestClient::anonymous(addr);
    let mut waits = FtpTestClient::connect(addr);
    waits.expect("USER anonymous", 331);
    waits.send("PASS x");
    let refused = || {
        let mut client = FtpTestClient::connect(addr);
        client.expect("USER anonymous", 331);
        let reply = client.command("PASS x");
        (reply.code == 421).then(|| assert!(client.try_reply().is_none()))
    };
    eventually(SOON, "the queue is full", refused);
    served.kill();
    waits.reply_of(230);
    waits.expect("PWD", 257);
    waits.kill();
    // A waiting client that hangs up leaves its place.
    let served = FtpTestClient::anonymous(addr);
    let mut gone = FtpTestClient::connect(addr);
    gone.expect("USER anonymous", 331);
    gone.send("PASS x");
    eventually(SOON, "the queue is full", refused);
    gone.kill();
    let mut next = FtpTestClient::connect(addr);
    next.expect("USER anonymous", 331);
    eventually(SOON, "the queue has room", || {
        let reply = next.command("NOOP");
        (reply.code == 200).then_some(())
    });
    drop((served, slave));
}

#[test]
fn passwords_are_not_logged() {
    let (slave, addr) = with_accounts(false, &[]);
    let mut client = FtpTestClient::connect(addr);
    client.expect("USER ann", 331);
    client.expect("PASS secret", 230);
    client.expect("CLNT marker", 200);
    let log = &slave.program.stderr;
    log.wait_for(SOON, "the name of the client", |log| log.contains("marker").then_some(()));
    assert!(!log.text().contains("secret"));
}
