//! The linked slaves: their addresses and outboxes, and the peer lists that they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use relais_cluster::{ConnectionAddrs, LinkId, SlaveAddresses, endpoints_for};
use relais_proto::{FolderId, Heartbeat, LinkMessage, PeerSlave, SlaveId, limits};

use crate::outbox::Outbox;

/// A linked slave.
#[derive(Debug, Clone)]
pub(crate) struct LinkedSlave {
    pub link: LinkId,
    pub slave: SlaveId,
    pub folder: FolderId,
    pub place: SlaveAddresses,
    /// The addresses of both ends of its link.
    pub seen_from: ConnectionAddrs,
    pub outbox: Arc<Outbox>,
    /// Its last heartbeat, unmodified; none before the first one.
    pub heartbeat: Option<Heartbeat>,
}

/// All linked slaves.
#[derive(Debug, Default)]
pub(crate) struct LinkedSlaves {
    open: Mutex<BTreeMap<LinkId, LinkedSlave>>,
}

impl LinkedSlaves {
    /// Adds a slave, and sends the new list of peers to all.
    pub fn add(&self, linked: LinkedSlave) {
        let mut open = self.open.lock();
        open.insert(linked.link, linked);
        send_peers(&open);
    }

    /// Removes a slave, and sends the new list of peers to all.
    pub fn remove(&self, link: LinkId) {
        let mut open = self.open.lock();
        if open.remove(&link).is_some() {
            send_peers(&open);
        }
    }

    /// All linked slaves, oldest link first.
    pub fn all(&self) -> Vec<LinkedSlave> {
        self.open.lock().values().cloned().collect()
    }

    /// The slave on this link; none if the link has ended.
    pub fn get(&self, link: LinkId) -> Option<LinkedSlave> {
        self.open.lock().get(&link).cloned()
    }

    /// Stores the last heartbeat of a link.
    pub fn set_heartbeat(&self, link: LinkId, heartbeat: Heartbeat) {
        if let Some(linked) = self.open.lock().get_mut(&link) {
            linked.heartbeat = Some(heartbeat);
        }
    }
}

/// Sends the list of peers to all slaves.
///
/// It runs under the lock, so that no list overtakes a later one. It only appends to outboxes.
fn send_peers(open: &BTreeMap<LinkId, LinkedSlave>) {
    for to in open.values() {
        let peers: Vec<PeerSlave> = open
            .values()
            .map(|peer| PeerSlave {
                slave: peer.slave,
                folder: peer.folder,
                addrs: endpoints_for(&peer.place, to.seen_from),
            })
            .collect();
        let mut pages = peers.chunks(limits::PEERS).peekable();
        while let Some(page) = pages.next() {
            to.outbox
                .send(&LinkMessage::Peers { peers: page.to_vec(), last: pages.peek().is_none() });
        }
    }
}
