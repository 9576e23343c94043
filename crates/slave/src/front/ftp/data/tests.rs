//! Data connections over real sockets, with a control connection that is a plain socket pair.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use relais_net::TrustedProxies;
use relais_transfer::SendOutcome;
use rustix::event::{PollFd, PollFlags};

use super::*;

/// A control connection whose client sends `A` for ABOR.
struct TestControl {
    client: TcpStream,
    server: Stream,
}

impl TestControl {
    /// Connects a client at `from` with a server at `to`.
    fn between(from: [u8; 4], to: [u8; 4]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::from(to), 0)).unwrap();
        let client = connect_from(from, listener.local_addr().unwrap()).unwrap();
        let server = Stream::tcp(listener.accept().unwrap().0).unwrap();
        Self { client, server }
    }

    fn local() -> Self {
        Self::between([127, 0, 0, 1], [127, 0, 0, 1])
    }

    fn port(&self) -> DataPort {
        let mut port = DataPort::new(&self.server);
        port.waits = (Duration::from_secs(20), Duration::from_secs(20));
        port
    }
}

impl ControlWatch for TestControl {
    fn poll_fd(&self) -> PollFd<'_> {
        self.server.poll_fd(PollFlags::IN)
    }

    fn flush(&mut self) -> Result<(), Interruption> {
        Ok(())
    }

    fn attend(&mut self, _: u64) -> Result<(), Interruption> {
        let mut byte = [0];
        match (&self.server).read(&mut byte) {
            Ok(1) => Err(Interruption::Aborted),
            _ => Err(Interruption::ControlEnded),
        }
    }
}

