//! A second front end: a protocol of text lines, like FTP on one connection.
//!
//! The server speaks first, takes name and password in two steps, starts TLS at any time, receives
//! files without their size and digest, sends any range, and can be told to abort.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::Scope;
use std::time::{Duration, Instant};

use relais_auth::{
    Account, Accounts, ClusterKey, FailedLogins, LiveAccounts, LocalLoginState, PasswordHash,
    PasswordVerifier, Rights,
};
use relais_engine::{
    Authenticator, Engine, KeepAlive, Located, LoginPolicy, LoginProgress, PreparedChange,
    Principal, Protocol, SecretSource, Session, UploadProgress,
};
use relais_proto::{ChangeId, Expect, IfMatch, Lsn, PutRequest, Refusal, TreePath, WaitReason};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use self::host::Fixture;

trait Transport: Read + Write + Send {}

impl<T: Read + Write + Send> Transport for T {}

/// Either side of a connection.
struct Wire {
    tcp: TcpStream,
    transport: Box<dyn Transport>,
    /// Bytes that were read and not used.
    input: Vec<u8>,
}

impl Wire {
    fn new(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let transport = Box::new(tcp.try_clone().unwrap());
        Self { tcp, transport, input: Vec::new() }
    }

    /// Encrypts everything from here on.
    fn start_tls(&mut self, connection: impl Into<rustls::Connection>) {
        assert!(self.input.is_empty(), "nothing may be sent ahead");
        let tcp = self.tcp.try_clone().unwrap();
        self.transport = match connection.into() {
            rustls::Connection::Server(tls) => Box::new(rustls::StreamOwned::new(tls, tcp)),
            rustls::Connection::Client(tls) => Box::new(rustls::StreamOwned::new(tls, tcp)),
        };
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.transport.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.input.extend_from_slice(&bytes[..n]);
                Ok(())
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let rest = self.input.split_off(end + 1);
                let line = std::mem::replace(&mut self.input, rest);
                return String::from_utf8(line[..end].to_vec()).map_err(io::Error::other);
            }
            self.fill()?;
        }
    }

    fn bytes(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < n {
            self.fill()?;
        }
        let rest = self.input.split_off(n);
        Ok(std::mem::replace(&mut self.input, rest))
    }

    fn say(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.transport.write_all(&[text.as_ref(), b"\n"].concat())?;
        self.transport.flush()
    }
}

/// Keeps a client waiting with lines of its own, and notices that it aborts.
struct LineKeepAlive<'a>(&'a mut Wire, Instant);

impl KeepAlive for LineKeepAlive<'_> {
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()> {
        let Self(wire, since) = self;
        if since.elapsed() >= Duration::from_millis(20) {
            wire.say(format!("112 {reason:?}"))?;
            *since = Instant::now();
        }
        wire.tcp.set_nonblocking(true)?;
        let is_aborted = wire.tcp.peek(&mut [0; 5]).is_ok_and(|n| n == 5);
        wire.tcp.set_nonblocking(false)?;
        if is_aborted { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// The accounts of the server; it has no cluster key.
struct TestSecrets(Arc<LiveAccounts>);

impl SecretSource for TestSecrets {
    fn receive(&self) {}

    fn accounts(&self) -> &LiveAccounts {
        &self.0
    }

    fn key(&self) -> Option<ClusterKey> {
        None
    }
}

/// The server side of one connection.
struct LineServer<'a> {
    wire: Wire,
    address: SocketAddr,
    engine: &'a Arc<Engine>,
    logins: &'a Authenticator<TestSecrets>,
    tls: Arc<ServerConfig>,
    user: String,
    session: Option<Session>,
}

/// What a command leads to: the line that ends its answer.
type Answer = io::Result<Result<String, Refusal>>;

fn next_id() -> ChangeId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, SeqCst).to_be_bytes());
    ChangeId(id)
}

