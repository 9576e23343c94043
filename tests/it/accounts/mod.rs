//! Accounts: logins, rights, and what unauthenticated peers can find out.

mod administration;
mod matrix;
mod password_guessing;
mod revocation;
mod secrets;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use relais_auth::{AccountsFile, ClusterKey, PasswordId, Rights, Ticket};
use relais_proto::{Login, Lsn, Refusal, Reply, Request, TreePath};

use crate::harness::{
    Client, Cluster, Output, ProgramBuilder, RawClient, SOON, Standalone, TestDir, eventually,
    hello, path, session, staged_files, ticket,
};

/// Returns the password of a user in these tests.
pub fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// Runs `ftpmaster user` on a state folder.
#[track_caller]
pub fn user(dir: &TestDir, state: &Path, words: &[&str]) -> Output {
    Client::finish(
        &mut ProgramBuilder::new("ftpmaster", dir.path())
            .args(["user"])
            .args(words)
            .args([Path::new("--state"), state])
            .start(),
    )
}

/// Writes a file with a password and returns its path.
pub fn password_file(dir: &TestDir, password: &str) -> PathBuf {
    let path = dir.path().join(format!("{}.password", blake3::hash(password.as_bytes()).to_hex()));
    fs::write(&path, format!("{password}\n")).unwrap();
    path
}

/// Adds a user with the password of [`password`].
#[track_caller]
pub fn add(dir: &TestDir, state: &Path, name: &str, rights: &str, root: &str) {
    let file = password_file(dir, &password(name));
    user(
        dir,
        state,
        &[
            "add",
            name,
            "--rights",
            rights,
            "--root",
            root,
            "--password-file",
            file.to_str().unwrap(),
        ],
    )
    .ok();
}

/// A server with accounts: a cluster or a standalone slave.
enum TestServer {
    Cluster(Box<Cluster>),
    Standalone(Box<Standalone>),
}

impl TestServer {
    /// Starts both kinds with these users (name, rights, root) and the files `f`, `home/x`,
    /// `other/y`.
    fn both(users: &[(&str, &str, &str)]) -> [Self; 2] {
        let cluster = Cluster::of(1)
            .file("f", b"top")
            .file("home/x", b"home")
            .file("other/y", b"other")
            .start();
        let files: [(&str, &[u8]); 3] = [("f", b"top"), ("home/x", b"home"), ("other/y", b"other")];
        let both = [
            Self::Cluster(Box::new(cluster)),
            Self::Standalone(Box::new(Standalone::start(&[], &files))),
        ];
        if let Self::Cluster(cluster) = &both[0] {
            let mut wire = session(cluster.slaves[0].addr, &ticket(cluster.addr).0);
            for name in ["f", "home/x", "other/y"] {
                eventually(SOON, "the existing files are numbered", || {
                    match wire.ask(&Request::Stat(path(name))) {
                        Reply::Details { entry, .. } => entry.version,
                        other => panic!("{other:?}"),
                    }
                });
            }
        }
        for server in &both {
            for (name, rights, root) in users {
                add(server.dir(), &server.state(), name, rights, root);
            }
            if let Some((name, ..)) = users.first() {
                server.wait_accounts_loaded(name);
            }
        }
        both
    }

    fn dir(&self) -> &TestDir {
        match self {
            Self::Cluster(cluster) => &cluster.dir,
            Self::Standalone(slave) => &slave.dir,
        }
    }

    fn state(&self) -> PathBuf {
        match self {
            Self::Cluster(cluster) => cluster.dir.folder("master"),
            Self::Standalone(slave) => slave.dir.folder("state"),
        }
    }

    /// Returns what the server that reads the accounts has logged.
    fn log(&self) -> String {
        match self {
            Self::Cluster(cluster) => cluster.master.stderr.text(),
            Self::Standalone(slave) => slave.program.stderr.text(),
        }
    }

    fn root(&self) -> &Path {
        match self {
            Self::Cluster(cluster) => &cluster.slaves[0].root,
            Self::Standalone(slave) => &slave.root,
        }
    }

