//! Sessions over a socket pair, with an engine and a writer of the test.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod commands;
mod control;
#[path = "../../../../../engine/tests/host/mod.rs"]
mod host;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use relais_engine::{Principal, Protocol, Session};
use relais_ftp::LineBuffer;
use relais_net::Stream;
use relais_net::tls::{Dialer, TlsMode};
use relais_proto::{ChangeId, PutRequest, Refusal, SlaveId, TreePath};

use self::host::{Fixture, Waiting};
use super::FtpContext;
use super::serve::{LoginRenewal, SessionExit, serve};
use super::session::FtpStart;
use super::state::LoginSettings;
use crate::config::{FtpConfig, FtpTls};
use crate::front::replica_stream::ReplicaDialer;

/// The client's end of a control connection.
pub struct Client {
    pub tcp: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).unwrap();
    }

    /// Returns the next line without its end; none at the end of the connection.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line = self.input.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            let mut bytes = [0; 4096];
            match self.tcp.read(&mut bytes).unwrap() {
                0 => return None,
                n => self.input.extend_from_slice(&bytes[..n]),
            }
        }
    }

    /// Returns the next reply, its lines joined by `|`.
    pub fn reply(&mut self) -> String {
        let mut reply = self.line().unwrap();
        if reply.as_bytes()[3] == b'-' {
            let end = format!("{} ", &reply[..3]);
            loop {
                let line = self.line().unwrap();
                reply = format!("{reply}|{line}");
                if line.starts_with(&end) {
                    break;
                }
            }
        }
        reply
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Asks, and checks how the reply begins.
    #[track_caller]
    pub fn expect(&mut self, line: &str, reply: &str) {
        let got = self.ask(line);
        assert!(got.starts_with(reply), "{line}: {got}");
    }
}

/// Renews logins as the test wants.
pub struct TestRenewal(pub Option<Refusal>);

impl LoginRenewal for TestRenewal {
    fn renew(&self, _: &mut Session) -> Result<(), Refusal> {
        self.0.clone().map_or(Ok(()), Err)
    }
}

/// A session that is about to be served.
pub struct TestSession {
    pub principal: Principal,
    pub renewal: TestRenewal,
    pub settings: LoginSettings,
}

impl TestSession {
    pub fn of(user: &str) -> Self {
        let principal = Principal::new(user, [127, 0, 0, 1].into());
        Self { principal, renewal: TestRenewal(None), settings: LoginSettings::default() }
    }

    /// Serves it while `test` is the client; returns how it ended. The stream is the server's.
    pub fn run(
        self,
        fixture: &Fixture,
        test: impl FnOnce(&mut Client, &Arc<Stream>),
    ) -> SessionExit {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let stream = Arc::new(Stream::tcp(listener.accept().unwrap().0).unwrap());
        let start = FtpStart {
            stream: stream.clone(),
            input: LineBuffer::default(),
            protocol: Protocol::Ftp,
            principal: self.principal,
            settings: self.settings,
        };
        let config = FtpConfig { tls: FtpTls::Off, ..FtpConfig::default() };
        let dialer = Dialer::new(TlsMode::Never).unwrap();
        let replicas = Arc::new(ReplicaDialer::with_key(dialer, SlaveId([1; 16]), || None));
        let context = Arc::new(FtpContext { config, tls: None, replicas });
        let renewal: Arc<dyn LoginRenewal> = Arc::new(self.renewal);
        std::thread::scope(|scope| {
            let session = scope.spawn(|| serve(start, &renewal, &fixture.engine, &context));
            let mut client = Client { tcp, input: Vec::new() };
            test(&mut client, &stream);
            // Its connection ends, also if the test has panicked.
            drop(client);
            session.join().unwrap()
        })
    }
}

/// Runs a session of `ann`, with a writer that makes its changes.
pub fn with_session(test: impl FnOnce(&mut Client, &Fixture)) {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        TestSession::of("ann").run(&fixture, |client, _| test(client, &fixture));
    });
}

/// Stores a file.
pub fn put(fixture: &Fixture, path: &str, content: &[u8]) {
    let mut session = fixture.session("ann");
    let mut waiting = Waiting::at_most(Duration::from_secs(20));
    let id = ChangeId(relais_os::random().unwrap());
    let request = PutRequest::new(id, TreePath::new(path).unwrap());
    let mut upload = session.begin_upload(request, &mut waiting).unwrap();
    upload.write(content).unwrap();
    let change = upload.finish(None, &mut waiting).unwrap();
    session.commit(change, &mut waiting).unwrap();
}
