//! Raw peers: a client that sends any frames, and a server that answers by a script.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relais_proto::{
    Capabilities, ClusterId, ContentHeader, Endpoint, FrameType, GetRequest, Hello, Identity,
    IfMatch, Login, Lsn, Metrics, Refusal, Reply, Request, Role, ServerRole, SlaveId, TreePath,
    VERSIONS, WireError, encode_frame,
};

use socket2::{Domain, Socket, Type};

use super::frames::{read_frame, read_header};
use super::{SOON, encrypted, is_over_tls};

/// A connection on which a test sends any bytes.
#[derive(Debug)]
pub struct RawClient(pub TcpStream);

impl RawClient {
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = if is_over_tls() {
            encrypted(addr)
        } else {
            TcpStream::connect_timeout(&addr, SOON).unwrap()
        };
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Connects from a local address; `None` if the server does not accept the connection.
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> Option<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect_timeout(&addr.into(), SOON).ok()?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self(stream))
    }

    /// Returns the local address of this connection.
    pub fn local(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn send(&mut self, requests: &[Request]) {
        self.0.write_all(&encoded(requests)).unwrap();
    }

    /// Sends bytes; `false` if the peer has closed the connection.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Reads the next frame; `None` at the end of the connection.
    pub fn frame(&mut self) -> Result<Option<(FrameType, Vec<u8>)>, WireError> {
        let mut payload = Vec::new();
        Ok(read_frame(&mut self.0, &mut payload)?.map(|kind| (kind, payload)))
    }

    /// Reads the next reply other than `Wait` and `Alone`.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < SOON, "nothing but `Wait` for {SOON:?}");
            let (kind, payload) = self.frame().unwrap().expect("the server closed the connection");
            match Reply::decode(kind, &payload).unwrap() {
                Reply::Wait(_) | Reply::MasterUnreachable { .. } => {}
                reply => return reply,
            }
        }
    }

    /// Reads a whole answer to `Get`: content, or the refusal.
    #[track_caller]
    pub fn content(&mut self) -> Result<(ContentHeader, Vec<u8>), Refusal> {
        let header = match self.reply() {
            Reply::ContentHeader(header) => header,
            Reply::Error(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let mut bytes = Vec::new();
        loop {
            let (kind, payload) = self.frame().unwrap().expect("the server closed inside content");
            match kind {
                FrameType::Block => bytes.extend(payload),
                FrameType::Wait => {}
                FrameType::End => return Ok((header, bytes)),
                other => match Reply::decode(other, &payload).unwrap() {
                    Reply::Error(refusal) => return Err(refusal),
                    other => panic!("{other:?}"),
                },
            }
        }
    }

    /// Reads the next bytes of content, even of a block that is cut short.
    ///
    /// Returns `None` at the end of the connection, and `true` with the end of the content.
    pub fn block_bytes(&mut self) -> Option<(Vec<u8>, bool)> {
        let head = read_header(&mut self.0).ok()??;
        let mut payload = Vec::new();
        (&mut self.0).take(head.len.into()).read_to_end(&mut payload).ok()?;
        Some((
            if head.kind == FrameType::Block { payload } else { Vec::new() },
            head.kind == FrameType::End,
        ))
    }

    #[track_caller]
    pub fn ping(&mut self) {
        self.send(&[Request::Ping]);
        assert_eq!(self.reply(), Reply::Pong);
    }

    #[track_caller]
    pub fn status(&mut self) -> (SlaveId, Metrics) {
        self.send(&[Request::Status]);
        match self.reply() {
            Reply::StatusReport { slave, metrics, .. } => (slave, metrics),
            other => panic!("{other:?}"),
        }
    }

    /// Reads until the peer closes the connection and returns how long that took.
    #[track_caller]
    pub fn closed_within(&mut self, deadline: Duration) -> Duration {
        let began = Instant::now();
        let mut buffer = [0; 4096];
        self.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        loop {
            assert!(began.elapsed() < deadline, "the connection was still open after {deadline:?}");
            match self.0.read(&mut buffer) {
                Ok(0) => return began.elapsed(),
                Ok(_) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(_) => return began.elapsed(),
            }
        }
    }
}

/// Encodes requests, concatenated.
pub fn encoded(requests: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    requests.iter().for_each(|r| r.encode(&mut bytes));
    bytes
}

impl FakeServer {
    /// Encodes replies, concatenated.
    pub fn encoded(replies: &[Reply]) -> Vec<u8> {
        let mut bytes = Vec::new();
        replies.iter().for_each(|r| r.encode(&mut bytes));
        bytes
    }
}

/// Returns the `Hello` of a client.
pub fn hello() -> Request {
    Request::Hello(Hello::new(Role::Client, "test"))
}

/// Logs in at a master and returns the ticket and the slaves in round-robin order.
#[track_caller]
pub fn ticket(master: SocketAddr) -> (Vec<u8>, Vec<Endpoint>) {
    let mut wire = RawClient::connect(master);
    wire.send(&[hello(), Request::Login(Login::default())]);
    assert!(matches!(wire.reply(), Reply::Welcome { role: ServerRole::Master, .. }));
    match wire.reply() {
        Reply::Redirect { ticket, slaves, .. } => (ticket, slaves),
        other => panic!("{other:?}"),
    }
}

/// Opens a session on a slave of a cluster.
#[track_caller]
pub fn session(slave: SocketAddr, ticket: &[u8]) -> RawClient {
    session_with(slave, ticket, Lsn::default())
}

/// Opens a session for a client that has seen a change.
#[track_caller]
pub fn session_with(slave: SocketAddr, ticket: &[u8], lsn: Lsn) -> RawClient {
    open(slave, Request::Ticket { ticket: ticket.to_vec(), lsn })
}

/// Opens `n` sessions on a standalone slave.
#[track_caller]
pub fn sessions(standalone: SocketAddr, n: usize) -> Vec<RawClient> {
    (0..n).map(|_| open(standalone, Request::Login(Login::default()))).collect()
}

#[track_caller]
fn open(addr: SocketAddr, login: Request) -> RawClient {
    let mut wire = RawClient::connect(addr);
    wire.send(&[hello(), login]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    let reply = wire.reply();
    assert!(matches!(reply, Reply::Opened { .. }), "{reply:?}");
    wire
}

/// Builds the request for a whole file.
pub fn get(path: &str) -> Request {
    Request::Get(GetRequest {
        path: TreePath::new(path).unwrap(),
        offset: 0,
        length: u64::MAX,
        if_match: IfMatch::Any,
    })
}

/// Maps a request to the bytes of the answer and whether to close the connection then.
pub type ServerScript = dyn Fn(&Request) -> (Vec<u8>, bool) + Send + Sync;

/// A server that answers every request by a script, greeting and login included.
pub struct FakeServer {
    pub addr: SocketAddr,
    closed: Arc<AtomicBool>,
}

impl FakeServer {
    pub fn start(script: impl Fn(&Request) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn on(
        listener: TcpListener,
        script: impl Fn(&Request) -> (Vec<u8>, bool) + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let closed = Arc::new(AtomicBool::new(false));
        let (stopped, script): (_, Arc<ServerScript>) = (Arc::clone(&closed), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let script = Arc::clone(&script);
                std::thread::spawn(move || serve(stream, &*script));
            }
        });
        Self { addr, closed }
    }

    /// Starts a standalone slave that answers `Get` with these bytes, and other requests correctly.
    pub fn standalone(answer: impl Fn(&GetRequest) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |request| match request {
            Request::Get(get) => (answer(get), false),
            other => (polite(other), false),
        })
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Returns the answer of a correct slave with one file `f` of 10 bytes; nothing to a `Get`.
pub fn polite(request: &Request) -> Vec<u8> {
    let lsn = Lsn::default();
    let entry = relais_proto::Entry {
        name: "f".to_owned(),
        kind: relais_proto::Kind::File,
        mode: relais_proto::Mode::new(0o644),
        size: 10,
        mtime: relais_proto::FileTime::default(),
        version: None,
    };
    let replies = match request {
        Request::Hello(_) => {
            vec![Reply::Welcome {
                version: VERSIONS.1,
                role: ServerRole::Standalone,
                cluster: ClusterId([7; 16]),
                capabilities: Capabilities::default(),
                agent: "fake".to_owned(),
            }]
        }
        Request::Login(_) | Request::Ticket { .. } => {
            vec![Reply::Opened { slave: SlaveId([8; 16]), lsn, writable: false }]
        }
        Request::List { after, .. } if after.is_empty() => {
            let mut page = relais_proto::PageBuilder::new();
            page.push(&entry);
            vec![Reply::Entries(page.finish()), Reply::Done { lsn }]
        }
        Request::List { .. } => vec![Reply::Done { lsn }],
        Request::Stat(_) | Request::Hash(_) => {
            vec![Reply::Details { entry, digest: None, holders: Vec::new(), lsn }]
        }
        Request::Status => {
            vec![Reply::StatusReport {
                slave: SlaveId([8; 16]),
                lsn,
                metrics: Metrics::default(),
                last_error: String::new(),
            }]
        }
        Request::Ping => vec![Reply::Pong],
        Request::Resume { .. } => {
            vec![Reply::Staged { offset: 0, current: relais_proto::Expect::Absent }]
        }
        Request::PutEnd { digest } => {
            let digest = Some(*digest);
            vec![Reply::Committed { version: lsn, copies: 1, lsn, digest, current: true }]
        }
        Request::MakeFolder { .. }
        | Request::Remove { .. }
        | Request::Move { .. }
        | Request::SetAttributes { .. }
        | Request::Copy { .. } => {
            vec![Reply::Committed { version: lsn, copies: 1, lsn, digest: None, current: true }]
        }
        Request::Get(_)
        | Request::Pieces { .. }
        | Request::Put(_)
        | Request::Seen { .. }
        | Request::StatMany { .. }
        | Request::FailedOver
        | Request::Watch { .. } => Vec::new(),
    };
    FakeServer::encoded(&replies)
}

/// Builds the header of an answer from `offset` to `size` in blocks of `block`.
pub fn header(size: u64, offset: u64, block: u32) -> ContentHeader {
    ContentHeader {
        size,
        offset,
        length: size - offset,
        block_size: block,
        mtime: relais_proto::FileTime::default(),
        mode: relais_proto::Mode::new(0o644),
        version: None,
        digest: None,
        identity: Identity([9; 16]),
    }
}

/// Encodes a block of content.
pub fn block(bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, FrameType::Block, |to| to.extend_from_slice(bytes));
    frame
}

fn serve(mut stream: TcpStream, script: &ServerScript) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    while let Ok(Some(head)) = read_header(&mut stream) {
        let mut payload = vec![0; usize::try_from(head.len).unwrap()];
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        if head.kind == FrameType::Data {
            continue;
        }
        let Ok(request) = Request::decode(head.kind, &payload) else { return };
        let (answer, close) = script(&request);
        if stream.write_all(&answer).is_err() {
            return;
        }
        if close {
            let _ = stream.shutdown(Shutdown::Write);
            return;
        }
    }
}
