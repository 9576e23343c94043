//! Encrypted connections: delivery, trust and cuts.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

#[path = "common/tls_client.rs"]
mod tls_client;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use relais_net::tls::{
    ChannelBinding, DialError, Dialer, Fingerprint, MASTER_NAME, SLAVE_NAME, ServerCertificate,
    TicketSecret, TlsMode, TlsServer, TrustError, TrustPolicy, TrustedAuthorities,
};
use relais_net::{
    AuthenticatedConnection, Connection, FrameHandler, FrameLogin, LoginStep, PreAuthListener,
    PreAuthPool, Stream, TlsRule,
};
use relais_proto::{ErrorCode, FrameType, Refusal, Reply, Request, WireError};
use rustix::event::PollFlags;
use rustix::net::SendFlags;

use self::tls_client::{client_config, client_config_with, encrypt};

/// Held by tests that count the descriptors of the process.
static ALONE: RwLock<()> = RwLock::new(());

const SOON: Duration = Duration::from_secs(5);

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Returns a private key, its certificate for `name`, and the authority's certificate.
    fn server(&self, name: &str) -> String {
        self.server_until(name, 4000)
    }

    fn server_until(&self, name: &str, year: i32) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        key.serialize_pem() + &certificate.pem() + &self.certificate.pem()
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_pem(self.certificate.pem().as_bytes()).unwrap()
    }
}

fn tls(encrypt: TlsMode, pem: &str) -> TlsServer {
    let certificate = ServerCertificate::empty();
    certificate.set(pem.as_bytes()).unwrap();
    TlsServer::new(encrypt, Arc::new(certificate)).unwrap()
}

/// Authenticates a peer that sends `Ping`.
struct PingLogin(Sender<ChannelBinding>);

impl FrameHandler for PingLogin {
    type Value = ();
    fn on_frame(&mut self, kind: FrameType, _: &[u8]) -> LoginStep<()> {
        match kind {
            FrameType::Ping => LoginStep::Done { value: (), send: encoded(&Reply::Pong) },
            _ => LoginStep::Close(encoded(&Reply::Error(Refusal::new(
                ErrorCode::BadRequest,
                "not you",
            )))),
        }
    }
    fn on_encrypted(&mut self, binding: ChannelBinding) {
        self.0.send(binding).unwrap();
    }
    fn refuse(&mut self, error: &WireError) -> Vec<u8> {
        encoded(&Reply::Error(Refusal::new(ErrorCode::BadRequest, error.to_string())))
    }
}

fn encoded(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply.encode(&mut bytes);
    bytes
}

/// Runs a pool; `serve` handles each authenticated connection in a thread.
fn room(
    tls: TlsServer,
    serve: impl Fn(Connection) + Send + Sync + 'static,
) -> (SocketAddr, std::sync::mpsc::Receiver<ChannelBinding>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, bindings) = channel();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        let listener = PreAuthListener::new(listener, TlsRule::Detect(tls));
        let mut room = PreAuthPool::new(vec![listener], 64).unwrap();
        loop {
            for AuthenticatedConnection { stream, .. } in room
                .poll(true, &[], Some(SOON), &mut |new| {
                    FrameLogin::new(new.peer, PingLogin(sender.clone()))
                })
                .unwrap()
            {
                let serve = serve.clone();
                std::thread::spawn(move || serve(Connection::from_stream(stream, 1024).unwrap()));
            }
        }
    });
    (addr, bindings)
}

fn greet(connection: &mut Connection) -> Option<Reply> {
    connection.queue(&Request::Ping);
    connection.flush().unwrap();
    connection.read_reply().unwrap()
}

/// Answers each ping, and any other bytes by their sum.
fn echo(mut connection: Connection) {
    while let Ok(Some(request)) = connection.read_request() {
        match request {
            Request::Ping => connection.queue_reply(&Reply::Pong),
            _ => return connection.close_gracefully(SOON),
        }
        if connection.flush().is_err() {
            return;
        }
    }
}

fn dial(encrypt: TlsMode, addr: SocketAddr, trust: &TrustPolicy) -> Result<Connection, DialError> {
    Dialer::new(encrypt).unwrap().connect(addr, SOON, trust, "files.example")
}

