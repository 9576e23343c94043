//! Logins by lines: greeting, TLS in mid-connection and from the first byte, trusted proxies.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

#[path = "common/tls_client.rs"]
mod tls_client;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_net::tls::{ChannelBinding, DataDirection, ServerCertificate, TicketSecret, TlsServer};
use relais_net::{
    AuthenticatedConnection, IpNetwork, LoginHandler, LoginStep, NewConnection, PreAuthListener,
    PreAuthPool, Stream, TlsRule, TrustedProxies,
};

use self::tls_client::{client_config, encrypt};

const SOON: Duration = Duration::from_secs(5);
/// How long a connection may be idle after `ASK`: less than the login time.
const IDLE_TIME: Duration = Duration::from_millis(700);

/// Greets, starts TLS for `TLS`, and admits the peer that says `IN`; echoes other lines.
struct LineLogin {
    new: NewConnection,
    is_encrypted: bool,
}

impl LoginHandler for LineLogin {
    /// The listener, the peer, and whether it is encrypted.
    type Value = (usize, SocketAddr, bool);

    fn begin(&mut self) -> LoginStep<Self::Value> {
        LoginStep::Reply(format!("hello {}\r\n", self.new.listener).into_bytes())
    }

    fn on_encrypted(&mut self, _: ChannelBinding) {
        self.is_encrypted = true;
    }

    fn input_limit(&self, _: &[u8]) -> usize {
        1000
    }

    fn idle_time(&self) -> Duration {
        IDLE_TIME
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<Self::Value>> {
        let end = input.iter().position(|byte| *byte == b'\n')? + 1;
        let line: Vec<u8> = input.drain(..end).collect();
        Some(match &*line {
            b"TLS\r\n" => LoginStep::StartTls(b"go\r\n".to_vec()),
            b"ASK\r\n" => LoginStep::Answer(b"answer\r\n".to_vec()),
            b"IN\r\n" => LoginStep::Done {
                value: (self.new.listener, self.new.peer, self.is_encrypted),
                send: b"in\r\n".to_vec(),
            },
            _ => LoginStep::Reply(line),
        })
    }

    fn refuse_clear_text(&mut self, first: &[u8]) -> Vec<u8> {
        format!("not encrypted: {}\r\n", String::from_utf8_lossy(&first[..4])).into_bytes()
    }

    fn expire(&mut self, input: &[u8]) -> Vec<u8> {
        format!("late {}\r\n", input.len()).into_bytes()
    }
}

/// A pool with a listener for each rule, and their addresses.
struct Room {
    pool: PreAuthPool<LineLogin>,
    addrs: Vec<SocketAddr>,
}

impl Room {
    fn new(rules: Vec<(TlsRule, TrustedProxies)>) -> Self {
        let (mut listeners, mut addrs) = (Vec::new(), Vec::new());
        for (rule, proxies) in rules {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            addrs.push(socket.local_addr().unwrap());
            listeners.push(PreAuthListener::new(socket, rule).behind(proxies));
        }
        Self { pool: PreAuthPool::new(listeners, 8).unwrap(), addrs }
    }

    fn plain(proxies: TrustedProxies) -> Self {
        Self::new(vec![(TlsRule::Explicit(None), proxies)])
    }

    fn poll(&mut self) -> Vec<AuthenticatedConnection<(usize, SocketAddr, bool)>> {
        self.pool
            .poll(true, &[], Some(Duration::from_millis(10)), &mut |new| LineLogin {
                new,
                is_encrypted: false,
            })
            .unwrap()
    }

    /// Runs the pool until a login succeeds.
    fn login(&mut self) -> AuthenticatedConnection<(usize, SocketAddr, bool)> {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if let Some(arrival) = self.poll().pop() {
                return arrival;
            }
        }
        panic!("no login succeeded");
    }

