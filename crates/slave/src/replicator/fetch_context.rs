//! What the threads that fetch contents share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU16;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use relais_auth::ClusterKey;
use relais_cluster::replica::MissingContent;
use relais_net::Connection;
use relais_net::tls::Dialer;
use relais_proto::{FolderId, Lsn, PeerSlave, SlaveId};
use relais_storage::Staging;
use relais_transfer::{Fault, Resume};

use crate::peer_login::connect_as_peer;

/// An order to fetch one content.
pub(super) struct FetchJob {
    pub put: Lsn,
    pub missing: MissingContent,
    pub from: FolderId,
}

/// What the fetching threads share.
pub(super) struct FetchContext {
    pub slave: SlaveId,
    pub key_file: PathBuf,
    pub dialer: Dialer,
    pub staging: Staging,
    pub peers: Mutex<Vec<PeerSlave>>,
    /// What is known about partial files, by their puts.
    pub partials: Mutex<HashMap<Lsn, Resume>>,
    /// Number of attempts to fetch small contents, for the names of their files.
    pub attempts: AtomicU16,
    pub jobs: Mutex<Receiver<FetchJob>>,
}

impl FetchContext {
    /// Opens a session with the slave at `addr`.
    pub fn connect(&self, addr: SocketAddr) -> Result<Connection, Fault> {
        let key = ClusterKey::load(&self.key_file).map_err(|e| Fault::Lost(e.to_string()))?;
        let key = key.ok_or_else(|| Fault::Lost("there is no cluster key".to_owned()))?;
        connect_as_peer(&self.dialer, addr, self.slave, &key)
    }
}