impl LineServer<'_> {
    fn serve(mut self) -> io::Result<()> {
        self.wire.say("220 ready")?;
        loop {
            let line = self.wire.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let answer = match words[..] {
                ["QUIT"] => return self.wire.say("221 bye"),
                ["STARTTLS"] => {
                    self.wire.say("234 go on")?;
                    let tls = ServerConnection::new(self.tls.clone()).map_err(io::Error::other)?;
                    self.wire.start_tls(tls);
                    continue;
                }
                ["USER", name] => {
                    name.clone_into(&mut self.user);
                    Ok(Ok("331 password".to_owned()))
                }
                ["PASS", password] => Ok(self.log_in(password)),
                // What it aborts has ended.
                ["ABOR"] => Ok(Ok("225 ended".to_owned())),
                [_, _, ..] => self.command(&words),
                _ => Ok(Ok("500 unknown".to_owned())),
            };
            match answer? {
                Ok(text) => self.wire.say(text)?,
                Err(refusal) => {
                    self.wire.say(format!("550 {} {}", refusal.code.text(), refusal.message))?
                }
            }
        }
    }

    fn log_in(&mut self, password: &str) -> Result<String, Refusal> {
        let (logins, address) = (self.logins, self.address.ip());
        let host = self.engine.host();
        let principal =
            match logins.log_in_by_password(&self.user, password.as_bytes(), address, host)? {
                LoginProgress::Admitted(principal) => principal,
                LoginProgress::Pending(pending) => loop {
                    if let Some(result) = pending.take() {
                        break logins.conclude(result, address, host)?;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                },
            };
        let name = principal.name().to_owned();
        let tcp = self.wire.tcp.try_clone().unwrap();
        let disconnect = Arc::new(move || tcp.shutdown(std::net::Shutdown::Both).unwrap());
        self.session = Some(Session::new(
            self.engine.clone(),
            principal,
            Protocol::Ftp,
            self.address,
            disconnect,
        ));
        Ok(format!("230 {name}"))
    }

    fn command(&mut self, words: &[&str]) -> Answer {
        let Some(session) = &mut self.session else { return Ok(Ok("530 log in".to_owned())) };
        let path = TreePath::new(words[1].trim_start_matches('/')).map_err(io::Error::other)?;
        let number = |at: usize| words[at].parse::<u64>().map_err(io::Error::other);
        let wire = &mut self.wire;
        let mut wait = LineKeepAlive(wire, Instant::now());
        let change = match words[0] {
            "SEEN" => {
                let number = words[1].parse().map_err(io::Error::other)?;
                session.observe(Lsn { epoch: 1, number });
                return Ok(Ok("200 noted".to_owned()));
            }
            "LIST" => return list(session, &path, wire),
            "GET" => return get(session, &path, number(2)?, number(3)?, wire),
            "PUT" => match put(session, path, wire)? {
                Ok(Some(change)) => Ok(change),
                Ok(None) => return Ok(Ok("426 aborted".to_owned())),
                Err(refusal) => Err(refusal),
            },
            "MKD" => session.make_folder(next_id(), &path, &mut wait),
            "RM" => session.remove(next_id(), &path, false, Expect::Any, &mut wait),
            _ => return Ok(Ok("500 unknown".to_owned())),
        };
        let wait = &mut LineKeepAlive(&mut self.wire, Instant::now());
        let made = change.and_then(|change| session.commit(change, wait));
        Ok(made.map(|made| format!("250 {}", made.version)))
    }
}