    /// Runs the pool until it has no connection.
    fn wait_until_empty(&mut self) {
        let until = Instant::now() + SOON;
        self.poll();
        while !self.pool.is_empty() {
            assert!(Instant::now() < until, "a connection is left");
            assert!(self.poll().is_empty());
        }
    }
}

/// Runs `client` in a thread, and the pool meanwhile; returns the client's result.
fn with_client<T: Send + 'static>(
    room: &mut Room,
    client: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(client);
    while !thread.is_finished() {
        room.poll();
    }
    thread.join().unwrap()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') && stream.read(&mut byte).unwrap() > 0 {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// A server configuration with a certificate of its own, and the certificate.
fn tls() -> (TlsServer, rustls::pki_types::CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["files.example".to_owned()]).unwrap();
    let certificate = ServerCertificate::empty();
    certificate.set((signing_key.serialize_pem() + &cert.pem()).as_bytes()).unwrap();
    let secret = TicketSecret::generate().unwrap();
    (TlsServer::for_ftp(Arc::new(certificate), secret).unwrap(), cert.der().clone())
}

#[test]
fn the_server_greets_and_passes_on_what_it_read_ahead() {
    let mut room = Room::plain(TrustedProxies::default());
    let mut client = connect(room.addrs[0]);
    client.write_all(b"one\r\nIN\r\ntwo\r\nth").unwrap();
    let arrival = room.login();
    assert_eq!(arrival.input, b"two\r\nth");
    assert_eq!([(); 3].map(|()| line(&mut client)), ["hello 0\r\n", "one\r\n", "in\r\n"]);
    assert!(!arrival.value.2 && arrival.stream.proxied.is_none());
}

#[test]
fn over_long_input_ends_the_connection() {
    let mut room = Room::plain(TrustedProxies::default());
    let mut client = connect(room.addrs[0]);
    client.write_all(&[b'x'; 1000]).unwrap();
    room.wait_until_empty();
    assert_eq!(line(&mut client), "hello 0\r\n");
    // Short messages without an end are bounded as well.
    let addr = room.addrs[0];
    let lines = with_client(&mut room, move || {
        let mut client = connect(addr);
        let reader = client.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            // The server closes before all is sent.
            let _ = client.write_all(&b"again\r\n".repeat(100_000));
        });
        let lines = BufReader::new(reader).lines().map_while(Result::ok).count();
        writer.join().unwrap();
        lines
    });
    assert!(lines < 10_000, "{lines}");
}

#[test]
fn start_tls_drops_input_in_the_clear() {
    let (tls, root) = tls();
    let mut room = Room::new(vec![(TlsRule::Explicit(Some(tls)), TrustedProxies::default())]);
    for versions in [rustls::ALL_VERSIONS, &[&rustls::version::TLS12]] {
        let (addr, config) = (room.addrs[0], client_config(&root, versions));
        let client = std::thread::spawn(move || {
            let mut tcp = connect(addr);
            assert_eq!(line(&mut tcp), "hello 0\r\n");
            tcp.write_all(b"TLS\r\nIN\r\ninjected\r\ninj").unwrap();
            assert_eq!(line(&mut tcp), "go\r\n");
            let mut client = encrypt(tcp, &config);
            client.write_all(b"echo\r\nIN\r\nnext\r\n").unwrap();
            [line(&mut client), line(&mut client)]
        });
        let arrival = room.login();
        assert!(arrival.stream.is_encrypted() && arrival.value.2);
        assert_eq!(arrival.input, b"next\r\n");
        assert_eq!(client.join().unwrap(), ["echo\r\n", "in\r\n"]);
    }
}

#[test]
fn start_tls_without_a_configuration_ends_the_connection() {
    let mut room = Room::plain(TrustedProxies::default());
    let mut client = connect(room.addrs[0]);
    client.write_all(b"TLS\r\n").unwrap();
    room.wait_until_empty();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello 0\r\ngo\r\n");
}

