//! Sessions with other slaves, of which contents are fetched.

use std::net::SocketAddr;
use std::sync::Arc;

use log::debug;
use relais_net::Connection;
use relais_proto::{FolderId, Lsn, PeerSlave, Request};
use relais_transfer::{Sessions, StreamSource, TransferError};

use super::fetch_context::FetchContext;
use super::holder_streams::HolderStreams;

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
