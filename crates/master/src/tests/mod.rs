//! Tests of the master over loopback sockets, with scripted slaves and clients.

mod changes;
mod clients;
mod http;
mod http_pages;
mod links;
mod logins;
mod operate;
mod service;
mod status_page;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relais_auth::{
    AccountsFile, Authority, ClusterKey, LinkError, LinkHandshake, LinkRole, LiveAccounts,
    decode_link_frame,
};
use relais_cluster::Balance;
use relais_coordinator::StoreError;
use relais_journal::FileJournal;
use relais_net::Connection;
use relais_net::tls::{TlsMode, TlsOptions};
use relais_os::{Mailbox, MailboxSender};
use relais_proto::{
    ClusterId, FolderId, Heartbeat, Hello, LinkMessage, Login, Lsn, Metrics, Refusal, Registration,
    Reply, Request, Role, SlaveId, SlaveState, limits, metric,
};
use tempfile::TempDir;

use crate::status::Report;
use crate::{
    Certifier, Config, HttpConfig, HttpListener, MasterError, MasterRequest, OperatorClient,
    OperatorError, Store, run,
};

/// Timeout of each step, enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn open_store(state: &Path, cluster: ClusterId) -> Result<Store, StoreError> {
    let journal = FileJournal::open(&state.join("journal"), cluster.0)?;
    Store::open(Box::new(journal), state, cluster, None, u64::MAX)
}

/// A master that runs in this process and ends with the test.
struct Running {
    addr: SocketAddr,
    /// The listener for HTTP.
    http: SocketAddr,
    key: ClusterKey,
    requests: MailboxSender<MasterRequest>,
    /// The state folder.
    state: Arc<TempDir>,
    thread: Option<JoinHandle<Result<(), MasterError>>>,
}