#[test]
fn each_connection_has_its_own_channel_binding() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, bindings) = room(tls(TlsMode::Remote, &authority.server(MASTER_NAME)), echo);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut connection = dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap();
        let secured = connection.tls_info().unwrap();
        assert_eq!((connection.peer(), connection.local().ip()), (addr, addr.ip()));
        assert_eq!(secured.identity.unwrap().authority, authority.fingerprint());
        for _ in 0..3 {
            assert_eq!(greet(&mut connection), Some(Reply::Pong));
        }
        assert_eq!(bindings.recv_timeout(SOON).unwrap(), secured.binding);
        assert!(!seen.contains(&secured.binding));
        seen.push(secured.binding);
    }
    // Connections inside the machine need no encryption.
    let mut clear = dial(TlsMode::Remote, addr, &TrustPolicy::FirstUse).unwrap();
    assert!(clear.tls_info().is_none());
    assert_eq!(greet(&mut clear), Some(Reply::Pong));
    assert!(bindings.try_recv().is_err());
}

#[test]
fn a_mismatch_of_tls_modes_is_reported_to_the_peer() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, _bindings) = room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), echo);
    let mut clear = dial(TlsMode::Never, addr, &TrustPolicy::FirstUse).unwrap();
    assert!(matches!(
        greet(&mut clear),
        Some(Reply::Error(refusal)) if refusal.code == ErrorCode::TlsNeeded
    ));
    let (addr, _bindings) = room(tls(TlsMode::Never, &authority.server(MASTER_NAME)), echo);
    assert!(matches!(
        dial(TlsMode::Always, addr, &TrustPolicy::FirstUse),
        Err(DialError::NotEncrypted)
    ));
    assert_eq!(
        greet(&mut dial(TlsMode::Remote, addr, &TrustPolicy::FirstUse).unwrap()),
        Some(Reply::Pong)
    );
    // A server without a certificate accepts no handshake.
    let empty = TlsServer::new(TlsMode::Always, Arc::new(ServerCertificate::empty())).unwrap();
    let (addr, _bindings) = room(empty, echo);
    assert!(matches!(dial(TlsMode::Always, addr, &TrustPolicy::Anyone), Err(DialError::Io(_))));
}

#[test]
fn only_servers_of_the_authority_are_trusted() {
    let _held = ALONE.read();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let known = TrustPolicy::Pinned(ours.fingerprint());
    let chosen = TrustPolicy::Authorities(
        TrustedAuthorities::from_pem(ours.certificate.pem().as_bytes()).unwrap(),
    );
    let try_it = |pem: &str, trust: &TrustPolicy| {
        let (addr, _bindings) = room(tls(TlsMode::Always, pem), echo);
        match dial(TlsMode::Always, addr, trust) {
            Ok(connection) => Ok(connection.tls_info().unwrap().identity),
            Err(DialError::Trust(e)) => Err(e),
            Err(e) => panic!("{e}"),
        }
    };
    for trust in [&known, &chosen, &TrustPolicy::FirstUse] {
        for (name, is_master) in [(MASTER_NAME, true), (SLAVE_NAME, false), ("files.example", true)]
        {
            let identity = try_it(&ours.server(name), trust).unwrap().unwrap();
            assert_eq!(
                (identity.authority, identity.is_master),
                (ours.fingerprint(), is_master),
                "{name}"
            );
        }
        assert_eq!(
            try_it(&ours.server("other.example"), trust),
            Err(TrustError::WrongName("files.example".to_owned()))
        );
        assert!(matches!(
            try_it(&ours.server_until(MASTER_NAME, 2020), trust),
            Err(TrustError::Bad(why)) if why.contains("expired")
        ));
    }
    let foreign = theirs.server(MASTER_NAME);
    assert_eq!(
        try_it(&foreign, &known),
        Err(TrustError::Changed { known: ours.fingerprint(), now: theirs.fingerprint() })
    );
    assert!(matches!(try_it(&foreign, &chosen), Err(TrustError::Bad(_))));
    assert_eq!(try_it(&foreign, &TrustPolicy::Anyone), Ok(None));
    // Certified by another authority, with the certificate of ours in its chain.
    let own = foreign.split("-----BEGIN CERTIFICATE-----").nth(1).unwrap();
    let key = foreign.split("-----BEGIN CERTIFICATE-----").next().unwrap();
    let lie = format!("{key}-----BEGIN CERTIFICATE-----{own}{}", ours.certificate.pem());
    for trust in [&known, &chosen, &TrustPolicy::FirstUse] {
        assert!(matches!(try_it(&lie, trust), Err(TrustError::Bad(_))));
    }
    // A certificate without its private key is not accepted by the server itself.
    let other = ours.server(MASTER_NAME);
    let mixed = ours.server(MASTER_NAME).split("-----BEGIN CERT").next().unwrap().to_owned()
        + &other[other.find("-----BEGIN CERT").unwrap()..];
    assert!(ServerCertificate::empty().set(mixed.as_bytes()).is_err());
}

