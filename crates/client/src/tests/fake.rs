//! Servers in threads of the test, over real sockets, with good or bad behaviour.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relais_net::Connection;
use relais_proto::{
    Capabilities, ClusterId, Endpoint, Entry, FileTime, Kind, Login, Lsn, Mode, PageBuilder,
    Refusal, Reply, Request, ServerRole, SlaveId, VERSIONS,
};

use rustix::net::{AddressFamily, SocketType};

use super::tree::Tree;
use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::session::{Session, Settings};

pub const CLUSTER: ClusterId = ClusterId([7; 16]);
pub const MARK: Lsn = Lsn { epoch: 1, number: 0 };

/// Serves each connection in a thread; the second argument counts connections from 0.
pub fn serve(handle: impl Fn(&mut Connection, usize) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (handle, count) = (Arc::new(handle), AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (handle, number) = (Arc::clone(&handle), count.fetch_add(1, Ordering::SeqCst));
            let mut connection = Connection::new(stream.unwrap()).unwrap();
            std::thread::spawn(move || handle(&mut connection, number));
        }
    });
    addr
}

/// Returns an address without a listener; the port stays reserved for the whole test run.
pub fn closed_addr() -> SocketAddr {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    std::mem::forget(socket);
    addr
}

pub fn send(connection: &mut Connection, replies: &[Reply]) {
    for reply in replies {
        connection.queue_reply(reply);
    }
    // The client may have closed the connection; the test checks that on its side.
    let _ = connection.flush();
}

/// Reads the hello and the request after it.
pub fn opening(connection: &mut Connection) -> Option<Request> {
    assert!(matches!(connection.read_request().ok()??, Request::Hello(_)));
    connection.read_request().ok()?
}

pub fn welcome(role: ServerRole) -> Reply {
    let capabilities = Capabilities::default();
    Reply::Welcome {
        version: VERSIONS.1,
        role,
        cluster: CLUSTER,
        capabilities,
        agent: "fake".into(),
    }
}

pub fn id(n: u8) -> SlaveId {
    SlaveId([n; 16])
}

pub fn endpoint(n: u8, addr: SocketAddr) -> Endpoint {
    Endpoint { id: id(n), addrs: vec![addr] }
}

pub fn redirect(slaves: Vec<Endpoint>) -> Reply {
    redirect_at(MARK, slaves)
}

/// Builds a master's redirect with the latest change `lsn`.
pub fn redirect_at(lsn: Lsn, slaves: Vec<Endpoint>) -> Reply {
    Reply::Redirect { ticket: b"ticket".to_vec(), lsn, slaves }
}

pub fn opened(n: u8) -> Reply {
    opened_at(MARK, n)
}

/// Builds the reply that opens a session with the latest change `lsn`.
pub fn opened_at(lsn: Lsn, n: u8) -> Reply {
    Reply::Opened { slave: id(n), lsn, writable: false }
}

pub fn refusal(code: relais_proto::ErrorCode) -> Reply {
    Reply::Error(Refusal::new(code, "no"))
}

pub fn file(name: &str) -> Entry {
    Entry {
        name: name.into(),
        kind: Kind::File,
        mode: Mode::new(0o644),
        size: 1,
        mtime: FileTime::default(),
        version: None,
    }
}

pub fn page(names: &[&str]) -> Reply {
    let mut page = PageBuilder::new();
    assert!(names.iter().all(|name| page.push(&file(name))));
    Reply::Entries(page.finish())
}

/// Starts a master that redirects to `slaves`; also returns its logins. It knows no change.
pub fn master(slaves: Vec<Endpoint>) -> (SocketAddr, Arc<Mutex<Vec<Login>>>) {
    master_at(|| MARK, slaves)
}

/// As [`master`], with the latest change of a tree.
pub fn master_of(tree: &Tree, slaves: Vec<Endpoint>) -> (SocketAddr, Arc<Mutex<Vec<Login>>>) {
    let tree = tree.clone();
    master_at(move || tree.latest(), slaves)
}

/// As [`master`]; `latest` returns the latest change of each redirect.
pub fn master_at(
    latest: impl Fn() -> Lsn + Send + Sync + 'static,
    slaves: Vec<Endpoint>,
) -> (SocketAddr, Arc<Mutex<Vec<Login>>>) {
    let logins = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&logins);
    let addr = serve(move |connection, _| {
        let Some(Request::Login(login)) = opening(connection) else { panic!("no login") };
        seen.lock().unwrap().push(login);
        let answer = redirect_at(latest(), slaves.clone());
        send(connection, &[welcome(ServerRole::Master), answer]);
    });
    (addr, logins)
}

/// Starts a slave that passes each request to `answer`, which may close the connection.
pub fn slave(
    n: u8,
    answer: impl Fn(&Request) -> (Vec<Reply>, bool) + Send + Sync + 'static,
) -> SocketAddr {
    serve(move |connection, _| {
        let Some(Request::Ticket { ticket, .. }) = opening(connection) else { panic!("no ticket") };
        assert_eq!(ticket, b"ticket");
        send(connection, &[welcome(ServerRole::Slave), opened(n)]);
        while let Ok(Some(request)) = connection.read_request() {
            let (replies, close) = answer(&request);
            send(connection, &replies);
            if close {
                return;
            }
        }
    })
}

/// Answers `stat` as a well-behaved slave with one file does.
pub fn one_file(request: &Request) -> (Vec<Reply>, bool) {
    let Request::Stat(path) = request else { panic!("{request:?}") };
    let entry = file(path.last().unwrap());
    (vec![Reply::Details { entry, digest: None, holders: vec![], lsn: MARK }], false)
}

pub fn session(addr: SocketAddr, retry: Duration) -> Session {
    let host = addr.to_string().parse().unwrap();
    let settings = Settings {
        host,
        user: String::new(),
        password: None,
        encrypt: relais_net::tls::TlsMode::default(),
        authorities: None,
        insecure: false,
        retry,
        streams: 1,
    };
    Session::new(settings, Interrupt::default(), Notices::collecting())
}