#[test]
fn listeners_of_one_pool_have_their_own_rules() {
    let (tls, root) = tls();
    let mut room = Room::new(vec![
        (TlsRule::Explicit(None), TrustedProxies::default()),
        (TlsRule::Implicit(tls), TrustedProxies::default()),
    ]);
    let mut clear = connect(room.addrs[0]);
    clear.write_all(b"IN\r\n").unwrap();
    assert_eq!(room.login().value.0, 0);
    let (addr, config) = (room.addrs[1], client_config(&root, rustls::ALL_VERSIONS));
    let client = std::thread::spawn(move || {
        let mut client = encrypt(connect(addr), &config);
        let greeting = line(&mut client);
        client.write_all(b"IN\r\n").unwrap();
        greeting
    });
    let arrival = room.login();
    assert!(arrival.value.0 == 1 && arrival.stream.is_encrypted());
    assert_eq!(client.join().unwrap(), "hello 1\r\n", "after the handshake");
    let mut wrong = connect(room.addrs[1]);
    wrong.write_all(b"IN\r\n").unwrap();
    room.wait_until_empty();
    let mut answer = Vec::new();
    wrong.read_to_end(&mut answer).unwrap();
    assert!(!answer.windows(5).any(|part| part == b"hello"), "no greeting in the clear");
}

#[test]
fn a_handshake_that_stops_costs_no_more_than_its_connection() {
    let (tls, _) = tls();
    let mut room = Room::new(vec![(TlsRule::Implicit(tls), TrustedProxies::default())]);
    let mut silent = connect(room.addrs[0]);
    silent.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(100) {
        assert!(room.poll().is_empty());
    }
    assert_eq!(room.pool.len(), 1);
    drop(silent);
    room.wait_until_empty();
}

#[test]
fn many_requests_are_answered_in_the_pool() {
    let mut room = Room::plain(TrustedProxies::default());
    let addr = room.addrs[0];
    let answers = with_client(&mut room, move || {
        let mut client = connect(addr);
        assert_eq!(line(&mut client), "hello 0\r\n");
        // More than the input of one login, and more than one turn.
        let mut reader = BufReader::new(client.try_clone().unwrap());
        (0..50)
            .map(|_| {
                client.write_all(&b"ASK\r\n".repeat(1000)).unwrap();
                (0..1000).filter(|_| line(&mut reader) == "answer\r\n").count()
            })
            .sum::<usize>()
    });
    assert_eq!(answers, 50_000);
}

#[test]
fn a_kept_connection_is_idle_for_its_own_time() {
    let mut room = Room::plain(TrustedProxies::default());
    let addr = room.addrs[0];
    let (idle, late) = with_client(&mut room, move || {
        let mut client = connect(addr);
        client.write_all(b"ASK\r\n").unwrap();
        let greeting_and_answer = [line(&mut client), line(&mut client)];
        assert_eq!(greeting_and_answer, ["hello 0\r\n", "answer\r\n"]);
        let since = Instant::now();
        assert_eq!(line(&mut client), "late 0\r\n");
        let idle = since.elapsed();
        // One that has begun its next request has the login time.
        let mut client = connect(addr);
        client.write_all(b"ASK\r\nbeg").unwrap();
        assert_eq!([line(&mut client), line(&mut client)][1], "answer\r\n");
        std::thread::sleep(IDLE_TIME + Duration::from_millis(800));
        client.write_all(b"un\r\n").unwrap();
        (idle, line(&mut client))
    });
    assert!(idle >= IDLE_TIME && idle < SOON, "{idle:?}");
    assert_eq!(late, "begun\r\n");
}