/// Relays between a client and `server`; cuts both after `limit` bytes from the server.
fn cutting(server: SocketAddr, limit: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut left = limit;
        let mut buffer = [0; 4096];
        while left > 0 {
            let most = left.min(buffer.len());
            let got = server.read(&mut buffer[..most]).unwrap();
            if got == 0 || client.write_all(&buffer[..got]).is_err() {
                break;
            }
            left -= got;
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
    addr
}

/// Sends pongs without end.
fn pour(mut connection: Connection) {
    loop {
        for _ in 0..1000 {
            connection.queue_reply(&Reply::Pong);
        }
        if connection.flush().is_err() {
            return;
        }
    }
}

#[test]
fn a_cut_ends_the_connection_and_adds_no_bytes() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, _bindings) = room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), pour);
    for limit in [3_000, 70_000, 500_001] {
        let mut connection =
            dial(TlsMode::Always, cutting(addr, limit), &TrustPolicy::FirstUse).unwrap();
        connection.queue(&Request::Ping);
        connection.flush().unwrap();
        let (begun, mut frames) = (Instant::now(), 0);
        let end = loop {
            match connection.read_reply() {
                Ok(Some(Reply::Pong)) => frames += 1,
                end => break end,
            }
        };
        assert!(end.is_err(), "a cut is no announced end: {end:?}");
        assert!(begun.elapsed() < SOON && frames * relais_proto::HEADER_LEN < limit);
        assert!(connection.flush().is_ok(), "nothing is queued");
    }
}

#[test]
fn slow_readers_lose_no_bytes() {
    let _held = ALONE.read();
    const SIZE: usize = 40_000_000;
    let authority = Authority::new();
    let bytes: Arc<Vec<u8>> =
        Arc::new((0..SIZE).map(|n| u8::try_from(n * 7 / 3 % 251).unwrap()).collect());
    let sent = bytes.clone();
    // Sends all, shuts down its sending side, and reads meanwhile.
    let (addr, _bindings) =
        room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), move |connection| {
            let stream = connection.stream().clone();
            let writer = std::thread::spawn({
                let (stream, sent) = (stream.clone(), sent.clone());
                move || {
                    (&*stream).write_all(&sent).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                }
            });
            stream.set_read_timeout(None).unwrap();
            let mut got = Vec::new();
            (&*stream).read_to_end(&mut got).unwrap();
            assert!(got == *sent);
            writer.join().unwrap();
        });
    let mut connection = dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap();
    assert_eq!(greet(&mut connection), Some(Reply::Pong));
    let stream = connection.stream().clone();
    stream.set_read_timeout(None).unwrap();
    stream.set_write_timeout(None).unwrap();
    let writer = std::thread::spawn({
        let (stream, bytes) = (stream.clone(), bytes.clone());
        move || {
            for chunk in bytes.chunks(3_000_000) {
                (&*stream).write_all(chunk).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let mut got = Vec::new();
    let mut buffer = vec![0; 1_000_000];
    loop {
        match (&*stream).read(&mut buffer).unwrap() {
            0 => break,
            n => got.extend_from_slice(&buffer[..n]),
        }
        if got.len() % 7 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(got == *bytes, "{} of {SIZE} bytes", got.len());
    // The other direction still works after the end of this one.
    writer.join().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn the_last_bytes_arrive_after_an_immediate_close() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, _bindings) =
        room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), |mut connection| {
            for _ in 0..50_000 {
                connection.queue_reply(&Reply::Pong);
            }
            connection.flush().unwrap();
        });
    for _ in 0..5 {
        let mut connection = dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap();
        connection.queue(&Request::Ping);
        connection.flush().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let mut frames = 0;
        while connection.read_reply().unwrap().is_some() {
            frames += 1;
        }
        assert_eq!(frames, 50_001);
    }
}

#[test]
fn descriptors_end_with_their_connections() {
    let _held = ALONE.write();
    let authority = Authority::new();
    let (addr, _bindings) = room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), echo);
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    let mut open: Vec<Connection> =
        (0..40).map(|_| dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap()).collect();
    assert!(open.iter_mut().all(|connection| greet(connection) == Some(Reply::Pong)));
    assert!(count() <= before + 80 + 8, "each end of a connection has one descriptor");
    drop(open);
    // Half a handshake, and no handshake.
    let mut half = TcpStream::connect(addr).unwrap();
    half.write_all(&[0x16, 3, 1]).unwrap();
    drop(half);
    let until = Instant::now() + 2 * SOON;
    while Instant::now() < until && count() > before + 8 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(count() <= before + 8, "{} descriptors", count());
}

