//! A cluster of a master and slaves, and a standalone slave.

use relais_proto::{Reply, Request, metric};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{
    Client, Output, Program, ProgramBuilder, Proxy, SOON, TestDir, eventually, path, session,
    ticket, write_old,
};

/// Describes how a cluster is started.
#[derive(Default)]
pub struct ClusterBuilder {
    slaves: usize,
    shared: bool,
    proxied: bool,
    slave_args: Vec<String>,
    master_args: Vec<String>,
    listen: Option<String>,
    env: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
}

impl ClusterBuilder {
    /// Lets all slaves serve one folder; by default each has its own folder with the same files.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Puts a proxy between the clients and each slave.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Lets the master listen on this address instead of loopback.
    pub fn listen(mut self, ip: &str) -> Self {
        self.listen = Some(ip.to_owned());
        self
    }

    pub fn slave_args(mut self, args: &[&str]) -> Self {
        self.slave_args = args.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    pub fn master_args(mut self, args: &[&str]) -> Self {
        self.master_args = args.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Sets an environment variable of the master and all slaves.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    fn with_env(&self, setup: ProgramBuilder) -> ProgramBuilder {
        self.env.iter().fold(setup, |setup, (key, value)| setup.env(key, value))
    }

    /// Creates a file in every served folder before the start.
    pub fn file(mut self, name: &str, bytes: &[u8]) -> Self {
        self.files.push((name.to_owned(), bytes.to_vec()));
        self
    }

    /// Starts all programs and waits until all slaves are in service.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let dir = TestDir::new();
        let listen = format!("{}:0", self.listen.as_deref().unwrap_or("127.0.0.1"));
        let mut master = Cluster::master_setup(&dir, &listen, &self).start();
        let addr = SocketAddr::from(([127, 0, 0, 1], master.ready().port()));
        let mut cluster = Cluster { slaves: Vec::new(), master, addr, dir, setup: self };
        for _ in 0..cluster.setup.slaves {
            cluster.add_slave();
        }
        cluster.wait_in_service(cluster.setup.slaves);
        cluster
    }
}

/// A slave of a cluster.
pub struct Slave {
    pub program: Program,
    pub addr: SocketAddr,
    pub root: PathBuf,
    /// The proxy in front of the slave, if the cluster is proxied.
    pub proxy: Option<Proxy>,
}

impl Slave {
    /// Returns the address to which clients are redirected.
    pub fn public(&self) -> SocketAddr {
        self.proxy.as_ref().map_or(self.addr, Proxy::addr)
    }
}

/// A running cluster.
pub struct Cluster {
    pub slaves: Vec<Slave>,
    pub master: Program,
    pub addr: SocketAddr,
    pub dir: TestDir,
    setup: ClusterBuilder,
}

impl Cluster {
    /// Creates a builder for a cluster with `slaves` slaves.
    pub fn of(slaves: usize) -> ClusterBuilder {
        ClusterBuilder { slaves, ..ClusterBuilder::default() }
    }

    fn master_setup(dir: &TestDir, listen: &str, builder: &ClusterBuilder) -> ProgramBuilder {
        let setup = ProgramBuilder::new("ftpmaster", dir.path())
            .args(["--listen", listen, "--state"])
            .args([dir.folder("master")]);
        builder.with_env(setup.args(&builder.master_args))
    }

    /// Returns the path of the cluster key.
    pub fn key(&self) -> PathBuf {
        self.dir.folder("master").join("cluster.key")
    }

    fn root_of(&self, n: usize) -> PathBuf {
        self.dir.folder(&if self.setup.shared { "root".to_owned() } else { format!("root{n}") })
    }

    fn start_slave(&self, n: usize, port: u16, proxy: Option<&Proxy>) -> (Program, SocketAddr) {
        let mut setup = ProgramBuilder::new("ftpslave", self.dir.path())
            .args([&port.to_string(), "--master", &self.addr.to_string()])
            .args([Path::new("--root"), &self.root_of(n), Path::new("--cluster-key"), &self.key()])
            .args(&self.setup.slave_args);
        setup = self.setup.with_env(setup);
        if let Some(proxy) = proxy {
            setup = setup.args(["--advertise", &proxy.addr().to_string()]);
        }
        let mut program = setup.start();
        let addr = program.ready();
        if let Some(proxy) = proxy {
            proxy.set_target(addr);
        }
        (program, addr)
    }

    /// Starts another slave and does not wait until it is in service.
    #[track_caller]
    pub fn add_slave(&mut self) {
        let n = self.slaves.len();
        let root = self.root_of(n);
        if n == 0 || !self.setup.shared {
            for (name, bytes) in &self.setup.files {
                write_old(&root.join(name), bytes);
            }
        }
        let proxy = self.setup.proxied.then(Proxy::start);
        let (program, addr) = self.start_slave(n, 0, proxy.as_ref());
        self.slaves.push(Slave { program, addr, root, proxy });
    }

    /// Restarts a stopped or killed slave on another free port.
    #[track_caller]
    pub fn restart_slave(&mut self, n: usize) {
        self.restart_slave_on(n, 0);
    }

    /// Restarts a stopped or killed slave on its previous port.
    #[track_caller]
    pub fn restart_slave_on_same_port(&mut self, n: usize) {
        self.restart_slave_on(n, self.slaves[n].addr.port());
    }