fn list(session: &Session, path: &TreePath, wire: &mut Wire) -> Answer {
    let wait = &mut LineKeepAlive(wire, Instant::now());
    let mut listing = match session.list(path, "", None, wait) {
        Ok(listing) => listing,
        Err(refusal) => return Ok(Err(refusal)),
    };
    loop {
        // Pages of two names show that a page ends where the front end wants.
        let mut lines = Vec::new();
        let page = listing.next_page(&mut |entry| {
            let fits = lines.len() < 2;
            if fits {
                lines.push(format!("{:?} {} {}", entry.kind, entry.size, entry.name));
            }
            fits
        });
        match page {
            Ok(true) => wire.say(lines.join("\n"))?,
            Ok(false) => return Ok(Ok("226 done".to_owned())),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

fn get(session: &Session, path: &TreePath, offset: u64, most: u64, wire: &mut Wire) -> Answer {
    let wait = &mut LineKeepAlive(wire, Instant::now());
    let mut content = match session.open(path, IfMatch::Any, wait) {
        Ok(Located::Here(content)) => content,
        Ok(Located::Elsewhere(_)) => return Ok(Ok("450 elsewhere".to_owned())),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let length = match content.range(offset, most) {
        Ok(length) => length,
        Err(refusal) => return Ok(Err(refusal)),
    };
    wire.say(format!("150 {length} of {}", content.size()))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    content.file().read_exact_at(&mut bytes, offset)?;
    wire.transport.write_all(&bytes)?;
    content.add_sent(length);
    Ok(content.finish().map(|()| "226 done".to_owned()))
}

/// Receives chunks of any size, up to an empty one; none if the client aborts.
fn put(
    session: &Session,
    path: TreePath,
    wire: &mut Wire,
) -> io::Result<Result<Option<PreparedChange>, Refusal>> {
    let wait = &mut LineKeepAlive(wire, Instant::now());
    let mut upload = match session.begin_upload(PutRequest::new(next_id(), path), wait) {
        Ok(upload) => upload,
        Err(refusal) => return Ok(Err(refusal)),
    };
    wire.say("150 send")?;
    loop {
        let size = match wire.line()?.as_str() {
            "ABOR" => {
                upload.discard();
                return Ok(Ok(None));
            }
            line => line.parse().map_err(io::Error::other)?,
        };
        if size == 0 {
            let wait = &mut LineKeepAlive(wire, Instant::now());
            return Ok(upload.finish(None, wait).map(Some));
        }
        if let Err(refusal) = upload.write(&wire.bytes(size)?) {
            return Ok(Err(refusal));
        }
    }
}

/// A server for one folder, and what its clients need.
struct Server {
    fixture: Fixture,
    logins: Authenticator<TestSecrets>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    roots: Arc<RootCertStore>,
}

impl Server {
    fn new() -> Self {
        let mut accounts = Accounts::default();
        for (name, rights, root) in [("ann", Rights::Write, ""), ("eve", Rights::Read, "d")] {
            let (root, hash) = (TreePath::new(root).unwrap(), PasswordHash::of(b"secret").unwrap());
            accounts.add(name, Account { rights, root, hash }).unwrap();
        }
        let accounts = Arc::new(LiveAccounts::without_file(Some(Arc::new(accounts))));
        let verifier = PasswordVerifier::start(
            accounts.clone(),
            FailedLogins::new().unwrap(),
            Box::new(LocalLoginState::default()),
            1,
        );
        let policy =
            LoginPolicy::Standalone { writable: false, passwords: Some(verifier.unwrap()) };
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).unwrap();
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        Self {
            fixture: Fixture::new(),
            logins: Authenticator::new(policy, TestSecrets(accounts)),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            tls: Arc::new(tls),
            roots: Arc::new(roots),
        }
    }

    /// Connects a client, and serves it in a thread.
    fn connect<'a>(&'a self, scope: &'a Scope<'a, '_>) -> LineClient<'a> {
        let tcp = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (accepted, address) = self.listener.accept().unwrap();
        let server = LineServer {
            wire: Wire::new(accepted),
            address,
            engine: &self.fixture.engine,
            logins: &self.logins,
            tls: self.tls.clone(),
            user: String::new(),
            session: None,
        };
        scope.spawn(move || {
            if let Err(e) = server.serve() {
                let has_gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
                assert!(has_gone.contains(&e.kind()), "{e}");
            }
        });
        let mut client = LineClient { wire: Wire::new(tcp), server: self };
        assert_eq!(client.wire.line().unwrap(), "220 ready");
        client
    }
}

struct LineClient<'a> {
    wire: Wire,
    server: &'a Server,
}

impl LineClient<'_> {
    /// Sends a line; returns the next one, which may say that the answer takes longer.
    fn ask_once(&mut self, line: &str) -> String {
        self.wire.say(line).unwrap();
        self.wire.line().unwrap()
    }

    /// Returns the next line that is part of an answer.
    fn line(&mut self) -> String {
        let mut lines = std::iter::from_fn(|| self.wire.line().ok());
        lines.find(|line| !line.starts_with("112")).unwrap()
    }

    /// Sends a line; returns the first one of its answer.
    fn ask(&mut self, line: &str) -> String {
        self.wire.say(line).unwrap();
        self.line()
    }

    fn log_in(&mut self, user: &str) {
        assert_eq!(self.ask(&format!("USER {user}")), "331 password");
        assert_eq!(self.ask("PASS secret"), format!("230 {user}"));
    }

    fn start_tls(&mut self) {
        assert_eq!(self.ask("STARTTLS"), "234 go on");
        let roots = self.server.roots.clone();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        self.wire.start_tls(ClientConnection::new(Arc::new(config), name).unwrap());
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        self.wire.say(format!("LIST {path}")).unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "226 done" {
                return lines;
            }
            lines.push(line);
        }
    }

    fn put(&mut self, path: &str, chunks: &[&str]) -> String {
        let begun = self.ask(&format!("PUT {path}"));
        if begun != "150 send" {
            return begun;
        }
        for chunk in chunks {
            self.wire.say(format!("{}", chunk.len())).unwrap();
            self.wire.transport.write_all(chunk.as_bytes()).unwrap();
        }
        self.ask("0")
    }
}

