//! The pre-authentication pool against silent, slow, malformed and many peers.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use relais_net::tls::{ServerCertificate, TlsMode, TlsServer};
use relais_net::{
    AuthenticatedConnection, Connection, FrameHandler, FrameLogin, LoginStep, PreAuthListener,
    PreAuthPool, TlsRule,
};
use relais_proto::{ErrorCode, FrameType, Refusal, Reply, Request, WireError};

/// Authenticates a peer that sends `Ping`, and replies first if `reply` is set.
struct PingLogin;

impl FrameHandler for PingLogin {
    type Value = &'static str;
    fn on_frame(&mut self, kind: FrameType, _: &[u8]) -> LoginStep<Self::Value> {
        match kind {
            FrameType::Ping => LoginStep::Done { value: "ping", send: encoded(&Reply::Pong) },
            FrameType::Status => LoginStep::Reply(encoded(&Reply::Pong)),
            _ => LoginStep::Close(refusal("not you")),
        }
    }
    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        refusal(&error.to_string())
    }
}

fn plain(listener: TcpListener) -> Vec<PreAuthListener> {
    let certificate = std::sync::Arc::new(ServerCertificate::empty());
    let tls = TlsServer::new(TlsMode::Never, certificate).unwrap();
    vec![PreAuthListener::new(listener, TlsRule::Detect(tls))]
}

fn encoded(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes);
    bytes
}

fn refusal(text: &str) -> Vec<u8> {
    encoded(&Reply::Error(Refusal::new(ErrorCode::BadRequest, text)))
}

fn room(capacity: usize) -> (PreAuthPool<FrameLogin<PingLogin>>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (PreAuthPool::new(plain(listener), capacity).unwrap(), addr)
}

/// Polls until a login succeeds or the time is over.
fn poll_for(
    room: &mut PreAuthPool<FrameLogin<PingLogin>>,
    time: Duration,
) -> Vec<AuthenticatedConnection<&'static str>> {
    let until = Instant::now() + time;
    loop {
        let arrivals = room
            .poll(true, &[], Some(Duration::from_millis(20)), &mut |new| {
                FrameLogin::new(new.peer, PingLogin)
            })
            .unwrap();
        if !arrivals.is_empty() || Instant::now() > until {
            return arrivals;
        }
    }
}

fn ping() -> Vec<u8> {
    let mut bytes = Vec::new();
    Request::Ping.encode(&mut bytes);
    bytes
}

#[test]
fn leaves_bytes_after_the_login_in_the_stream() {
    let (mut room, addr) = room(4);
    let mut client = Connection::connect(addr, Duration::from_secs(3)).unwrap();
    for _ in 0..3 {
        client.queue(&Request::Ping);
    }
    client.flush().unwrap();
    let arrival = poll_for(&mut room, Duration::from_secs(5)).pop().unwrap();
    let mut server = Connection::from_stream(arrival.stream, 1024).unwrap();
    assert_eq!(server.read_request().unwrap(), Some(Request::Ping));
    assert_eq!(server.read_request().unwrap(), Some(Request::Ping));
    assert_eq!(client.read_reply().unwrap(), Some(Reply::Pong));
    assert!(room.is_empty());
}

#[test]
fn accepts_a_login_sent_byte_by_byte() {
    let (mut room, addr) = room(4);
    let mut client = TcpStream::connect(addr).unwrap();
    for byte in ping() {
        assert!(poll_for(&mut room, Duration::ZERO).is_empty());
        client.write_all(&[byte]).unwrap();
    }
    assert_eq!(poll_for(&mut room, Duration::from_secs(5)).len(), 1);
}