fn connect_from(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let from = SocketAddr::from((from, 0));
    let mut control = Uninterrupted;
    let socket = active::connected(to, from, Duration::from_secs(20), &mut control);
    let socket = socket.map_err(io::Error::other)?;
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// A control connection that says nothing.
struct Uninterrupted;

impl ControlWatch for Uninterrupted {
    fn poll_fd(&self) -> PollFd<'_> {
        static IDLE: std::sync::LazyLock<TcpListener> =
            std::sync::LazyLock::new(|| TcpListener::bind("127.0.0.1:0").unwrap());
        PollFd::new(&*IDLE, PollFlags::IN)
    }

    fn flush(&mut self) -> Result<(), Interruption> {
        Ok(())
    }

    fn attend(&mut self, _: u64) -> Result<(), Interruption> {
        Ok(())
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Opens a passive data connection; returns the server's end and the client's.
fn passive_pair(control: &mut TestControl) -> (DataStream, TcpStream) {
    let mut data = control.port();
    let port = data.listen(None).unwrap();
    let client = TcpStream::connect(at(port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (DataStream::new(data.open(control).unwrap()), client)
}

#[test]
fn passive_serves_the_control_peer_alone() {
    let mut control = TestControl::local();
    let mut data = control.port();
    let port = data.listen(None).unwrap();
    let mut thief = connect_from([127, 0, 0, 2], at(port)).unwrap();
    let own = TcpStream::connect(at(port)).unwrap();
    let accepted = data.open(&mut control).unwrap();
    assert_eq!(accepted.peer, own.local_addr().unwrap());
    let ended = thief.read(&mut [0; 8]);
    assert!(matches!(ended, Ok(0) | Err(_)), "the other peer gets nothing: {ended:?}");
    assert!(!data.is_ready(), "each transfer needs a new data port");
    assert!(TcpStream::connect(at(port)).is_err(), "the listener is closed");
}

#[test]
fn second_pasv_replaces_the_first() {
    let mut control = TestControl::local();
    let mut data = control.port();
    let first = data.listen(None).unwrap();
    let second = data.listen(None).unwrap();
    assert!(first == second || TcpStream::connect(at(first)).is_err());
    let own = TcpStream::connect(at(second)).unwrap();
    let accepted = data.open(&mut control).unwrap();
    assert_eq!(accepted.peer, own.local_addr().unwrap());
}

#[test]
fn passive_ports_are_those_of_the_range() {
    let (mut one, mut two, mut three) =
        (TestControl::local().port(), TestControl::local().port(), TestControl::local().port());
    // Two ports that are free now, and adjacent.
    let range = (20_000..32_000u16)
        .map(|low| low..=low + 1)
        .find(|range| range.clone().all(|port| TcpListener::bind(at(port)).is_ok()))
        .unwrap();
    let taken = [one.listen(Some(&range)).unwrap(), two.listen(Some(&range)).unwrap()];
    assert!(taken[0] != taken[1] && taken.iter().all(|port| range.contains(port)), "{taken:?}");
    let full = three.listen(Some(&range)).unwrap_err();
    assert!(matches!(full, DataError::NoFreePort), "{full}");
    assert_eq!(full.reply().code(), 425);
    one.close();
    assert_eq!(three.listen(Some(&range)).unwrap(), taken[0]);
}

#[test]
fn wait_for_a_connection_is_bounded() {
    let mut control = TestControl::local();
    let mut data = control.port();
    data.waits = (Duration::from_millis(50), Duration::from_millis(50));
    let missing = data.open(&mut control).unwrap_err();
    assert!(matches!(missing, DataError::NoAddress), "{missing}");
    data.listen(None).unwrap();
    let late = data.open(&mut control).unwrap_err();
    assert!(matches!(late, DataError::NotConnected), "{late}");
    assert_eq!((missing.reply().code(), late.reply().code()), (425, 425));
}

#[test]
fn unused_listener_expires() {
    let control = TestControl::local();
    let mut data = control.port();
    assert_eq!(data.expires(), None);
    let port = data.listen(None).unwrap();
    data.close_expired(Instant::now());
    assert!(data.is_ready());
    let expires = data.expires().unwrap();
    data.close_expired(expires);
    assert!(!data.is_ready() && TcpStream::connect(at(port)).is_err());
}

#[test]
fn control_connection_interrupts_the_wait() {
    for (ends, expected) in [(true, Interruption::ControlEnded), (false, Interruption::Aborted)] {
        let mut control = TestControl::local();
        let mut data = control.port();
        data.listen(None).unwrap();
        match ends {
            true => control.client.shutdown(Shutdown::Both).unwrap(),
            false => control.client.write_all(b"A").unwrap(),
        }
        match data.open(&mut control).unwrap_err() {
            DataError::Interrupted(why) => assert_eq!(why, expected),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn active_connects_to_the_control_peer_alone() {
    let mut control = TestControl::between([127, 0, 0, 1], [127, 0, 0, 3]);
    let mut data = control.port();
    for (target, code) in [("127.0.0.2:5000", 501), ("[::1]:5000", 501), ("127.0.0.1:1023", 504)] {
        let refused = data.set_target(target.parse().unwrap()).unwrap_err();
        assert_eq!(refused.reply().code(), code, "{target}: {refused}");
        assert!(!data.is_ready());
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Clients may write an IPv4 address as an IPv6 one.
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    data.set_target((mapped, listener.local_addr().unwrap().port()).into()).unwrap();
    let made = data.open(&mut control).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, made.local);
    assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 3), "from where the client connected to");

    let closed = listener.local_addr().unwrap();
    drop((listener, made));
    data.set_target(closed).unwrap();
    let refused = data.open(&mut control).unwrap_err();
    assert!(matches!(refused, DataError::Refused(_)) && refused.reply().code() == 425, "{refused}");
}

#[test]
fn sends_bytes_and_files_and_ends() {
    let mut control = TestControl::local();
    let (mut data, mut client) = passive_pair(&mut control);
    let bytes: Vec<u8> = (0..10 << 20).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    });
    data.send(b"head", &mut control).unwrap();
    let sent = data.send_file(&file, 3, bytes.len() as u64 - 3, &mut control).unwrap();
    assert!(matches!(sent, SendOutcome::Whole));
    let short = data.send_file(&file, bytes.len() as u64 - 1, 2, &mut control).unwrap();
    assert!(matches!(short, SendOutcome::Short));
    assert_eq!(data.moved(), bytes.len() as u64 + 2);
    data.finish(&mut control).unwrap();
    let got = reader.join().unwrap();
    assert!(got[..4] == *b"head" && got[4..got.len() - 1] == bytes[3..]);
}

#[test]
fn reset_shows_the_client_an_error() {
    let mut control = TestControl::local();
    let (mut data, mut client) = passive_pair(&mut control);
    data.send(b"part", &mut control).unwrap();
    let mut part = [0; 4];
    client.read_exact(&mut part).unwrap();
    drop(data);
    let error = client.read(&mut part).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn receives_until_the_end_or_a_reset() {
    let mut control = TestControl::local();
    let mut buffer = [0; 64];
    let (mut data, mut client) = passive_pair(&mut control);
    client.write_all(b"all").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(data.read(&mut buffer, &mut control).unwrap(), 3);
    assert_eq!(data.read(&mut buffer, &mut control).unwrap(), 0);

    let (mut data, mut client) = passive_pair(&mut control);
    client.write_all(b"part").unwrap();
    assert_eq!(data.read(&mut buffer, &mut control).unwrap(), 4);
    Stream::tcp(client).unwrap().reset_when_dropped().unwrap();
    let lost = data.read(&mut buffer, &mut control).unwrap_err();
    assert!(matches!(lost, DataError::Lost(_)) && lost.reply().code() == 426, "{lost}");
}

#[test]
fn transfer_attends_to_the_control_connection() {
    let mut control = TestControl::local();
    let (mut data, _client) = passive_pair(&mut control);
    control.client.write_all(b"A").unwrap();
    // The client does not read, so the transfer waits.
    let aborted = data.send(&vec![0; 64 << 20], &mut control).unwrap_err();
    assert!(matches!(aborted, DataError::Interrupted(Interruption::Aborted)), "{aborted}");

    let (mut data, client) = passive_pair(&mut control);
    control.client.write_all(b"A").unwrap();
    // The client always reads, so the transfer never waits for long.
    let reader = std::thread::spawn(move || io::copy(&mut &client, &mut io::sink()));
    let aborted = (0..).find_map(|_| data.send(&[0; 1 << 16], &mut control).err()).unwrap();
    assert!(matches!(aborted, DataError::Interrupted(Interruption::Aborted)), "{aborted}");
    drop(data);
    let ended = reader.join().unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
}

/// The PROXY v2 header for a client at this address.
fn proxy_header(client: [u8; 4]) -> Vec<u8> {
    let rest = [&client[..], &[127, 0, 0, 1], &5000_u16.to_be_bytes(), &21_u16.to_be_bytes()];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &rest.concat()].concat()
}

#[test]
fn data_comes_through_the_proxy_of_the_control_connection() {
    const CLIENT: [u8; 4] = [192, 0, 2, 9];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    proxy.write_all(&proxy_header(CLIENT)).unwrap();
    let trusted = TrustedProxies::required(&[IpAddr::from([127, 0, 0, 1]).into()]);
    let until = Instant::now() + Duration::from_secs(20);
    let server = trusted.accept(listener.accept().unwrap().0, until).unwrap();
    let mut control = TestControl { client: proxy, server };
    let mut data = control.port();
    let port = data.listen(None).unwrap();
    let mut others = Vec::new();
    for (from, header) in [
        ([127, 0, 0, 1], proxy_header([192, 0, 2, 8])),
        ([127, 0, 0, 1], b"no header, but long enough for one".to_vec()),
        ([127, 0, 0, 2], proxy_header(CLIENT)),
    ] {
        let mut other = connect_from(from, at(port)).unwrap();
        other.write_all(&header).unwrap();
        others.push(other);
    }
    let mut own = TcpStream::connect(at(port)).unwrap();
    own.write_all(&[proxy_header(CLIENT), b"data".to_vec()].concat()).unwrap();
    own.shutdown(Shutdown::Write).unwrap();
    let accepted = data.open(&mut control).unwrap();
    assert_eq!(accepted.peer.ip(), IpAddr::from(CLIENT));
    let mut buffer = [0; 64];
    let mut stream = DataStream::new(accepted);
    let got = stream.read(&mut buffer, &mut control).unwrap();
    assert_eq!(&buffer[..got], b"data");
    // PORT leads to the client, not to the proxy.
    assert!(data.set_target("127.0.0.1:5000".parse().unwrap()).is_err());
    data.set_target((CLIENT, 5000).into()).unwrap();
}