fn is_made(answer: &str) -> bool {
    answer.starts_with("250 1-")
}

#[test]
fn line_clients_log_in_encrypt_and_transfer() {
    let server = Server::new();
    let root = server.fixture.root();
    server.fixture.with_writer(|| {
        std::thread::scope(|scope| {
            let mut ann = server.connect(scope);
            assert_eq!(ann.ask("LIST /"), "530 log in");
            assert_eq!(ann.ask("USER ann"), "331 password");
            assert!(ann.ask("PASS wrong").starts_with("550 login-refused"));
            ann.start_tls();
            ann.log_in("ann");
            assert!(is_made(&ann.ask("MKD /d")));
            // The server learns size and digest from the content alone.
            assert!(is_made(&ann.put("/d/f", &["01234", "56789"])));
            assert_eq!(fs::read(root.join("d/f")).unwrap(), b"0123456789");
            assert_eq!(ann.ask("GET /d/f 3 4"), "150 4 of 10");
            assert_eq!(ann.wire.bytes(4).unwrap(), b"3456");
            assert_eq!(ann.line(), "226 done");
            assert!(ann.ask("GET /d/f 11 1").starts_with("550 bad-offset /d/f: "));
            for name in ["a", "b", "c"] {
                let answer = ann.put(&format!("/d/{name}"), &[]);
                assert!(is_made(&answer), "{answer}");
            }
            assert_eq!(ann.list("/d"), ["File 0 a", "File 0 b", "File 0 c", "File 10 f"]);

            // Another user logs in without encryption and starts it later. It sees its folder
            // alone.
            let mut eve = server.connect(scope);
            eve.log_in("eve");
            assert_eq!(eve.list("/").len(), 4);
            eve.start_tls();
            assert_eq!(eve.ask("GET /f 8 100"), "150 2 of 10");
            assert_eq!(eve.wire.bytes(2).unwrap(), b"89");
            assert_eq!(eve.line(), "226 done");
            assert!(eve.put("/x", &["1"]).starts_with("550 denied"));
            assert!(eve.ask("GET /d/f 0 1").starts_with("550 not-found /d/f: "));
            assert!(is_made(&ann.ask("RM /d/f")));
            assert!(eve.ask("GET /f 0 1").starts_with("550 not-found /f: "));
            assert_eq!((ann.ask("QUIT"), eve.ask("QUIT")), ("221 bye".into(), "221 bye".into()));
        });
    });
    let log = server.fixture.log();
    let of = |wanted: &str| {
        let lines = log.iter().filter(|[_, path, _]| path == wanted);
        lines.map(|[command, _, result]| format!("{command} {result}")).collect::<Vec<_>>()
    };
    assert_eq!(
        of("/d/f"),
        ["put ok", "get ok", "get bad-offset", "get ok", "rm ok", "get not-found"]
    );
    assert_eq!(
        (of("/d/x"), of("/d/d/f")),
        (vec!["put denied".into()], vec!["get not-found".into()])
    );
}