impl Running {
    fn start() -> Self {
        Self::start_in("127.0.0.1:0", Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Restarts an ended master with its key, journal and address.
    fn again(&self) -> Self {
        Self::start_in(&self.addr.to_string(), Arc::clone(&self.state))
    }

    fn start_in(addr: &str, state: Arc<TempDir>) -> Self {
        let key = ClusterKey::load_or_create(&state.path().join("cluster.key")).unwrap();
        let store = open_store(state.path(), key.cluster_id()).unwrap();
        let listener: TcpListener = relais_net::listen(addr).unwrap();
        let mut addr = listener.local_addr().unwrap();
        let socket = relais_net::listen("127.0.0.1:0").unwrap();
        let http = socket.local_addr().unwrap();
        let (requests, mailbox) = Mailbox::new().unwrap();
        if addr.ip().is_unspecified() {
            addr.set_ip([127, 0, 0, 1].into());
        }
        let accounts =
            LiveAccounts::open(AccountsFile::new(state.path().join("accounts"))).unwrap();
        let config = Config {
            key: key.clone(),
            balance: Balance::RoundRobin,
            grace: Duration::from_secs(10),
            copies: 1,
            remember: Duration::from_secs(3600),
            accounts: Arc::new(accounts),
            certifier: Certifier::new(
                Authority::load_or_create(state.path()).unwrap(),
                &TlsOptions::default(),
                Duration::from_secs(3600),
            )
            .unwrap(),
            http: HttpConfig::default(),
            log_outs: state.path().join("log-outs"),
        };
        let thread = std::thread::spawn(move || {
            run(listener, vec![HttpListener { socket, encrypted: false }], store, config, &mailbox)
        });
        Self { addr, http, key, requests, state, thread: Some(thread) }
    }

    fn connect(&self) -> Connection {
        Connection::connect(self.addr, limits::CONNECT_TIME).unwrap()
    }

    /// Stops the master and returns the time that it took.
    fn end(&mut self) -> Duration {
        let begun = Instant::now();
        self.requests.send(MasterRequest::Stop);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
        begun.elapsed()
    }

    /// Logs in as a client; returns the answer after `Welcome`.
    fn login(&self, login: Login) -> Reply {
        let mut connection = self.connect();
        connection.queue(&hello(Role::Client));
        connection.queue(&Request::Login(login));
        connection.flush().unwrap();
        assert!(matches!(connection.read_reply().unwrap(), Some(Reply::Welcome { .. })));
        connection.read_reply().unwrap().unwrap()
    }

    /// Returns the redirect of a new client: the slaves in order, or the refusal.
    fn redirect(&self) -> Result<Vec<u8>, Refusal> {
        match self.login(Login::default()) {
            Reply::Redirect { slaves, .. } => {
                Ok(slaves.iter().map(|slave| slave.id.0[0]).collect())
            }
            Reply::Error(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn first(&self) -> u8 {
        self.redirect().unwrap()[0]
    }

    /// Polls until this many slaves are in service.
    fn wait_for_slaves(&self, count: usize) {
        let begun = Instant::now();
        while self.redirect().map_or(0, |slaves| slaves.len()) != count {
            assert!(begun.elapsed() < PATIENCE, "never {count} slaves in service");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.requests.send(MasterRequest::Stop);
        if let Some(thread) = self.thread.take() {
            // Its own panic is reported separately.
            let _ = thread.join();
        }
    }
}

/// Gets the status report of a master as an operator with this key.
fn report(master: &Running, key: &ClusterKey) -> Result<Report, OperatorError> {
    OperatorClient::connect(&master.addr.to_string(), key, TlsMode::Remote)?.report()
}

fn hello(role: Role) -> Request {
    Request::Hello(Hello::new(role, "test"))
}

fn registration(n: u8) -> Registration {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(n)))];
    Registration {
        folder: FolderId([n; 16]),
        listen,
        advertise: String::new(),
        lsn: Lsn::default(),
        http: None,
    }
}

fn heartbeat() -> LinkMessage {
    let metrics = Metrics::default().with(metric::WORKERS, 1).with(metric::SESSIONS, 3);
    LinkMessage::Heartbeat(Heartbeat {
        state: SlaveState::InService,
        lsn: Lsn::default(),
        metrics,
        last_error: String::new(),
        disk: relais_proto::DiskSpace::default(),
        scrub: relais_proto::Scrub::default(),
    })
}

/// Reads the next message of the master but lists of peers and of uploads.
fn next(connection: &mut Connection) -> Result<LinkMessage, LinkError> {
    loop {
        let header = connection.read_header()?.ok_or(relais_proto::WireError::Truncated)?;
        match decode_link_frame(header.kind, connection.read_payload(header)?)? {
            LinkMessage::Peers { .. }
            | LinkMessage::OtherUploads(_)
            | LinkMessage::OtherLogOuts(_) => {}
            message => return Ok(message),
        }
    }
}

/// Reads the next refusal on a link.
fn refused(connection: &mut Connection) -> Refusal {
    loop {
        match connection.read_reply().unwrap() {
            Some(Reply::Error(refusal)) => return refusal,
            Some(Reply::Welcome { .. }) => {}
            other => panic!("no refusal but {other:?}"),
        }
    }
}

/// Opens a link of a slave and proves the key.
fn linked(master: &Running, n: u8) -> Connection {
    let mut connection = master.connect();
    let mut handshake =
        LinkHandshake::new(LinkRole::Slave, SlaveId([n; 16]), &master.key, None).unwrap();
    connection.queue(&handshake.hello("slave"));
    connection.queue_link(&handshake.open());
    connection.flush().unwrap();
    let proof = loop {
        let header = connection.read_header().unwrap().unwrap();
        if let Some(proof) =
            handshake.on_frame(header.kind, connection.read_payload(header).unwrap()).unwrap()
        {
            break proof;
        }
    };
    connection.queue_link(&proof);
    connection
}

/// Registers a slave and sends one heartbeat.
fn slave(master: &Running, n: u8) -> Connection {
    try_slave(master, n, registration(n)).unwrap()
}

fn try_slave(master: &Running, n: u8, registration: Registration) -> Result<Connection, LinkError> {
    let mut connection = linked(master, n);
    connection.queue_link(&LinkMessage::Register(registration));
    connection.flush().unwrap();
    assert!(matches!(next(&mut connection)?, LinkMessage::Registered { .. }));
    beaten(&mut connection);
    Ok(connection)
}

fn beaten(connection: &mut Connection) {
    connection.queue_link(&heartbeat());
    connection.flush().unwrap();
    assert!(matches!(next(connection).unwrap(), LinkMessage::HeartbeatAck { .. }));
}
