//! Who gets in, what each may do, and what those find out who may not.

mod guessing;
mod matrix;
mod programs;
mod returns;
mod secrets;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use relais_proto::{Login, Lsn, Refusal, Reply, Request};

use crate::harness::{
    Client, Cluster, Output, SOON, Setup, Standalone, TestDir, Wire, eventually, hello, path,
    session, staged_files, ticket,
};

/// The password of each user in these tests.
pub fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// Runs `ftpmaster user` on a state folder.
#[track_caller]
pub fn user(dir: &TestDir, state: &Path, words: &[&str]) -> Output {
    Client::finish(
        &mut Setup::new("ftpmaster", dir.path())
            .args(["user"])
            .args(words)
            .args([Path::new("--state"), state])
            .start(),
    )
}

/// A file with a password.
pub fn password_file(dir: &TestDir, password: &str) -> PathBuf {
    let path = dir.path().join(format!("{}.password", blake3::hash(password.as_bytes()).to_hex()));
    fs::write(&path, format!("{password}\n")).unwrap();
    path
}

/// Adds a user with a password of [`password`].
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

/// A server that knows accounts: a cluster, or a slave that stands alone.
enum Server {
    Cluster(Box<Cluster>),
    Standalone(Box<Standalone>),
}

impl Server {
    /// Both kinds, each with these users (name, rights, root) and the same files: `f`, `home/x`, `other/y`.
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
                eventually(SOON, "what was there has its number", || {
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
                server.settle(name);
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

    fn root(&self) -> &Path {
        match self {
            Self::Cluster(cluster) => &cluster.slaves[0].root,
            Self::Standalone(slave) => &slave.root,
        }
    }

    /// Where one logs in.
    fn addr(&self) -> SocketAddr {
        match self {
            Self::Cluster(cluster) => cluster.addr,
            Self::Standalone(slave) => slave.addr,
        }
    }

    /// Where requests are made.
    fn slave(&self) -> SocketAddr {
        match self {
            Self::Cluster(cluster) => cluster.slaves[0].addr,
            Self::Standalone(slave) => slave.addr,
        }
    }

    /// Waits until the running server has the accounts, and slaves have heard of it.
    #[track_caller]
    fn settle(&self, name: &str) {
        eventually(SOON, "the accounts count", || self.open(name).ok());
        eventually(SOON, "nobody gets in without", || self.log_in("", "").is_err().then_some(()));
        all_have_looked();
    }

    /// Logs in and opens a session.
    fn open(&self, name: &str) -> Result<Wire, Refusal> {
        self.log_in(name, &password(name))
    }

    fn log_in(&self, name: &str, password: &str) -> Result<Wire, Refusal> {
        let mut wire = Wire::connect(self.addr());
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

    /// All that is served, with its content; and that nothing else lies around.
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

/// One worker of a slave may know an account a quarter of a second before another does.
fn all_have_looked() {
    std::thread::sleep(std::time::Duration::from_millis(600));
}

fn login(name: &str, password: &str) -> Request {
    Request::Login(Login {
        user: name.to_owned(),
        password: password.as_bytes().to_vec(),
        ..Login::default()
    })
}

fn try_session(slave: SocketAddr, ticket: &[u8]) -> Result<Wire, Refusal> {
    let mut wire = Wire::connect(slave);
    wire.send(&[hello(), Request::Ticket { ticket: ticket.to_vec(), lsn: Lsn::default() }]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    match wire.reply() {
        Reply::Opened { .. } => Ok(wire),
        Reply::Error(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// A session with a ticket that must be taken.
#[track_caller]
fn with_ticket(slave: SocketAddr, ticket: &[u8]) -> Wire {
    session(slave, ticket)
}
