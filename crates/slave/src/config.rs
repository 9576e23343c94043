//! The settings of a slave.

mod ftp;
mod http;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use relais_net::IpNetwork;
use relais_net::tls::{TlsMode, TlsOptions};
use relais_proto::Mode;
use relais_storage::WatchMode;

pub use self::ftp::{FtpConfig, FtpTls, TlsEof};
pub use self::http::{HttpConfig, HttpPasswords};
pub use relais_tree::umask;

/// Default size of a block in bytes: the fastest in the measurement of `benches/README.md`.
pub const BLOCK_SIZE: u32 = 1024 * 1024;
/// Default for the sessions of one worker.
pub const SESSIONS_PER_WORKER: u32 = 512;
/// Default for the sessions that may wait.
pub const QUEUE: u32 = 256;
/// Most sessions of one worker: each has a thread.
pub const SESSIONS_MAX: u32 = 65_536;
/// Most sessions that may wait: each has a descriptor.
pub const QUEUE_MAX: u32 = 1_048_576;
/// Most workers.
pub const WORKERS_MAX: usize = 256;
/// Default for the time that transfers may take to end after a signal.
pub const GRACE: Duration = Duration::from_secs(5);

/// How a slave reaches its master, and proves that it belongs to the cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The master, `HOST:PORT`.
    pub master: String,
    /// File with the cluster key; it may be created later.
    pub key_file: PathBuf,
    /// Address for clients instead of the listening address; empty: the listening address.
    pub advertise: String,
}

/// A slave's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder to serve.
    pub root: PathBuf,
    /// The port that was asked for; 0 for any.
    pub port: u16,
    /// The cluster that the slave belongs to; none for a standalone slave.
    pub cluster: Option<Cluster>,
    /// Accounts file of a standalone slave; none if no account can exist.
    pub accounts: Option<PathBuf>,
    /// Worker processes, 1 to 256.
    pub workers: usize,
    /// Sessions of one worker, at least 1.
    pub sessions_per_worker: u32,
    /// Sessions of one address, which is not loopback; none: no limit.
    pub sessions_per_address: Option<u32>,
    /// Sessions that may wait when all slots are taken.
    pub queue: u32,
    /// Most unfinished uploads, 1 to [`UPLOADS_MAX`](relais_storage::upload_table::UPLOADS_MAX).
    pub uploads: u64,
    /// Most bytes of unfinished uploads; none: half of the disk.
    pub upload_bytes: Option<u64>,
    /// Bytes in a block, 1 to [`BLOCK_MAX`](relais_proto::limits::BLOCK_MAX).
    pub block_size: u32,
    /// Permission bits that new files and folders do not get.
    pub umask: Mode,
    /// Time that transfers may take to end after a signal.
    pub grace: Duration,
    /// Whether and how the folder is watched.
    pub watch: WatchMode,
    /// Whether the SHA-256 hashes of uploads are computed while they come.
    pub sha256: bool,
    /// The transfer log; `-` is standard output, none: no log.
    pub transfer_log: Option<PathBuf>,
    /// How connections are encrypted; those of FTP and HTTP clients as `ftp` and `http` say.
    pub tls: TlsOptions,
    /// How FTP is served; none if it is not.
    pub ftp: Option<FtpConfig>,
    /// How HTTP is served; none if it is not.
    pub http: Option<HttpConfig>,
    /// The proxies that name the clients of their connections.
    pub trusted_proxies: Vec<IpNetwork>,
}

impl Config {
    /// Checks that no secret lies in the served folder, where every client could read it.
    ///
    /// # Errors
    /// The secret that lies there.
    pub fn check(&self) -> Result<(), String> {
        let root = resolve(&self.root);
        let own = root.join(relais_storage::FOLDER);
        let key = self.cluster.as_ref().map(|cluster| &cluster.key_file);
        let secrets = key.into_iter().chain(&self.accounts).chain(&self.tls.files);
        for secret in secrets {
            let file = resolve(secret);
            if file.starts_with(&root) && !file.starts_with(&own) {
                return Err(format!(
                    "{} lies in the served folder, where every client could read it; \
                     use another --root, --state or --cluster-key",
                    secret.display()
                ));
            }
        }
        Ok(())
    }

    /// Whether connections of some protocol are encrypted.
    #[must_use]
    pub fn needs_certificate(&self) -> bool {
        let is_ftp_encrypted = self.ftp.as_ref().is_some_and(|ftp| ftp.tls != FtpTls::Off);
        let is_http_encrypted = self.http.as_ref().is_some_and(|http| http.is_encrypted);
        is_ftp_encrypted || is_http_encrypted || self.tls.encrypt != TlsMode::Never
    }
}

/// Returns the path without links, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut there = absolute.as_path();
    loop {
        if let Ok(resolved) = there.canonicalize() {
            return missing.iter().rev().fold(resolved, |path, name| path.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                there = parent;
            }
            _ => return absolute,
        }
    }
}

/// Returns the default number of workers: one for each processor, 2 to 16.
///
/// There are at least two, so that the death of one worker does not end all sessions.
#[must_use]
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

/// Returns the default address to listen on: loopback, or all interfaces.
///
/// A slave listens on loopback if its master does, or if it has no master.
#[must_use]
pub fn default_listen(master: Option<&str>) -> IpAddr {
    let local = match master {
        None => true,
        Some(master) => master
            .to_socket_addrs()
            .is_ok_and(|mut addrs| addrs.all(|addr| addr.ip().to_canonical().is_loopback())),
    };
    if local { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Returns the address at which `client` reaches the master.
///
/// A master on this host's loopback is reached by a remote client at the address `local`, at which
/// that client reached this slave.
#[must_use]
pub fn master_for(master: &str, client: SocketAddr, local: SocketAddr) -> String {
    let loopback = |addr: &SocketAddr| addr.ip().to_canonical().is_loopback();
    if loopback(&client) {
        return master.to_owned();
    }
    let on_loopback = master.to_socket_addrs().ok().and_then(|mut addrs| addrs.find(loopback));
    on_loopback.map_or_else(
        || master.to_owned(),
        |addr| SocketAddr::new(local.ip().to_canonical(), addr.port()).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_listen_follows_the_master() {
        assert!(default_listen(None).is_loopback());
        assert!(default_listen(Some("127.0.0.1:2121")).is_loopback());
        assert!(default_listen(Some("localhost:2121")).is_loopback());
        assert!(default_listen(Some("192.0.2.1:2121")).is_unspecified());
    }

    #[test]
    fn remote_clients_get_a_reachable_master() {
        let near = "127.0.0.1:5000".parse().unwrap();
        let far = "192.0.2.9:5000".parse().unwrap();
        let ours = "192.0.2.1:2122".parse().unwrap();
        assert_eq!(master_for("127.0.0.1:2121", near, near), "127.0.0.1:2121");
        assert_eq!(master_for("127.0.0.1:2121", far, ours), "192.0.2.1:2121");
        assert_eq!(master_for("192.0.2.7:2121", far, ours), "192.0.2.7:2121");
    }
}