#[test]
fn bytes_that_are_no_handshake_end_that_connection_alone() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, _bindings) = room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), echo);
    for junk in [
        &b"\x16"[..],
        &[0x16; 5],
        &[0x16, 3, 1, 0xff, 0xff],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0x16; 70_000],
    ] {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.write_all(junk);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 100, "an alert at most");
    }
    assert_eq!(
        greet(&mut dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap()),
        Some(Reply::Pong)
    );
}

#[test]
fn sends_to_a_peer_that_does_not_read_time_out() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (done, ended) = channel();
    let done = std::sync::Mutex::new(done);
    let (addr, _bindings) =
        room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), move |connection| {
            let stream = connection.stream();
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let chunk = vec![7; 65536];
            let error =
                std::iter::repeat_with(|| (&**stream).write(&chunk)).find_map(Result::err).unwrap();
            // Neither waits for room.
            stream.shutdown(Shutdown::Both).unwrap();
            drop(connection);
            done.lock().unwrap().send(error.kind()).unwrap();
        });
    let mut connection = dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap();
    connection.queue(&Request::Ping);
    connection.flush().unwrap();
    assert_eq!(ended.recv_timeout(2 * SOON).unwrap(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn sends_without_a_wait_lose_no_bytes() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let bytes: Arc<Vec<u8>> =
        Arc::new((0..20_000_000).map(|n| u8::try_from(n * 7 / 3 % 251).unwrap()).collect());
    let to_send = bytes.clone();
    let (addr, _bindings) =
        room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), move |connection| {
            let (stream, mut sent) = (connection.stream(), 0);
            while sent < to_send.len() {
                match stream.send(&to_send[sent..], SendFlags::DONTWAIT) {
                    Ok(n) => sent += n,
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                        stream.poll(PollFlags::OUT, Some(SOON)).unwrap();
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
    let mut connection = dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap();
    assert_eq!(greet(&mut connection), Some(Reply::Pong));
    let mut got = Vec::new();
    (&**connection.stream()).read_to_end(&mut got).unwrap();
    assert!(got == *bytes, "{} bytes", got.len());
}

#[test]
fn input_that_was_received_already_counts() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, _bindings) =
        room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), |mut connection| {
            for _ in 0..10_000 {
                connection.queue_reply(&Reply::Pong);
            }
            connection.flush().unwrap();
            let _ = connection.read_request();
        });
    let mut connection = dial(TlsMode::Always, addr, &TrustPolicy::FirstUse).unwrap();
    assert_eq!(greet(&mut connection), Some(Reply::Pong));
    for left in (0..10_000).rev() {
        assert!(connection.wait_for_input(SOON).unwrap(), "{left}");
        assert_eq!(connection.read_reply().unwrap(), Some(Reply::Pong));
    }
    assert!(connection.is_idle() && !connection.has_input());
    connection.stream().shutdown(Shutdown::Read).unwrap();
    assert!(!connection.is_idle());
    assert!(connection.read_reply().unwrap().is_none(), "this side has ended it");
}

