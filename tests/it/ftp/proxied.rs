//! Clients behind a trusted proxy (PROXY protocol, version 2).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use relais_proto::Reply;

use super::{FtpTestClient, start_ftp};
use crate::harness::{RawClient, SOON, hello};

const TRUSTED: [&str; 2] = ["--trusted-proxy", "127.0.0.0/8"];

/// Returns the header of a connection from this client.
fn header(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[192, 0, 2, 1, 0x13, 0x88, 0, 21]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..]].concat()
}

/// Connects as a proxy.
#[track_caller]
fn connect(addr: SocketAddr, header: &[u8]) -> FtpTestClient {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(header).unwrap();
    FtpTestClient::over(stream)
}

#[test]
fn a_proxied_client_has_its_own_address() {
    let (slave, addr) = start_ftp(&TRUSTED, &[]);
    let mut far = connect(addr, &header([192, 0, 2, 9]));
    let refused = far.expect("USER ann", 530).text();
    assert!(refused.contains("AUTH TLS"), "passwords of other hosts need TLS: {refused}");
    far.expect("USER anonymous", 331);
    far.expect("PASS x", 230);
    assert!(far.expect("STAT", 211).text().contains("192.0.2.9:5000"));
    far.expect("MKD made", 550);
    far.expect("CLNT marker", 200);
    slave.program.stderr.wait_for(SOON, "the address in the log", |log| {
        log.contains("192.0.2.9:5000: the client is marker").then_some(())
    });
    let mut near = connect(addr, &header([127, 0, 0, 1]));
    near.expect("USER ann", 331);
}

#[test]
fn limits_for_addresses_are_those_of_the_client() {
    let (_slave, addr) = start_ftp(&[&TRUSTED[..], &["--sessions-per-address", "1"]].concat(), &[]);
    let log_in = |client| {
        let mut client = connect(addr, &header(client));
        client.expect("USER anonymous", 331);
        let code = client.command("PASS x").code;
        (client, code)
    };
    let (_first, code) = log_in([192, 0, 2, 9]);
    assert_eq!(code, 230);
    assert_eq!(log_in([192, 0, 2, 9]).1, 421);
    assert_eq!(log_in([192, 0, 2, 10]).1, 230);
}

#[test]
fn a_trusted_proxy_must_send_a_valid_header() {
    let (_slave, addr) = start_ftp(&TRUSTED, &[]);
    let mut too_long = header([192, 0, 2, 9]);
    too_long[14..16].copy_from_slice(&600_u16.to_be_bytes());
    let version_1 = b"PROXY TCP4 192.0.2.9 192.0.2.1 5000 21\r\n".to_vec();
    for bytes in [b"USER anonymous\r\n".to_vec(), too_long, version_1] {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // Unread bytes may reset the connection.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
    }
    let mut local = header([0; 4]);
    local[12] = 0x20;
    connect(addr, &local).expect("NOOP", 200);
}

#[test]
fn other_addresses_cannot_claim_to_be_proxies() {
    let (_slave, addr) = start_ftp(&["--trusted-proxy", "192.0.2.0/24"], &[]);
    let mut client = FtpTestClient::connect(addr);
    client.send_bytes(&header([192, 0, 2, 9]));
    client.send_bytes(b"\r\n");
    // The header is lines without a command, and QUIT.
    let codes: Vec<u16> = std::iter::from_fn(|| client.try_reply()).map(|r| r.code).collect();
    assert_eq!(codes, [500, 500, 500, 221]);
}

#[test]
fn native_clients_may_come_through_a_proxy() {
    let (slave, _) = start_ftp(&TRUSTED, &[]);
    for header in [header([192, 0, 2, 9]), Vec::new()] {
        let mut client = RawClient::connect(slave.addr);
        assert!(client.raw(&header));
        client.send(&[hello()]);
        let reply = client.reply();
        let needs_tls =
            matches!(&reply, Reply::Error(refusal) if refusal.to_string().contains("TLS"));
        // A client of another host needs TLS, and the proxy itself does not.
        assert_eq!(needs_tls, !header.is_empty(), "{reply:?}");
    }
}