#[test]
fn a_readmitted_connection_keeps_its_input() {
    let mut room = Room::plain(TrustedProxies::default());
    let mut client = connect(room.addrs[0]);
    client.write_all(b"IN\r\n").unwrap();
    let arrival = room.login();
    let new = NewConnection { listener: 0, peer: arrival.stream.peer, local: room.addrs[0] };
    let login = LineLogin { new, is_encrypted: false };
    room.pool.readmit(0, arrival.stream, b"two\r\nIN\r\nrest".to_vec(), login).unwrap();
    assert_eq!(room.login().input, b"rest");
    assert_eq!([(); 4].map(|()| line(&mut client))[1..], ["in\r\n", "two\r\n", "in\r\n"]);
}

#[test]
fn https_speaks_http_alone_and_answers_in_the_clear_what_is_not_encrypted() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["files.example".to_owned()]).unwrap();
    let certificate = ServerCertificate::empty();
    certificate.set((signing_key.serialize_pem() + &cert.pem()).as_bytes()).unwrap();
    let secret = TicketSecret::generate().unwrap();
    let tls = TlsServer::for_http(Arc::new(certificate), secret).unwrap();
    let mut room = Room::new(vec![(TlsRule::Detect(tls), TrustedProxies::default())]);
    for versions in [rustls::ALL_VERSIONS, &[&rustls::version::TLS12]] {
        for (offered, agreed) in [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
            let mut config = (*client_config(cert.der(), versions)).clone();
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let addr = room.addrs[0];
            let client = std::thread::spawn(move || {
                let mut client = encrypt(connect(addr), &Arc::new(config));
                client.write_all(b"IN\r\n").unwrap();
                assert_eq!(line(&mut client), "hello 0\r\n");
                client.conn.alpn_protocol().map(<[u8]>::to_vec)
            });
            assert!(room.login().value.2);
            assert_eq!(client.join().unwrap().as_deref(), agreed);
        }
    }
    let mut config = (*client_config(cert.der(), rustls::ALL_VERSIONS)).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let addr = room.addrs[0];
    let refused = with_client(&mut room, move || {
        let mut client = encrypt(connect(addr), &Arc::new(config));
        client.write_all(b"IN\r\n").is_err() || client.read(&mut [0]).is_err()
    });
    assert!(refused);
    let mut clear = connect(room.addrs[0]);
    clear.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    room.wait_until_empty();
    let mut answer = String::new();
    clear.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "not encrypted: GET \r\n");
}

/// A PROXY header, version 2, of a client at 192.0.2.9:5000.
const HEADER: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\0\x02\x09\x7f\0\0\x01\x13\x88\0\x15";

fn networks(text: &str) -> Vec<IpNetwork> {
    vec![text.parse().unwrap()]
}

#[test]
fn a_trusted_proxy_names_the_client_before_the_greeting() {
    let mut room = Room::plain(TrustedProxies::required(&networks("127.0.0.0/8")));
    let mut client = connect(room.addrs[0]);
    for byte in HEADER {
        assert!(room.poll().is_empty());
        client.write_all(&[*byte]).unwrap();
    }
    client.write_all(b"IN\r\nrest").unwrap();
    let arrival = room.login();
    assert_eq!(arrival.value.1, "192.0.2.9:5000".parse().unwrap());
    assert_eq!(arrival.stream.peer, arrival.value.1);
    assert_eq!(arrival.stream.proxied, Some(client.local_addr().unwrap()));
    assert_eq!(arrival.input, b"rest");
    assert_eq!(line(&mut client), "hello 0\r\n");
    // A health check of the proxy itself.
    let mut local = HEADER.to_vec();
    local[12] = 0x20;
    let mut client = connect(room.addrs[0]);
    client.write_all(&[&local, &b"IN\r\n"[..]].concat()).unwrap();
    let arrival = room.login();
    assert_eq!(arrival.stream.peer, client.local_addr().unwrap());
    assert_eq!(arrival.stream.proxied, None);
}

