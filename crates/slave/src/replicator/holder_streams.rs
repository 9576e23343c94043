//! Further sessions for one large content: each with another folder that holds it.
//!
//! A slave serves one request for large content of other slaves at a time. The first request of a
//! fetch waits for that turn; further ones are shorter, so that a stream that has lost its
//! connection can go on at once. The sessions end at their first failure, and the download goes on
//! without.

use std::net::SocketAddr;
use std::sync::Arc;

use relais_net::Connection;
use relais_proto::{FolderId, Lsn, PeerSlave, Request, limits};
use relais_transfer::{Fault, StreamSource};

use super::fetch_context::FetchContext;

/// Most folders of which one content is fetched at the same time.
const MAX_STREAMS: usize = 8;

/// See the module.
pub(super) struct HolderStreams {
    context: Arc<FetchContext>,
    /// Put whose content is wanted.
    put: Lsn,
    /// Addresses of the slaves of each folder.
    servers: Vec<Vec<SocketAddr>>,
}

impl HolderStreams {
    /// Returns the source for a content that the folder `from` has.
    ///
    /// After a comparison of trees no holders are known. Then most slaves have the content.
    pub fn new(
        context: &Arc<FetchContext>,
        put: Lsn,
        from: FolderId,
        holders: &[FolderId],
    ) -> Self {
        let peers = context.peers.lock();
        let mut folders = vec![from];
        if holders.is_empty() {
            folders.extend(peers.iter().map(|peer| peer.folder));
        } else {
            folders.extend_from_slice(holders);
        }
        let own = peers.iter().find(|peer| peer.slave == context.slave).map(|peer| peer.folder);
        folders.retain(|folder| Some(*folder) != own);
        let servers = servers(&peers, &folders);
        drop(peers);
        Self { context: context.clone(), put, servers }
    }
}

/// Returns the addresses of each folder that has some, once.
fn servers(peers: &[PeerSlave], folders: &[FolderId]) -> Vec<Vec<SocketAddr>> {
    let addrs = |folder: &FolderId| {
        let slaves = peers.iter().filter(|peer| peer.folder == *folder);
        slaves.flat_map(|peer| peer.addrs.iter().copied()).collect::<Vec<_>>()
    };
    let is_first = |at: &usize| !folders[..*at].contains(&folders[*at]);
    let all = (0..folders.len()).filter(is_first).map(|at| addrs(&folders[at]));
    all.filter(|addrs| !addrs.is_empty()).take(MAX_STREAMS).collect()
}

impl StreamSource for HolderStreams {
    fn limit(&self) -> usize {
        self.servers.len().max(1)
    }

    fn servers(&self) -> Vec<Vec<SocketAddr>> {
        self.servers.clone()
    }

    fn longest_request(&self) -> u64 {
        relais_cluster::LARGE - limits::PIECE
    }

    fn open(&self, server: usize) -> Result<Connection, Fault> {
        let mut fault = Fault::Lost("no slave of that folder is known".to_owned());
        for addr in self.servers.get(server).map(Vec::as_slice).unwrap_or_default() {
            match self.context.connect(*addr) {
                Ok(mut connection) => {
                    // The other slave may not have applied the put yet. Then it waits.
                    connection.queue(&Request::Seen { lsn: self.put });
                    return Ok(connection);
                }
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::SlaveId;

    use super::*;

    #[test]
    fn each_folder_with_an_address_is_one_server() {
        let folder = |n| FolderId([n; 16]);
        let peer = |n: u8, of, ports: &[u16]| PeerSlave {
            slave: SlaveId([n; 16]),
            folder: folder(of),
            addrs: ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect(),
        };
        let peers = [peer(1, 1, &[1, 2]), peer(2, 2, &[]), peer(3, 3, &[3]), peer(4, 1, &[4])];
        let wanted = [folder(3), folder(2), folder(9), folder(1), folder(3)];
        let ports = |addrs: &Vec<SocketAddr>| addrs.iter().map(SocketAddr::port).collect();
        let found: Vec<Vec<u16>> = servers(&peers, &wanted).iter().map(ports).collect();
        assert_eq!(found, [vec![3], vec![1, 2, 4]]);
    }
}
