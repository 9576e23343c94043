//! Servers with FTP front ends for the clients, and the ways to connect to them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{Cluster, Program, ProgramBuilder, SOON, Standalone, TestDir, content};

/// Password of the account `ann`.
pub const PASSWORD: &str = "correct horse";

/// How a client encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Clear,
    Explicit,
    Implicit,
}

/// Whether the server has accounts; then clients log in as `ann`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    Anonymous,
    Account,
}

pub const EVERY_TLS: [Tls; 3] = [Tls::Clear, Tls::Explicit, Tls::Implicit];
pub const EVERY_LOGIN: [Login; 2] = [Login::Anonymous, Login::Account];

/// The options of a slave that serves FTP and FTPS on free ports.
pub const FTP: [&str; 4] = ["--ftp", "127.0.0.1:0", "--ftps", "127.0.0.1:0"];

/// A standalone slave with FTP and FTPS, and the files that clients read.
pub struct Site {
    pub slave: Standalone,
    pub login: Login,
    pub ftp: SocketAddr,
    pub ftps: SocketAddr,
    /// A folder for the client.
    pub local: TestDir,
}

/// The files of each site, by path and size.
pub const FILES: [(&str, usize); 6] = [
    ("large.bin", 3_000_001),
    ("docs/a name with spaces.txt", 12),
    ("docs/ümläut.txt", 70_000),
    ("lab.iso", 100_000),
    ("photos/one.jpg", 100_001),
    ("inbox/older.pdf", 5),
];

/// Returns the content of a file of each site.
pub fn file(name: &str) -> Vec<u8> {
    let at = FILES.iter().position(|(known, _)| *known == name).unwrap();
    content(at as u64, FILES[at].1)
}

impl Site {
    #[track_caller]
    pub fn start(login: Login) -> Self {
        Self::start_with(login, &[])
    }

    /// Starts a slave with further options.
    #[track_caller]
    pub fn start_with(login: Login, options: &[&str]) -> Self {
        Self::start_as(login, &[&FTP[..], options].concat())
    }

    /// Starts a slave with these options, which name the listeners.
    #[track_caller]
    pub fn start_as(login: Login, options: &[&str]) -> Self {
        let dir = TestDir::new();
        let root = dir.folder("root");
        for (name, _) in FILES {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::harness::write_old(&path, &file(name));
        }
        if login == Login::Account {
            add_user(&dir, &dir.folder("state"), "ann");
        }
        let slave = Standalone::start_in(dir, root, options, &[]);
        let [ftp, ftps] = ["ftp", "ftps"].map(|protocol| ready(&slave.program, protocol));
        let site = Self { slave, login, ftp, ftps, local: TestDir::new() };
        site.wait_for_scan();
        site
    }

    /// Waits until the slave has scanned its folder.
    fn wait_for_scan(&self) {
        crate::harness::eventually(SOON, "the folder is scanned", || {
            let listed = Command::new("curl")
                .args(["-s", "--ssl-reqd", "-k", "-l"])
                .args(self.curl_user())
                .arg(format!("ftp://{}/docs/", self.ftp))
                .output()
                .unwrap();
            (String::from_utf8_lossy(&listed.stdout).lines().count() == 2).then_some(())
        });
    }

    /// Returns curl's options for the login.
    pub fn curl_user(&self) -> Vec<String> {
        match self.login {
            Login::Anonymous => Vec::new(),
            Login::Account => vec!["-u".to_owned(), format!("ann:{PASSWORD}")],
        }
    }

    /// Returns user name and password.
    pub fn user(&self) -> (&'static str, &'static str) {
        match self.login {
            Login::Anonymous => ("anonymous", "guest@example.org"),
            Login::Account => ("ann", PASSWORD),
        }
    }

    /// Returns the address that clients connect to.
    pub fn addr(&self, tls: Tls) -> SocketAddr {
        if tls == Tls::Implicit { self.ftps } else { self.ftp }
    }

    /// Returns a path in the client's folder.
    pub fn local(&self, name: &str) -> PathBuf {
        self.local.path().join(name)
    }

    /// Writes a file into the client's folder.
    pub fn write_local(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.local(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Returns the published content of a file.
    pub fn served(&self, name: &str) -> Vec<u8> {
        fs::read(self.slave.root.join(name)).unwrap_or_default()
    }
}

/// Adds a user who may write everywhere.
#[track_caller]
pub fn add_user(dir: &TestDir, state: &Path, name: &str) {
    add_user_with(dir, state, name, "write");
}

/// Adds a user with these rights.
#[track_caller]
pub fn add_user_with(dir: &TestDir, state: &Path, name: &str, rights: &str) {
    let file = dir.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut added = ProgramBuilder::new("ftpmaster", dir.path())
        .args(["user", "add", name, "--rights", rights, "--state"])
        .args([state, Path::new("--password-file"), &file])
        .start();
    assert_eq!(added.wait(SOON), 0);
}

/// Returns the address of a protocol from a slave's ready line.
#[track_caller]
pub fn ready(program: &Program, protocol: &str) -> SocketAddr {
    let wanted = format!("protocol={protocol} ");
    program.stdout.wait_for(SOON, "the ready line of a protocol", |text| {
        let line = text.lines().find(|line| line.contains(&wanted))?;
        line.split(' ').find_map(|field| field.strip_prefix("addr="))?.parse().ok()
    })
}

/// Starts a cluster whose slaves serve FTP; returns it with the slaves' FTP addresses.
#[track_caller]
pub fn cluster(slaves: usize, files: &[(&str, Vec<u8>)]) -> (Cluster, Vec<SocketAddr>) {
    let mut builder = Cluster::of(slaves).slave_args(&FTP);
    for (name, bytes) in files {
        builder = builder.file(name, bytes);
    }
    let cluster = builder.start();
    cluster.wait_hashed();
    let addrs = cluster.slaves.iter().map(|slave| ready(&slave.program, "ftp")).collect();
    (cluster, addrs)
}

/// Runs a client to its end, at most a minute.
#[track_caller]
pub fn run(program: &str, args: &[String], folder: &Path) -> Output {
    let output = Command::new("timeout")
        .arg("60")
        .arg(program)
        .args(args)
        .current_dir(folder)
        .env("HOME", folder)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    assert_ne!(output.status.code(), Some(127), "{program} is not installed");
    output
}

/// Runs a client that has to succeed; returns its standard output.
#[track_caller]
pub fn succeed(program: &str, args: &[String], folder: &Path) -> String {
    let output = run(program, args, folder);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a Python script, whose arguments are host, port, kind of TLS, user and password.
#[track_caller]
pub fn python(site: &Site, tls: Tls, script: &str) {
    let (addr, (user, password)) = (site.addr(tls), site.user());
    let (host, port, tls) = (addr.ip().to_string(), addr.port().to_string(), format!("{tls:?}"));
    let args = words(["-c", script, &host, &port, &tls, user, password]);
    succeed("/usr/bin/python3", &args, site.local.path());
}

/// The names in the certificates of tests.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Writes a certificate for this host and its key; returns the options that name them.
pub fn certificate(dir: &Path) -> [String; 4] {
    let signed = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let [cert, key] = [cert, key].map(|path| path.to_str().unwrap().to_owned());
    ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key]
}

/// Turns words into arguments.
pub fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Compares content without printing megabytes.
#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    assert!(found == expected, "{what}: content differs");
}
