//! What a slave is told at its start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use relais_net::tls::TlsOptions;
use relais_proto::{Mode, limits};

use crate::catalogue::WatchMode;
use crate::scoreboard::MAX_WORKERS;

pub use relais_tree::umask;

/// Bytes in a block where nothing else is asked for: the fastest in the measurement that is
/// written down in `benches/README.md`.
pub const BLOCK_SIZE: u32 = 1024 * 1024;
/// Sessions of one worker where nothing else is asked for.
pub const SESSIONS_PER_WORKER: u32 = 512;
/// Sessions that may wait where nothing else is asked for.
pub const QUEUE: u32 = 256;
/// Most sessions of one worker: each has a thread.
pub const SESSIONS_MAX: u32 = 65_536;
/// Most sessions that may wait: each has a descriptor.
pub const QUEUE_MAX: u32 = 1_048_576;
/// Most workers.
pub const WORKERS_MAX: usize = MAX_WORKERS;
/// Time that transfers have at the end where nothing else is asked for.
pub const GRACE: Duration = Duration::from_secs(5);

/// Where a slave of a cluster finds its master, and how it proves that it belongs there.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The master, `HOST:PORT`.
    pub master: String,
    /// File with the cluster key; it may come later.
    pub key_file: PathBuf,
    /// Where clients shall be sent instead of the listening address; empty: nowhere else.
    pub advertise: String,
}

/// A slave's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder to serve.
    pub root: PathBuf,
    /// The port that was asked for; 0 for any.
    pub port: u16,
    /// The cluster it belongs to; none: it stands alone.
    pub cluster: Option<Cluster>,
    /// Who may log in where it stands alone; none: nobody has an account.
    pub accounts: Option<PathBuf>,
    /// Worker processes, 1 to 256.
    pub workers: usize,
    /// Sessions of one worker, at least 1.
    pub sessions_per_worker: u32,
    /// Sessions of one address, which is not this machine's own; none: any number.
    pub sessions_per_address: Option<u32>,
    /// Sessions that are told to wait when all places are taken.
    pub queue: u32,
    /// Unfinished uploads, 1 to [`UPLOADS_MAX`](crate::upload_table::UPLOADS_MAX).
    pub uploads: u64,
    /// Bytes of unfinished uploads; none: half of the disk.
    pub upload_bytes: Option<u64>,
    /// Bytes in a block, 1 to [`limits::BLOCK_MAX`].
    pub block_size: u32,
    /// Permission bits that new files and folders do not have.
    pub umask: Mode,
    /// Time that transfers have at the end.
    pub grace: Duration,
    /// Whether and how the folder is watched.
    pub watch: WatchMode,
    /// Where transfers are noted; `-` is standard output, none: nowhere.
    pub transfer_log: Option<PathBuf>,
    /// How connections are encrypted.
    pub tls: TlsOptions,
}

impl Config {
    /// Checks what the command line cannot.
    ///
    /// # Errors
    /// Which setting is out of its range.
    pub fn check(&self) -> Result<(), String> {
        if self.workers == 0 || self.workers > MAX_WORKERS {
            return Err(format!("the number of workers must be 1 to {MAX_WORKERS}"));
        }
        if self.sessions_per_worker == 0 {
            return Err("a worker must serve at least one session".to_owned());
        }
        if self.block_size == 0 || self.block_size > limits::BLOCK_MAX {
            return Err(format!("the block size must be 1 to {} bytes", limits::BLOCK_MAX));
        }
        Ok(())
    }
}

/// How many workers suit this machine: as many as it has processors, and at least two, so that
/// one that dies does not take all sessions along.
#[must_use]
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

/// Where a slave listens that was not told: on loopback where its master is there too or it has
/// none, else on all interfaces.
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

/// The address of the master that a client can use: one on our loopback is reached by a client
/// from elsewhere on the address where that client reached us.
#[must_use]
pub fn master_for(master: &str, client: SocketAddr, local: SocketAddr) -> String {
    let loopback = |addr: &SocketAddr| addr.ip().to_canonical().is_loopback();
    if loopback(&client) {
        return master.to_owned();
    }
    let ours = master.to_socket_addrs().ok().and_then(|mut addrs| addrs.find(loopback));
    ours.map_or_else(
        || master.to_owned(),
        |addr| SocketAddr::new(local.ip().to_canonical(), addr.port()).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_where_its_clients_can_be() {
        assert!(default_listen(None).is_loopback());
        assert!(default_listen(Some("127.0.0.1:2121")).is_loopback());
        assert!(default_listen(Some("localhost:2121")).is_loopback());
        assert!(default_listen(Some("192.0.2.1:2121")).is_unspecified());
    }

    #[test]
    fn names_a_master_that_the_client_can_reach() {
        let near = "127.0.0.1:5000".parse().unwrap();
        let far = "192.0.2.9:5000".parse().unwrap();
        let ours = "192.0.2.1:2122".parse().unwrap();
        assert_eq!(master_for("127.0.0.1:2121", near, near), "127.0.0.1:2121");
        assert_eq!(master_for("127.0.0.1:2121", far, ours), "192.0.2.1:2121");
        assert_eq!(master_for("192.0.2.7:2121", far, ours), "192.0.2.7:2121");
    }
}