#[test]
fn tls_starts_in_the_middle_of_a_connection() {
    let authority = Authority::new();
    let certificate = ServerCertificate::empty();
    certificate.set(authority.server("files.example").as_bytes()).unwrap();
    // The peers of other front ends name their own protocol or none.
    let tls = TlsServer::with_protocols(TlsMode::Always, Arc::new(certificate), &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut stream = Stream::tcp(listener.accept().unwrap().0).unwrap();
        let mut line = [0; 9];
        (&stream).read_exact(&mut line).unwrap();
        assert!(&line == b"STARTTLS\n" && !stream.is_encrypted());
        (&stream).write_all(b"go\n").unwrap();
        tls.accept(&mut stream, SOON).unwrap();
        assert!(stream.is_encrypted());
        let mut rest = String::new();
        (&stream).read_to_string(&mut rest).unwrap();
        (&stream).write_all(rest.to_uppercase().as_bytes()).unwrap();
    });
    let mut tcp = TcpStream::connect(addr).unwrap();
    tcp.write_all(b"STARTTLS\n").unwrap();
    tcp.read_exact(&mut [0; 3]).unwrap();
    let mut config = (*client_config(authority.certificate.der(), rustls::ALL_VERSIONS)).clone();
    config.alpn_protocols = vec![b"ftp".to_vec()];
    let mut client = encrypt(tcp, &Arc::new(config));
    client.write_all(b"a line").unwrap();
    client.conn.send_close_notify();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "A LINE");
    server.join().unwrap();
}

#[test]
fn the_server_prefers_aes_128_but_insists_on_nothing() {
    use rustls::CipherSuite as Suite;
    let authority = Authority::new();
    let certificate = ServerCertificate::empty();
    certificate.set(authority.server("files.example").as_bytes()).unwrap();
    let tls = TlsServer::for_ftp(Arc::new(certificate), TicketSecret::generate().unwrap()).unwrap();
    let all = &rustls::crypto::ring::default_provider().cipher_suites;
    let strongest: Vec<_> = all
        .iter()
        .copied()
        .filter(|suite| suite.suite() == Suite::TLS13_AES_256_GCM_SHA384)
        .collect();
    assert_eq!(all[0].suite(), strongest[0].suite(), "the client names AES-256 first");
    let (tls13, tls12) = (&rustls::version::TLS13, &rustls::version::TLS12);
    for (version, suites, expected) in [
        (tls13, all, Suite::TLS13_AES_128_GCM_SHA256),
        (tls12, all, Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (tls13, &strongest, Suite::TLS13_AES_256_GCM_SHA384),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let tls = tls.clone();
        let server = std::thread::spawn(move || {
            let mut stream = Stream::tcp(listener.accept().unwrap().0).unwrap();
            tls.accept(&mut stream, SOON).unwrap();
        });
        let root = authority.certificate.der();
        let mut client = encrypt(tcp, &client_config_with(root, &[version], suites));
        client.conn.complete_io(&mut client.sock).unwrap();
        assert_eq!(client.conn.negotiated_cipher_suite().unwrap().suite(), expected);
        server.join().unwrap();
    }
}

#[test]
fn handshake_length_is_bounded() {
    let _held = ALONE.read();
    let authority = Authority::new();
    let (addr, _bindings) = room(tls(TlsMode::Always, &authority.server(MASTER_NAME)), echo);
    let mut stream = TcpStream::connect(addr).unwrap();
    // A handshake message of 60,000 bytes, in records.
    let body = [&[1, 0, 0xea, 0x60][..], &[0; 20_000]].concat();
    for part in body.chunks(2000) {
        let record =
            [&[0x16, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
        let _ = stream.write_all(&record);
    }
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    // Closed, or reset, long before the login time is over.
    assert!(!matches!(
        stream.read_to_end(&mut rest),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock
    ));
}