#[test]
fn a_header_is_required_only_of_trusted_proxies() {
    let mut room = Room::plain(TrustedProxies::required(&networks("127.0.0.0/8")));
    for bytes in [&b"IN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &HEADER[..20]] {
        let mut client = connect(room.addrs[0]);
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        room.wait_until_empty();
        // Unread bytes may reset the connection.
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer, b"", "no greeting");
    }
    let mut room = Room::plain(TrustedProxies::required(&networks("192.0.2.0/24")));
    let mut client = connect(room.addrs[0]);
    client.write_all(&[HEADER, b"\r\nIN\r\n"].concat()).unwrap();
    let arrival = room.login();
    assert_eq!(arrival.value.1, client.local_addr().unwrap(), "the header is only garbage");
}

#[test]
fn a_header_may_be_optional() {
    let mut room = Room::plain(TrustedProxies::optional(&networks("127.0.0.1")));
    for (header, from_proxy) in [(HEADER, true), (b"", false)] {
        let mut client = connect(room.addrs[0]);
        client.write_all(&[header, b"IN\r\n"].concat()).unwrap();
        assert_eq!(room.login().stream.proxied.is_some(), from_proxy);
    }
}

#[test]
fn a_data_connection_behind_a_proxy_has_the_address_of_its_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxies = TrustedProxies::required(&networks("127.0.0.1/32"));
    let accept = |bytes: &[u8], time: Duration| {
        let mut client = connect(listener.local_addr().unwrap());
        client.write_all(bytes).unwrap();
        let stream = proxies.accept(listener.accept().unwrap().0, Instant::now() + time);
        (client, stream)
    };
    let (_client, stream) = accept(&[HEADER, b"content"].concat(), SOON);
    let stream = stream.unwrap();
    assert_eq!(stream.peer, "192.0.2.9:5000".parse().unwrap());
    let mut content = [0; 7];
    (&stream).read_exact(&mut content).unwrap();
    assert_eq!(&content, b"content");
    let (_client, late) = accept(&HEADER[..27], Duration::from_millis(50));
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    let (_client, malformed) = accept(b"USER", SOON);
    assert_eq!(malformed.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

/// Opens a control and a data connection; returns whether the data connection resumed the other.
fn data_connections(
    server: &TlsServer,
    listener: &TcpListener,
    clients: [&Arc<rustls::ClientConfig>; 2],
) -> bool {
    let addr = listener.local_addr().unwrap();
    let open = |config: &Arc<rustls::ClientConfig>| {
        let config = config.clone();
        std::thread::spawn(move || {
            let mut client = encrypt(connect(addr), &config);
            // Reads tickets as well.
            assert_eq!(line(&mut client), "hello\r\n");
            client
        })
    };
    let control_client = open(clients[0]);
    let mut control = Stream::tcp(listener.accept().unwrap().0).unwrap();
    server.accept(&mut control, SOON).unwrap();
    (&control).write_all(b"hello\r\n").unwrap();
    let _kept = control_client.join().unwrap();
    let data_client = open(clients[1]);
    let mut data = Stream::tcp(listener.accept().unwrap().0).unwrap();
    server.begin_data(&mut data, &control, DataDirection::Sending).unwrap();
    data.continue_handshake().unwrap();
    (&data).write_all(b"hello\r\n").unwrap();
    data_client.join().unwrap();
    data.is_resumed()
}

#[test]
fn a_data_connection_resumes_only_its_control_connection() {
    let (tls, root) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let [own, other] = [(), ()].map(|()| client_config(&root, &[version]));
        assert!(data_connections(&tls, &listener, [&own, &own]), "{version:?}");
        assert!(data_connections(&tls, &listener, [&own, &own]), "{version:?}: a second login");
        assert!(!data_connections(&tls, &listener, [&own, &other]), "{version:?}");
        // By now the other client has tickets, but not those of this control connection.
        assert!(data_connections(&tls, &listener, [&other, &other]), "{version:?}");
        assert!(!data_connections(&tls, &listener, [&own, &other]), "{version:?}");
    }
}