#[test]
fn line_clients_wait_for_changes_and_abort() {
    let server = Server::new();
    server.fixture.with_writer(|| {
        std::thread::scope(|scope| {
            let mut ann = server.connect(scope);
            ann.log_in("ann");
            // An upload is aborted between two chunks, and leaves nothing.
            assert_eq!(ann.ask("PUT /f"), "150 send");
            ann.wire.say("4\nabc").unwrap();
            let staging = server.fixture.root().join(".relais/staging");
            assert_eq!(ann.ask("ABOR"), "426 aborted");
            assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
            // The client has seen a change elsewhere that this slave does not have yet.
            assert_eq!(ann.ask("SEEN 100"), "200 noted");
            assert_eq!(ann.ask_once("LIST /"), "112 CatchingUp");
            server.fixture.state.applied.store(100, SeqCst);
            assert_eq!(ann.line(), "226 done");
            assert_eq!(ann.ask("SEEN 1000"), "200 noted");
            assert_eq!(ann.ask_once("GET /f 0 1"), "112 CatchingUp");
            let last = ann.ask("ABOR");
            assert!(last.starts_with("550 cut"), "{last}");
            assert_eq!(ann.line(), "225 ended");
        });
    });
}

#[test]
fn resumed_upload_disconnects_its_older_session() {
    let server = Server::new();
    server.fixture.with_writer(|| {
        let (mut older, accepted) = {
            let tcp = TcpStream::connect(server.listener.local_addr().unwrap()).unwrap();
            (tcp, server.listener.accept().unwrap())
        };
        let (tcp, address) = accepted;
        let disconnect = {
            let tcp = tcp.try_clone().unwrap();
            Arc::new(move || tcp.shutdown(std::net::Shutdown::Both).unwrap())
        };
        let principal = || Principal::new("ann", address.ip());
        let engine = &server.fixture.engine;
        let first = Session::new(engine.clone(), principal(), Protocol::Ftp, address, disconnect);
        let second =
            Session::new(engine.clone(), principal(), Protocol::Ftp, address, Arc::new(|| {}));
        let path = TreePath::new("f").unwrap();
        let request =
            PutRequest { size: Some(4), ..PutRequest::new(ChangeId([1; 16]), path.clone()) };
        let mut wire = Wire::new(tcp);
        let wait = &mut LineKeepAlive(&mut wire, Instant::now());
        let mut upload = first.begin_upload(request, wait).unwrap();
        upload.write(b"a").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Its front end notices that the connection has ended.
                assert_eq!(older.read(&mut [0]).unwrap(), 0);
                drop(upload);
            });
            let mut wait = host::Waiting::at_most(Duration::from_secs(20));
            let found = second.find_upload(ChangeId([1; 16]), &path, 4, &mut wait);
            assert!(matches!(found, Ok(UploadProgress::Staged { offset: 1, .. })), "{found:?}");
        });
    });
}
