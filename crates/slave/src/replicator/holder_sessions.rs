//! Sessions with other slaves, of which contents are fetched, and what the fetching threads share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::mpsc::Receiver;

use log::debug;
use parking_lot::Mutex;
use relais_auth::ClusterKey;
use relais_cluster::replica::MissingContent;
use relais_net::Connection;
use relais_net::tls::Dialer;
use relais_proto::{FolderId, Lsn, PeerSlave, Request, SlaveId};
use relais_storage::Staging;
use relais_transfer::{Fault, Resume, Sessions, StreamSource, TransferError};

use super::holder_streams::HolderStreams;
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

/// An open connection to another slave.
pub(super) struct PeerConnection {
    folder: FolderId,
    addr: SocketAddr,
    connection: Connection,
    /// The latest change that the other slave was sent as seen.
    seen: Lsn,
}

/// Sessions with the slaves of one folder.
///
/// A folder whose slave fails is not tried again for the same content.
pub(super) struct FolderSessions<'a> {
    pub context: &'a Arc<FetchContext>,
    pub peer: &'a mut Option<PeerConnection>,
    /// The latest put whose content is wanted.
    pub put: Lsn,
    pub from: FolderId,
    /// Folders that have the content, as far as known.
    pub holders: &'a [FolderId],
    pub failed: bool,
}

impl Sessions for FolderSessions<'_> {
    fn connection(&mut self) -> Result<&mut Connection, TransferError> {
        if self.failed {
            return Err(TransferError::Unreachable("the other slave failed".to_owned()));
        }
        let peer = match self.peer.take() {
            Some(peer) if peer.folder == self.from && peer.connection.is_idle() => peer,
            _ => self.dial()?,
        };
        let peer = self.peer.insert(peer);
        // The other slave may not have applied the put yet. Then it waits until it has.
        if peer.seen < self.put {
            peer.seen = self.put;
            peer.connection.queue(&Request::Seen { lsn: self.put });
        }
        Ok(&mut peer.connection)
    }

    fn failed(&mut self, why: &str) {
        if let Some(peer) = self.peer.take() {
            debug!("{} failed: {why}", peer.addr);
        }
        self.failed = true;
    }

    fn abandon(&mut self) {
        *self.peer = None;
    }

    fn streams(&mut self) -> Option<Arc<dyn StreamSource>> {
        Some(Arc::new(HolderStreams::new(self.context, self.put, self.from, self.holders)))
    }
}

impl FolderSessions<'_> {
    fn dial(&self) -> Result<PeerConnection, TransferError> {
        let peers: Vec<PeerSlave> = self
            .context
            .peers
            .lock()
            .iter()
            .filter(|peer| peer.folder == self.from)
            .cloned()
            .collect();
        let mut why = "no slave of that folder is known".to_owned();
        for addr in peers.iter().flat_map(|peer| &peer.addrs) {
            match self.context.connect(*addr) {
                Ok(connection) => {
                    return Ok(PeerConnection {
                        folder: self.from,
                        addr: *addr,
                        connection,
                        seen: Lsn::default(),
                    });
                }
                Err(e) => why = format!("{addr}: {e}"),
            }
        }
        Err(TransferError::Unreachable(why))
    }
}

impl FetchContext {
    /// Opens a session with the slave at `addr`.
    pub fn connect(&self, addr: SocketAddr) -> Result<Connection, Fault> {
        let key = ClusterKey::load(&self.key_file).map_err(|e| Fault::Lost(e.to_string()))?;
        let key = key.ok_or_else(|| Fault::Lost("there is no cluster key".to_owned()))?;
        connect_as_peer(&self.dialer, addr, self.slave, &key)
    }
}