#[test]
fn a_full_pool_evicts_the_oldest_connection() {
    let (mut room, addr) = room(3);
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    poll_for(&mut room, Duration::from_millis(100));
    assert_eq!(room.len(), 3);
    let mut client = TcpStream::connect(addr).unwrap();
    client.write_all(&ping()).unwrap();
    assert_eq!(poll_for(&mut room, Duration::from_secs(5)).len(), 1);
    silent[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(silent[0].read(&mut [0; 8]).unwrap(), 0, "the oldest was closed");
    assert_eq!(room.len(), 2);
}

/// Connects from this address, which must be a local one.
fn from(source: &str, addr: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.into()
}

#[test]
fn a_flood_from_one_address_evicts_its_own_connections() {
    let (mut room, addr) = room(4);
    let mut slow: Vec<TcpStream> =
        ["127.0.0.2", "127.0.0.3"].map(|source| from(source, addr)).into();
    let mut flood = Vec::new();
    for n in 0..100 {
        flood.push(from("127.0.0.4", addr));
        poll_for(&mut room, Duration::from_millis(1));
        assert!(room.len() <= 4 && (n < 2 || room.len() == 4), "{n}: {}", room.len());
    }
    // After the eviction of the flood, earlier connections still log in.
    for client in &mut slow {
        client.write_all(&ping()).unwrap();
        assert_eq!(poll_for(&mut room, Duration::from_secs(5)).len(), 1);
    }
    assert_eq!(room.len(), 2, "the last of the flood");
}

#[test]
fn login_time_is_limited_for_slow_peers() {
    let (mut room, addr) = room(3);
    let mut client = TcpStream::connect(addr).unwrap();
    client.write_all(&ping()[..2]).unwrap();
    let began = Instant::now();
    poll_for(&mut room, Duration::from_millis(200));
    assert_eq!(room.len(), 1);
    while !room.is_empty() && began.elapsed() < Duration::from_secs(30) {
        poll_for(&mut room, Duration::from_millis(200));
    }
    assert!(
        began.elapsed() >= Duration::from_secs(9) && began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_refusal_arrives_before_the_close() {
    let (mut room, addr) = room(3);
    for bytes in [b"nonsense of a peer\r\n".to_vec(), vec![0xff; 100_000], vec![0, 0, 0, 0, 0x94]] {
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = std::thread::spawn(move || {
            // The server may have closed before all bytes were sent.
            let _ = client.write_all(&bytes);
            client
        });
        poll_for(&mut room, Duration::from_millis(300));
        let mut client = Connection::new(sender.join().unwrap()).unwrap();
        let reply = client.read_reply().unwrap();
        assert!(
            matches!(&reply, Some(Reply::Error(r)) if r.code == ErrorCode::BadRequest),
            "{reply:?}"
        );
        drop(client);
        poll_for(&mut room, Duration::from_millis(100));
    }
    assert!(room.is_empty());
}

#[test]
fn a_login_handler_can_reply_and_read_on() {
    let (mut room, addr) = room(3);
    let mut client = Connection::connect(addr, Duration::from_secs(3)).unwrap();
    client.queue(&Request::Status);
    client.flush().unwrap();
    poll_for(&mut room, Duration::from_millis(100));
    assert_eq!(client.read_reply().unwrap(), Some(Reply::Pong));
    client.queue(&Request::Ping);
    client.flush().unwrap();
    assert_eq!(poll_for(&mut room, Duration::from_secs(5)).len(), 1);
}

/// Authenticates a peer that sends `Ping`, as soon as `open` is set.
struct Slow {
    open: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl FrameHandler for Slow {
    type Value = ();
    fn on_frame(&mut self, _: FrameType, _: &[u8]) -> LoginStep<()> {
        LoginStep::Pending
    }
    fn poll_pending(&mut self) -> Option<LoginStep<()>> {
        self.open
            .load(std::sync::atomic::Ordering::SeqCst)
            .then(|| LoginStep::Done { value: (), send: encoded(&Reply::Pong) })
    }
    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        refusal(&error.to_string())
    }
}

#[test]
fn a_pending_connection_is_not_read_but_its_end_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut room = PreAuthPool::new(plain(listener), 8).unwrap();
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let poll = |room: &mut PreAuthPool<FrameLogin<Slow>>| {
        let open = open.clone();
        room.poll(true, &[], Some(Duration::from_millis(20)), &mut |new| {
            FrameLogin::new(new.peer, Slow { open: open.clone() })
        })
        .unwrap()
    };
    let [mut stays, mut leaves] = [(), ()].map(|()| TcpStream::connect(addr).unwrap());
    for stream in [&mut stays, &mut leaves] {
        // Later bytes must neither be read nor keep the pool busy.
        stream.write_all(&[ping(), ping()].concat()).unwrap();
    }
    while room.len() < 2 {
        assert!(poll(&mut room).is_empty());
    }
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(200) {
        assert!(poll(&mut room).is_empty());
        rounds += 1;
    }
    assert!(rounds < 40, "{rounds} rounds in 200 ms");
    drop(leaves);
    let until = Instant::now() + Duration::from_secs(10);
    while room.len() == 2 && Instant::now() < until {
        assert!(poll(&mut room).is_empty());
    }
    assert_eq!(room.len(), 1);
    open.store(true, std::sync::atomic::Ordering::SeqCst);
    let arrivals = poll(&mut room);
    assert_eq!(arrivals.len(), 1, "polled before the wait");
    let mut stream = &arrivals[0].stream;
    let mut rest = vec![0; ping().len()];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(rest, ping(), "the rest is left in the stream");
    let mut pong = vec![0; encoded(&Reply::Pong).len()];
    stays.read_exact(&mut pong).unwrap();
    assert_eq!(pong, encoded(&Reply::Pong));
}
