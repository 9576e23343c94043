//! Data connections: their ports, their peers, and both network protocols.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::super::client::with_patience;
use super::super::{FtpTestClient, ftp_address, start_ftp};
use crate::harness::{Standalone, content};

/// Returns a range of two adjacent ports that are free now.
fn free_range() -> (u16, u16) {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let low = (34_000..60_000).find(|low| is_free(*low) && is_free(low + 1)).unwrap();
    (low, low + 1)
}

#[test]
fn passive_ports_and_address_are_the_configured_ones() {
    let (low, high) = free_range();
    let range = format!("{low}-{high}");
    let args = ["--ftp-passive", &range, "--ftp-public", "192.0.2.7"];
    let (_slave, addr) = start_ftp(&args, &[("f", b"content")]);
    let mut clients: Vec<_> = (0..3).map(|_| FtpTestClient::anonymous(addr)).collect();
    let mut ports: Vec<_> = clients[..2].iter_mut().map(FtpTestClient::passive_port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [low, high]);
    clients[2].expect("EPSV", 425);
    clients[2].expect("PASV", 425);
    // Another command for data connections gives the port back.
    clients[0].expect("EPRT |1|127.0.0.1|5000|", 200);
    let text = clients[2].expect("PASV", 227).text();
    let numbers = text.split_once('(').unwrap().1.split_once(')').unwrap().0.to_owned();
    let (address, port) = numbers.split_at("192,0,2,7".len());
    assert_eq!(address, "192,0,2,7", "{text}");
    let [high_byte, low_byte] = [1, 2].map(|n| port.split(',').nth(n).unwrap().parse().unwrap());
    let port = u16::from_be_bytes([high_byte, low_byte]);
    assert!((low..=high).contains(&port), "{text}");
    let mut data = with_patience(TcpStream::connect(("127.0.0.1", port)).unwrap());
    clients[2].expect("RETR f", 150);
    let mut got = Vec::new();
    data.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"content");
    clients[2].reply_of(226);
}

#[test]
fn another_host_cannot_steal_a_data_connection() {
    let bytes = content(91, 100_000);
    let (_slave, addr) = start_ftp(&[], &[("f", &bytes)]);
    let mut client = FtpTestClient::anonymous(addr);
    let port = client.passive_port();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut thief = with_patience(socket.into());
    let mut own = with_patience(TcpStream::connect(("127.0.0.1", port)).unwrap());
    client.expect("RETR f", 150);
    let mut got = Vec::new();
    own.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
    client.reply_of(226);
    let mut stolen = Vec::new();
    // The connection may be reset.
    let _ = thief.read_to_end(&mut stolen);
    assert!(stolen.is_empty());
}

#[test]
fn ipv6_has_passive_and_active_connections() {
    let bytes = content(92, 100_000);
    let slave = Standalone::start(&["--ftp", "[::1]:0"], &[("f", &bytes)]);
    let mut client = FtpTestClient::anonymous(ftp_address(&slave.program, "ftp"));
    assert!(client.get("RETR f") == bytes);
    let listener = client.active();
    client.expect("RETR f", 150);
    let mut got = Vec::new();
    with_patience(listener.accept().unwrap().0).read_to_end(&mut got).unwrap();
    client.reply_of(226);
    assert!(got == bytes);
    client.expect("EPSV 2", 229);
    client.expect("EPSV 1", 522);
    client.expect("PASV", 425);
    client.expect("PORT 127,0,0,1,100,100", 522);
    client.expect("EPRT |2|::2|5000|", 501);
    client.expect("EPRT |2|::1|1023|", 504);
}