    #[track_caller]
    fn restart_slave_on(&mut self, n: usize, port: u16) {
        let proxy = self.slaves[n].proxy.take();
        let (program, addr) = self.start_slave(n, port, proxy.as_ref());
        let slave = &mut self.slaves[n];
        (slave.program, slave.addr, slave.proxy) = (program, addr, proxy);
    }

    /// Restarts a stopped or killed master on its previous address.
    #[track_caller]
    pub fn restart_master(&mut self) {
        self.master = Self::master_setup(&self.dir, &self.addr.to_string(), &self.setup).start();
        assert_eq!(self.master.ready(), self.addr);
    }

    /// Returns the index of the slave with this public address.
    #[track_caller]
    pub fn slave_at(&self, public: &str) -> usize {
        let found = self.slaves.iter().position(|s| s.public().to_string() == public);
        found.unwrap_or_else(|| panic!("no slave at {public}"))
    }

    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Runs `ftpmaster status`.
    #[track_caller]
    pub fn status(&self, args: &[&str]) -> Output {
        let mut program = ProgramBuilder::new("ftpmaster", self.dir.path())
            .args(["status", "--master", &self.addr.to_string(), "--state"])
            .args([self.dir.folder("master")])
            .args(args)
            .start();
        Client::finish(&mut program)
    }

    /// Parses the output of `ftpmaster status --json`; `None` without an answer.
    pub fn status_json(&self) -> Option<Value> {
        serde_json::from_str(&self.status(&["--json"]).stdout).ok()
    }

    /// Counts the slaves in this state.
    pub fn count(&self, state: &str) -> usize {
        let Some(status) = self.status_json() else { return 0 };
        status["slaves"]
            .as_array()
            .map_or(0, |all| all.iter().filter(|s| s["state"] == state).count())
    }

    /// Waits until exactly `n` slaves are in service.
    #[track_caller]
    pub fn wait_in_service(&self, n: usize) {
        eventually(SOON, &format!("{n} slaves in service"), || {
            (self.count("in-service") == n).then_some(())
        });
    }

    /// Waits until every slave has digests and numbers for all files of the set-up, so that any
    /// slave can resume a transfer.
    #[track_caller]
    pub fn wait_hashed(&self) {
        let (ticket, _) = ticket(self.addr);
        let files = self.setup.files.iter().map(|(name, _)| path(name));
        let stats: Vec<_> = files.map(Request::Stat).collect();
        for slave in &self.slaves {
            eventually(SOON, "all files hashed and numbered", || {
                let mut session = session(slave.addr, &ticket);
                let is_hashed = session.status().1.get(metric::UNHASHED) == 0;
                let mut is_numbered = |stat| match session.ask(stat) {
                    Reply::Details { entry, .. } => entry.version.is_some(),
                    _ => false,
                };
                (is_hashed && stats.iter().all(&mut is_numbered)).then_some(())
            });
        }
    }
}

/// A standalone slave.
pub struct Standalone {
    pub program: Program,
    pub addr: SocketAddr,
    pub root: PathBuf,
    pub dir: TestDir,
    args: Vec<String>,
    under: Vec<String>,
}

impl Standalone {
    /// Starts a slave on a new folder with these files.
    #[track_caller]
    pub fn start(args: &[&str], files: &[(&str, &[u8])]) -> Self {
        let dir = TestDir::new();
        let root = dir.folder("root");
        for (name, bytes) in files {
            write_old(&root.join(name), bytes);
        }
        Self::start_in(dir, root, args, &[])
    }

    /// Starts a slave on an existing folder; `under` is a command line that executes it.
    #[track_caller]
    pub fn start_in(dir: TestDir, root: PathBuf, args: &[&str], under: &[String]) -> Self {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let (program, addr) = Self::spawn(&dir, &root, 0, &args, under);
        Self { program, addr, root, dir, args, under: under.to_vec() }
    }

    #[track_caller]
    fn spawn(
        dir: &TestDir,
        root: &Path,
        port: u16,
        args: &[String],
        under: &[String],
    ) -> (Program, SocketAddr) {
        let mut program = ProgramBuilder::new("ftpslave", dir.path())
            .args([&port.to_string(), "--standalone", "--state"])
            .args([dir.folder("state"), PathBuf::from("--root"), root.to_owned()])
            .args(args)
            .under(under)
            .start();
        let addr = program.ready();
        (program, addr)
    }

    /// Restarts the slave on another free port.
    #[track_caller]
    pub fn restart(&mut self) {
        (self.program, self.addr) = Self::spawn(&self.dir, &self.root, 0, &self.args, &self.under);
    }

    /// Restarts the slave on its previous port.
    #[track_caller]
    pub fn restart_on_same_port(&mut self) {
        (self.program, self.addr) =
            Self::spawn(&self.dir, &self.root, self.addr.port(), &self.args, &self.under);
    }

    /// Creates a file with a modification time one hour ago.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        write_old(&self.root.join(name), bytes);
    }

    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Waits until a name is listed, or not listed. A slave publishes a new file after one second
    /// without a write.
    #[track_caller]
    pub fn wait_listed(&self, name: &str, there: bool) {
        let client = self.client();
        eventually(Duration::from_secs(60), &format!("{name} listed: {there}"), || {
            let json = client.command("ls").ok().json();
            let listed = json["entries"].as_array().unwrap().iter().any(|e| e["name"] == name);
            (listed == there).then_some(())
        });
    }
}
