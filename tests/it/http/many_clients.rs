//! Many HTTP clients at once, and clients that guess over several protocols.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use relais_proto::{ErrorCode, Reply};

use super::HttpTestClient;
use super::hostile::connect_narrow;
use super::login::{ANN, WRONG, get, with_account};
use crate::accounts::login;
use crate::ftp::{FtpTestClient, ftp_address};
use crate::harness::{RawClient, SOON, Standalone, eventually, group_memory, hello};

/// Guesses natively; returns whether the password was checked.
fn guess_natively(addr: SocketAddr) -> bool {
    let mut wire = RawClient::connect(addr);
    wire.send(&[hello(), login("ann", "wrong")]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    match wire.reply() {
        Reply::Error(refusal) => refusal.code == ErrorCode::LoginRefused,
        other => panic!("{other:?}"),
    }
}

fn guess_by_ftp(addr: SocketAddr) -> bool {
    let mut client = FtpTestClient::connect(addr);
    client.expect("USER ann", 331);
    let reply = client.command("PASS wrong");
    assert!(reply.code >= 400, "{}", reply.text());
    reply.code == 530
}

fn guess_by_http(addr: SocketAddr) -> bool {
    let answer = get(addr, &[WRONG]);
    assert!(matches!(answer.status, 401 | 503), "{}", answer.text());
    answer.status == 401
}

#[test]
fn guesses_over_all_protocols_share_one_throttle() {
    let (slave, http) = with_account(&["--ftp", "127.0.0.1:0"]);
    let ftp = ftp_address(&slave.program, "ftp");
    let began = Instant::now();
    let mut checked = 0;
    for _ in 0..10 {
        for is_checked in [guess_natively(slave.addr), guess_by_ftp(ftp), guess_by_http(http)] {
            checked += u64::from(is_checked);
        }
    }
    // Four without a wait, and then one after each wait of a second or more.
    let most = 4 + began.elapsed().as_secs() + 1;
    assert!((4..=most).contains(&checked), "{checked} of 30, {most} at most");
    // The right password has to wait too, over each of them, and succeeds.
    eventually(SOON * 2, "the right password is accepted", || {
        (get(http, &[ANN]).status == 200).then_some(())
    });
}

#[test]
fn a_thousand_listings_at_once_need_bounded_memory() {
    const CLIENTS: usize = 1000;
    const FILES: usize = 2000;
    let names: Vec<String> = (0..FILES).map(|n| format!("{}{n:04}", "x".repeat(200))).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    let args = ["--http", "127.0.0.1:0", "--workers", "2", "--sessions-per-worker", "800"];
    let slave = Standalone::start(&args, &files);
    let addr = ftp_address(&slave.program, "http");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let json = ["Accept: application/json"];
    let whole = eventually(Duration::from_secs(180), "all files are numbered", || {
        let list = HttpTestClient::connect(addr).request("GET /", &json, &[]);
        let is_whole = list.body.len() > FILES * 200 && !list.text().contains("\"version\":null");
        is_whole.then_some(list.body)
    });
    let before = group_memory(slave.program.pid());
    // They read nothing but the beginning.
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut client = HttpTestClient::over(connect_narrow(addr));
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
            client.stream().try_clone().unwrap()
        })
        .collect();
    for mut client in &clients {
        let mut begin = [0; 12];
        client.read_exact(&mut begin).unwrap();
        assert_eq!(begin, *b"HTTP/1.1 200");
    }
    let grown = group_memory(slave.program.pid()).saturating_sub(before);
    // All listings together have more than 400 MB. A session has one page, of some 200 KiB.
    assert!(grown < 320 << 20, "{grown}");
    let other = HttpTestClient::connect(addr).request("GET /", &json, &[]);
    assert!(other.status == 200 && other.body == whole, "another client is served");
}