    /// Returns the address for logins.
    fn addr(&self) -> SocketAddr {
        match self {
            Self::Cluster(cluster) => cluster.addr,
            Self::Standalone(slave) => slave.addr,
        }
    }

    /// Returns the address for requests.
    fn slave(&self) -> SocketAddr {
        match self {
            Self::Cluster(cluster) => cluster.slaves[0].addr,
            Self::Standalone(slave) => slave.addr,
        }
    }

    /// Waits until the running server and its slaves have loaded the accounts.
    #[track_caller]
    fn wait_accounts_loaded(&self, name: &str) {
        eventually(SOON, "the accounts are in force", || self.open(name).ok());
        eventually(SOON, "logins without an account are refused", || {
            self.log_in("", "").is_err().then_some(())
        });
        all_have_looked();
    }

    /// Logs in and opens a session.
    fn open(&self, name: &str) -> Result<RawClient, Refusal> {
        self.log_in(name, &password(name))
    }

    fn log_in(&self, name: &str, password: &str) -> Result<RawClient, Refusal> {
        let mut wire = RawClient::connect(self.addr());
        wire.send(&[hello(), login(name, password)]);
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        match wire.reply() {
            Reply::Error(refusal) => Err(refusal),
            Reply::Redirect { ticket, .. } => try_session(self.slave(), &ticket),
            Reply::Opened { .. } => Ok(wire),
            other => panic!("{other:?}"),
        }
    }

    fn client(&self) -> Client {
        Client::new(self.addr())
    }

    /// Returns all served files with their content; requires that no other file exists.
    fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        assert_eq!(staged_files(self.root()), Vec::<PathBuf>::new());
        let (mut found, mut open) = (BTreeMap::new(), vec![self.root().to_owned()]);
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with(".relais") {
                    open.push(path.clone());
                    found.insert(path, Vec::new());
                } else if path.is_file() {
                    let bytes = fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
        found
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Returns a ticket of `ann` with generation 1 and this change.
fn minted_ticket(cluster: &Cluster, change: impl FnOnce(&mut Ticket)) -> Vec<u8> {
    let key = ClusterKey::load(&cluster.key()).unwrap().unwrap();
    let now = now_ms();
    let mut ticket = Ticket {
        cluster: key.cluster_id(),
        user: "ann".to_owned(),
        rights: Rights::Write,
        root: TreePath::root(),
        generation: 1,
        password_id: PasswordId::default(),
        issued_ms: now,
        ends_ms: now + 3_600_000,
    };
    change(&mut ticket);
    ticket.mint(&key)
}

/// Waits until each slave refuses the tickets from before the last revocation.
#[track_caller]
pub fn wait_revoked(cluster: &Cluster) {
    let file = AccountsFile::new(cluster.dir.folder("master").join("accounts"));
    let generation = file.load().unwrap().unwrap().generation();
    let of = |generation| minted_ticket(cluster, |ticket| ticket.generation = generation);
    for slave in &cluster.slaves {
        eventually(SOON, "tickets of the former generation are refused", || {
            try_session(slave.addr, &of(generation - 1)).is_err().then_some(())
        });
        try_session(slave.addr, &of(generation)).unwrap();
    }
}

/// Waits until all workers have loaded the accounts, which takes them up to a quarter of a second.
fn all_have_looked() {
    std::thread::sleep(std::time::Duration::from_millis(600));
}

/// Makes the login of a native client.
pub fn login(name: &str, password: &str) -> Request {
    Request::Login(Login {
        user: name.to_owned(),
        password: password.as_bytes().to_vec(),
        ..Login::default()
    })
}

fn try_session(slave: SocketAddr, ticket: &[u8]) -> Result<RawClient, Refusal> {
    let mut wire = RawClient::connect(slave);
    wire.send(&[hello(), Request::Ticket { ticket: ticket.to_vec(), lsn: Lsn::default() }]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    match wire.reply() {
        Reply::Opened { .. } => Ok(wire),
        Reply::Error(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// Opens a session with a ticket that must be accepted.
#[track_caller]
fn with_ticket(slave: SocketAddr, ticket: &[u8]) -> RawClient {
    session(slave, ticket)
}
